/*
 * client.c: how many requests a second a bare libcurl can make, on one thread.
 *
 *   client URL [CONCURRENCY [SECONDS [epoll|poll]]]
 *
 * The same calls that a saga's branches are (POST, small JSON, a URL of its own
 * with gid and branch), with nothing else around: no transaction, no limits. So
 * what it prints is a ceiling. Two loops, since libcurl's speed depends on it:
 * its own curl_multi_poll, or epoll with curl_multi_socket_action.
 */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define EVENTS 256

static CURLM *multi;
static int	epoll;
static double deadline = -1;	/* of curl's timer */
static unsigned char registered[1 << 16];	/* 0: not in the epoll set */
static unsigned char wanted[1 << 16];
static const char *base;
static struct curl_slist *headers;
static long done,
			failed;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t
on_body(char *data, size_t one, size_t size, void *arg)
{
	(void) data;
	(void) one;
	(void) arg;
	return size;
}

/* Idle sockets stay in the set until they say something. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sockp)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) arg;
	(void) sockp;
	wanted[fd] = what == CURL_POLL_REMOVE ? 0 : what;
	if (wanted[fd] == 0 || wanted[fd] == registered[fd])
		return 0;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) != 0)
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	registered[fd] = what;
	return 0;
}

static int
on_timer(CURLM *m, long ms, void *arg)
{
	(void) m;
	(void) arg;
	deadline = ms < 0 ? -1 : now() + ms / 1000.0;
	return 0;
}

static CURL *
make_handle(void)
{
	CURL	   *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "{\"amount\": 30, \"account\": 7}");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 3000L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	return easy;
}

static void
start(CURL *easy)
{
	static long n;
	char		url[1024];

	n++;
	snprintf(url, sizeof(url), "%s?gid=bench-%ld&trans_type=saga&branch_id=%02ld&op=action",
			 base, n / 2, n % 2 + 1);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_multi_add_handle(multi, easy);
}

static void
collect(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result == CURLE_OK && status == 200)
			done++;
		else
			failed++;
		curl_multi_remove_handle(multi, easy);
		start(easy);
	}
}

/* Collecting starts new requests, so it comes before any sleep. */
static void
turn_epoll(void)
{
	struct epoll_event events[EVENTS];
	double		left = deadline < 0 ? 1 : deadline - now();
	int			running;
	int			n = epoll_wait(epoll, events, EVENTS,
							   left <= 0 ? 0 : (int) (left * 1000) + 1);

	for (int i = 0; i < n; i++)
	{
		int			fd = events[i].data.fd;
		int			what = 0;

		if (wanted[fd] == 0)
		{
			epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &events[i]);
			registered[fd] = 0;
			continue;
		}
		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		curl_multi_socket_action(multi, fd, what, &running);
	}
	if (deadline >= 0 && now() >= deadline)
	{
		deadline = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect();
}

static void
turn_poll(void)
{
	int			running,
				n;

	curl_multi_perform(multi, &running);
	collect();
	curl_multi_poll(multi, NULL, 0, 1000, &n);
}

int
main(int argc, char **argv)
{
	int			concurrency = argc > 2 ? atoi(argv[2]) : 64;
	double		seconds = argc > 3 ? atof(argv[3]) : 5;
	bool		use_poll = argc > 4 && strcmp(argv[4], "poll") == 0;
	double		begin,
				end;
	long		warm = 0;

	if (argc < 2)
	{
		fprintf(stderr, "usage: client URL [CONCURRENCY [SECONDS [epoll|poll]]]\n");
		return 2;
	}
	base = argv[1];
	curl_global_init(CURL_GLOBAL_ALL);
	headers = curl_slist_append(NULL, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) concurrency * 2);
	epoll = epoll_create1(0);
	if (!use_poll)
	{
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	}
	for (int i = 0; i < concurrency; i++)
		start(make_handle());

	/* Connections are made in the first tenth, which does not count. */
	begin = now();
	for (end = begin + seconds / 10; now() < end;)
		(use_poll ? turn_poll : turn_epoll) ();
	warm = done;
	begin = now();
	for (end = begin + seconds; now() < end;)
		(use_poll ? turn_poll : turn_epoll) ();
	printf("%.0f\n", (done - warm) / (now() - begin));
	if (failed > 0)
		fprintf(stderr, "client: %ld requests failed\n", failed);
	return failed > 0;
}
