/*
 * poller.c: many sockets behind one descriptor.
 *
 * Level-triggered, so that whoever does not finish with a socket is told
 * again. It never blocks and never allocates.
 */
#include "poller.h"

#include <errno.h>
#include <fcntl.h>

#define MAX_READY 256

#ifdef __linux__

#include <sys/epoll.h>

int
dtm_poller_open(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

bool
dtm_poller_change(int poller, int fd, int was, int wanted)
{
	struct epoll_event event = {0};
	int			op;

	event.data.fd = fd;
	if (wanted & DTM_POLL_IN)
		event.events |= EPOLLIN;
	if (wanted & DTM_POLL_OUT)
		event.events |= EPOLLOUT;

	if (wanted == 0)
	{
		(void) epoll_ctl(poller, EPOLL_CTL_DEL, fd, &event);
		return true;
	}

	op = was == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(poller, op, fd, &event) == 0)
		return true;
	if (errno == EEXIST)
		return epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event) == 0;
	if (errno == ENOENT)
		return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0;
	return false;
}

int
dtm_poller_ready(int poller, DtmReady *ready, int max)
{
	struct epoll_event events[MAX_READY];
	int			n = epoll_wait(poller, events, max < MAX_READY ? max : MAX_READY, 0);

	for (int i = 0; i < n; i++)
	{
		ready[i].fd = events[i].data.fd;
		ready[i].events = 0;
		if (events[i].events & EPOLLIN)
			ready[i].events |= DTM_POLL_IN;
		if (events[i].events & EPOLLOUT)
			ready[i].events |= DTM_POLL_OUT;
		/* Reading is what brings the error, or the end, to light. */
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			ready[i].events |= DTM_POLL_ERROR | DTM_POLL_IN;
	}
	return n > 0 ? n : 0;
}

#else							/* BSD, macOS */

#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>
#include <stddef.h>

static bool change_filter(int poller, int fd, int filter, bool wanted);

int
dtm_poller_open(void)
{
	int			poller = kqueue();

	if (poller >= 0)
		(void) fcntl(poller, F_SETFD, FD_CLOEXEC);
	return poller;
}

/* Adding a filter that is there is no error, nor is losing one that is not. */
bool
dtm_poller_change(int poller, int fd, int was, int wanted)
{
	return change_filter(poller, fd, EVFILT_READ, wanted & DTM_POLL_IN) &&
		change_filter(poller, fd, EVFILT_WRITE, wanted & DTM_POLL_OUT);
}

static bool
change_filter(int poller, int fd, int filter, bool wanted)
{
	struct kevent event;

	EV_SET(&event, fd, filter, wanted ? EV_ADD : EV_DELETE, 0, 0, 0);
	return kevent(poller, &event, 1, NULL, 0, NULL) == 0 || !wanted;
}

int
dtm_poller_ready(int poller, DtmReady *ready, int max)
{
	struct kevent events[MAX_READY];
	struct timespec no_time = {0, 0};
	int			n = kevent(poller, NULL, 0, events,
						   max < MAX_READY ? max : MAX_READY, &no_time);

	for (int i = 0; i < n; i++)
	{
		ready[i].fd = (int) events[i].ident;
		ready[i].events = events[i].filter == EVFILT_WRITE
			? DTM_POLL_OUT : DTM_POLL_IN;
		if (events[i].flags & EV_ERROR)
			ready[i].events |= DTM_POLL_ERROR | DTM_POLL_IN;
	}
	return n > 0 ? n : 0;
}

#endif
