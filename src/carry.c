/*
 * carry.c: carrying out what deciding has decided.
 *
 * An event comes in (a transaction was read, a call has ended, a time has come,
 * a user changed a row), dtm_saga_decide says what follows, and this file does
 * it in the order that durability demands:
 *
 *	 - A call that needs no new status is queued at once. The success of the
 *	   step before need not be written first: losing it repeats a call.
 *	 - A call because of a new status waits until that status is committed.
 *	   Die before the commit: the old status is in force, and nobody was called
 *	   because of the new one. Die after it: the next worker reads it and makes
 *	   the calls.
 *	 - Somebody who waits for an outcome is told after its commit. Die between
 *	   the two: whoever waits also looks at the table now and then.
 *
 * Many transactions share a commit. If it fails, each is written by itself, so
 * that the one which cannot be written delays nobody.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#endif

#include "call.h"
#include "carry.h"
#include "debug_point.h"
#include "decide.h"
#include "settings.h"
#include "workset.h"

/* Marks and schedules may be lost, but people read them: not much later. */
#define LAZY_WRITE (20 * DTM_MS)

#define MAX_BATCH 1000			/* transactions under one commit */
#define ROW_IS_HELD_PAUSE (100 * DTM_MS)
#define FIRST_WRITE_PAUSE DTM_SECOND
#define LONGEST_WRITE_PAUSE (60 * DTM_SECOND)

/* What one commit writes. */
typedef struct Batch
{
	DtmHeld   **held;
	int			nheld;
	DtmChange  *changes;
	int		   *change_of;		/* held's index in changes; -1: none */
	int			nchanges;
	DtmOpRow   *ops;
	int			nops;
	int			ops_capacity;
	bool		decision;		/* must be durable at once */
} Batch;

static DtmShard *shard;
static int64 resumed_below;
static DtmTime horizon;
static DtmTime lazy_since = DTM_NEVER;	/* the oldest unwritten mark */
static DtmTime paused_until = DTM_NEVER;	/* the first write to try again */
static bool urgent;				/* a decision waits to be written */
static MemoryContext batch_context;
static DtmOpRef *plan_start;	/* room for a plan's calls */
static int	plan_capacity;
static int64 *rereads;			/* rows that are not as we know them */
static int	nrereads;
static int	rereads_capacity;

static void merge(DtmHeld *held, const DtmLoaded *again, DtmTime now);
static void call_ended(DtmTrans *trans, int branch, DtmPhase phase,
					   DtmAnswer answer, const char *error, bool recorded);
static void count_answer(DtmAnswer answer);
static void apply(DtmHeld *held, DtmEvent *event);
static bool is_undurable(const DtmTrans *trans);
static void withdraw_queued_actions(DtmHeld *held, DtmTime now);
static void note_reason(DtmHeld *held, const DtmPlan *plan);
static void note_dirty(DtmHeld *held, DtmTime now);
static void start_waiting(DtmHeld *held);
static void let_go(DtmHeld *held);
static void collect(Batch *batch, DtmTime now);
static void allocate_batch(Batch *batch, int n);
static void add_to_batch(Batch *batch, DtmHeld *held);
static bool has_executor(const DtmTrans *trans);
static bool write_batch(Batch *batch, int *sqlstate);
static void write_each(Batch *batch, DtmTime now);
static bool is_resource_error(int sqlstate);
static void after_failure(DtmHeld *held, DtmTime now);
static void after_commit(Batch *batch, DtmTime now);
static void row_was_not_ours(DtmHeld *held, DtmTime now);
static void finish(DtmHeld *held);

