/*
 * call_ending.c: calls of endings, before an executor has them.
 *
 * A branch can wait for an executor. A statement that comes before its status
 * must not keep that open, for executors may be busy with whatever anybody else
 * makes them do: when it has waited as long as it may run, that is a failed
 * attempt, and the worker writes the status alone (ending.c).
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#include "attempts.h"
#include "call_ending.h"

/* All that wait are looked through no more often than this. */
#define LOOK_AGAIN (10 * DTM_MS)

static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static DtmTime next_look = DTM_NEVER;	/* none is overdue before */

void
dtm_ending_waits(DtmCall *call, DtmTime now)
{
	if (!dtm_ending_comes_first(call->trans))
		return;
	call->give_up_at = now + call->timeout * DTM_MS;
	call->ending_waits = true;
	dlist_push_tail(&waiting, &call->ending_node);
	next_look = Min(next_look, call->give_up_at);
}

void
dtm_ending_waits_no_more(DtmCall *call)
{
	if (!call->ending_waits)
		return;
	dlist_delete(&call->ending_node);
	call->ending_waits = false;
	if (dlist_is_empty(&waiting))
		next_look = DTM_NEVER;
}

void
dtm_endings_give_up(DtmTime now, void (*give_up) (DtmCall *call, DtmTime now))
{
	dlist_mutable_iter iter;
	DtmTime		next = DTM_NEVER;

	if (now < next_look)
		return;
	next_look = DTM_NEVER;
	/* What follows from one concerns its own transaction alone. */
	dlist_foreach_modify(iter, &waiting)
	{
		DtmCall    *call = dlist_container(DtmCall, ending_node, iter.cur);

		if (call->give_up_at > now)
			next = Min(next, call->give_up_at);
		else
			give_up(call, now);
	}
	if (next != DTM_NEVER)
		next_look = Min(next_look, Max(next, now + LOOK_AGAIN));
}

DtmTime
dtm_endings_wake(void)
{
	return next_look;
}

void
dtm_endings_clock_set_back(DtmTime now)
{
	dlist_iter	iter;

	dlist_foreach(iter, &waiting)
	{
		DtmCall    *call = dlist_container(DtmCall, ending_node, iter.cur);

		call->give_up_at = Min(call->give_up_at, now + call->timeout * DTM_MS);
		next_look = now;
	}
}

void
dtm_describe_ending(const DtmTrans *trans, DtmExecutorJob *job)
{
	const char *reason = trans->reason;
	int			size;

	job->from = trans->stored_status;
	job->to = trans->ending_for;
	/* Others may have added branches that we do not know of. */
	job->nbranches = trans->stored_status == DTM_PREPARED && !trans->driven
		? trans->nbranches : -1;
	if (reason == NULL || job->from == job->to)
		return;
	size = strlen(reason);
	if (size >= DTM_MAX_REASON)
		size = pg_mbcliplen(reason, size, DTM_MAX_REASON - 1);
	memcpy(job->reason, reason, size);
}
