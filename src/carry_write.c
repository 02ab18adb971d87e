/*
 * carry_write.c: writing what was decided, many transactions under one commit.
 *
 * Decisions are written at once and synchronously; marks and schedules may
 * wait a moment for company, and may be lost. If a commit fails, each of its
 * transactions is written by itself, so that the one which cannot be written
 * delays nobody; that one is tried again with growing pauses. Neither does one
 * whose row of dtm.op an executor holds, which is about to commit: user's code
 * may run in that commit, so it is waited for only a moment. A result that a
 * branch has given is written like a decision: a later branch may be told it,
 * and whoever is asked once more need not give it again.
 *
 * Crash points, in order: before the commit, the tables say what they said,
 * and nobody has been called because of the new status (carry.c holds those
 * calls back). After it, the next worker reads the new status and goes on.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "carry.h"
#include "carry_private.h"
#include "debug_point.h"
#include "decide.h"

/* Marks and schedules may be lost, but people read them: not much later. */
#define LAZY_WRITE (20 * DTM_MS)

#define MAX_BATCH 1000			/* transactions under one commit */
#define MAX_BATCH_RESULTS (64 * 1024 * 1024)	/* bytes: more is another commit */
#define ROW_IS_HELD_PAUSE (100 * DTM_MS)
#define FIRST_WRITE_PAUSE DTM_SECOND
#define LONGEST_WRITE_PAUSE (10 * DTM_SECOND)

/* How long an executor's commit is waited for, ms: by all, and by one alone. */
#define BATCH_LOCK_TIMEOUT 200
#define ONE_LOCK_TIMEOUT 50
/* So often in a row at most; then executors are looked after first. */
#define MAX_LOCK_WAITS 20

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
	Size		result_bytes;
	bool		decision;		/* must be durable at once */
} Batch;

static DtmTime lazy_since = DTM_NEVER;	/* the oldest unwritten mark */
static DtmTime paused_until = DTM_NEVER;	/* the first write to try again */
static bool urgent;				/* a decision waits to be written */
static int64 *rereads;			/* rows that are not as we know them */
static int	nrereads;
static int	rereads_capacity;

static void collect(Batch *batch, DtmTime now);
static void allocate_batch(Batch *batch, int n);
static void add_to_batch(Batch *batch, DtmHeld *held);
static void add_op(Batch *batch, DtmTrans *trans, int branch, DtmPhase phase);
static bool write_batch(Batch *batch, int lock_timeout_ms, int *sqlstate);
static void write_each(Batch *batch, DtmTime now);
static bool is_resource_error(int sqlstate);
static void after_failure(DtmHeld *held, DtmTime now);
static void after_commit(Batch *batch, DtmTime now);
static void op_is_written(DtmOp *op);
static void row_was_not_ours(DtmHeld *held, DtmTime now);

