/*
 * call_pg_resolve.c: from host names to addresses, without ever waiting.
 *
 * getaddrinfo blocks, for many seconds if a name server is silent, and cannot
 * be interrupted. So each name is looked up by a thread, which knows nothing of
 * the server: it has its own memory, blocks all signals, and ends by writing the
 * address of its result into a pipe. Whoever asked is not kept: a connection
 * that gives up leaves the thread to itself, and the next one that asks for the
 * same name waits for the same thread.
 *
 * Threads are limited in number, so that silent name servers cost no more than
 * that; further names wait for a thread to end, who asked first before the
 * others, and those that nobody waits for any more are dropped. Those of one
 * role are limited as well: names that nobody serves keep only their own role
 * waiting. While a name is looked up again, its old answer serves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "call_pg_resolve.h"

#define MAX_THREADS		32
#define MAX_OF_ROLE		8
#define MAX_NAMES		256		/* that are remembered */
#define FRESH_FOR		5		/* seconds that an answer counts */
#define USABLE_FOR		300		/* while it is looked up again */

/* What a thread works on. It alone, until it has written it to the pipe. */
typedef struct Lookup
{
	DtmAddresses found;
	bool		ok;
	int			answer_fd;
	unsigned int role;
	char		name[];
} Lookup;

typedef struct Name
{
	struct Name *next;
	Lookup	   *lookup;			/* the thread that is at it; NULL: none */
	bool		has_answer;
	bool		ok;
	bool		wanted;			/* it waits for a thread */
	unsigned int role;			/* that asked first */
	uint64_t	asked;			/* when, among the others */
	time_t		deadline;		/* then nobody waits any more */
	time_t		answered_at;
	DtmAddresses found;
	char		name[];
} Name;

static int	pipe_fds[2] = {-1, -1};
static Name *names;
static int	nnames;
static Lookup *lookups[MAX_THREADS];	/* that are under way */
static uint64_t asked;			/* counted */
static DtmAddresses answer;		/* that was handed out last */

static bool is_wanted(const Name *name);
static bool may_serve(const Name *name);
static Name *name_entry(const char *text);
static void forget_one(void);
static Name *next_wanted(void);
static int	free_place(unsigned int role);
static void start_lookup(Name *name);
static void begin_thread(Name *name, int place);
static void *look_up(void *arg);
static void keep_addresses(Lookup *lookup, const struct addrinfo *list);
static time_t now_s(void);

bool
dtm_resolver_init(void)
{
	if (pipe_fds[0] >= 0)
		return true;
	if (pipe(pipe_fds) != 0)
		return false;
	for (int i = 0; i < 2; i++)
		(void) fcntl(pipe_fds[i], F_SETFD, FD_CLOEXEC);
	/* The threads' end blocks: what they have to say fits. */
	(void) fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	return true;
}

int
dtm_resolver_fd(void)
{
	return pipe_fds[0];
}

bool
dtm_resolver_drive(void)
{
	Lookup	   *lookup;
	bool		any = false;

	while (read(pipe_fds[0], &lookup, sizeof(lookup)) == sizeof(lookup))
	{
		any = true;
		for (int i = 0; i < MAX_THREADS; i++)
		{
			if (lookups[i] == lookup)
				lookups[i] = NULL;
		}
		for (Name *name = names; name != NULL; name = name->next)
		{
			if (name->lookup != lookup)
				continue;
			name->lookup = NULL;
			name->has_answer = true;
			name->ok = lookup->ok;
			name->found = lookup->found;
			name->answered_at = now_s();
		}
		free(lookup);
	}
	if (any)
	{
		Name	   *name;

		while ((name = next_wanted()) != NULL)
			start_lookup(name);
	}
	return any;
}

DtmNameState
dtm_resolve_numeric(const char *text, const DtmAddresses **found)
{
	unsigned char ip[16];

	*found = &answer;
	memset(&answer, 0, sizeof(answer));
	if (strlen(text) >= INET6_ADDRSTRLEN ||
		(inet_pton(AF_INET, text, ip) != 1 && inet_pton(AF_INET6, text, ip) != 1))
		return DTM_NAME_FAILED;
	strcpy(answer.address[0], text);
	answer.count = 1;
	return DTM_NAME_KNOWN;
}

DtmNameState
dtm_resolve(const char *text, unsigned int role, long deadline,
			const DtmAddresses **found)
{
	Name	   *name;

	if (dtm_resolve_numeric(text, found) == DTM_NAME_KNOWN)
		return DTM_NAME_KNOWN;

	name = name_entry(text);
	if (name == NULL)
	{
		snprintf(answer.error, sizeof(answer.error), "out of memory");
		return DTM_NAME_FAILED;
	}
	if (name->lookup == NULL && !is_wanted(name) &&
		(!name->has_answer || now_s() - name->answered_at >= FRESH_FOR))
	{
		name->wanted = true;
		name->role = role;
		name->asked = ++asked;
		name->deadline = deadline;
		start_lookup(name);
	}
	if (name->wanted && deadline > name->deadline)
		name->deadline = deadline;
	/* Another role may have a thread left for it. */
	if (name->wanted && name->role != role)
	{
		name->role = role;
		start_lookup(name);
	}
	if (!may_serve(name))
		return DTM_NAME_PENDING;
	answer = name->found;
	return name->ok ? DTM_NAME_KNOWN : DTM_NAME_FAILED;
}