void
dtm_carry_init(DtmShard *our_shard)
{
	shard = our_shard;
	batch_context = AllocSetContextCreate(TopMemoryContext, "dtm batch",
										  ALLOCSET_DEFAULT_SIZES);
	dtm_workset_init();
	dtm_calls_init(call_ended);
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

	if (held != NULL)
	{
		/* While it is prepared, branches join it: take it up anew. */
		if (held->trans->stored_status == DTM_PREPARED &&
			held->trans->running == 0)
			let_go(held);
		else
		{
			merge(held, loaded, now);
			MemoryContextDelete(loaded->context);
			return;
		}
	}

	if (dtm_status_is_final(trans->status) || trans->mode != DTM_SAGA)
	{
		MemoryContextDelete(loaded->context);
		return;
	}

	trans->resumed = trans->id <= resumed_below;
	held = dtm_workset_add(loaded);
	dtm_count(shard, DTM_COUNT_LOADED, 1);
	event = new_event(DTM_EVENT_LOADED, now);
	apply(held, &event);

	/* Read too early, or its row does not say when it is due: let go of it. */
	held = dtm_workset_find(loaded->trans->id);
	if (held != NULL && dtm_held_is_idle(held) && trans->due > horizon)
	{
		if (trans->due == held->stored_due)
			let_go(held);
		else
			note_dirty(held, now);
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
	if (event.status == trans->stored_status && !event.hurry)
		return;

	held->hurried_at = again->hurried_at;
	trans->deadline = again->trans->deadline;
	if (again->trans->reason != NULL)
		trans->reason = MemoryContextStrdup(held->context, again->trans->reason);

	apply(held, &event);
	held = dtm_workset_find(again->trans->id);
	if (held != NULL)
		start_waiting(held);
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
call_ended(DtmTrans *trans, int branch, DtmPhase phase, DtmAnswer answer,
		   const char *error, bool recorded)
{
	DtmHeld    *held = dtm_held(trans);
	DtmOp	   *op = &trans->branches[branch].op[phase];
	DtmEvent	event = new_event(DTM_EVENT_RESULT, GetCurrentTimestamp());

	dtm_count(shard, DTM_COUNT_CALLS, 1);
	count_answer(answer);
	if (op->attempts > 0)
		dtm_count(shard, DTM_COUNT_RETRIES, 1);

	if (error != NULL)
	{
		char		text[DTM_MAX_ERROR];

		if (op->last_error != NULL)
			pfree(op->last_error);
		/* Not our text: it may break off within a character, or be none. */
		strlcpy(text, error, sizeof(text));
		if (!pg_verifymbstr(text, strlen(text), true))
		{
			for (char *c = text; *c != '\0'; c++)
			{
				if (IS_HIGHBIT_SET(*c))
					*c = '?';
			}
		}
		op->last_error = MemoryContextStrdup(held->context, text);
	}

	event.branch = branch;
	event.phase = phase;
	event.answer = answer;
	DTM_POINT(phase == DTM_FORWARD ? "worker-action-answered"
			  : "worker-compensate-answered");
	apply(held, &event);
	/* The executor wrote the row, in the branch's own transaction. */
	if (recorded)
		op->dirty = false;
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
	DtmPlan		plan = {0};

	if (plan_capacity < trans->nbranches * DTM_PHASES)
	{
		plan_capacity = Max(64, trans->nbranches * DTM_PHASES * 2);
		plan_start = plan_start == NULL
			? MemoryContextAlloc(TopMemoryContext, plan_capacity * sizeof(DtmOpRef))
			: repalloc(plan_start, plan_capacity * sizeof(DtmOpRef));
	}
	plan.start = plan_start;
	dtm_saga_decide(trans, event, &plan);

	if (dtm_status_is_final(trans->status) && !is_undurable(trans))
	{
		dtm_outcome_broadcast(trans->id);
		let_go(held);
		return;
	}
	dtm_workset_reschedule(held);
	if (plan.status_changed)
		note_reason(held, &plan);
	if (plan.status_changed || event->kind == DTM_EVENT_RESULT)
		note_dirty(held, event->now);

	if (is_undurable(trans))
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
		withdraw_queued_actions(held, event->now);
}

/* Decided, and not yet written. */
static bool
is_undurable(const DtmTrans *trans)
{
	return trans->status != trans->stored_status;
}

/* Turning back waits for actions under way, but not for those in a queue. */
static void
withdraw_queued_actions(DtmHeld *held, DtmTime now)
{
	DtmTrans   *trans = held->trans;

	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		if (trans->branches[branch].op[DTM_FORWARD].running &&
			dtm_call_withdraw(trans, branch, DTM_FORWARD))
		{
			DtmEvent	event = new_event(DTM_EVENT_WITHDRAWN, now);

			event.branch = branch;
			event.phase = DTM_FORWARD;
			apply(held, &event);
		}
	}
}

/* Why it turned back, for its row and for whoever waits. */
static void
note_reason(DtmHeld *held, const DtmPlan *plan)
{
	DtmTrans   *trans = held->trans;
	const DtmBranch *branch = plan->cause_branch >= 0
		? &trans->branches[plan->cause_branch] : NULL;
	const char *error = branch == NULL ? NULL
		: branch->op[DTM_FORWARD].last_error;
	MemoryContext before = MemoryContextSwitchTo(held->context);

	if (error == NULL)
		error = "no reason given";
	switch (plan->cause)
	{
		case DTM_CAUSE_NONE:
			break;
		case DTM_CAUSE_REFUSED:
			trans->reason = psprintf("branch %s refused: %s",
									 branch->branch_id, error);
			break;
		case DTM_CAUSE_RETRY_LIMIT:
			trans->reason = psprintf("branch %s failed %d times: %s",
									 branch->branch_id,
									 branch->op[DTM_FORWARD].failed_attempts,
									 error);
			break;
		case DTM_CAUSE_DEADLINE:
			trans->reason = pstrdup("timeout_to_fail has passed");
			break;
	}
	MemoryContextSwitchTo(before);
}

/* What waited for a status to be durable, which it now is. */
static void
start_waiting(DtmHeld *held)
{
	if (is_undurable(held->trans))
		return;
	for (int i = 0; i < held->nwaiting; i++)
		dtm_call_start(held->trans, held->waiting[i].branch,
					   held->waiting[i].phase);
	held->nwaiting = 0;
}

static void
let_go(DtmHeld *held)
{
	dtm_calls_forget(held->trans);
	dtm_workset_remove(held);
}

static void
note_dirty(DtmHeld *held, DtmTime now)
{
	dtm_workset_mark_dirty(held);
	lazy_since = Min(lazy_since, now);
	if (is_undurable(held->trans) && held->write_after <= now)
		urgent = true;
}

DtmTime
dtm_carry_next_write(void)
{
	DtmTime		lazy = lazy_since == DTM_NEVER ? DTM_NEVER
		: lazy_since + LAZY_WRITE;

	return urgent ? 0 : Min(lazy, paused_until);
}

void
dtm_carry_write(DtmTime now)
{
	Batch		batch = {0};
	MemoryContext before = MemoryContextSwitchTo(batch_context);
	int			sqlstate;

	collect(&batch, now);
	if (batch.nheld > 0)
	{
		if (write_batch(&batch, &sqlstate))
			after_commit(&batch, now);
		else if (batch.nheld == 1 || is_resource_error(sqlstate))
		{
			for (int i = 0; i < batch.nheld; i++)
				after_failure(batch.held[i], now);
		}
		else
			write_each(&batch, now);
	}
	MemoryContextSwitchTo(before);
	MemoryContextReset(batch_context);
}

/* What is to be written: the oldest first, but for what is better left alone. */
static void
collect(Batch *batch, DtmTime now)
{
	dlist_iter	iter;

	urgent = false;
	lazy_since = DTM_NEVER;
	paused_until = DTM_NEVER;
	allocate_batch(batch, MAX_BATCH);
	dlist_foreach(iter, dtm_workset_dirty())
	{
		DtmHeld    *held = dlist_container(DtmHeld, dirty_node, iter.cur);

		if (held->write_after > now)
			paused_until = Min(paused_until, held->write_after);
		else if (batch->nheld < MAX_BATCH)
			add_to_batch(batch, held);
		else
		{
			urgent = true;		/* again, at once */
			break;
		}
	}
}

static void
allocate_batch(Batch *batch, int n)
{
	batch->held = palloc(n * sizeof(DtmHeld *));
	batch->changes = palloc(n * sizeof(DtmChange));
	batch->change_of = palloc(n * sizeof(int));
	batch->ops_capacity = 4 * n;
	batch->ops = palloc(batch->ops_capacity * sizeof(DtmOpRow));
}

static void
add_to_batch(Batch *batch, DtmHeld *held)
{
	DtmTrans   *trans = held->trans;
	bool		ops_are_ours = !has_executor(trans);
	bool		leaves = ops_are_ours && trans->running == 0 &&
		!is_undurable(trans) && trans->due > horizon;

	batch->change_of[batch->nheld] = -1;
	if (is_undurable(trans) || (leaves && trans->due != held->stored_due))
	{
		DtmChange  *change = &batch->changes[batch->nchanges];

		change->id = trans->id;
		change->from = trans->stored_status;
		change->to = trans->status;
		/* Compensations are due at once; who leaves says when it comes back. */
		change->due = leaves ? trans->due : held->stored_due;
		change->reason = is_undurable(trans) ? trans->reason : NULL;
		batch->change_of[batch->nheld] = batch->nchanges++;
		batch->decision |= is_undurable(trans);
	}
	batch->held[batch->nheld++] = held;

	/*
	 * An executor holds locks on the rows of its transaction. They are written
	 * when it is done.
	 */
	if (!ops_are_ours)
		return;
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			DtmOp	   *op = &trans->branches[i].op[phase];

			if (!op->dirty)
				continue;
			if (batch->nops == batch->ops_capacity)
			{
				batch->ops_capacity *= 2;
				batch->ops = repalloc_huge(batch->ops,
										   batch->ops_capacity * sizeof(DtmOpRow));
			}
			batch->ops[batch->nops].id = trans->id;
			batch->ops[batch->nops].branch = i;
			batch->ops[batch->nops].phase = phase;
			batch->ops[batch->nops].op = op;
			batch->nops++;
		}
	}
}

