/*
 * msg.c: what a two-phase message does next.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state tables
 * that this file mirrors row by row.
 *
 * A message that was begun and left alone is neither sent nor dropped on a
 * guess: whoever began it is asked whether its business has committed. Only
 * with nobody to ask it fails. Once submitted it is never taken back.
 */
#include "attempts.h"

static void wait_for_submit(DtmTrans *trans, const DtmEvent *event,
							DtmPlan *plan);
static void ask_back(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static void deliver(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);

void
dtm_msg_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->status == DTM_PREPARED)
		wait_for_submit(trans, event, plan);
	if (trans->status == DTM_SUBMITTED)
		deliver(trans, event, plan);
}

static void
wait_for_submit(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->deadline > event->now)
		trans->due = trans->deadline;
	else if (dtm_call_is_needless(trans, DTM_WHOLE, DTM_FORWARD))
	{
		trans->status = DTM_FAILED;
		plan->cause = DTM_CAUSE_DEADLINE;
	}
	else
		ask_back(trans, event, plan);
}

static void
ask_back(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	switch (trans->check.status)
	{
		case DTM_OP_SUCCEED:
			trans->status = DTM_SUBMITTED;
			break;
		case DTM_OP_FAILED:
			trans->status = DTM_FAILED;
			plan->cause = DTM_CAUSE_REFUSED;
			plan->cause_branch = DTM_WHOLE;
			break;
		case DTM_OP_PREPARED:
			if (!trans->check.running)
				dtm_start_or_wait(trans, DTM_WHOLE, DTM_FORWARD, event->now,
								  plan);
			break;
	}
}

static void
deliver(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	DtmRound	actions = {
		.phase = DTM_FORWARD,
		.at_once = trans->concurrent
	};

	trans->due = DTM_NEVER;
	if (trans->not_before > event->now)
		trans->due = trans->not_before;
	else if (dtm_go_round(trans, &actions, event->now, plan))
		trans->status = DTM_SUCCEED;
}
