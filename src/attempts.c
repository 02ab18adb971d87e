/*
 * attempts.c: what the deciding files share: the life of one op, from its first
 * call to its end, and starting many of them in an order.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the tables, in its
 * section "An op".
 *
 * Nothing here may look at the status of a transaction to decide what comes
 * next: that is for the file of its mode.
 */
#include "attempts.h"

static void take_load(DtmTrans *trans);
static void take_result(DtmTrans *trans, const DtmEvent *event);
static void take_withdrawal(DtmTrans *trans, const DtmEvent *event);
static void take_command(DtmTrans *trans, const DtmEvent *event);
static void stop_listening(DtmTrans *trans);
static void stop_listening_to(DtmTrans *trans, DtmOp *op);
static void hurry(DtmTrans *trans, DtmTime now);
static void hurry_op(DtmOp *op, DtmTime now);
static bool may_refuse(const DtmTrans *trans, int branch, DtmPhase phase);
static bool only_answers(const DtmTrans *trans, int branch);
static bool limit_turns_back(const DtmTrans *trans, int branch,
							 DtmPhase phase);
static int32_t limit_of(const DtmTrans *trans, int branch);
static int	rank(DtmStatus status);
static void count_up(int32_t *counter);

void
dtm_take_event(DtmTrans *trans, const DtmEvent *event)
{
	switch (event->kind)
	{
		case DTM_EVENT_LOADED:
			take_load(trans);
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
}

/*
 * The submit is durable before any call of a branch: while it is prepared,
 * nobody was called. Only tries that are ours come before it.
 */
static void
take_load(DtmTrans *trans)
{
	if (trans->status == DTM_PREPARED && !trans->driven)
		trans->resumed = false;
	if (!dtm_status_is_final(trans->status))
		dtm_ending_forget(trans);
}

/*
 * take_result notes how a call ended. One that ends after the transaction did,
 * by force, changes nothing any more but the count of those under way.
 */
static void
take_result(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = dtm_op_of(trans, event->branch, event->phase);

	if (!op->running)
		return;
	op->running = false;
	trans->running--;
	if (event->branch == DTM_ENDING)
	{
		dtm_ending_take_result(trans, event);
		return;
	}
	if (dtm_status_is_final(trans->status))
		return;

	count_up(&op->attempts);
	op->last_attempt = event->now;
	op->dirty = true;

	switch (event->answer)
	{
		case DTM_ANSWER_SUCCESS:
			if (!only_answers(trans, event->branch))
			{
				dtm_succeed(op);
				break;
			}
			/* It is there, and has not ended: as if it had said so. */
			dtm_forget_failures(op);
			op->due = dtm_later(event->now, trans->retry_interval);
			break;
		case DTM_ANSWER_ONGOING:
			op->streak = 0;
			op->due = dtm_later(event->now, trans->retry_interval);
			break;
		case DTM_ANSWER_FAILURE:
			if (may_refuse(trans, event->branch, event->phase))
			{
				op->status = DTM_OP_FAILED;
				op->in_doubt = false;
				op->streak = 0;
				op->due = 0;
				break;
			}
			/* All others must succeed in the end. */
			dtm_take_failed_attempt(trans, event);
			break;
		case DTM_ANSWER_ERROR:
			dtm_take_failed_attempt(trans, event);
			break;
	}
}

/*
 * dtm_take_failed_attempt plans the next one. What may turn the whole back ends
 * its attempts at its limit by doing so (dtm_cause_to_turn_back); all others go
 * on for ever, and past their number they are shown to people.
 */
void
dtm_take_failed_attempt(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = dtm_op_of(trans, event->branch, event->phase);
	int32_t		limit = limit_of(trans, event->branch);
	int64_t		interval = trans->retry_interval;

	count_up(&op->failed_attempts);
	count_up(&op->streak);

	if (limit <= 0)
		limit = event->stuck_after;
	else if (limit_turns_back(trans, event->branch, event->phase))
		limit = 0;
	if (limit > 0 && op->failed_attempts >= limit)
		op->stuck = true;

	if (op->stuck)
		interval = event->max_retry_interval;
	op->due = dtm_later(event->now,
					dtm_retry_delay(interval, op->streak,
									event->max_retry_interval, event->random));
}

/* The call was only queued. It is planned again, but not at once. */
static void
take_withdrawal(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = dtm_op_of(trans, event->branch, event->phase);

	if (!op->running)
		return;
	dtm_take_back(trans, event->branch, event->phase);
	op->due = dtm_later(event->now, trans->retry_interval);
	if (op->due < event->not_before)
		op->due = event->not_before;
}

/* Unless earlier calls were made, its branch is as untouched as before. */
void
dtm_take_back(DtmTrans *trans, int branch, DtmPhase phase)
{
	DtmOp	   *op = dtm_op_of(trans, branch, phase);

	if (!op->running)
		return;
	op->running = false;
	trans->running--;
	op->in_doubt = (op->attempts > 0);
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
		dtm_ending_forget(trans);
		trans->ending.due = 0;
		trans->ending_held = 0;
		if (dtm_status_is_final(event->status))
			stop_listening(trans);
	}
	if (event->ended && dtm_status_is_final(trans->stored_status))
		trans->ending.status = DTM_OP_SUCCEED;
	if (event->hurry)
		hurry(trans, event->now);
	if (event->client_is_back)
		dtm_forget_failures(&trans->check);
}

/* It has ended: what becomes of its calls concerns nobody any more. */
static void
stop_listening(DtmTrans *trans)
{
	stop_listening_to(trans, &trans->check);
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			stop_listening_to(trans, &trans->branches[i].op[phase]);
	}
}

static void
stop_listening_to(DtmTrans *trans, DtmOp *op)
{
	if (op->running)
		trans->running--;
	op->running = false;
}