bool
dtm_numeric_allowed(const char *address)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		return dtm_socket_allowed((struct sockaddr *) &in);
	if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
		return dtm_socket_allowed((struct sockaddr *) &in6);
	return true;
}

static bool
is_wanted(const Name *name)
{
	return name->wanted && now_s() <= name->deadline;
}

/* A failure is looked up anew before it is told again. */
static bool
may_serve(const Name *name)
{
	bool		renewing = name->lookup != NULL || name->wanted;

	return name->has_answer &&
		(!renewing ||
		 (name->ok && now_s() - name->answered_at < USABLE_FOR));
}

static Name *
name_entry(const char *text)
{
	size_t		size = strlen(text) + 1;
	Name	   *name;

	for (name = names; name != NULL; name = name->next)
	{
		if (strcmp(name->name, text) == 0)
			return name;
	}
	if (nnames >= MAX_NAMES)
		forget_one();
	name = calloc(1, sizeof(Name) + size);
	if (name == NULL)
		return NULL;
	memcpy(name->name, text, size);
	name->next = names;
	names = name;
	nnames++;
	return name;
}

/* One that nobody looks up, the oldest; a thread must find its name again. */
static void
forget_one(void)
{
	Name	  **oldest = NULL;

	for (Name **link = &names; *link != NULL; link = &(*link)->next)
	{
		if ((*link)->lookup == NULL && !is_wanted(*link) &&
			(oldest == NULL || (*link)->answered_at < (*oldest)->answered_at))
			oldest = link;
	}
	if (oldest != NULL)
	{
		Name	   *name = *oldest;

		*oldest = name->next;
		free(name);
		nnames--;
	}
}

/* Who asked first, and for whom there is a thread; NULL: nobody. */
static Name *
next_wanted(void)
{
	Name	   *first = NULL;

	for (Name *name = names; name != NULL; name = name->next)
	{
		if (name->wanted && !is_wanted(name))
			name->wanted = false;
		if (name->wanted && free_place(name->role) >= 0 &&
			(first == NULL || name->asked < first->asked))
			first = name;
	}
	return first;
}

/* -1: there is none for this role now. */
static int
free_place(unsigned int role)
{
	int			place = -1;
	int			of_role = 0;

	for (int i = 0; i < MAX_THREADS; i++)
	{
		if (lookups[i] == NULL)
			place = i;
		else if (lookups[i]->role == role)
			of_role++;
	}
	return of_role < MAX_OF_ROLE ? place : -1;
}

/* Or else it stays wanted. */
static void
start_lookup(Name *name)
{
	int			place = free_place(name->role);

	if (place < 0)
		return;
	name->wanted = false;
	begin_thread(name, place);
}

static void
begin_thread(Name *name, int place)
{
	size_t		size = strlen(name->name) + 1;
	pthread_attr_t attributes;
	pthread_t	thread;
	sigset_t	all;
	sigset_t	before;
	Lookup	   *lookup = calloc(1, sizeof(Lookup) + size);
	int			rc = ENOMEM;

	if (lookup != NULL)
	{
		memcpy(lookup->name, name->name, size);
		lookup->answer_fd = pipe_fds[1];
		lookup->role = name->role;

		/* It inherits the mask: signals are for the server's own thread. */
		sigfillset(&all);
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		rc = pthread_create(&thread, &attributes, look_up, lookup);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		pthread_attr_destroy(&attributes);
	}
	if (rc == 0)
	{
		lookups[place] = lookup;
		name->lookup = lookup;
		return;
	}
	free(lookup);
	name->has_answer = true;
	name->ok = false;
	name->answered_at = now_s();
	snprintf(name->found.error, sizeof(name->found.error),
			 "no thread could be started: %s", strerror(rc));
}

static void *
look_up(void *arg)
{
	Lookup	   *lookup = arg;
	struct addrinfo hints = {.ai_family = AF_UNSPEC,.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int			rc = getaddrinfo(lookup->name, NULL, &hints, &list);

	if (rc != 0)
		snprintf(lookup->found.error, sizeof(lookup->found.error), "%s",
				 gai_strerror(rc));
	else
	{
		keep_addresses(lookup, list);
		freeaddrinfo(list);
	}
	/* A pointer is written whole or not at all. */
	while (write(lookup->answer_fd, &lookup, sizeof(lookup)) < 0 && errno == EINTR)
		 /* again */ ;
	return NULL;
}

static void
keep_addresses(Lookup *lookup, const struct addrinfo *list)
{
	DtmAddresses *found = &lookup->found;
	bool		forbidden = false;

	for (; list != NULL && found->count < DTM_MAX_ADDRESSES; list = list->ai_next)
	{
		const void *ip;

		if (list->ai_family == AF_INET)
			ip = &((struct sockaddr_in *) list->ai_addr)->sin_addr;
		else if (list->ai_family == AF_INET6)
			ip = &((struct sockaddr_in6 *) list->ai_addr)->sin6_addr;
		else
			continue;
		if (!dtm_socket_allowed(list->ai_addr))
			forbidden = true;
		else if (inet_ntop(list->ai_family, ip, found->address[found->count],
						   INET6_ADDRSTRLEN) != NULL)
			found->count++;
	}
	lookup->ok = found->count > 0;
	if (!lookup->ok)
		snprintf(found->error, sizeof(found->error), "%s",
				 forbidden ? "it has a link-local or metadata address, which is never called"
				 : "it has no address");
}

static time_t
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}
