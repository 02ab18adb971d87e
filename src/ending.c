/*
 * ending.c: what comes of the statement on_success or on_failure.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the table that
 * this file mirrors, in its section "An ending".
 *
 * The file of the mode has decided that the transaction has ended. If it has a
 * statement for this end, the status is not written by the worker but by the
 * statement's own commit: so the effect of the statement and the status are
 * there together, or neither is. This is the one call that is made before its
 * status is durable, because it is what makes it so.
 *
 * A statement that fails must not keep the status open. Once tried in vain, the
 * worker writes the status alone, and then the statement is tried until it
 * succeeds, as any call that must.
 *
 * It must never let an end become durable that was decided from a status in
 * which branches may still be called forward: a worker that dies leaves its
 * executor behind, and what its successor calls meanwhile must not be forgotten
 * when that one commits. Turning back is durable first.
 */
#include "attempts.h"

/* The row is locked, or was changed: it is read again, and then ... */
#define HELD_PAUSE (100 * DTM_MS)

static bool has_statement(const DtmTrans *trans);
static bool is_too_early(const DtmTrans *trans);

bool
dtm_ending_is_pending(const DtmTrans *trans)
{
	return dtm_status_is_final(trans->status) && has_statement(trans) &&
		trans->ending.status == DTM_OP_PREPARED;
}

bool
dtm_ending_comes_first(const DtmTrans *trans)
{
	return trans->status != trans->stored_status &&
		dtm_ending_is_pending(trans) && trans->ending.failed_attempts == 0;
}

/* After the file of the mode: what it has decided stands, but for its time. */
void
dtm_ending_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (!dtm_ending_is_pending(trans))
		return;
	if (is_too_early(trans))
	{
		trans->status = DTM_ABORTING;
		return;
	}
	/* Tried in vain: first the worker writes the status. */
	if (trans->status != trans->stored_status &&
		!dtm_ending_comes_first(trans))
		return;
	if (trans->ending.running)
		return;					/* perhaps still for another end */
	trans->ending_for = trans->status;
	dtm_start_or_wait(trans, DTM_ENDING, DTM_FORWARD, event->now, plan);
}

static bool
has_statement(const DtmTrans *trans)
{
	return trans->status == DTM_SUCCEED ? trans->on_success : trans->on_failure;
}

static bool
is_too_early(const DtmTrans *trans)
{
	return trans->status == DTM_FAILED && dtm_ending_comes_first(trans) &&
		(trans->stored_status == DTM_SUBMITTED ||
		 (trans->stored_status == DTM_PREPARED && trans->driven));
}

/*
 * Success: the executor has committed the effect, the status, and that there is
 * nothing left to do. ONGOING: the row was not as we knew it, or somebody has
 * locked it; nothing has happened.
 */
void
dtm_ending_take_result(DtmTrans *trans, const DtmEvent *event)
{
	DtmOp	   *op = &trans->ending;

	/* A user was faster, and it is about another end now, or none. */
	if (trans->ending_for != trans->status || op->status != DTM_OP_PREPARED)
		return;

	if (event->answer == DTM_ANSWER_ONGOING)
	{
		if (trans->ending_held < INT32_MAX)
			trans->ending_held++;
		op->due = dtm_later(event->now,
							dtm_retry_delay(HELD_PAUSE, trans->ending_held,
											trans->retry_interval,
											event->random));
		return;
	}

	trans->ending_held = 0;
	op->last_attempt = event->now;
	if (op->attempts < INT32_MAX)
		op->attempts++;
	if (event->answer == DTM_ANSWER_SUCCESS)
	{
		dtm_succeed(op);
		op->dirty = false;
		trans->stored_status = trans->status;
		return;
	}
	dtm_take_failed_attempt(trans, event);
	op->dirty = true;
}

/* What has been tried was for an end that it did not come to. */
void
dtm_ending_forget(DtmTrans *trans)
{
	DtmOp	   *op = &trans->ending;

	op->status = DTM_OP_PREPARED;
	op->in_doubt = op->running;
	op->stuck = false;
	op->dirty = false;
	op->attempts = 0;
	op->failed_attempts = 0;
	op->streak = 0;
	op->last_attempt = 0;
	op->last_error = NULL;
}
