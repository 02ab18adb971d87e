/*
 * attempts.h: what the deciding files share: the life of one op, and starting
 * many of them in an order.
 *
 * Pure, as they are.
 */
#ifndef DTM_ATTEMPTS_H
#define DTM_ATTEMPTS_H

#include "decide.h"

/* Change what is known, as the event says; nothing follows from it here. */
extern void dtm_take_event(DtmTrans *trans, const DtmEvent *event);

/* The op of the event has failed once more: when is it tried again? */
extern void dtm_take_failed_attempt(DtmTrans *trans, const DtmEvent *event);

/* DTM_NEVER is not a time that a retry could have. */
extern DtmTime dtm_later(DtmTime now, int64_t delay);

/*
 * Have all ops of the phase succeeded? Those without an address cannot do
 * otherwise, and are marked once all others have.
 */
extern bool dtm_all_succeeded(DtmTrans *trans, DtmPhase phase);

/* Is there a reason, in ops of the phase or in the time, to turn back? */
extern DtmCause dtm_cause_to_turn_back(const DtmTrans *trans, DtmPhase phase,
									   DtmTime now, int *cause_branch);

/* Can failed attempts of this call, by their number, turn the whole back? */
extern bool dtm_call_has_limit(const DtmTrans *trans, int branch,
							   DtmPhase phase);

extern bool dtm_phase_is_running(const DtmTrans *trans, DtmPhase phase);

/* Which ops of a phase are to succeed, and how they may be called. */
typedef struct DtmRound
{
	DtmPhase	phase;
	bool		last_first;		/* in reverse order of registration */
	bool		at_once;		/* else each after the one before */
	bool		(*needed) (const DtmTrans *trans, int branch);	/* NULL: all */
} DtmRound;

/* Start what may start now; true: all are done. */
extern bool dtm_go_round(DtmTrans *trans, const DtmRound *round, DtmTime now,
						 DtmPlan *plan);

/*
 * Put the call into the plan, or see to it that the timer rings when it is
 * due.
 */
extern void dtm_start_or_wait(DtmTrans *trans, int branch, DtmPhase phase,
							  DtmTime now, DtmPlan *plan);

extern void dtm_succeed(DtmOp *op);

/* Who could not be reached is there again: what failed before is over. */
extern void dtm_forget_failures(DtmOp *op);

extern bool dtm_call_is_needless(const DtmTrans *trans, int branch,
								 DtmPhase phase);

#endif
