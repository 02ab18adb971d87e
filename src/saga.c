/*
 * saga.c: what a saga does next.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state tables
 * that this file mirrors row by row.
 *
 * It must never call a compensation while an action is still running, nor
 * any action once the saga has turned back.
 */
#include "attempts.h"

static void wait_for_submit(DtmTrans *trans, const DtmEvent *event,
							DtmPlan *plan);
static void go_forward(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static void start_actions(DtmTrans *trans, const DtmEvent *event,
						  DtmPlan *plan);
static bool action_may_run(const DtmTrans *trans, int branch);
static void go_back(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static bool start_compensates_at_once(DtmTrans *trans, const DtmEvent *event,
									  DtmPlan *plan);
static void hold_predecessors(DtmTrans *trans);
static bool needs_compensate(const DtmTrans *trans, int branch);

void
dtm_saga_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->status == DTM_PREPARED)
		wait_for_submit(trans, event, plan);
	if (trans->status == DTM_SUBMITTED)
		go_forward(trans, event, plan);
	if (trans->status == DTM_ABORTING)
		go_back(trans, event, plan);
}

/* A saga that is never submitted fails at its deadline, should it have one. */
static void
wait_for_submit(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->deadline <= event->now)
	{
		trans->status = DTM_FAILED;
		plan->cause = DTM_CAUSE_DEADLINE;
	}
	else
		trans->due = trans->deadline;
}

static void
go_forward(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	/* First: what has succeeded by its deadline is not late. */
	if (dtm_all_succeeded(trans, DTM_FORWARD))
	{
		trans->status = DTM_SUCCEED;
		return;
	}

	plan->cause = dtm_cause_to_turn_back(trans, DTM_FORWARD, event->now,
										 &plan->cause_branch);
	if (plan->cause != DTM_CAUSE_NONE)
	{
		trans->status = DTM_ABORTING;
		return;
	}

	trans->due = trans->deadline;
	start_actions(trans, event, plan);
}

/*
 * start_actions starts every action that may run now. A step without an
 * address succeeds on the spot, which may set others free: hence the rounds.
 */
static void
start_actions(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	bool		again;

	do
	{
		again = false;
		for (int i = 0; i < trans->nbranches; i++)
		{
			DtmBranch  *branch = &trans->branches[i];
			DtmOp	   *action = &branch->op[DTM_FORWARD];

			if (action->status == DTM_OP_SUCCEED)
				continue;
			if (action_may_run(trans, i))
			{
				if (dtm_call_is_needless(trans, i, DTM_FORWARD))
				{
					dtm_succeed(action);
					again = trans->concurrent;
					continue;
				}
				dtm_start_or_wait(trans, i, DTM_FORWARD, event->now, plan);
			}
			/* In sequence, the first that has not succeeded is the only one. */
			if (!trans->concurrent)
				return;
		}
	} while (again);
}

static bool
action_may_run(const DtmTrans *trans, int i)
{
	const DtmBranch *branch = &trans->branches[i];

	if (branch->op[DTM_FORWARD].running)
		return false;
	if (!trans->concurrent)
		return true;
	for (int p = 0; p < branch->npredecessors; p++)
	{
		const DtmBranch *before = &trans->branches[branch->predecessors[p]];

		if (before->op[DTM_FORWARD].status != DTM_OP_SUCCEED)
			return false;
	}
	return true;
}

static void
go_back(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	static const DtmRound in_turn = {
		.phase = DTM_BACKWARD,
		.last_first = true,
		.needed = needs_compensate
	};
	bool		done;

	trans->due = DTM_NEVER;
	if (dtm_phase_is_running(trans, DTM_FORWARD))
		return;

	if (trans->concurrent)
		done = start_compensates_at_once(trans, event, plan);
	else
		done = dtm_go_round(trans, &in_turn, event->now, plan);

	if (done)
		trans->status = DTM_FAILED;
}

/*
 * start_compensates_at_once follows the order graph backwards: a compensate
 * may run once those of all steps that had waited for its step are done.
 * Returns true when all are done.
 */
static bool
start_compensates_at_once(DtmTrans *trans, const DtmEvent *event,
						  DtmPlan *plan)
{
	bool		done;
	bool		again;

	do
	{
		done = true;
		again = false;
		hold_predecessors(trans);
		for (int i = trans->nbranches - 1; i >= 0; i--)
		{
			DtmBranch  *branch = &trans->branches[i];
			DtmOp	   *compensate = &branch->op[DTM_BACKWARD];

			if (compensate->status == DTM_OP_SUCCEED ||
				!needs_compensate(trans, i))
				continue;
			if (!branch->held && dtm_call_is_needless(trans, i, DTM_BACKWARD))
			{
				dtm_succeed(compensate);
				again = true;
				continue;
			}
			done = false;
			if (!branch->held && !compensate->running)
				dtm_start_or_wait(trans, i, DTM_BACKWARD, event->now, plan);
		}
	} while (again && !done);
	return done;
}

/*
 * Whoever still has to be undone holds back all that it had waited for. Through
 * steps without a compensation, too: that nothing had to be done there may have
 * been noted in an earlier life, whose decision to turn back was never durable.
 */
static void
hold_predecessors(DtmTrans *trans)
{
	bool		again;

	for (int i = 0; i < trans->nbranches; i++)
		trans->branches[i].held = false;

	do
	{
		again = false;
		for (int i = trans->nbranches - 1; i >= 0; i--)
		{
			const DtmBranch *branch = &trans->branches[i];
			bool		passes_on = branch->held &&
				dtm_call_is_needless(trans, i, DTM_BACKWARD);

			if (!passes_on && (branch->op[DTM_BACKWARD].status == DTM_OP_SUCCEED ||
							   !needs_compensate(trans, i)))
				continue;
			for (int p = 0; p < branch->npredecessors; p++)
			{
				DtmBranch  *before = &trans->branches[branch->predecessors[p]];

				/* Those behind us in the list have had their turn without it. */
				if (!before->held && branch->predecessors[p] > i)
					again = true;
				before->held = true;
			}
		}
	} while (again);
}

/*
 * needs_compensate tells whether the step's action may have run. A refusal
 * counts: "nothing happened" is its word, and undoing nothing is harmless. So
 * does every step after a restart of the worker, since calls leave no trace
 * until they have ended; not even a refused step before it proves that
 * nothing was called, as an earlier call of that one may have succeeded.
 */
static bool
needs_compensate(const DtmTrans *trans, int i)
{
	const DtmBranch *branch = &trans->branches[i];
	const DtmOp *action = &branch->op[DTM_FORWARD];

	return trans->resumed ||
		action->status != DTM_OP_PREPARED ||
		action->in_doubt ||
		action->attempts > 0 ||
		branch->op[DTM_BACKWARD].attempts > 0;
}
