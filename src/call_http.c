/*
 * call_http.c: HTTP calls, many at once, on one thread.
 *
 * One curl multi handle, driven by socket events. Its sockets live in a poller
 * (one descriptor for the worker to wait for), its timer is a variable.
 *
 * It must never palloc, ereport or block, and a callback of curl never does
 * more than record: an error that jumps over curl's frames leaves it broken.
 * What comes from the network is hostile: bodies and headers are capped, error
 * texts are valid UTF-8 without control characters, redirects are not followed,
 * and the address that a name resolved to is checked before a socket opens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "call_http_private.h"
#include "poller.h"

#define READY_AT_ONCE		256
#define BODY_ROOM_KEPT		(16 * 1024) /* larger buffers are given back */
#define SPARE_FDS			64		/* descriptors never given to calls */
#define SERVER_FDS			1024	/* what the server itself may have open */

static void apply_settings(DtmHttp *http);
static int	raise_descriptor_limit(int wanted);
static Call *take_call(DtmHttp *http);
static void release_call(Call *call);
static void free_call(Call *call);
static void trim_handed_out(DtmHttp *http);
static void drive_socket(DtmHttp *http, const DtmReady *ready);
static void drive_timer(DtmHttp *http);
static void end_call(Call *call, CURLcode code, DtmHttpResult *result);
static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *http,
					  void *unused);
static int	on_timer(CURLM *multi, long timeout, void *http);
static void give_up(Call *call);
static Socket *socket_of(DtmHttp *http, int fd);
static void block_signals(sigset_t *before);
static int64_t now_us(void);

bool
dtm_http_global_init(void)
{
	return curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK;
}

DtmHttp *
dtm_http_create(const DtmHttpSettings *settings)
{
	DtmHttp    *http = calloc(1, sizeof(DtmHttp));

	if (http == NULL)
		return NULL;
	http->deadline = -1;
	http->poller = dtm_poller_open();
	http->multi = curl_multi_init();
	if (http->poller < 0 || http->multi == NULL)
	{
		dtm_http_destroy(http);
		return NULL;
	}

	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	dtm_http_configure(http, settings);
	return http;
}

/* Calls under way keep what they began with. */
void
dtm_http_configure(DtmHttp *http, const DtmHttpSettings *settings)
{
	char	   *ca_file = NULL;

	trim_handed_out(http);
	if (settings->ca_file != NULL && settings->ca_file[0] != '\0')
	{
		ca_file = strdup(settings->ca_file);
		if (ca_file == NULL)
			return;				/* better the old settings than no CA */
	}
	free(http->ca_file);
	http->ca_file = ca_file;
	http->settings = *settings;
	http->settings.ca_file = ca_file;
	http->generation++;
	apply_settings(http);
}

static void
apply_settings(DtmHttp *http)
{
	const DtmHttpSettings *settings = &http->settings;

	/*
	 * A cache smaller than the concurrency costs most of the throughput:
	 * connections are then made and closed all the time.
	 */
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS,
					  (long) settings->max_connections);
	curl_multi_setopt(http->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
					  (long) settings->max_per_host);
	http->max_in_flight =
		raise_descriptor_limit(settings->max_connections + SERVER_FDS) -
		SPARE_FDS;
}

/*
 * The usual soft limit (1024) is for programs that call select(). Calls get
 * what they need of the hard limit; the server's own files are counted in.
 */
static int
raise_descriptor_limit(int wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return wanted;
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < (rlim_t) wanted)
	{
		rlim_t		before = limit.rlim_cur;

		limit.rlim_cur = wanted;
		if (limit.rlim_max != RLIM_INFINITY && limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			limit.rlim_cur = before;
	}
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int) limit.rlim_cur;
}

void
dtm_http_destroy(DtmHttp *http)
{
	while (http->calls != NULL)
	{
		Call	   *call = http->calls;

		http->calls = call->next;
		free_call(call);
	}
	/* Closes the connections, through callbacks that use the rest. */
	if (http->multi != NULL)
		curl_multi_cleanup(http->multi);
	if (http->poller >= 0)
		close(http->poller);
	free(http->sockets);
	free(http->ca_file);
	free(http);
}

int
dtm_http_fd(const DtmHttp *http)
{
	return http->poller;
}

long
dtm_http_timeout(const DtmHttp *http)
{
	int64_t		left;

	if (http->deadline < 0)
		return -1;
	left = http->deadline - now_us();
	if (left <= 0)
		return 0;
	return (long) ((left + 999) / 1000);
}

