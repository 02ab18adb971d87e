/*
 * saga_world.h: the world of saga_simulator.c: a table, participants, users and a
 * worker, and how it is told what is wrong.
 */
#ifndef DTM_FUZZ_SAGA_WORLD_H
#define DTM_FUZZ_SAGA_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "endings.h"

#define MAX_STEPS 8
#define MAX_CALLS (MAX_STEPS * DTM_PHASES)
#define MAX_LATE 64
#define CHAOS 300
#define PEACE 5000

/* What really happened at a participant, whatever anybody was told. */
typedef struct Step
{
	bool		empty[DTM_PHASES];
	bool		local;			/* SQL: effect and row in one commit */
	bool		forgetful;		/* refuses a repeat of what it has done */
	unsigned	before;			/* steps that it waits for, transitively */
	unsigned	after;			/* steps that wait for it, transitively */
	bool		effect;
	bool		undone;			/* from then on an action does nothing */
	bool		called[DTM_PHASES];
	bool		success[DTM_PHASES];	/* was answered, in any life */
} Step;

typedef struct Row
{
	bool		exists;
	DtmOpStatus status;
	bool		stuck;
	int32_t		attempts;
	int32_t		failed_attempts;
	int32_t		streak;
	DtmTime		due;
} Row;

typedef struct World
{
	uint64_t	random;
	uint64_t	seed;
	bool		verbose;
	DtmTime		now;
	int			n;
	Step		step[MAX_STEPS];
	bool		concurrent;
	DtmTime		timeout;		/* DTM_NEVER: none */
	bool		peace;

	/* the tables */
	DtmStatus	status;
	DtmTime		deadline;
	Row			row[MAX_STEPS][DTM_PHASES];
	bool		was_aborting;
	bool		forced;
	bool		news;			/* changed by a user; the worker has to be told */
	bool		hurried;

	Endings		endings;

	/* the worker */
	bool		alive;
	bool		crashed_once;
	DtmTrans	trans;
	DtmBranch	branch[MAX_STEPS];
	int32_t		predecessors[MAX_STEPS][MAX_STEPS];
	DtmOpRef	queued[MAX_CALLS];
	int			nqueued;
	DtmOpRef	flying[MAX_CALLS];
	int			nflying;

	/* actions given up by their caller that may yet arrive */
	int			late[MAX_LATE];
	int			nlate;
} World;

static inline void
fail(World *w, const char *what, int step)
{
	printf("not ok 1 - seed %llu: %s (step %d)\n1..1\n",
		   (unsigned long long) w->seed, what, step);
	fflush(stdout);
	exit(1);
}

#define CHECK(w, condition, what, step) \
	do { if (!(condition)) fail(w, what, step); } while (0)

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
