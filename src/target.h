/*
 * target.h: who may be called right now.
 *
 * A target is one server (or one role's executors). It has a queue of calls
 * that wait, a limit of calls in flight, and a circuit: after a few calls in
 * a row without any answer, it is probed by one call at a time with growing
 * pauses, while its other calls wait in its own queue and in nobody's way.
 *
 * Pure apart from malloc: no I/O, no clock.
 */
#ifndef DTM_TARGET_H
#define DTM_TARGET_H

#include "trans.h"

typedef struct DtmTargets DtmTargets;

typedef struct DtmTargetLimits
{
	int			in_flight;		/* calls in flight, all targets */
	int			per_target;		/* calls in flight, one target */
	int			trip_after;		/* unanswered calls in a row that open it */
	DtmTime		first_pause;	/* between probes; doubles ... */
	DtmTime		longest_pause;	/* ... up to this */
} DtmTargetLimits;

/* A call that waits its turn; embed it in the real thing. */
typedef struct DtmWaiting
{
	struct DtmWaiting *prev;
	struct DtmWaiting *next;
	struct DtmTarget *target;	/* NULL: neither queued nor in flight */
	bool		in_flight;
} DtmWaiting;

extern DtmTargets *dtm_targets_create(void);	/* NULL: out of memory */
extern void dtm_targets_destroy(DtmTargets *targets);
extern void dtm_targets_limit(DtmTargets *targets,
							  const DtmTargetLimits *limits);

/* Queue a call; false: out of memory. First in, first out per target. */
extern bool dtm_target_enqueue(DtmTargets *targets, const char *key,
							   DtmWaiting *call);

/*
 * The next call that may start now (it counts as in flight from here), taking
 * the targets in turn so that none starves; NULL: none may.
 */
extern DtmWaiting *dtm_targets_next(DtmTargets *targets, DtmTime now);

/* A call ended. answered: the server said something, whatever it said. */
extern void dtm_target_ended(DtmTargets *targets, DtmWaiting *call,
							 bool answered, DtmTime now);

/* Forget a call, queued or in flight, without learning anything from it. */
extern void dtm_target_forget(DtmTargets *targets, DtmWaiting *call);

/* Does the call's target, at present, not answer? */
extern bool dtm_target_is_open(const DtmWaiting *call);

/* Does its target have more calls queued than it can soon take? */
extern bool dtm_target_is_crowded(const DtmTargets *targets,
								  const DtmWaiting *call);

/* The first call that is queued where this one is, or was; follow next. */
extern DtmWaiting *dtm_target_queue(const DtmWaiting *call);

/* Somebody says "now": a pause of the call's target is over. */
extern void dtm_target_hurry(DtmTargets *targets, const DtmWaiting *call);

/* The clock was set back: no pause lasts longer than it should. */
extern void dtm_targets_clock_set_back(DtmTargets *targets, DtmTime now);

/* When the earliest pause of a target with queued calls ends; DTM_NEVER. */
extern DtmTime dtm_targets_wake(DtmTargets *targets);

extern int	dtm_targets_in_flight(const DtmTargets *targets);
extern int	dtm_targets_queued(const DtmTargets *targets);
extern int	dtm_targets_open_circuits(const DtmTargets *targets);

#endif