int
dtm_http_in_flight(const DtmHttp *http)
{
	return http->in_flight;
}

bool
dtm_http_start(DtmHttp *http, const DtmHttpRequest *request,
			   char error[DTM_MAX_ERROR])
{
	Call	   *call;

	trim_handed_out(http);
	if (http->in_flight >= http->max_in_flight)
	{
		snprintf(error, DTM_MAX_ERROR,
				 "%d calls are under way, and there are descriptors for no more",
				 http->in_flight);
		return false;
	}

	call = take_call(http);
	if (call != NULL)
	{
		if (dtm_http_set_up_request(call, request) &&
			curl_multi_add_handle(http->multi, call->easy) == CURLM_OK)
		{
			call->active = true;
			http->in_flight++;
			return true;
		}
		release_call(call);
	}
	snprintf(error, DTM_MAX_ERROR, "out of memory");
	return false;
}

/* Used handles are faster than new ones, and keep their buffers. */
static Call *
take_call(DtmHttp *http)
{
	Call	   *call = http->free_calls;

	if (call != NULL)
		http->free_calls = call->next_free;
	else
	{
		call = calloc(1, sizeof(Call));
		if (call == NULL)
			return NULL;
		call->http = http;
		call->next = http->calls;
		http->calls = call;
	}

	if (call->easy != NULL && call->generation == http->generation)
		return call;
	/* Settings have changed: a fresh handle knows curl's own defaults. */
	if (call->easy != NULL)
		curl_easy_cleanup(call->easy);
	call->easy = curl_easy_init();
	call->generation = http->generation;
	if (call->easy != NULL && dtm_http_set_up_handle(call))
		return call;
	if (call->easy != NULL)
		curl_easy_cleanup(call->easy);
	call->easy = NULL;
	release_call(call);
	return NULL;
}

static void
release_call(Call *call)
{
	call->next_free = call->http->free_calls;
	call->http->free_calls = call;
}

static void
free_call(Call *call)
{
	if (call->active)
		curl_multi_remove_handle(call->http->multi, call->easy);
	if (call->easy != NULL)
		curl_easy_cleanup(call->easy);
	free(call->headers);
	free(call->body);
	free(call);
}

/* The caller is back, so it has done with the body of the last result. */
static void
trim_handed_out(DtmHttp *http)
{
	Call	   *call = http->handed_out;

	http->handed_out = NULL;
	if (call == NULL || call->body_room <= BODY_ROOM_KEPT)
		return;
	free(call->body);
	call->body = NULL;
	call->body_room = 0;
}

void
dtm_http_drive(DtmHttp *http)
{
	DtmReady	ready[READY_AT_ONCE];
	sigset_t	before;
	int			n;

	trim_handed_out(http);

	/* A resolver's thread inherits the mask: signals are for us to take. */
	block_signals(&before);
	do
	{
		n = dtm_poller_ready(http->poller, ready, READY_AT_ONCE);
		for (int i = 0; i < n; i++)
			drive_socket(http, &ready[i]);
	} while (n == READY_AT_ONCE);
	drive_timer(http);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void
drive_socket(DtmHttp *http, const DtmReady *ready)
{
	Socket	   *sock = socket_of(http, ready->fd);
	int			running;

	if (sock != NULL && sock->wanted == 0)
	{
		/* An idle connection that its server has closed, most likely. */
		if (sock->registered != 0)
			dtm_poller_change(http->poller, ready->fd, sock->registered, 0);
		sock->registered = 0;
		return;
	}
	/* If it was closed a moment ago, curl knows nothing of it: no harm. */
	curl_multi_socket_action(http->multi, ready->fd, ready->events, &running);
}

/* curl sets its timer anew whenever it was called too early, or has more. */
static void
drive_timer(DtmHttp *http)
{
	int			running;

	for (int round = 0; round < 4; round++)
	{
		if (http->deadline < 0 || now_us() < http->deadline)
			return;
		http->deadline = -1;
		curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
}

bool
dtm_http_result(DtmHttp *http, DtmHttpResult *result)
{
	CURLMsg    *message;
	int			left;

	trim_handed_out(http);
	if (http->hopeless != NULL)
	{
		Call	   *call = http->hopeless;

		http->hopeless = call->next_hopeless;
		end_call(call, CURLE_COULDNT_CONNECT, result);
		return true;
	}
	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;
		char	   *call = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
		end_call((Call *) call, code, result);
		return true;
	}
	return false;
}

/* If curl has another message about this call, it forgets that too. */
static void
end_call(Call *call, CURLcode code, DtmHttpResult *result)
{
	DtmHttp    *http = call->http;

	dtm_http_fill_result(call, code, result);
	curl_multi_remove_handle(http->multi, call->easy);
	call->active = false;
	http->in_flight--;
	http->handed_out = call;
	release_call(call);
}

/*
 * curl says what it waits for. A connection that becomes idle stays in the
 * poller: the next call on it most likely wants the same, and two system calls
 * per request are saved. Sockets that are not ours (of a resolver) close
 * without a word, so they leave at once.
 */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *unused)
{
	DtmHttp    *http = data;
	int			wanted = what == CURL_POLL_REMOVE ? 0 : what & CURL_POLL_INOUT;
	Socket	   *sock = socket_of(http, fd);

	(void) easy;
	(void) unused;
	if (sock == NULL)
		return 0;				/* out of memory: the call's timeout ends it */
	sock->wanted = wanted;
	if (sock->ours && (wanted == 0 || wanted == sock->registered))
		return 0;
	if (dtm_poller_change(http->poller, fd, sock->registered, wanted))
		sock->registered = wanted;
	return 0;
}

