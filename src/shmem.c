/*
 * shmem.c: what processes tell each other, in shared memory.
 *
 * Everything here is a hint that may be lost at any instant: the tables say
 * what to do next, and a worker that starts reads them all. So no process ever
 * waits for another one in here, and nothing is kept that a restart of the
 * server would have to restore.
 *
 * Two kinds of locks, never held at the same time: one for each shard, and one
 * for what the launcher is told. Under neither is anything done that could
 * fail, sleep or allocate: backends come here from their COMMIT callback.
 *
 * A shard's slot belongs to whoever holds the shard's session lock
 * (dtm_shard_lock), which PostgreSQL releases when the process ends in any way.
 * So a slot that still names a worker that is gone is simply taken over.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "executor.h"
#include "settings.h"
#include "shmem.h"

#define TRANCHE_NAME "dtm"

#define OUTCOME_BUCKETS 1024
#define MAX_BLOCKS 64
#define LOCK_PATIENCE_MS 500
#define MAX_WORKERS_PER_DATABASE 64

/* Makes our lock tags differ from whatever else may use the type. */
#define SHARD_LOCK_FIELD4 0xD7

typedef struct Block
{
	Oid			database;		/* InvalidOid: free */
	pid_t		pid;			/* of the backend that blocks */
} Block;

typedef struct Probe
{
	uint32		ticket;			/* an answer with another one is too late */
	DtmProbeAnswer answer;
} Probe;

typedef struct Shared
{
	LWLock	   *launcher_lock;	/* protects all of this but outcome[] */
	Latch	   *launcher_latch; /* NULL: no launcher */
	pid_t		launcher_pid;
	bool		look;
	bool		recheck_all;	/* there was no room in recheck[] */
	int			nrechecks;
	DtmRecheck	recheck[DTM_MAX_RECHECKS];
	Block		block[MAX_BLOCKS];
	Probe		probe[DTM_MAX_PROBES];

	ConditionVariable outcome[OUTCOME_BUCKETS];
	DtmShard	shard[FLEXIBLE_ARRAY_MEMBER];
} Shared;

static Shared *shared;

static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

static void request_shmem(void);
static void start_shmem(void);
static Size shared_size(void);
static void init_shared(void);
static DtmShard *find_shard(Oid database, int number);
static DtmShard *choose_slot(Oid database, int number);
static bool take_slot(DtmShard *shard, Oid database, int number);
static void empty_mailbox(DtmShard *shard);
static void detach_at_exit(int code, Datum arg);
static void send_to_shard(Oid database, int number, int nshards,
						  const int64 *ids, int nids);
static void put_id(DtmShard *shard, int64 id);
static void detach_launcher(int code, Datum arg);

void
dtm_shmem_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shmem;
}

bool
dtm_shmem_ready(void)
{
	return shared != NULL;
}

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();

	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(mul_size(dtm_shard_count(),
									mul_size(dtm_ring_size, sizeof(int64))));
	RequestAddinShmemSpace(dtm_executor_shmem_size());
	RequestNamedLWLockTranche(TRANCHE_NAME, 1 + dtm_shard_count());
}

