/*
 * carry.c: carrying out what deciding has decided.
 *
 * An event comes in (a transaction was read, a call has ended, a time has come,
 * a user changed a row), dtm_decide says what follows, and this file does
 * it in the order that durability demands:
 *
 *	 - A call that needs no new status is queued at once. The success of the
 *	   step before need not be written first: losing it repeats a call.
 *	 - If the branch that ended keeps its result, a later one may be told it:
 *	   the result is committed, synchronously, before the next call of this
 *	   transaction. Die before that commit: the branch is called again, and no
 *	   other has been called because of it. Die after it: the result is there,
 *	   and the branch is not called again. (A result that was told and then lost
 *	   would be lost for good: behind a barrier, a repeat answers without it.)
 *	 - A call because of a new status waits until that status is committed.
 *	   Die before the commit: the old status is in force, and nobody was called
 *	   because of the new one. Die after it: the next worker reads it and makes
 *	   the calls.
 *	 - The final status is not written here if there is a statement for it, but
 *	   by the executor, in one commit with the statement (executor_ending.c).
 *	   Our marks are written first, so that whoever sees the status sees them.
 *	 - Somebody who waits for an outcome is told after its commit. Die between
 *	   the two: whoever waits also looks at the table now and then.
 *
 * Writing is in carry_write.c.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alert.h"
#include "call.h"
#include "carry.h"
#include "carry_private.h"
#include "debug_point.h"
#include "decide.h"
#include "settings.h"

/* How long what could as well wait in the table stays there at least. */
#define SHED_FOR (10 * DTM_SECOND)

static DtmShard *shard;
static int64 resumed_below;
static DtmTime horizon;
static DtmOpRef *plan_start;	/* room for a plan's calls */
static int	plan_capacity;

static void merge(DtmHeld *held, const DtmLoaded *again, DtmTime now);
static void call_ended(DtmTrans *trans, int branch, DtmPhase phase,
					   const DtmCallEnd *end);
static void keep_result(DtmHeld *held, DtmOp *op, const DtmCallEnd *end);
static void note_error(DtmHeld *held, DtmOp *op, const char *error);
static void call_returned(DtmTrans *trans, int branch, DtmPhase phase,
						  const char *why);
static void count_answer(DtmAnswer answer);
static void hurry_queued(DtmTrans *trans);
static void apply(DtmHeld *held, DtmEvent *event);
static void take_back_waiting(DtmHeld *held);
static void withdraw_queued(DtmHeld *held, DtmPhase phase, DtmTime now);
static bool withdraw_waiting(DtmHeld *held, int branch, DtmPhase phase);
static void note_reason(DtmHeld *held, const DtmPlan *plan);
static void count_outcome(const DtmHeld *held);

void
dtm_carry_init(DtmShard *our_shard)
{
	shard = our_shard;
	dtm_workset_init();
	dtm_calls_init(call_ended, call_returned);
}

void
dtm_carry_resume(int64 below)
{
	resumed_below = below;
}

void
dtm_carry_set_horizon(DtmTime until)
{
	horizon = until;
}

DtmTime
dtm_carry_horizon(void)
{
	return horizon;
}

static DtmEvent
new_event(DtmEventKind kind, DtmTime now)
{
	DtmEvent	event = {0};

	event.kind = kind;
	event.now = now;
	event.random = pg_prng_uint32(&pg_global_prng_state);
	event.max_retry_interval = dtm_max_retry_interval * DTM_MS;
	event.stuck_after = dtm_stuck_after;
	return event;
}

