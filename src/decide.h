/*
 * decide.h: deciding, apart from doing.
 *
 * A deciding function takes a transaction in memory and one event. It changes
 * the transaction's fields and fills a plan: which calls to start, whether the
 * status changed. It does no I/O, asks no clock, allocates nothing.
 *
 * Whoever carries a plan out must keep this order: when status_changed is set,
 * the new status is durable before the first call in start[] is made. A later
 * plan does not say it again, so the rule in full: no call is made while
 * trans->status differs from trans->stored_status.
 */
#ifndef DTM_DECIDE_H
#define DTM_DECIDE_H

#include "trans.h"

typedef enum DtmEventKind
{
	DTM_EVENT_LOADED,			/* just read from the tables */
	DTM_EVENT_RESULT,			/* a call ended */
	DTM_EVENT_TIMER,			/* trans->due has come */
	DTM_EVENT_COMMAND,			/* its row was changed by a user: see status,
								 * and trans->deadline is as the row says now */
	DTM_EVENT_WITHDRAWN			/* a call that was only queued will not be made:
								 * so a rollback need not wait for its turn */
} DtmEventKind;

typedef struct DtmEvent
{
	DtmEventKind kind;
	DtmTime		now;
	uint32_t	random;			/* for jitter */
	DtmTime		max_retry_interval;
	int32_t		stuck_after;	/* failed attempts of an op that has no limit
								 * until it is flagged; 0: never */
	DtmTime		not_before;		/* WITHDRAWN: leave it alone until then */
	/* RESULT, WITHDRAWN */
	int			branch;			/* index into branches */
	DtmPhase	phase;
	DtmAnswer	answer;
	/* COMMAND */
	DtmStatus	status;			/* the status that the row has now */
	bool		hurry;			/* every waiting op is due at once */
} DtmEvent;

typedef struct DtmOpRef
{
	int			branch;
	DtmPhase	phase;
} DtmOpRef;

typedef enum DtmCause
{
	DTM_CAUSE_NONE,
	DTM_CAUSE_REFUSED,			/* a branch answered FAILURE: see cause_branch */
	DTM_CAUSE_DEADLINE,
	DTM_CAUSE_RETRY_LIMIT		/* see cause_branch */
} DtmCause;

/*
 * The caller provides start with room for DTM_PHASES * nbranches entries.
 * An op in start[] has running = true and is counted in trans->running.
 */
typedef struct DtmPlan
{
	bool		status_changed;
	DtmCause	cause;			/* of a change to aborting or failed */
	int			cause_branch;
	int			nstart;
	DtmOpRef   *start;
} DtmPlan;

extern void dtm_saga_decide(DtmTrans *trans, const DtmEvent *event,
							DtmPlan *plan);

/*
 * saga_order.c: is this order graph usable? Returns false and names a step
 * that waits for itself, directly or not, or for one that does not exist. The
 * culprit is -1 when memory ran out.
 */
extern bool dtm_order_is_acyclic(int nbranches, const DtmBranch *branches,
								 int *culprit);

/* retry.c: delay until the next attempt, after streak failures in a row. */
extern int64_t dtm_retry_delay(int64_t interval, int streak, int64_t ceiling,
							   uint32_t random);

/* names of things, for SQL, HTTP and people */
extern const char *dtm_mode_name(DtmMode mode);
extern const char *dtm_status_name(DtmStatus status);
extern const char *dtm_op_status_name(DtmOpStatus status);
extern const char *dtm_op_name(DtmMode mode, DtmPhase phase);

static inline bool
dtm_status_is_final(DtmStatus status)
{
	return status == DTM_SUCCEED || status == DTM_FAILED;
}

#endif
