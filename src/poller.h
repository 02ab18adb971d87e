/*
 * poller.h: many sockets behind one descriptor.
 *
 * A WaitEventSet cannot drop events, so sockets that come and go live in an
 * epoll set (a kqueue elsewhere) whose own descriptor is waited for. Plain C.
 */
#ifndef DTM_POLLER_H
#define DTM_POLLER_H

#include <stdbool.h>

/* What to wait for, and what has come. The values are also libcurl's. */
#define DTM_POLL_IN		1
#define DTM_POLL_OUT	2
#define DTM_POLL_ERROR	4

typedef struct DtmReady
{
	int			fd;
	int			events;
} DtmReady;

/* -1: none to be had, see errno. */
extern int	dtm_poller_open(void);

/*
 * Change what is waited for on fd; 0 is nothing. A wrong idea of what was is
 * put right, since a closed descriptor has left the set by itself.
 */
extern bool dtm_poller_change(int poller, int fd, int was, int wanted);

/* What is ready now, without waiting. */
extern int	dtm_poller_ready(int poller, DtmReady *ready, int max);

#endif