void
dtm_carry_take(const DtmLoaded *loaded, DtmTime now)
{
	DtmTrans   *trans = loaded->trans;
	DtmHeld    *held = dtm_workset_find(trans->id);
	DtmEvent	event;

	/* An end that is not due has no statement, or it has been run. */
	if (dtm_status_is_final(trans->status) && trans->due == DTM_NEVER)
		trans->ending.status = DTM_OP_SUCCEED;
	if (!dtm_status_is_final(trans->status))
		trans->ending.due = 0;

	if (held != NULL)
	{
		held->is_doubted = false;

		/*
		 * While it is prepared, branches join it: take it up anew. Nothing is
		 * lost, but for a back-check that is asked again. Where tries are ours,
		 * all branches were there from the beginning. And a workflow that is
		 * being resumed must not be called a second time: its branches are not
		 * ours to know.
		 */
		if (held->trans->stored_status == DTM_PREPARED &&
			!held->trans->driven && held->trans->mode != DTM_WORKFLOW)
		{
			const DtmCall *ending = held->trans->ending.call;

			/*
			 * Its ending runs already, and finds by itself whether a branch
			 * has joined: then this is read again.
			 */
			if (trans->status == DTM_PREPARED &&
				ending != NULL && ending->waiting.in_flight)
			{
				MemoryContextDelete(loaded->context);
				return;
			}
			/* Its row may still be held: not again before that time. */
			trans->ending.due = held->trans->ending.due;
			trans->ending_held = held->trans->ending_held;
			dtm_carry_let_go(held);
		}
		else
		{
			merge(held, loaded, now);
			MemoryContextDelete(loaded->context);
			return;
		}
	}

	/* A user has ended it: whoever waits may know. */
	if (dtm_status_is_final(trans->status))
		dtm_outcome_broadcast(trans->id);
	if (dtm_is_over(trans) || !dtm_mode_is_known(trans->mode))
	{
		MemoryContextDelete(loaded->context);
		return;
	}

	trans->resumed = trans->id <= resumed_below;
	held = dtm_workset_add(loaded);
	event = new_event(DTM_EVENT_LOADED, now);
	apply(held, &event);

	/* Read too early, or its row does not say when it is due: let go of it. */
	held = dtm_workset_find(loaded->trans->id);
	if (held != NULL && dtm_held_is_idle(held) && trans->due > horizon)
	{
		if (trans->due == held->stored_due)
			dtm_carry_let_go(held);
		else
			dtm_carry_note_dirty(held, now);
	}
}

/* The row was changed, or may have been, since we read it. */
static void
merge(DtmHeld *held, const DtmLoaded *again, DtmTime now)
{
	DtmTrans   *trans = held->trans;
	DtmEvent	event = new_event(DTM_EVENT_COMMAND, now);

	event.status = again->trans->status;
	event.hurry = again->hurried_at > held->hurried_at;
	event.client_is_back = event.hurry && again->client_is_back;
	event.ended = dtm_is_over(again->trans);
	if (event.status == trans->stored_status && !event.hurry &&
		!event.ended && again->trans->deadline == trans->deadline)
		return;

	/* A decision of ours that the row has overtaken calls nobody. */
	if (event.status != trans->stored_status && event.status != trans->status)
	{
		take_back_waiting(held);
		if (trans->ending.running &&
			dtm_call_withdraw(trans, DTM_ENDING, DTM_FORWARD))
			dtm_take_back(trans, DTM_ENDING, DTM_FORWARD);
	}

	held->hurried_at = again->hurried_at;
	trans->deadline = again->trans->deadline;
	if (trans->mode == DTM_WORKFLOW)
		held->stored_due = again->trans->due;
	if (again->trans->reason != NULL)
		trans->reason = MemoryContextStrdup(held->context, again->trans->reason);

	apply(held, &event);
	held = dtm_workset_find(again->trans->id);
	if (held == NULL)
		return;
	if (event.hurry)
		hurry_queued(held->trans);
	dtm_carry_start_waiting(held);
}

/* Not only what waits for its time: also what waits for a server's pause. */
static void
hurry_queued(DtmTrans *trans)
{
	dtm_call_hurry(trans, DTM_WHOLE, DTM_FORWARD);
	dtm_call_hurry(trans, DTM_ENDING, DTM_FORWARD);
	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			dtm_call_hurry(trans, branch, phase);
	}
}

void
dtm_carry_timers(DtmTime now)
{
	DtmHeld    *held;

	while ((held = dtm_workset_first_due()) != NULL && held->trans->due <= now)
	{
		DtmEvent	event = new_event(DTM_EVENT_TIMER, now);

		apply(held, &event);
	}
}

DtmTime
dtm_carry_next_timer(void)
{
	DtmHeld    *held = dtm_workset_first_due();

	return held == NULL ? DTM_NEVER : held->trans->due;
}

