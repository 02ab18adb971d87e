/*
 * xa_branch.c: what an XA over HTTP does next.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state tables
 * that this file mirrors row by row.
 *
 * Its branches have done their work and are prepared, each in its own database;
 * the application submits or aborts. From then on every one of them is told
 * the same, in order of registration, until it has understood: neither commit
 * nor rollback can be refused.
 */
#include "attempts.h"

static void wait_for_decision(DtmTrans *trans, const DtmEvent *event,
							  DtmPlan *plan);
static bool tell_all(DtmTrans *trans, DtmPhase phase, const DtmEvent *event,
					 DtmPlan *plan);

void
dtm_xa_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->status == DTM_PREPARED)
		wait_for_decision(trans, event, plan);
	if (trans->status == DTM_SUBMITTED &&
		tell_all(trans, DTM_FORWARD, event, plan))
		trans->status = DTM_SUCCEED;
	if (trans->status == DTM_ABORTING &&
		tell_all(trans, DTM_BACKWARD, event, plan))
		trans->status = DTM_FAILED;
}

/* A prepared branch holds locks: without a decision it is rolled back. */
static void
wait_for_decision(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->deadline <= event->now)
	{
		trans->status = DTM_ABORTING;
		plan->cause = DTM_CAUSE_DEADLINE;
	}
	else
		trans->due = trans->deadline;
}

static bool
tell_all(DtmTrans *trans, DtmPhase phase, const DtmEvent *event,
		 DtmPlan *plan)
{
	DtmRound	round = {
		.phase = phase,
		.at_once = trans->concurrent
	};

	trans->due = DTM_NEVER;
	return dtm_go_round(trans, &round, event->now, plan);
}