static bool
has_executor(const DtmTrans *trans)
{
	if (trans->running == 0)
		return false;
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			const DtmCall *call = trans->branches[i].op[phase].call;

			if (call != NULL && call->transport == DTM_CALL_SQL &&
				call->waiting.in_flight)
				return true;
		}
	}
	return false;
}

static bool
write_batch(Batch *batch, int *sqlstate)
{
	MemoryContext before = CurrentMemoryContext;
	volatile bool written = false;

	if (batch->nchanges == 0 && batch->nops == 0)
		return true;

	PG_TRY();
	{
		dtm_store_begin();
		if (batch->nchanges > 0)
			dtm_store_change(batch->changes, batch->nchanges);
		DTM_POINT("worker-change-written");
		if (batch->nops > 0)
			dtm_store_ops(batch->ops, batch->nops);
		dtm_store_commit(batch->decision);
		written = true;
	}
	PG_CATCH();
	{
		*sqlstate = geterrcode();
		EmitErrorReport();
		FlushErrorState();
		dtm_store_abort();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(before);
	dtm_count(shard, DTM_COUNT_COMMITS, 1);
	return written;
}

/* One of them cannot be written, and must not keep the others from it. */
static void
write_each(Batch *batch, DtmTime now)
{
	for (int i = 0; i < batch->nheld; i++)
	{
		Batch		one = {0};
		int			sqlstate;

		allocate_batch(&one, 1);
		add_to_batch(&one, batch->held[i]);
		if (write_batch(&one, &sqlstate))
			after_commit(&one, now);
		else
			after_failure(batch->held[i], now);
	}
}

/* Nobody's fault: no space, no memory, cancelled by an administrator. */
static bool
is_resource_error(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR);
}

