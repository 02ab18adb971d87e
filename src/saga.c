/*
 * saga.c: what a saga does next.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state tables
 * that this file mirrors row by row.
 *
 * An event first changes what is known (a result, a user's command); then
 * everything else is derived from what is known, never from the event. So a
 * saga that was read back from the tables after a crash, whichever of its rows
 * had been written, goes on exactly as one that never left memory.
 *
 * It must never call a compensation while an action is still running, nor
 * any action once the saga has turned back.
 */
#include "decide.h"

static void take_result(DtmTrans *trans, const DtmEvent *event);
static void take_failed_attempt(DtmTrans *trans, const DtmEvent *event);
static void take_withdrawal(DtmTrans *trans, const DtmEvent *event);
static void take_command(DtmTrans *trans, const DtmEvent *event);
static void hurry(DtmTrans *trans, DtmTime now);
static void wait_for_submit(DtmTrans *trans, const DtmEvent *event,
							DtmPlan *plan);
static void go_forward(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static bool actions_succeeded(DtmTrans *trans);
static DtmCause cause_to_turn_back(const DtmTrans *trans, DtmTime now,
								   int *branch);
static void start_actions(DtmTrans *trans, const DtmEvent *event,
						  DtmPlan *plan);
static bool action_may_run(const DtmTrans *trans, int branch);
static void go_back(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan);
static bool action_is_running(const DtmTrans *trans);
static bool start_compensates_in_turn(DtmTrans *trans, const DtmEvent *event,
									  DtmPlan *plan);
static bool start_compensates_at_once(DtmTrans *trans, const DtmEvent *event,
									  DtmPlan *plan);
static void hold_predecessors(DtmTrans *trans);
static bool needs_compensate(const DtmTrans *trans, int branch);
static void start_or_wait(DtmTrans *trans, int branch, DtmPhase phase,
						  DtmTime now, DtmPlan *plan);
static void succeed(DtmOp *op);
static bool call_is_needless(const DtmBranch *branch, DtmPhase phase);
static int32_t limit_of(const DtmTrans *trans, const DtmBranch *branch);
static int	rank(DtmStatus status);
static void count_up(int32_t *counter);
static DtmTime later(DtmTime now, int64_t delay);

void
dtm_saga_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	DtmStatus	before;

	plan->status_changed = false;
	plan->cause = DTM_CAUSE_NONE;
	plan->cause_branch = -1;
	plan->nstart = 0;

	switch (event->kind)
	{
		case DTM_EVENT_LOADED:
			/* The submit is durable before any call: so nobody was called. */
			if (trans->status == DTM_PREPARED)
				trans->resumed = false;
			break;
		case DTM_EVENT_RESULT:
			take_result(trans, event);
			break;
		case DTM_EVENT_WITHDRAWN:
			take_withdrawal(trans, event);
			break;
		case DTM_EVENT_COMMAND:
			take_command(trans, event);
			break;
		case DTM_EVENT_TIMER:
			break;
	}

	before = trans->status;
	trans->due = DTM_NEVER;
	if (trans->status == DTM_PREPARED)
		wait_for_submit(trans, event, plan);
	if (trans->status == DTM_SUBMITTED)
		go_forward(trans, event, plan);
	if (trans->status == DTM_ABORTING)
		go_back(trans, event, plan);
	plan->status_changed = (trans->status != before);
}

/*
 * take_result notes how a call ended. One that ends after the saga did, by
 * force, changes nothing any more but the count of those under way.
 */
static void
take_result(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = &trans->branches[event->branch].op[event->phase];

	if (!op->running)
		return;
	op->running = false;
	trans->running--;
	if (dtm_status_is_final(trans->status))
		return;

	count_up(&op->attempts);
	op->last_attempt = event->now;
	op->dirty = true;

	switch (event->answer)
	{
		case DTM_ANSWER_SUCCESS:
			succeed(op);
			break;
		case DTM_ANSWER_ONGOING:
			op->streak = 0;
			op->due = later(event->now, trans->retry_interval);
			break;
		case DTM_ANSWER_FAILURE:
			if (event->phase == DTM_FORWARD)
			{
				op->status = DTM_OP_FAILED;
				op->in_doubt = false;
				op->streak = 0;
				op->due = 0;
				break;
			}
			/* A compensation cannot refuse: it must succeed in the end. */
			take_failed_attempt(trans, event);
			break;
		case DTM_ANSWER_ERROR:
			take_failed_attempt(trans, event);
			break;
	}
}