static void
call_ended(DtmTrans *trans, int branch, DtmPhase phase,
		   const DtmCallEnd *end)
{
	DtmHeld    *held = dtm_held(trans);
	DtmOp	   *op = dtm_op_of(trans, branch, phase);
	DtmEvent	event = new_event(DTM_EVENT_RESULT, GetCurrentTimestamp());

	dtm_count(shard, DTM_COUNT_CALLS, 1);
	count_answer(end->answer);
	if (op->attempts > 0)
		dtm_count(shard, DTM_COUNT_RETRIES, 1);

	if (end->error != NULL)
		note_error(held, op, end->error);
	else if (branch == DTM_WHOLE && trans->mode == DTM_WORKFLOW)
		note_error(held, op, "it has answered, and was not finished");
	if (branch == DTM_ENDING && end->answer == DTM_ANSWER_ONGOING)
		dtm_carry_reread(held->id);
	op->unmade = end->unmade;
	if (end->answer == DTM_ANSWER_SUCCESS && !end->recorded && branch >= 0 &&
		trans->branches[branch].keep_result)
		keep_result(held, op, end);

	event.branch = branch;
	event.phase = phase;
	event.answer = end->answer;
	DTM_POINT(branch == DTM_ENDING ? "worker-ending-answered"
			  : branch == DTM_WHOLE ? "worker-check-answered"
			  : phase == DTM_TRY ? "worker-try-answered"
			  : phase == DTM_FORWARD ? "worker-action-answered"
			  : "worker-compensate-answered");
	apply(held, &event);
	/* With its ending it may have left memory. */
	if (branch == DTM_ENDING)
		return;
	/* The executor wrote the row, in the branch's own transaction. */
	if (end->recorded)
		op->dirty = false;
}

/* For its row: nothing of it is needed here. */
static void
keep_result(DtmHeld *held, DtmOp *op, const DtmCallEnd *end)
{
	if (end->result == NULL || end->result_size == 0)
		return;
	if (end->result_size > (Size) dtm_max_result_size * 1024)
	{
		char		text[DTM_MAX_ERROR];

		snprintf(text, sizeof(text), DTM_RESULT_TOO_LARGE, end->result_size);
		note_error(held, op, text);
		return;
	}
	if (op->result != NULL)
		pfree(op->result);
	op->result = MemoryContextAlloc(held->context, end->result_size);
	memcpy(op->result, end->result, end->result_size);
	op->result_size = end->result_size;
	held->has_new_result = true;
}

/*
 * apply decides, and carries out what may be done now. Afterwards the
 * transaction may have left memory: when a user has ended it by force.
 */
static void
apply(DtmHeld *held, DtmEvent *event)
{
	DtmTrans   *trans = held->trans;
	DtmStatus	before = trans->status;
	bool		was_final = dtm_status_is_final(trans->stored_status);
	DtmPlan		plan = {0};

	if (plan_capacity < DTM_MAX_START(trans->nbranches))
	{
		plan_capacity = Max(64, DTM_MAX_START(trans->nbranches) * 2);
		plan_start = plan_start == NULL
			? MemoryContextAlloc(TopMemoryContext, plan_capacity * sizeof(DtmOpRef))
			: repalloc(plan_start, plan_capacity * sizeof(DtmOpRef));
	}
	plan.start = plan_start;
	dtm_decide(trans, event, &plan);
	if (event->kind == DTM_EVENT_RESULT)
		dtm_alert_note(trans, event->branch, event->phase, event->now);

	if (dtm_is_over(trans))
	{
		if (!was_final && event->kind == DTM_EVENT_RESULT)
			dtm_carry_finish(held); /* by its ending */
		else
		{
			/* By a user, or a workflow's client, who has counted it (pending.c). */
			if (!was_final)
				dtm_outcome_broadcast(held->id);
			dtm_carry_let_go(held);
		}
		return;
	}
	if (dtm_status_is_final(trans->stored_status) && !was_final)
	{
		/* Only its ending is called now. */
		dtm_outcome_broadcast(held->id);
		dtm_calls_forget_branches(trans);
	}
	dtm_workset_reschedule(held);
	if (plan.status_changed)
		note_reason(held, &plan);
	if (plan.nstart > 0 && dtm_ending_comes_first(trans))
		held->marks_first = true;
	if (plan.status_changed || event->kind == DTM_EVENT_RESULT ||
		held->marks_first || trans->check.dirty)
		dtm_carry_note_dirty(held, event->now);

	if (calls_must_wait(held))
	{
		if (plan.nstart > 0)
		{
			Size		size = (held->nwaiting + plan.nstart) * sizeof(DtmOpRef);

			held->waiting = held->waiting == NULL
				? MemoryContextAlloc(held->context, size)
				: repalloc(held->waiting, size);
			memcpy(held->waiting + held->nwaiting, plan.start,
				   plan.nstart * sizeof(DtmOpRef));
			held->nwaiting += plan.nstart;
		}
	}
	else
	{
		for (int i = 0; i < plan.nstart; i++)
			dtm_call_start(trans, plan.start[i].branch, plan.start[i].phase);
	}

	if (trans->status == DTM_ABORTING && before != DTM_ABORTING)
		withdraw_queued(held, dtm_deciding_phase(trans->mode), event->now);
}