/* Runs again after each crash restart, on memory that is new. */
static void
start_shmem(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("dtm", shared_size(), &found);
	if (!found)
		init_shared();
	dtm_executor_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

static Size
shared_size(void)
{
	return add_size(offsetof(Shared, shard),
					mul_size(dtm_shard_count(), sizeof(DtmShard)));
}

static void
init_shared(void)
{
	LWLockPadded *locks = GetNamedLWLockTranche(TRANCHE_NAME);
	int64	   *rings;
	bool		found;

	rings = ShmemInitStruct("dtm rings",
							mul_size(dtm_shard_count(),
									 mul_size(dtm_ring_size, sizeof(int64))),
							&found);

	memset(shared, 0, shared_size());
	shared->launcher_lock = &locks[0].lock;
	for (int i = 0; i < OUTCOME_BUCKETS; i++)
		ConditionVariableInit(&shared->outcome[i]);

	for (int i = 0; i < dtm_shard_count(); i++)
	{
		DtmShard   *shard = &shared->shard[i];

		shard->lock = &locks[1 + i].lock;
		shard->ring = rings + (Size) i * dtm_ring_size;
		empty_mailbox(shard);
		for (int c = 0; c < DTM_NCOUNTERS; c++)
			pg_atomic_init_u64(&shard->counter[c], 0);
	}
}

/*
 * Shards
 */

int
dtm_shard_count(void)
{
	return dtm_max_databases * dtm_workers_per_database;
}

DtmShard *
dtm_shard_at(int index)
{
	Assert(index >= 0 && index < dtm_shard_count());
	return &shared->shard[index];
}

DtmShard *
dtm_shard_of(Oid database, int64 id)
{
	if (shared == NULL)
		return NULL;
	return find_shard(database, dtm_shard_number(id, dtm_workers_per_database));
}

/*
 * Find the slot of a shard, without a lock: who changes it must lock it and
 * look again. Slots seldom move, so remember where they were.
 */
static DtmShard *
find_shard(Oid database, int number)
{
	static int	seen_at[MAX_WORKERS_PER_DATABASE];
	DtmShard   *shard;

	if (number < MAX_WORKERS_PER_DATABASE)
	{
		shard = &shared->shard[seen_at[number]];
		if (shard->database == database && shard->number == number)
			return shard;
	}

	for (int i = 0; i < dtm_shard_count(); i++)
	{
		shard = &shared->shard[i];
		if (shard->database == database && shard->number == number)
		{
			if (number < MAX_WORKERS_PER_DATABASE)
				seen_at[number] = i;
			return shard;
		}
	}
	return NULL;
}

bool
dtm_shard_lock(int number)
{
	TimestampTz begin = GetCurrentTimestamp();
	LOCKTAG		tag;

	tag.locktag_field1 = MyDatabaseId;
	tag.locktag_field2 = (uint32) number;
	tag.locktag_field3 = 0;
	tag.locktag_field4 = SHARD_LOCK_FIELD4;
	tag.locktag_type = LOCKTAG_USERLOCK;
	tag.locktag_lockmethodid = USER_LOCKMETHOD;

	/* A worker that ends gives its slot back first, and this soon after. */
	while (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		if (TimestampDifferenceExceeds(begin, GetCurrentTimestamp(),
									   LOCK_PATIENCE_MS))
			return false;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(5000L);
	}
	return true;
}

DtmShard *
dtm_shard_attach(Oid database, int number)
{
	DtmShard   *shard;

	/*
	 * Who stops the workers of a database first blocks it and then looks for
	 * processes that are connected to it. We are connected: if the block was
	 * there before, we see it here; if it comes after, we are seen.
	 */
	if (dtm_workers_are_blocked(database))
		return NULL;

	do
	{
		shard = choose_slot(database, number);
		if (shard == NULL)
			return NULL;
	} while (!take_slot(shard, database, number));

	/* Runs before the session lock goes: both callbacks are of one list. */
	before_shmem_exit(detach_at_exit, PointerGetDatum(shard));
	return shard;
}

/*
 * The shard's own slot of before, so that its counters go on; else one that was
 * never used; else one whose worker is gone.
 */
static DtmShard *
choose_slot(Oid database, int number)
{
	DtmShard   *unused = NULL;
	DtmShard   *abandoned = NULL;
	DtmShard   *own = find_shard(database, number);

	if (own != NULL)
		return own;

	for (int i = 0; i < dtm_shard_count(); i++)
	{
		DtmShard   *shard = &shared->shard[i];

		if (shard->database == InvalidOid)
		{
			if (unused == NULL)
				unused = shard;
		}
		else if (shard->pid == 0 && abandoned == NULL)
			abandoned = shard;
	}
	return unused != NULL ? unused : abandoned;
}

/* False: somebody else was faster. */
static bool
take_slot(DtmShard *shard, Oid database, int number)
{
	bool		own;
	bool		taken = false;

	LWLockAcquire(shard->lock, LW_EXCLUSIVE);
	own = shard->database == database && shard->number == number;
	/* Our own slot is ours even if it names a process: see the file's header. */
	if (own || shard->database == InvalidOid || shard->pid == 0)
	{
		if (!own)
		{
			for (int c = 0; c < DTM_NCOUNTERS; c++)
				pg_atomic_write_u64(&shard->counter[c], 0);
		}
		empty_mailbox(shard);
		shard->number = number;
		shard->pid = MyProcPid;
		shard->latch = MyLatch;
		shard->started = GetCurrentTimestamp();
		/* Last: find_shard reads without the lock. */
		shard->database = database;
		taken = true;
	}
	LWLockRelease(shard->lock);
	return taken;
}

static void
empty_mailbox(DtmShard *shard)
{
	shard->rescan = false;
	shard->lost_min = 1;
	shard->lost_max = 0;
	shard->head = 0;
	shard->tail = 0;
}

static void
detach_at_exit(int code, Datum arg)
{
	dtm_shard_detach((DtmShard *) DatumGetPointer(arg));
}

void
dtm_shard_detach(DtmShard *shard)
{
	Oid			database = InvalidOid;

	LWLockAcquire(shard->lock, LW_EXCLUSIVE);
	if (shard->pid == MyProcPid)
	{
		/* It stays the database's, with its counters, until it is needed. */
		database = shard->database;
		shard->pid = 0;
		shard->latch = NULL;
		empty_mailbox(shard);
		for (int c = DTM_COUNT_IN_MEMORY; c < DTM_NCOUNTERS; c++)
			pg_atomic_write_u64(&shard->counter[c], 0);
	}
	LWLockRelease(shard->lock);

	/* The launcher may be a later one than the one that started us. */
	if (OidIsValid(database))
		dtm_launcher_note_exit();
}

void
dtm_shard_receive(DtmShard *shard, int64 *ids, int max, DtmMail *mail)
{
	uint64		n;

	LWLockAcquire(shard->lock, LW_EXCLUSIVE);
	n = Min(shard->tail - shard->head, (uint64) max);
	for (uint64 i = 0; i < n; i++)
		ids[i] = shard->ring[(shard->head + i) % dtm_ring_size];
	shard->head += n;
	mail->nids = (int) n;
	mail->rescan = shard->rescan;
	mail->lost_min = shard->lost_min;
	mail->lost_max = shard->lost_max;
	shard->rescan = false;
	shard->lost_min = 1;
	shard->lost_max = 0;
	LWLockRelease(shard->lock);
}

bool
dtm_shard_is_running(Oid database, int number)
{
	DtmShard   *shard = find_shard(database, number);

	return shard != NULL && shard->pid != 0;
}

bool
dtm_worker_is_running(Oid database)
{
	if (shared == NULL)
		return false;
	for (int number = 0; number < dtm_workers_per_database; number++)
	{
		if (dtm_shard_is_running(database, number))
			return true;
	}
	return false;
}

void
dtm_shmem_forget(Oid database)
{
	if (shared == NULL)
		return;
	for (int i = 0; i < dtm_shard_count(); i++)
	{
		DtmShard   *shard = &shared->shard[i];

		LWLockAcquire(shard->lock, LW_EXCLUSIVE);
		if (shard->database == database && shard->pid == 0)
			shard->database = InvalidOid;
		LWLockRelease(shard->lock);
	}
}

/*
 * Backends
 */

void
dtm_shmem_send(Oid database, const int64 *ids, int nids)
{
	if (shared == NULL || nids == 0)
		return;
	for (int number = 0; number < dtm_workers_per_database; number++)
		send_to_shard(database, number, dtm_workers_per_database, ids, nids);
}

static void
send_to_shard(Oid database, int number, int nshards,
			  const int64 *ids, int nids)
{
	DtmShard   *shard = find_shard(database, number);
	Latch	   *latch = NULL;
	bool		sent = false;

	if (shard == NULL)
		return;

	LWLockAcquire(shard->lock, LW_EXCLUSIVE);
	if (shard->database == database && shard->number == number &&
		shard->pid != 0)
	{
		for (int i = 0; i < nids; i++)
		{
			if (dtm_shard_number(ids[i], nshards) != number)
				continue;
			put_id(shard, ids[i]);
			sent = true;
		}
		latch = shard->latch;
	}
	LWLockRelease(shard->lock);

	/* Latches live as long as the server; a late one wakes somebody in vain. */
	if (sent && latch != NULL)
		SetLatch(latch);
}

static void
put_id(DtmShard *shard, int64 id)
{
	if (shard->tail - shard->head < (uint64) dtm_ring_size)
	{
		shard->ring[shard->tail % dtm_ring_size] = id;
		shard->tail++;
	}
	else if (shard->lost_min > shard->lost_max)
		shard->lost_min = shard->lost_max = id;
	else
	{
		shard->lost_min = Min(shard->lost_min, id);
		shard->lost_max = Max(shard->lost_max, id);
	}
}

void
dtm_shmem_request_rescan(Oid database)
{
	if (shared == NULL)
		return;
	for (int number = 0; number < dtm_workers_per_database; number++)
	{
		DtmShard   *shard = find_shard(database, number);
		Latch	   *latch = NULL;

		if (shard == NULL)
			continue;
		LWLockAcquire(shard->lock, LW_EXCLUSIVE);
		if (shard->database == database && shard->number == number)
		{
			shard->rescan = true;
			latch = shard->latch;
		}
		LWLockRelease(shard->lock);
		if (latch != NULL)
			SetLatch(latch);
	}
}

ConditionVariable *
dtm_outcome_cv(int64 id)
{
	return &shared->outcome[(uint64) id % OUTCOME_BUCKETS];
}

void
dtm_outcome_broadcast(int64 id)
{
	ConditionVariableBroadcast(dtm_outcome_cv(id));
}

/*
 * The launcher
 */

void
dtm_launcher_attach(void)
{
	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	shared->launcher_latch = MyLatch;
	shared->launcher_pid = MyProcPid;
	/* It looks at everything anyway. */
	shared->look = false;
	shared->recheck_all = false;
	shared->nrechecks = 0;
	LWLockRelease(shared->launcher_lock);

	before_shmem_exit(detach_launcher, (Datum) 0);
}

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	if (shared->launcher_pid == MyProcPid)
	{
		shared->launcher_latch = NULL;
		shared->launcher_pid = 0;
	}
	LWLockRelease(shared->launcher_lock);
}