/*
 * take_failed_attempt plans the next one. An action with a limit ends the
 * attempts by turning the saga back (cause_to_turn_back); all others go on for
 * ever, and past their number they are shown to people.
 */
static void
take_failed_attempt(DtmTrans *trans, const DtmEvent *event)
{
	DtmBranch  *branch = &trans->branches[event->branch];
	DtmOp	   *op = &branch->op[event->phase];
	int32_t		limit = limit_of(trans, branch);
	int64_t		interval = trans->retry_interval;

	count_up(&op->failed_attempts);
	count_up(&op->streak);

	if (limit <= 0)
		limit = event->stuck_after;
	else if (event->phase == DTM_FORWARD)
		limit = 0;
	if (limit > 0 && op->failed_attempts >= limit)
		op->stuck = true;

	if (op->stuck)
		interval = event->max_retry_interval;
	op->due = later(event->now,
					dtm_retry_delay(interval, op->streak,
									event->max_retry_interval, event->random));
}

/*
 * take_withdrawal: the call was queued and has not been made. Unless earlier
 * ones were, its branch is as untouched as it was before.
 */
static void
take_withdrawal(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = &trans->branches[event->branch].op[event->phase];

	if (!op->running)
		return;
	op->running = false;
	trans->running--;
	op->in_doubt = (op->attempts > 0);
	op->due = later(event->now, trans->retry_interval);
	if (op->due < event->not_before)
		op->due = event->not_before;
}

/*
 * take_command takes over what a user has made of the row. The row wins, also
 * over a decision of ours that has not been written yet: that one's update
 * will find the row changed and do nothing. When the row says what we knew it
 * to say, there is no news in it, and our decision stands.
 */
static void
take_command(DtmTrans *trans, const DtmEvent *event)
{
	if (rank(event->status) > rank(trans->stored_status))
	{
		trans->status = event->status;
		trans->stored_status = event->status;
	}
	if (event->hurry)
		hurry(trans, event->now);
}

static void
hurry(DtmTrans *trans, DtmTime now)
{
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			DtmOp	   *op = &trans->branches[i].op[phase];

			if (!op->running && op->due > now)
				op->due = now;
		}
	}
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
	if (actions_succeeded(trans))
	{
		trans->status = DTM_SUCCEED;
		return;
	}

	plan->cause = cause_to_turn_back(trans, event->now, &plan->cause_branch);
	if (plan->cause != DTM_CAUSE_NONE)
	{
		trans->status = DTM_ABORTING;
		return;
	}

	trans->due = trans->deadline;
	start_actions(trans, event, plan);
}

/*
 * actions_succeeded tells whether all have. Those without an address cannot do
 * otherwise, and are marked once all others have.
 */
static bool
actions_succeeded(DtmTrans *trans)
{
	for (int i = 0; i < trans->nbranches; i++)
	{
		DtmBranch  *branch = &trans->branches[i];

		if (branch->op[DTM_FORWARD].status != DTM_OP_SUCCEED &&
			!call_is_needless(branch, DTM_FORWARD))
			return false;
	}
	for (int i = 0; i < trans->nbranches; i++)
	{
		DtmOp	   *op = &trans->branches[i].op[DTM_FORWARD];

		if (op->status != DTM_OP_SUCCEED)
			succeed(op);
	}
	return true;
}

static DtmCause
cause_to_turn_back(const DtmTrans *trans, DtmTime now, int *cause_branch)
{
	for (int i = 0; i < trans->nbranches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];
		const DtmOp *action = &branch->op[DTM_FORWARD];
		int32_t		limit = limit_of(trans, branch);

		if (action->status == DTM_OP_FAILED)
		{
			*cause_branch = i;
			return DTM_CAUSE_REFUSED;
		}
		if (action->status == DTM_OP_PREPARED && !action->running &&
			limit > 0 && action->failed_attempts >= limit)
		{
			*cause_branch = i;
			return DTM_CAUSE_RETRY_LIMIT;
		}
	}
	if (trans->deadline <= now)
		return DTM_CAUSE_DEADLINE;
	return DTM_CAUSE_NONE;
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
				if (call_is_needless(branch, DTM_FORWARD))
				{
					succeed(action);
					again = trans->concurrent;
					continue;
				}
				start_or_wait(trans, i, DTM_FORWARD, event->now, plan);
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
	bool		done;

	trans->due = DTM_NEVER;
	if (action_is_running(trans))
		return;

	if (trans->concurrent)
		done = start_compensates_at_once(trans, event, plan);
	else
		done = start_compensates_in_turn(trans, event, plan);

	if (done)
		trans->status = DTM_FAILED;
}