/* Calls that wait for a new status to be durable, which it will never be. */
static void
take_back_waiting(DtmHeld *held)
{
	for (int i = 0; i < held->nwaiting; i++)
		dtm_take_back(held->trans, held->waiting[i].branch,
					  held->waiting[i].phase);
	held->nwaiting = 0;
}

/* Turning back waits for calls under way, but not for those in a queue. */
static void
withdraw_queued(DtmHeld *held, DtmPhase phase, DtmTime now)
{
	DtmTrans   *trans = held->trans;

	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		if (trans->branches[branch].op[phase].running &&
			(dtm_call_withdraw(trans, branch, phase) ||
			 withdraw_waiting(held, branch, phase)))
		{
			DtmEvent	event = new_event(DTM_EVENT_WITHDRAWN, now);

			event.branch = branch;
			event.phase = phase;
			apply(held, &event);
		}
	}
}

/* A call that waits for a result to be durable is not even queued. */
static bool
withdraw_waiting(DtmHeld *held, int branch, DtmPhase phase)
{
	for (int i = 0; i < held->nwaiting; i++)
	{
		if (held->waiting[i].branch == branch &&
			held->waiting[i].phase == phase)
		{
			held->waiting[i] = held->waiting[--held->nwaiting];
			return true;
		}
	}
	return false;
}

/* Why it turned back, for its row and for whoever waits. */
static void
note_reason(DtmHeld *held, const DtmPlan *plan)
{
	DtmTrans   *trans = held->trans;
	bool		is_whole = plan->cause_branch == DTM_WHOLE;
	const DtmOp *op = dtm_op_of(trans, plan->cause_branch,
								is_whole ? DTM_FORWARD
								: dtm_deciding_phase(trans->mode));
	const char *error = op->last_error != NULL ? op->last_error
		: "no reason given";
	MemoryContext before = MemoryContextSwitchTo(held->context);

	switch (plan->cause)
	{
		case DTM_CAUSE_NONE:
			break;
		case DTM_CAUSE_REFUSED:
			trans->reason = op->unmade ? pstrdup(error)
				: is_whole
				? psprintf("query_prepared says that it was rolled back: %s", error)
				: psprintf("branch %s refused: %s",
						   dtm_branch_id_of(trans, plan->cause_branch), error);
			break;
		case DTM_CAUSE_RETRY_LIMIT:
			trans->reason = psprintf("branch %s failed %d times: %s",
									 dtm_branch_id_of(trans, plan->cause_branch),
									 op->failed_attempts, error);
			break;
		case DTM_CAUSE_DEADLINE:
			trans->reason = pstrdup("timeout_to_fail has passed");
			break;
	}
	MemoryContextSwitchTo(before);
}

/* What waited for a status, or a result, to be durable, which it now is. */
void
dtm_carry_start_waiting(DtmHeld *held)
{
	if (calls_must_wait(held))
		return;
	for (int i = 0; i < held->nwaiting; i++)
		dtm_call_start(held->trans, held->waiting[i].branch,
					   held->waiting[i].phase);
	held->nwaiting = 0;
}

void
dtm_carry_let_go(DtmHeld *held)
{
	dtm_calls_forget(held->trans);
	dtm_workset_remove(held);
}

void
dtm_carry_look_again(DtmHeld *held, DtmTime now)
{
	DtmTrans   *trans = held->trans;
	DtmEvent	event = new_event(DTM_EVENT_TIMER, now);

	if (trans->running == 0 && trans->due == DTM_NEVER &&
		(trans->status == DTM_ABORTING || dtm_ending_is_pending(trans)))
		apply(held, &event);
}

/* Its final status is durable: now whoever waits may know. */
void
dtm_carry_finish(DtmHeld *held)
{
	count_outcome(held);
	DTM_POINT("worker-before-telling");
	dtm_outcome_broadcast(held->trans->id);
	if (dtm_is_over(held->trans))
		dtm_carry_let_go(held);
}

static void
count_outcome(const DtmHeld *held)
{
	dtm_count(shard, held->trans->status == DTM_SUCCEED ? DTM_COUNT_SUCCEEDED
			  : DTM_COUNT_FAILED, 1);
	dtm_count(shard, DTM_COUNT_LATENCY_US,
			  Max(GetCurrentTimestamp() - held->created_at, 0));
}