void
dtm_carry_note_dirty(DtmHeld *held, DtmTime now)
{
	dtm_workset_mark_dirty(held);
	lazy_since = Min(lazy_since, now);
	if (calls_must_wait(held) && held->write_after <= now)
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
	static MemoryContext batch_context = NULL;
	MemoryContext before;
	int			sqlstate;

	if (batch_context == NULL)
		batch_context = AllocSetContextCreate(TopMemoryContext, "dtm batch",
											  ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(batch_context);

	collect(&batch, now);
	if (batch.nheld > 0)
	{
		if (write_batch(&batch, BATCH_LOCK_TIMEOUT, &sqlstate))
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
		else if (batch->nheld < MAX_BATCH && batch->result_bytes < MAX_BATCH_RESULTS)
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
	bool		leaves = trans->running == 0 && !is_undurable(trans) &&
		trans->due > dtm_carry_horizon();

	batch->change_of[batch->nheld] = -1;
	if (is_undurable(trans) || (leaves && trans->due != held->stored_due))
	{
		DtmChange  *change = &batch->changes[batch->nchanges];

		change->id = trans->id;
		change->from = trans->stored_status;
		/* An end that its ending will write is decided anew, later. */
		change->to = is_undurable(trans) ? trans->status : trans->stored_status;
		/* Compensations are due at once; who leaves says when it comes back. */
		change->due = leaves ? trans->due : held->stored_due;
		if (is_undurable(trans) && dtm_status_is_final(trans->status))
			change->due = dtm_ending_is_pending(trans) ? trans->ending.due
				: DTM_NEVER;
		change->reason = is_undurable(trans) ? trans->reason : NULL;
		/* Others may have added branches that we do not know of. */
		change->nbranches = is_undurable(trans) && !trans->driven &&
			trans->stored_status == DTM_PREPARED ? trans->nbranches : -1;
		batch->change_of[batch->nheld] = batch->nchanges++;
	}
	batch->decision |= is_undurable(trans) || held->has_new_result;
	batch->held[batch->nheld++] = held;

	add_op(batch, trans, DTM_WHOLE, DTM_FORWARD);
	add_op(batch, trans, DTM_ENDING, DTM_FORWARD);
	for (int i = 0; i < trans->nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			add_op(batch, trans, i, phase);
	}
}

static void
add_op(Batch *batch, DtmTrans *trans, int branch, DtmPhase phase)
{
	DtmOp	   *op = dtm_op_of(trans, branch, phase);

	if (!op->dirty)
		return;
	if (batch->nops == batch->ops_capacity)
	{
		batch->ops_capacity *= 2;
		batch->ops = repalloc_huge(batch->ops,
								   batch->ops_capacity * sizeof(DtmOpRow));
	}
	batch->ops[batch->nops].id = trans->id;
	batch->ops[batch->nops].branch = branch;
	batch->ops[batch->nops].phase = phase;
	batch->ops[batch->nops].op = op;
	batch->result_bytes += op->result_size;
	batch->nops++;
}

static bool
write_batch(Batch *batch, int lock_timeout_ms, int *sqlstate)
{
	MemoryContext before = CurrentMemoryContext;
	volatile bool written = false;

	if (batch->nchanges == 0 && batch->nops == 0)
		return true;

	PG_TRY();
	{
		dtm_store_begin();
		dtm_store_limit_waits(lock_timeout_ms);
		if (batch->nchanges > 0)
			dtm_store_change(batch->changes, batch->nchanges);
		DTM_POINT("worker-change-written");
		if (batch->nops > 0)
			dtm_store_ops(batch->ops, batch->nops);
		/* A wait that was over too late must not disturb the commit. */
		CHECK_FOR_INTERRUPTS();
		dtm_store_commit(batch->decision);
		written = true;
	}
	PG_CATCH();
	{
		*sqlstate = geterrcode();
		/* That a row is held is no fault: it is only tried again. */
		if (*sqlstate != ERRCODE_LOCK_NOT_AVAILABLE)
			EmitErrorReport();
		FlushErrorState();
		dtm_store_abort();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(before);
	dtm_carry_count(DTM_COUNT_COMMITS, 1);
	return written;
}

/*
 * One of them cannot be written, and must not keep the others from it. What is
 * left when too many were held stays as it is, for the next round.
 */
static void
write_each(Batch *batch, DtmTime now)
{
	int			lock_waits = 0;

	for (int i = 0; i < batch->nheld; i++)
	{
		Batch		one = {0};
		int			sqlstate = 0;

		if (lock_waits == MAX_LOCK_WAITS)
		{
			urgent = true;
			break;
		}
		allocate_batch(&one, 1);
		add_to_batch(&one, batch->held[i]);
		if (write_batch(&one, ONE_LOCK_TIMEOUT, &sqlstate))
			after_commit(&one, now);
		else
			after_failure(batch->held[i], now);
		if (sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
			lock_waits++;
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
		op_is_written(batch->ops[i].op);

	for (int i = 0; i < batch->nheld; i++)
	{
		DtmHeld    *held = batch->held[i];
		DtmChange  *change = batch->change_of[i] < 0 ? NULL
			: &batch->changes[batch->change_of[i]];
		bool		is_over;

		held->has_new_result = false;
		held->marks_first = false;
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
		is_over = dtm_is_over(held->trans);
		if (change != NULL && dtm_status_is_final(change->to) &&
			!dtm_status_is_final(change->from))
			dtm_carry_finish(held);
		if (is_over)
			continue;
		if (change != NULL && change->to != change->from)
			dtm_carry_look_again(held, now);
		if (dtm_held_is_idle(held) && held->trans->due > dtm_carry_horizon() &&
				 held->trans->due == held->stored_due)
			dtm_carry_let_go(held);
		else
			dtm_carry_start_waiting(held);
	}
}

/* Results are large, and read from the table when they are needed. */
static void
op_is_written(DtmOp *op)
{
	op->dirty = false;
	if (op->result != NULL)
		pfree(op->result);
	op->result = NULL;
	op->result_size = 0;
}

/*
 * Somebody has locked the row, or has changed its status: read it again. If it
 * was only locked, our change is tried again soon.
 */
static void
row_was_not_ours(DtmHeld *held, DtmTime now)
{
	dtm_carry_reread(held->id);
	if (is_undurable(held->trans))
	{
		held->write_after = now + ROW_IS_HELD_PAUSE;
		dtm_workset_mark_dirty(held);
		paused_until = Min(paused_until, held->write_after);
	}
}

void
dtm_carry_reread(int64 id)
{
	if (nrereads == rereads_capacity)
	{
		rereads_capacity = Max(64, 2 * rereads_capacity);
		rereads = rereads == NULL
			? MemoryContextAllocHuge(TopMemoryContext,
									 rereads_capacity * sizeof(int64))
			: repalloc_huge(rereads, rereads_capacity * sizeof(int64));
	}
	rereads[nrereads++] = id;
}

typedef struct Range
{
	int64		min;
	int64		max;
} Range;

static void
doubt_one(DtmHeld *held, void *arg)
{
	const Range *range = arg;

	if (held->id >= range->min && held->id <= range->max && !held->is_doubted)
	{
		held->is_doubted = true;
		dtm_carry_reread(held->id);
	}
}

void
dtm_carry_doubt(int64 min, int64 max)
{
	Range		range = {min, max};

	dtm_workset_visit(doubt_one, &range);
}

static void
forget_pause(DtmHeld *held, void *arg)
{
	held->write_after = 0;
}

void
dtm_carry_clock_set_back(DtmTime now)
{
	dtm_workset_visit(forget_pause, NULL);
	if (paused_until != DTM_NEVER)
		paused_until = now;
	if (lazy_since != DTM_NEVER)
		lazy_since = now;
}

int
dtm_carry_rereads(int64 *ids, int max)
{
	int			n = 0;

	while (nrereads > 0 && n < max)
		ids[n++] = rereads[--nrereads];
	return n;
}
