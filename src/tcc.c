/*
 * tcc.c: what a TCC does next.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state tables
 * that this file mirrors row by row.
 *
 * Tries are called by the application, which then submits or aborts, or by us
 * (driven): then the outcome of the tries decides. Either way that decision is
 * durable before the first confirm or cancel.
 *
 * It must never confirm before every try has succeeded, nor cancel while a
 * try of ours is still running.
 */
#include "attempts.h"

static void wait_for_decision(DtmTrans *trans, const DtmEvent *event,
							  DtmPlan *plan);
static void try_all(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static void confirm_all(DtmTrans *trans, const DtmEvent *event,
						DtmPlan *plan);
static void cancel_all(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static bool needs_cancel(const DtmTrans *trans, int branch);

void
dtm_tcc_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->status == DTM_PREPARED)
	{
		if (trans->driven)
			try_all(trans, event, plan);
		else
			wait_for_decision(trans, event, plan);
	}
	if (trans->status == DTM_SUBMITTED)
		confirm_all(trans, event, plan);
	if (trans->status == DTM_ABORTING)
		cancel_all(trans, event, plan);
}

/* The application tries, and decides; should it be lost, its time does. */
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

static void
try_all(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	static const DtmRound tries = {
		.phase = DTM_TRY,
		.at_once = true
	};

	/* First: what has succeeded by its deadline is not late. */
	if (dtm_all_succeeded(trans, DTM_TRY))
	{
		trans->status = DTM_SUBMITTED;
		return;
	}

	plan->cause = dtm_cause_to_turn_back(trans, DTM_TRY, event->now,
										 &plan->cause_branch);
	if (plan->cause != DTM_CAUSE_NONE)
	{
		trans->status = DTM_ABORTING;
		return;
	}

	trans->due = trans->deadline;
	(void) dtm_go_round(trans, &tries, event->now, plan);
}

static void
confirm_all(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	DtmRound	confirms = {
		.phase = DTM_FORWARD,
		.last_first = true,
		.at_once = trans->concurrent
	};

	trans->due = DTM_NEVER;
	if (dtm_go_round(trans, &confirms, event->now, plan))
		trans->status = DTM_SUCCEED;
}

static void
cancel_all(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	DtmRound	cancels = {
		.phase = DTM_BACKWARD,
		.last_first = true,
		.at_once = trans->concurrent,
		.needed = needs_cancel
	};

	trans->due = DTM_NEVER;
	if (dtm_phase_is_running(trans, DTM_TRY))
		return;
	if (dtm_go_round(trans, &cancels, event->now, plan))
		trans->status = DTM_FAILED;
}

/*
 * needs_cancel tells whether the branch's try may have run. What the
 * application calls is not ours to know: all that is registered. Nor is what an
 * earlier worker has called: calls leave no trace until they have ended. A
 * refusal counts, too: "nothing happened" is its word, and cancelling nothing
 * is harmless.
 */
static bool
needs_cancel(const DtmTrans *trans, int i)
{
	const DtmBranch *branch = &trans->branches[i];
	const DtmOp *try = &branch->op[DTM_TRY];

	return !trans->driven ||
		trans->resumed ||
		try->status != DTM_OP_PREPARED ||
		try->in_doubt ||
		try->attempts > 0 ||
		branch->op[DTM_BACKWARD].attempts > 0;
}
