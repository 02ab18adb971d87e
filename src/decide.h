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
 * trans->status differs from trans->stored_status; but for the one of an ending,
 * which is what makes that status durable (ending.c).
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
	int			branch;			/* index into branches, DTM_WHOLE, DTM_ENDING */
	DtmPhase	phase;
	DtmAnswer	answer;
	/* COMMAND */
	DtmStatus	status;			/* the status that the row has now */
	bool		hurry;			/* every waiting op is due at once */
	bool		client_is_back; /* of a workflow: a new run has begun */
	bool		ended;			/* and there is no statement left to run */
} DtmEvent;

typedef struct DtmOpRef
{
	int			branch;			/* or DTM_WHOLE, DTM_ENDING */
	DtmPhase	phase;
} DtmOpRef;

typedef enum DtmCause
{
	DTM_CAUSE_NONE,
	DTM_CAUSE_REFUSED,			/* FAILURE was answered: see cause_branch, which
								 * may be DTM_WHOLE */
	DTM_CAUSE_DEADLINE,
	DTM_CAUSE_RETRY_LIMIT		/* see cause_branch */
} DtmCause;

/*
 * The caller provides start with room for DTM_MAX_START(nbranches) entries.
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

#define DTM_MAX_START(nbranches) (DTM_PHASES * (nbranches) + 1)

/* decide.c: whatever its mode. The others: one mode each, after the event was
 * taken in (attempts.c), with an empty plan and trans->due never. */
extern void dtm_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
extern bool dtm_mode_is_known(DtmMode mode);
extern void dtm_saga_decide(DtmTrans *trans, const DtmEvent *event,
							DtmPlan *plan);
extern void dtm_tcc_decide(DtmTrans *trans, const DtmEvent *event,
						   DtmPlan *plan);
extern void dtm_msg_decide(DtmTrans *trans, const DtmEvent *event,
						   DtmPlan *plan);
extern void dtm_xa_decide(DtmTrans *trans, const DtmEvent *event,
						  DtmPlan *plan);
extern void dtm_workflow_decide(DtmTrans *trans, const DtmEvent *event,
								DtmPlan *plan);

/*
 * attempts.c: take back a call that has been planned and will not be made, as
 * it was overtaken before it could start.
 */
extern void dtm_take_back(DtmTrans *trans, int branch, DtmPhase phase);

/*
 * ending.c: after the file of the mode, which may have decided on an end.
 */
extern void dtm_ending_decide(DtmTrans *trans, const DtmEvent *event,
							  DtmPlan *plan);
extern void dtm_ending_take_result(DtmTrans *trans, const DtmEvent *event);
extern void dtm_ending_forget(DtmTrans *trans);

/* Its status is final, and there is a statement that has not succeeded. */
extern bool dtm_ending_is_pending(const DtmTrans *trans);

/* The final status is decided, and the statement's commit will write it. */
extern bool dtm_ending_comes_first(const DtmTrans *trans);

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
extern const char *dtm_op_name_of(const DtmTrans *trans, int branch,
								  DtmPhase phase);

/* The phase in which a branch may refuse, and so decide over the whole. */
static inline DtmPhase
dtm_deciding_phase(DtmMode mode)
{
	return mode == DTM_TCC ? DTM_TRY : DTM_FORWARD;
}

static inline bool
dtm_status_is_final(DtmStatus status)
{
	return status == DTM_SUCCEED || status == DTM_FAILED;
}

/* Decided, and the worker has to write it. */
static inline bool
dtm_is_to_be_written(const DtmTrans *trans)
{
	return trans->status != trans->stored_status &&
		!dtm_ending_comes_first(trans);
}

/* Nothing is left to be done, nor to be written. */
static inline bool
dtm_is_over(const DtmTrans *trans)
{
	return dtm_status_is_final(trans->status) &&
		trans->status == trans->stored_status &&
		!dtm_ending_is_pending(trans);
}

#endif