static void
hurry(DtmTrans *trans, DtmTime now)
{
	hurry_op(&trans->check, now);
	hurry_op(&trans->ending, now);
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			hurry_op(&trans->branches[i].op[phase], now);
	}
}

static void
hurry_op(DtmOp *op, DtmTime now)
{
	if (!op->running && op->due > now)
		op->due = now;
}

/* FAILURE is a word only for those who are asked whether to go on at all. */
static bool
may_refuse(const DtmTrans *trans, int branch, DtmPhase phase)
{
	switch (trans->mode)
	{
		case DTM_SAGA:
			return branch >= 0 && phase == DTM_FORWARD;
		case DTM_TCC:
			return phase == DTM_TRY;
		case DTM_MSG:
			return branch == DTM_WHOLE;
		case DTM_XA:
		case DTM_WORKFLOW:
			return false;
	}
	return false;
}

/* A workflow that is resumed says that it has ended elsewhere: see workflow.c. */
static bool
only_answers(const DtmTrans *trans, int branch)
{
	return trans->mode == DTM_WORKFLOW && branch == DTM_WHOLE;
}

static bool
limit_turns_back(const DtmTrans *trans, int branch, DtmPhase phase)
{
	return branch >= 0 && may_refuse(trans, branch, phase);
}

bool
dtm_call_has_limit(const DtmTrans *trans, int branch, DtmPhase phase)
{
	return limit_turns_back(trans, branch, phase) && limit_of(trans, branch) > 0;
}

bool
dtm_all_succeeded(DtmTrans *trans, DtmPhase phase)
{
	for (int i = 0; i < trans->nbranches; i++)
	{
		if (trans->branches[i].op[phase].status != DTM_OP_SUCCEED &&
			!dtm_call_is_needless(trans, i, phase))
			return false;
	}
	for (int i = 0; i < trans->nbranches; i++)
	{
		DtmOp	   *op = &trans->branches[i].op[phase];

		if (op->status != DTM_OP_SUCCEED)
			dtm_succeed(op);
	}
	return true;
}

DtmCause
dtm_cause_to_turn_back(const DtmTrans *trans, DtmPhase phase, DtmTime now,
					   int *cause_branch)
{
	for (int i = 0; i < trans->nbranches; i++)
	{
		const DtmOp *op = &trans->branches[i].op[phase];
		int32_t		limit = limit_of(trans, i);

		if (op->status == DTM_OP_FAILED)
		{
			*cause_branch = i;
			return DTM_CAUSE_REFUSED;
		}
		if (op->status == DTM_OP_PREPARED && !op->running &&
			limit > 0 && op->failed_attempts >= limit)
		{
			*cause_branch = i;
			return DTM_CAUSE_RETRY_LIMIT;
		}
	}
	if (trans->deadline <= now)
		return DTM_CAUSE_DEADLINE;
	return DTM_CAUSE_NONE;
}

bool
dtm_phase_is_running(const DtmTrans *trans, DtmPhase phase)
{
	if (trans->running == 0)
		return false;
	for (int i = 0; i < trans->nbranches; i++)
	{
		if (trans->branches[i].op[phase].running)
			return true;
	}
	return false;
}

bool
dtm_go_round(DtmTrans *trans, const DtmRound *round, DtmTime now,
			 DtmPlan *plan)
{
	bool		done = true;

	for (int n = 0; n < trans->nbranches; n++)
	{
		int			i = round->last_first ? trans->nbranches - 1 - n : n;
		DtmOp	   *op = &trans->branches[i].op[round->phase];

		if (op->status == DTM_OP_SUCCEED ||
			(round->needed != NULL && !round->needed(trans, i)))
			continue;
		if (dtm_call_is_needless(trans, i, round->phase))
		{
			dtm_succeed(op);
			continue;
		}
		done = false;
		if (!op->running)
			dtm_start_or_wait(trans, i, round->phase, now, plan);
		if (!round->at_once)
			break;
	}
	return done;
}

void
dtm_start_or_wait(DtmTrans *trans, int branch, DtmPhase phase, DtmTime now,
				  DtmPlan *plan)
{
	DtmOp	   *op = dtm_op_of(trans, branch, phase);

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

void
dtm_succeed(DtmOp *op)
{
	op->status = DTM_OP_SUCCEED;
	op->in_doubt = false;
	op->stuck = false;
	op->streak = 0;
	op->due = 0;
	op->dirty = true;
}

/*
 * What is called for as long as it lives, and never ends by being called, may
 * fail now and then: only what has failed since it was last there counts.
 */
void
dtm_forget_failures(DtmOp *op)
{
	if (!op->stuck && op->streak == 0 && op->failed_attempts == 0)
		return;
	op->stuck = false;
	op->streak = 0;
	op->failed_attempts = 0;
	op->dirty = true;
}

bool
dtm_call_is_needless(const DtmTrans *trans, int branch, DtmPhase phase)
{
	const char *address = dtm_address_of(trans, branch, phase);

	return address == NULL || address[0] == '\0';
}

/* 0: none. It is for those who are asked whether to go on, not for what follows. */
static int32_t
limit_of(const DtmTrans *trans, int branch)
{
	if (branch == DTM_ENDING)
		return 0;
	if (branch >= 0 && trans->branches[branch].retry_limit > 0)
		return trans->branches[branch].retry_limit;
	return trans->retry_limit;
}

/* How far a transaction has come: a row only ever moves to a higher one. */
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

DtmTime
dtm_later(DtmTime now, int64_t delay)
{
	if (delay < DTM_MS)
		delay = DTM_MS;
	if (delay >= DTM_NEVER - now)
		return DTM_NEVER - 1;
	return now + delay;
}