void
dtm_launcher_look(void)
{
	Latch	   *latch;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	shared->look = true;
	latch = shared->launcher_latch;
	LWLockRelease(shared->launcher_lock);
	if (latch != NULL)
		SetLatch(latch);
}

void
dtm_launcher_recheck(Oid database, bool at_once)
{
	Latch	   *latch;
	int			i;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->nrechecks; i++)
	{
		if (shared->recheck[i].database == database)
			break;
	}
	if (i == DTM_MAX_RECHECKS)
		shared->recheck_all = true;
	else
	{
		if (i == shared->nrechecks)
		{
			shared->nrechecks++;
			shared->recheck[i].database = database;
			shared->recheck[i].at_once = false;
		}
		if (at_once)
			shared->recheck[i].at_once = true;
	}
	latch = shared->launcher_latch;
	LWLockRelease(shared->launcher_lock);
	if (latch != NULL)
		SetLatch(latch);
}

void
dtm_launcher_note_exit(void)
{
	Latch	   *latch;

	LWLockAcquire(shared->launcher_lock, LW_SHARED);
	latch = shared->launcher_latch;
	LWLockRelease(shared->launcher_lock);
	if (latch != NULL)
		SetLatch(latch);
}

int
dtm_launcher_receive(DtmRecheck recheck[DTM_MAX_RECHECKS], bool *look,
					 bool *recheck_all)
{
	int			n;

	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	n = shared->nrechecks;
	memcpy(recheck, shared->recheck, n * sizeof(DtmRecheck));
	*look = shared->look;
	*recheck_all = shared->recheck_all;
	shared->nrechecks = 0;
	shared->look = false;
	shared->recheck_all = false;
	LWLockRelease(shared->launcher_lock);
	return n;
}