static void
after_failure(DtmHeld *held, DtmTime now)
{
	held->write_pause = held->write_pause == 0 ? FIRST_WRITE_PAUSE
		: Min(held->write_pause * 2, LONGEST_WRITE_PAUSE);
	held->write_after = now + held->write_pause;
	paused_until = Min(paused_until, held->write_after);
}

static void
after_commit(Batch *batch, DtmTime now)
{
	for (int i = 0; i < batch->nops; i++)
		batch->ops[i].op->dirty = false;

	for (int i = 0; i < batch->nheld; i++)
	{
		DtmHeld    *held = batch->held[i];
		DtmChange  *change = batch->change_of[i] < 0 ? NULL
			: &batch->changes[batch->change_of[i]];

		held->write_pause = 0;
		held->write_after = 0;
		dtm_workset_mark_clean(held);

		if (change != NULL && !change->made)
		{
			row_was_not_ours(held, now);
			continue;
		}
		if (change != NULL)
		{
			held->trans->stored_status = change->to;
			held->stored_due = change->due;
		}
		if (dtm_status_is_final(held->trans->stored_status))
			finish(held);
		else if (dtm_held_is_idle(held) && held->trans->due > horizon &&
				 held->trans->due == held->stored_due)
			let_go(held);
		else
			start_waiting(held);
	}
}