static bool
action_is_running(const DtmTrans *trans)
{
	if (trans->running == 0)
		return false;
	for (int i = 0; i < trans->nbranches; i++)
	{
		if (trans->branches[i].op[DTM_FORWARD].running)
			return true;
	}
	return false;
}

/* Strictly last to first, one at a time. Returns true when all are done. */
static bool
start_compensates_in_turn(DtmTrans *trans, const DtmEvent *event,
						  DtmPlan *plan)
{
	for (int i = trans->nbranches - 1; i >= 0; i--)
	{
		DtmBranch  *branch = &trans->branches[i];
		DtmOp	   *compensate = &branch->op[DTM_BACKWARD];

		if (compensate->status == DTM_OP_SUCCEED || !needs_compensate(trans, i))
			continue;
		if (call_is_needless(branch, DTM_BACKWARD))
		{
			succeed(compensate);
			continue;
		}
		if (!compensate->running)
			start_or_wait(trans, i, DTM_BACKWARD, event->now, plan);
		return false;
	}
	return true;
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
			if (!branch->held && call_is_needless(branch, DTM_BACKWARD))
			{
				succeed(compensate);
				again = true;
				continue;
			}
			done = false;
			if (!branch->held && !compensate->running)
				start_or_wait(trans, i, DTM_BACKWARD, event->now, plan);
		}
	} while (again && !done);
	return done;
}

/* Whoever still has to be undone holds back all that it had waited for. */
static void
hold_predecessors(DtmTrans *trans)
{
	for (int i = 0; i < trans->nbranches; i++)
		trans->branches[i].held = false;

	for (int i = 0; i < trans->nbranches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];

		if (branch->op[DTM_BACKWARD].status == DTM_OP_SUCCEED ||
			!needs_compensate(trans, i))
			continue;
		for (int p = 0; p < branch->npredecessors; p++)
			trans->branches[branch->predecessors[p]].held = true;
	}
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

/*
 * start_or_wait puts the call into the plan, or sees to it that the timer
 * rings when it is due.
 */
static void
start_or_wait(DtmTrans *trans, int branch, DtmPhase phase, DtmTime now,
			  DtmPlan *plan)
{
	DtmOp	   *op = &trans->branches[branch].op[phase];

	if (op->due > now)
	{
		if (op->due < trans->due)
			trans->due = op->due;
		return;
	}

	op->running = true;
	op->in_doubt = true;
	trans->running++;
	plan->start[plan->nstart].branch = branch;
	plan->start[plan->nstart].phase = phase;
	plan->nstart++;
}

static void
succeed(DtmOp *op)
{
	op->status = DTM_OP_SUCCEED;
	op->in_doubt = false;
	op->stuck = false;
	op->streak = 0;
	op->due = 0;
	op->dirty = true;
}

static bool
call_is_needless(const DtmBranch *branch, DtmPhase phase)
{
	const char *address = branch->address[phase];

	return address == NULL || address[0] == '\0';
}

/* 0: none */
static int32_t
limit_of(const DtmTrans *trans, const DtmBranch *branch)
{
	return branch->retry_limit > 0 ? branch->retry_limit : trans->retry_limit;
}

/* How far a saga has come: a row only ever moves to a higher one. */
static int
rank(DtmStatus status)
{
	switch (status)
	{
		case DTM_PREPARED:
			return 0;
		case DTM_SUBMITTED:
			return 1;
		case DTM_ABORTING:
			return 2;
		case DTM_SUCCEED:
		case DTM_FAILED:
			return 3;
	}
	return 3;
}

/* Counters stop at their end: an op may well be retried for years. */
static void
count_up(int32_t *counter)
{
	if (*counter < INT32_MAX)
		(*counter)++;
}

/* DTM_NEVER is not a time that a retry could have. */
static DtmTime
later(DtmTime now, int64_t delay)
{
	if (delay < DTM_MS)
		delay = DTM_MS;
	if (delay >= DTM_NEVER - now)
		return DTM_NEVER - 1;
	return now + delay;
}