void
dtm_block_workers(Oid database)
{
	Block	   *place = NULL;

	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_BLOCKS; i++)
	{
		Block	   *block = &shared->block[i];

		if (block->database == database && block->pid == MyProcPid)
		{
			place = block;
			break;
		}
		if (block->database == InvalidOid && place == NULL)
			place = block;
	}
	if (place != NULL)
	{
		place->database = database;
		place->pid = MyProcPid;
	}
	LWLockRelease(shared->launcher_lock);

	if (place == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many transactions are altering databases or extension \"dtm\""),
				 errhint("Try again when some of them have ended.")));
}

void
dtm_unblock_workers(void)
{
	Oid			unblocked[MAX_BLOCKS];
	int			n = 0;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_BLOCKS; i++)
	{
		Block	   *block = &shared->block[i];

		if (block->database == InvalidOid || block->pid != MyProcPid)
			continue;
		unblocked[n++] = block->database;
		block->database = InvalidOid;
		block->pid = 0;
	}
	LWLockRelease(shared->launcher_lock);

	for (int i = 0; i < n; i++)
		dtm_launcher_recheck(unblocked[i], true);
}

bool
dtm_workers_are_blocked(Oid database)
{
	bool		blocked = false;

	LWLockAcquire(shared->launcher_lock, LW_SHARED);
	for (int i = 0; i < MAX_BLOCKS; i++)
	{
		if (shared->block[i].database == database)
			blocked = true;
	}
	LWLockRelease(shared->launcher_lock);
	return blocked;
}

uint32
dtm_probe_reset(int index)
{
	Probe	   *probe = &shared->probe[index];
	uint32		ticket;

	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	ticket = ++probe->ticket;
	probe->answer = DTM_PROBE_NONE;
	LWLockRelease(shared->launcher_lock);
	return ticket;
}

void
dtm_probe_answer(int index, uint32 ticket, DtmProbeAnswer answer)
{
	Probe	   *probe = &shared->probe[index];

	LWLockAcquire(shared->launcher_lock, LW_EXCLUSIVE);
	/* Asked by a launcher that is gone: the place is somebody else's now. */
	if (probe->ticket == ticket)
		probe->answer = answer;
	LWLockRelease(shared->launcher_lock);
}

DtmProbeAnswer
dtm_probe_result(int index)
{
	DtmProbeAnswer answer;

	LWLockAcquire(shared->launcher_lock, LW_SHARED);
	answer = shared->probe[index].answer;
	LWLockRelease(shared->launcher_lock);
	return answer;
}