/*
 * Somebody has locked the row, or has changed its status: read it again. If it
 * was only locked, our change is tried again soon.
 */
static void
row_was_not_ours(DtmHeld *held, DtmTime now)
{
	if (nrereads == rereads_capacity)
	{
		rereads_capacity = Max(64, 2 * rereads_capacity);
		rereads = rereads == NULL
			? MemoryContextAlloc(TopMemoryContext, rereads_capacity * sizeof(int64))
			: repalloc(rereads, rereads_capacity * sizeof(int64));
	}
	rereads[nrereads++] = held->id;
	if (is_undurable(held->trans))
	{
		held->write_after = now + ROW_IS_HELD_PAUSE;
		dtm_workset_mark_dirty(held);
		paused_until = Min(paused_until, held->write_after);
	}
}

/* Its final status is durable: now whoever waits may know. */
static void
finish(DtmHeld *held)
{
	DtmTrans   *trans = held->trans;

	dtm_count(shard, trans->status == DTM_SUCCEED ? DTM_COUNT_SUCCEEDED
			  : DTM_COUNT_FAILED, 1);
	dtm_count(shard, DTM_COUNT_LATENCY_US,
			  Max(GetCurrentTimestamp() - held->created_at, 0));
	DTM_POINT("worker-before-telling");
	dtm_outcome_broadcast(trans->id);
	let_go(held);
}

int
dtm_carry_rereads(int64 *ids, int max)
{
	int			n = 0;

	while (nrereads > 0 && n < max)
		ids[n++] = rereads[--nrereads];
	return n;
}

/* Calls that wait for a server which does not answer may wait in the table. */
static void
withdraw_hopeless(DtmHeld *held, DtmTime now)
{
	DtmTrans   *trans = held->trans;

	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			DtmEvent	event;

			if (!dtm_call_is_hopeless(trans, branch, phase) ||
				!dtm_call_withdraw(trans, branch, phase))
				continue;
			event = new_event(DTM_EVENT_WITHDRAWN, now);
			event.branch = branch;
			event.phase = phase;
			apply(held, &event);
		}
	}
}

static void
shed_one(DtmHeld *held, void *arg)
{
	if (held->trans->running > 0)
		withdraw_hopeless(held, *(DtmTime *) arg);
	if (!dtm_held_is_idle(held) || held->trans->due <= horizon)
		return;
	if (held->trans->due == held->stored_due)
		let_go(held);
	else
		note_dirty(held, *(DtmTime *) arg);
}

void
dtm_carry_shed(void)
{
	DtmTime		now = GetCurrentTimestamp();

	dtm_workset_visit(shed_one, &now);
}

static void
drop_one(DtmHeld *held, void *arg)
{
	let_go(held);
}

void
dtm_carry_drop_all(void)
{
	dtm_workset_visit(drop_one, NULL);
	urgent = false;
	lazy_since = DTM_NEVER;
	paused_until = DTM_NEVER;
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