static int
on_timer(CURLM *multi, long timeout, void *data)
{
	DtmHttp    *http = data;

	(void) multi;
	http->deadline = timeout < 0 ? -1 : now_us() + (int64_t) timeout * 1000;
	return 0;
}

/* The name has been resolved: may we go there? */
curl_socket_t
dtm_http_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
	Call	   *call = data;
	Socket	   *sock;
	int			type = address->socktype;
	int			fd;

	(void) purpose;
	if (!dtm_socket_allowed(&address->addr))
	{
		const void *ip = address->family == AF_INET6
			? (const void *) &((struct sockaddr_in6 *) &address->addr)->sin6_addr
			: (const void *) &((struct sockaddr_in *) &address->addr)->sin_addr;

		call->forbidden = true;
		if ((address->family != AF_INET && address->family != AF_INET6) ||
			inet_ntop(address->family, ip, call->peer,
					  sizeof(call->peer)) == NULL)
			snprintf(call->peer, sizeof(call->peer), "it");
		give_up(call);
		return CURL_SOCKET_BAD;
	}

#ifdef SOCK_CLOEXEC
	type |= SOCK_CLOEXEC;
#endif
	fd = socket(address->family, type, address->protocol);
	if (fd < 0)
	{
		call->socket_errno = errno;
		/* A family that this machine does not have is no reason: try others. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			errno == ENOMEM)
			give_up(call);
		return CURL_SOCKET_BAD;
	}
#ifndef SOCK_CLOEXEC
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
	sock = socket_of(call->http, fd);
	if (sock == NULL)
	{
		close(fd);
		call->socket_errno = ENOMEM;
		give_up(call);
		return CURL_SOCKET_BAD;
	}
	/* A new socket is in no poller, whatever its number was used for. */
	sock->registered = 0;
	sock->wanted = 0;
	sock->ours = true;
	return fd;
}

int
dtm_http_close_socket(void *data, curl_socket_t fd)
{
	DtmHttp    *http = data;
	Socket	   *sock = socket_of(http, fd);

	/* Closing takes it out of the poller. */
	if (sock != NULL)
		memset(sock, 0, sizeof(Socket));
	return close(fd);
}

/*
 * Without a socket curl 7.88 waits for its connect timeout. And a name that
 * has one forbidden address among others is not to be trusted with those.
 */
static void
give_up(Call *call)
{
	if (call->hopeless)
		return;
	call->hopeless = true;
	call->next_hopeless = call->http->hopeless;
	call->http->hopeless = call;
}

static Socket *
socket_of(DtmHttp *http, int fd)
{
	if (fd >= http->max_sockets)
	{
		int			room = fd + 64;
		Socket	   *sockets = realloc(http->sockets, room * sizeof(Socket));

		if (sockets == NULL)
			return NULL;
		memset(sockets + http->max_sockets, 0,
			   (room - http->max_sockets) * sizeof(Socket));
		http->sockets = sockets;
		http->max_sockets = room;
	}
	return &http->sockets[fd];
}

static void
block_signals(sigset_t *before)
{
	static const int ours[] = {SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS, SIGSEGV};
	sigset_t	all;

	sigfillset(&all);
	for (size_t i = 0; i < lengthof(ours); i++)
		sigdelset(&all, ours[i]);
	sigprocmask(SIG_SETMASK, &all, before);
}

static int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
