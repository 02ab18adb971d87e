/*
 * pending.c: tell the workers what a transaction has changed, once it has
 * committed.
 *
 * Crash points, in order:
 *	 before the commit record is durable	nothing happened, nobody is told;
 *	 after it, before the ring is written	the worker that follows the crash
 *											reads every unfinished row;
 *	 after the ring is written				the worker has it, or its successor
 *											reads it from the table.
 *
 * PREPARE TRANSACTION takes the list away: whoever runs COMMIT PREPARED wakes
 * the workers (lifecycle.c), which then read what is unfinished.
 *
 * The COMMIT callback must not fail and must not allocate.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "debug_point.h"
#include "pending.h"
#include "shmem.h"

typedef struct PendingId
{
	int64		id;
	SubTransactionId subxact;	/* the one that must not abort */
	DtmCounter	counts_as;		/* DTM_NCOUNTERS: nothing that is counted */
	int64		latency;		/* from begin to end, if it has ended */
} PendingId;

static PendingId *pending;		/* in TopTransactionContext */
static int64 *to_send;			/* the same capacity: COMMIT cannot allocate */
static int	npending;
static int	capacity;

static void add(int64 id, DtmCounter counts_as, int64 latency);
static void at_xact_end(XactEvent event, void *arg);
static void count_pending(void);
static void at_subxact_end(SubXactEvent event, SubTransactionId mine,
						   SubTransactionId parent, void *arg);
static void forget_pending(void);

void
dtm_pending_install(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}

void
dtm_pending_add(int64 id)
{
	add(id, DTM_NCOUNTERS, 0);
}

void
dtm_pending_begun(int64 id)
{
	add(id, DTM_COUNT_BEGUN, 0);
}

void
dtm_pending_ended(int64 id, DtmStatus outcome, TimestampTz created_at)
{
	add(id, outcome == DTM_SUCCEED ? DTM_COUNT_SUCCEEDED : DTM_COUNT_FAILED,
		Max(GetCurrentTimestamp() - created_at, 0));
}

static void
add(int64 id, DtmCounter counts_as, int64 latency)
{
	/* Visible must mean durable: branches may be called because of this. */
	ForceSyncCommit();

	if (counts_as == DTM_NCOUNTERS &&
		npending > 0 && pending[npending - 1].id == id &&
		pending[npending - 1].subxact == GetCurrentSubTransactionId())
		return;

	if (npending == capacity)
	{
		int			larger = capacity == 0 ? 16 : capacity * 2;
		MemoryContext context = TopTransactionContext;
		PendingId  *more;
		int64	   *more_to_send;

		more = MemoryContextAllocHuge(context, (Size) larger * sizeof(PendingId));
		more_to_send = MemoryContextAllocHuge(context,
											  (Size) larger * sizeof(int64));
		if (npending > 0)
		{
			memcpy(more, pending, npending * sizeof(PendingId));
			pfree(pending);
			pfree(to_send);
		}
		pending = more;
		to_send = more_to_send;
		capacity = larger;
	}
	pending[npending].id = id;
	pending[npending].subxact = GetCurrentSubTransactionId();
	pending[npending].counts_as = counts_as;
	pending[npending].latency = latency;
	npending++;
}

bool
dtm_pending_contains(int64 id)
{
	for (int i = 0; i < npending; i++)
	{
		if (pending[i].id == id)
			return true;
	}
	return false;
}

static void
at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (npending > 0)
			{
				DTM_POINT("backend-after-commit");
				count_pending();
				for (int i = 0; i < npending; i++)
					to_send[i] = pending[i].id;
				dtm_shmem_send(MyDatabaseId, to_send, npending);
				DTM_POINT("backend-after-send");
			}
			forget_pending();
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (npending > 0)
				DTM_POINT("backend-before-commit");
			break;
		case XACT_EVENT_PREPARE:
			if (npending > 0)
				DTM_POINT("backend-after-prepare");
			/* Whoever commits it knows nothing of it; few are rolled back. */
			count_pending();
			forget_pending();
			break;
		case XACT_EVENT_ABORT:
			forget_pending();
			break;
		default:
			break;
	}
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine,
			   SubTransactionId parent, void *arg)
{
	if (npending == 0)
		return;

	/* Ids of a subtransaction are at the end of the list: it is a stack. */
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (npending > 0 && pending[npending - 1].subxact >= mine)
			npending--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = npending - 1; i >= 0 && pending[i].subxact >= mine; i--)
			pending[i].subxact = parent;
	}
}

/* Counters are atomic; a shard that has no worker yet counts nothing. */
static void
count_pending(void)
{
	for (int i = 0; i < npending; i++)
	{
		DtmShard   *shard = pending[i].counts_as == DTM_NCOUNTERS ? NULL
			: dtm_shard_of(MyDatabaseId, pending[i].id);

		if (shard == NULL)
			continue;
		dtm_count(shard, pending[i].counts_as, 1);
		if (pending[i].latency > 0)
			dtm_count(shard, DTM_COUNT_LATENCY_US, pending[i].latency);
	}
}

static void
forget_pending(void)
{
	/* The memory went, or goes, with the transaction. */
	pending = NULL;
	to_send = NULL;
	npending = 0;
	capacity = 0;
}