typedef struct Shedding
{
	DtmTime		now;
	bool		patient_too;	/* those with calls that can wait */
	Size		goal;
	Size		left;			/* in use when all that was chosen has gone */
} Shedding;

static void
withdraw_if_patient(DtmHeld *held, int branch, DtmPhase phase, DtmTime now)
{
	DtmEvent	event;

	if (!dtm_call_can_wait(held->trans, branch, phase) ||
		!dtm_call_withdraw(held->trans, branch, phase))
		return;
	event = new_event(DTM_EVENT_WITHDRAWN, now);
	event.branch = branch;
	event.phase = phase;
	event.not_before = horizon + SHED_FOR;
	apply(held, &event);
}

/* Calls that wait for others, or for a server that does not answer. */
static void
withdraw_patient(DtmHeld *held, DtmTime now)
{
	DtmTrans   *trans = held->trans;

	withdraw_if_patient(held, DTM_WHOLE, DTM_FORWARD, now);
	withdraw_if_patient(held, DTM_ENDING, DTM_FORWARD, now);
	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			withdraw_if_patient(held, branch, phase, now);
	}
}

static void
shed_one(DtmHeld *held, void *arg)
{
	Shedding   *shedding = arg;

	if (shedding->left <= shedding->goal)
		return;
	if (held->trans->running > 0 && shedding->patient_too)
		withdraw_patient(held, shedding->now);
	if (held->trans->running > 0 || held->nwaiting > 0 ||
		is_undurable(held->trans) || held->trans->due <= horizon)
		return;
	shedding->left -= Min(held->memory, shedding->left);
	if (dtm_held_is_idle(held) && held->trans->due == held->stored_due)
		dtm_carry_let_go(held);
	else
		dtm_carry_note_dirty(held, shedding->now);
}

void
dtm_carry_shed(DtmTime now, Size goal)
{
	Shedding	shedding = {now, true, goal, dtm_workset_memory()};

	dtm_workset_visit(shed_one, &shedding);
}

void
dtm_carry_shed_idle(DtmTime now)
{
	Shedding	shedding = {now, false, 0, dtm_workset_memory()};

	dtm_workset_visit(shed_one, &shedding);
}

static void
drop_one(DtmHeld *held, void *arg)
{
	dtm_carry_let_go(held);
}

void
dtm_carry_drop_all(void)
{
	dtm_workset_visit(drop_one, NULL);
}

/* Not our text: it may break off within a character, or be none. */
static void
note_error(DtmHeld *held, DtmOp *op, const char *error)
{
	char		text[DTM_MAX_ERROR];

	snprintf(text, sizeof(text), "%s", error);
	if (!pg_verifymbstr(text, strlen(text), true))
	{
		for (char *c = text; *c != '\0'; c++)
		{
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
		}
	}
	if (op->last_error != NULL)
		pfree(op->last_error);
	op->last_error = MemoryContextStrdup(held->context, text);
}

/* Nobody was called, so nothing counts; but people shall see why. */
static void
call_returned(DtmTrans *trans, int branch, DtmPhase phase, const char *why)
{
	DtmHeld    *held = dtm_held(trans);
	DtmOp	   *op = dtm_op_of(trans, branch, phase);
	DtmEvent	event = new_event(DTM_EVENT_WITHDRAWN, GetCurrentTimestamp());

	if (why != NULL)
	{
		note_error(held, op, why);
		op->dirty = true;
	}
	else
		dtm_carry_reread(trans->id);
	event.branch = branch;
	event.phase = phase;
	apply(held, &event);
	dtm_carry_note_dirty(held, event.now);
}

static void
count_answer(DtmAnswer answer)
{
	static const DtmCounter counter[] = {
		[DTM_ANSWER_SUCCESS] = DTM_COUNT_CALLS_SUCCESS,
		[DTM_ANSWER_FAILURE] = DTM_COUNT_CALLS_FAILURE,
		[DTM_ANSWER_ONGOING] = DTM_COUNT_CALLS_ONGOING,
		[DTM_ANSWER_ERROR] = DTM_COUNT_CALLS_ERROR
	};

	dtm_count(shard, counter[answer], 1);
}

void
dtm_carry_count(DtmCounter which, int64 n)
{
	dtm_count(shard, which, n);
}
