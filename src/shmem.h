/*
 * shmem.h: what processes tell each other. Hints only: every word of it can
 * be lost, and the tables say what to do next.
 */
#ifndef DTM_SHMEM_H
#define DTM_SHMEM_H

#include "postgres.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "trans.h"

/* Counters since the server started, one set per shard. */
typedef enum DtmCounter
{
	DTM_COUNT_BEGUN,
	DTM_COUNT_SUCCEEDED,
	DTM_COUNT_FAILED,
	DTM_COUNT_CALLS,
	DTM_COUNT_CALLS_SUCCESS,
	DTM_COUNT_CALLS_FAILURE,
	DTM_COUNT_CALLS_ONGOING,
	DTM_COUNT_CALLS_ERROR,
	DTM_COUNT_RETRIES,
	DTM_COUNT_COMMITS,			/* the worker's own */
	DTM_COUNT_LATENCY_US,		/* sum over finished: created to finished */
	DTM_COUNT_IN_MEMORY,		/* gauges from here on */
	DTM_COUNT_IN_FLIGHT,
	DTM_COUNT_QUEUED,
	DTM_COUNT_OPEN_CIRCUITS,
	DTM_NCOUNTERS
} DtmCounter;

/* One worker's mailbox. */
typedef struct DtmShard
{
	LWLock	   *lock;			/* protects the rest, but for counters */
	Oid			database;		/* InvalidOid: free */
	int			number;			/* shard number of that database */
	pid_t		pid;			/* of the worker; 0: none */
	Latch	   *latch;			/* of the worker; NULL: none */
	TimestampTz started;
	bool		rescan;			/* read all that is unfinished */
	int64		lost_min;		/* ids that did not fit the ring: this range; */
	int64		lost_max;		/* none if min > max */
	uint64		head;			/* next to be read */
	uint64		tail;			/* next to be written */
	int64	   *ring;			/* dtm_ring_size ids */
	pg_atomic_uint64 counter[DTM_NCOUNTERS];
} DtmShard;

extern void dtm_shmem_install(void);	/* request + startup hooks */
extern bool dtm_shmem_ready(void);		/* false: library not preloaded */

/* The shard of this database that owns id; NULL: no worker has a slot. */
extern DtmShard *dtm_shard_of(Oid database, int64 id);
extern DtmShard *dtm_shard_at(int index);	/* 0 .. dtm_shard_count()-1 */
extern int	dtm_shard_count(void);
static inline int
dtm_shard_number(int64 id, int nshards)
{
	return (int) ((uint64) id % (uint64) nshards);
}

/*
 * Worker side. First the lock, for the rest of the session, so that two workers
 * of one shard never both run; false: another has it. It is a lock of its own
 * kind, out of reach of pg_advisory_lock.
 */
extern bool dtm_shard_lock(int number);

/*
 * Then attach, before the first read of the tables: nothing is missed. NULL:
 * no slot is free, or the database's workers are blocked; the worker exits and
 * the launcher tries again. Detached at the process's exit by itself.
 */
extern DtmShard *dtm_shard_attach(Oid database, int number);
extern void dtm_shard_detach(DtmShard *shard);

typedef struct DtmMail
{
	int			nids;
	bool		rescan;
	int64		lost_min;		/* min > max: none */
	int64		lost_max;
} DtmMail;

/* Take up to max ids and whatever flags there are; again while nids = max. */
extern void dtm_shard_receive(DtmShard *shard, int64 *ids, int max,
							  DtmMail *mail);

/*
 * Backend side: safe in a COMMIT callback (no error, no allocation). Ids that
 * find no slot are simply not sent: the worker reads everything when it starts.
 */
extern void dtm_shmem_send(Oid database, const int64 *ids, int nids);
extern void dtm_shmem_request_rescan(Oid database);
extern bool dtm_worker_is_running(Oid database);

/*
 * Waiting for an outcome. Whoever waits prepares, looks at the table, sleeps,
 * and looks again; the worker broadcasts after the final status is durable.
 */
extern ConditionVariable *dtm_outcome_cv(int64 id);
extern void dtm_outcome_broadcast(int64 id);

/*
 * What the launcher is told. All of it is safe in a COMMIT or ABORT callback,
 * but for dtm_block_workers.
 */
extern void dtm_launcher_attach(void);	/* launcher only */
extern void dtm_launcher_look(void);	/* the list of databases has changed */
extern void dtm_launcher_note_exit(void);	/* some worker has ended */

/*
 * The extension may have come or gone. at_once: it has, or its processes were
 * stopped on purpose, so that earlier failures are no reason to wait.
 */
extern void dtm_launcher_recheck(Oid database, bool at_once);

/* Take what has been asked for; returns how many databases to recheck. */
#define DTM_MAX_RECHECKS 64
typedef struct DtmRecheck
{
	Oid			database;
	bool		at_once;
} DtmRecheck;

extern int	dtm_launcher_receive(DtmRecheck recheck[DTM_MAX_RECHECKS],
								 bool *look, bool *recheck_all);

/* Does a worker of this shard have a slot? */
extern bool dtm_shard_is_running(Oid database, int number);

/* The database is gone: its slots are free. */
extern void dtm_shmem_forget(Oid database);

/*
 * Workers of the database may not start until this backend takes all its
 * blocks away, at the end of its transaction. Raises an error when the list is
 * full.
 */
extern void dtm_block_workers(Oid database);
extern void dtm_unblock_workers(void);
extern bool dtm_workers_are_blocked(Oid database);

/* Answers of the processes that look for the extension in a database. */
#define DTM_MAX_PROBES 2
typedef enum DtmProbeAnswer
{
	DTM_PROBE_NONE,				/* no answer (yet) */
	DTM_PROBE_ABSENT,
	DTM_PROBE_PRESENT,
	DTM_PROBE_OTHER_VERSION		/* its SQL is not that of this library */
} DtmProbeAnswer;

extern uint32 dtm_probe_reset(int index);	/* returns the ticket for answering */
extern void dtm_probe_answer(int index, uint32 ticket, DtmProbeAnswer answer);
extern DtmProbeAnswer dtm_probe_result(int index);

static inline void
dtm_count(DtmShard *shard, DtmCounter which, int64 n)
{
	pg_atomic_fetch_add_u64(&shard->counter[which], n);
}

static inline void
dtm_gauge(DtmShard *shard, DtmCounter which, uint64 value)
{
	pg_atomic_write_u64(&shard->counter[which], value);
}

#endif
