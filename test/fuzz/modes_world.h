/*
 * modes_world.h: the world of modes_simulator.c: a table, participants, users and a
 * worker, and how it is told what is wrong.
 */
#ifndef DTM_FUZZ_MODES_WORLD_H
#define DTM_FUZZ_MODES_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "endings.h"

#define MAX_N 6
#define MAX_CALLS DTM_MAX_START(MAX_N)
#define MAX_LATE 64
#define CHAOS 200
#define PEACE 5000

/* What the business behind a message has come to. */
typedef enum Business
{
	OPEN,
	COMMITTED,
	ROLLED_BACK
} Business;

/* What really happened at a participant, whatever anybody was told. */
typedef struct Place
{
	bool		empty[DTM_PHASES];
	bool		effect[DTM_PHASES];
	bool		closed;			/* cancelled: a try does nothing any more */
	bool		called[DTM_PHASES];
	bool		success[DTM_PHASES];	/* was answered, in any life */
} Place;

typedef struct World
{
	uint64_t	random;
	uint64_t	seed;
	bool		verbose;
	bool		peace;
	DtmTime		now;
	int			n;
	Place		place[MAX_N];
	DtmMode		mode;
	bool		driven;
	bool		concurrent;
	bool		local;			/* SQL: effect and row in one commit */
	DtmTime		not_before;
	Business	business;
	bool		can_ask;
	bool		check_refused;

	/* the tables */
	DtmStatus	status;
	DtmTime		deadline;
	DtmOp		row[MAX_N + 1][DTM_PHASES];
	bool		exists[MAX_N + 1][DTM_PHASES];
	bool		was_submitted;
	bool		was_aborting;
	bool		user_ended;		/* aborted before it was submitted */
	bool		forced;
	bool		news;
	bool		hurried;

	Endings		endings;

	/* the worker */
	bool		alive;
	bool		crashed_once;
	DtmTrans	trans;
	DtmBranch	branch[MAX_N];
	DtmOpRef	queued[MAX_CALLS];
	bool		waits[MAX_CALLS];	/* for a status to be durable */
	int			nqueued;
	DtmOpRef	flying[MAX_CALLS];
	int			nflying;
	DtmOpRef	late[MAX_LATE]; /* given up by their caller, may yet arrive */
	int			nlate;
} World;

static inline void
fail(World *w, const char *what, int branch)
{
	printf("not ok 1 - seed %llu: %s (%s, branch %d)\n1..1\n",
		   (unsigned long long) w->seed, what, dtm_mode_name(w->mode), branch + 1);
	fflush(stdout);
	exit(1);
}

#define CHECK(w, condition, what, branch) \
	do { if (!(condition)) fail(w, what, branch); } while (0)

#define TELL(w, ...) \
	do { if ((w)->verbose) { printf("# %lld ", (long long) (w)->now); \
		printf(__VA_ARGS__); printf("\n"); } } while (0)

static inline uint32_t
draw(World *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t) (w->random >> 16);
}

static inline bool
chance(World *w, int percent)
{
	return (int) (draw(w) % 100) < percent;
}

#endif
