/*
 * executor_pool.c: the slots of the executors, and the worker's side of them.
 *
 * A slot has two lives that do not depend on each other. Its process starts,
 * is there, and ends; its job is given by a worker, is taken by the process,
 * is done, and is collected by the worker. A new job can be given while the
 * process still tidies up after the last one.
 *
 * What may end at any moment, and why nothing is left behind:
 *	 the executor	its exit callback ends the job with an error and empties the
 *					slot. The job may have been committed all the same: the op's
 *					row says so to whoever runs it next;
 *	 its start		the postmaster tells the worker that registered it, which
 *					finds the process stopped; if that worker has gone as well,
 *					the slot is taken back after a while, and a process that
 *					turns up later finds another generation and leaves;
 *	 the worker		its exit callback takes back the jobs that no process has
 *					taken, and orphans the others: their results go nowhere;
 *	 by SIGKILL		the postmaster starts everything anew, with empty slots.
 *
 * Under the lock nothing is done that could fail or sleep. Nothing here looks
 * at a table.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "executor.h"
#include "executor_slot.h"
#include "settings.h"

/* What a job gets after its timeout before its process is ended. */
#define GRACE_MS 2000

/* A process that was registered by a worker now gone, and never came. */
#define LOST_START_MS 60000

typedef enum ProcessState
{
	PROCESS_NONE,
	PROCESS_STARTING,
	PROCESS_THERE
} ProcessState;

typedef enum JobState
{
	JOB_NONE,
	JOB_GIVEN,
	JOB_TAKEN,
	JOB_DONE
} JobState;

typedef struct Slot
{
	ProcessState process;
	uint32		generation;		/* counts the processes */
	Oid			database;
	Oid			role;
	pid_t		pid;			/* 0 while starting */
	Latch	   *latch;
	pid_t		starter_pid;	/* worker that registered it; 0: gone */
	TimestampTz registered;
	bool		leave;			/* gets no further job */
	TimestampTz idle_since;
	Latch	   *wanted_by;		/* a worker that waits for the slot */

	JobState	job_state;
	DtmExecutorJob job;
	pid_t		worker_pid;		/* who gets the result; 0: nobody */
	Latch	   *worker_latch;
	TimestampTz taken;
	TimestampTz terminated;		/* when SIGTERM was sent; 0: not */
	DtmExecutorResult result;
} Slot;

typedef struct Pool
{
	LWLock		lock;			/* protects all of this */
	int			tranche;
	Slot		slot[FLEXIBLE_ARRAY_MEMBER];
} Pool;

static Pool *pool;

/* worker: of the processes that it has registered, by slot */
static BackgroundWorkerHandle **handles;

/* executor */
static Slot *my_slot;
static uint32 my_generation;
static char last_words[DTM_MAX_ERROR];

static void prepare_worker(void);
static Slot *find_idle(Oid role, int *nprocesses);
static Slot *find_free(void);
static Slot *ask_one_to_leave(bool even_busy);
static Slot *of_the_greediest(void);
static void give(Slot *slot, Oid role, const DtmExecutorJob *job);
static bool register_process(int index, uint32 generation, Oid role);
static void take_back(int index, uint32 generation);
static void notice_failed_start(Slot *slot);
static void worker_exits(int code, Datum arg);
static void executor_exits(int code, Datum arg);
static void end_job(Slot *slot, const char *error);
static void empty_slot(Slot *slot);
static void tell_to_leave(Oid database);
static bool any_process(Oid database);

/* ---- shared memory ---- */

Size
dtm_executor_shmem_size(void)
{
	return add_size(offsetof(Pool, slot),
					mul_size(dtm_max_executors, sizeof(Slot)));
}

void
dtm_executor_shmem_init(void)
{
	bool		found;

	pool = ShmemInitStruct("dtm executors", dtm_executor_shmem_size(), &found);
	if (!found)
	{
		memset(pool, 0, dtm_executor_shmem_size());
		pool->tranche = LWLockNewTrancheId();
		LWLockInitialize(&pool->lock, pool->tranche);
	}
	LWLockRegisterTranche(pool->tranche, "dtm_executors");
}

/* ---- the worker's side ---- */

int
dtm_executor_start(Oid role, const DtmExecutorJob *job,
				   char error[DTM_MAX_ERROR])
{
	int			nprocesses;
	uint32		generation = 0;
	bool		register_it = false;
	Slot	   *slot;

	error[0] = '\0';
	prepare_worker();

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	slot = find_idle(role, &nprocesses);
	if (slot == NULL && nprocesses >= dtm_executors_per_role)
		snprintf(error, DTM_MAX_ERROR,
				 "all %d executors of the role are busy (dtm.executors_per_role)",
				 nprocesses);
	else if (slot == NULL && (slot = find_free()) != NULL)
	{
		slot->process = PROCESS_STARTING;
		slot->generation++;
		slot->database = MyDatabaseId;
		slot->role = role;
		slot->starter_pid = MyProcPid;
		slot->registered = GetCurrentTimestamp();
		generation = slot->generation;
		register_it = true;
	}
	else if (slot == NULL)
	{
		slot = ask_one_to_leave(nprocesses == 0);
		snprintf(error, DTM_MAX_ERROR,
				 slot ? "all %d executors are there for other roles, one of them leaves (dtm.max_executors)" :
				 "all %d executors are busy (dtm.max_executors)",
				 dtm_max_executors);
		slot = NULL;
	}
	if (slot)
		give(slot, role, job);
	LWLockRelease(&pool->lock);

	if (slot == NULL)
		return -1;
	if (register_it && !register_process(slot - pool->slot, generation, role))
	{
		take_back(slot - pool->slot, generation);
		snprintf(error, DTM_MAX_ERROR,
				 "no background worker is free (max_worker_processes)");
		return -1;
	}
	return slot - pool->slot;
}

bool
dtm_executor_result(int index, DtmExecutorResult *result)
{
	Slot	   *slot;
	bool		done = false;

	Assert(index >= 0 && index < dtm_max_executors);
	slot = &pool->slot[index];

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	Assert(slot->worker_pid == MyProcPid);
	notice_failed_start(slot);
	if (slot->job_state == JOB_DONE)
	{
		*result = slot->result;
		slot->job_state = JOB_NONE;
		slot->worker_pid = 0;
		slot->worker_latch = NULL;
		done = true;
	}
	LWLockRelease(&pool->lock);
	return done;
}

void
dtm_executor_check(TimestampTz now)
{
	if (pool == NULL)
		return;

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->worker_pid != MyProcPid)
			continue;
		if (slot->process == PROCESS_STARTING)
		{
			notice_failed_start(slot);
			if (slot->job_state == JOB_DONE)
				SetLatch(MyLatch);
			continue;
		}

		/*
		 * The executor's own timer cancels the function, which can catch
		 * that. It cannot catch the end of its process. Again and again: the
		 * first signal may have met a moment when it could not be obeyed.
		 */
		if (slot->job_state == JOB_TAKEN && slot->job.timeout_ms > 0 &&
			TimestampDifferenceExceeds(slot->terminated ? slot->terminated : slot->taken,
									   now,
									   (int) Min(slot->job.timeout_ms, INT_MAX - GRACE_MS) + GRACE_MS))
		{
			slot->terminated = now;
			slot->leave = true;
			kill(slot->pid, SIGTERM);
		}
	}
	LWLockRelease(&pool->lock);
}

void
dtm_executors_stop(Oid database)
{
	static uint32 wait_event;

	if (pool == NULL)
		return;

	for (;;)
	{
		tell_to_leave(database);
		if (!any_process(database))
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10L, dtm_wait_event(&wait_event, "DtmExecutorsStop"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Once in each worker: its handles, and what happens to its jobs at its end. */
static void
prepare_worker(void)
{
	if (pool == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the executors of dtm have no shared memory"),
				 errhint("Add dtm to shared_preload_libraries and restart the server.")));
	if (handles)
		return;
	handles = MemoryContextAllocZero(TopMemoryContext,
									 dtm_max_executors * sizeof(*handles));
	before_shmem_exit(worker_exits, (Datum) 0);
}

/* An idle process of the role, and how many it has in all. */
static Slot *
find_idle(Oid role, int *nprocesses)
{
	Slot	   *idle = NULL;

	*nprocesses = 0;
	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->process == PROCESS_NONE ||
			slot->database != MyDatabaseId || slot->role != role)
			continue;
		(*nprocesses)++;

		/* One that starts without a job lost its worker: it may never come. */
		if (slot->process == PROCESS_THERE &&
			slot->job_state == JOB_NONE && !slot->leave &&
			(idle == NULL || slot->idle_since > idle->idle_since))
			idle = slot;
	}
	return idle;
}

static Slot *
find_free(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->process == PROCESS_STARTING && slot->starter_pid == 0 &&
			slot->job_state == JOB_NONE &&
			TimestampDifferenceExceeds(slot->registered, now, LOST_START_MS))
			empty_slot(slot);
		if (slot->process == PROCESS_NONE && slot->job_state == JOB_NONE)
			return slot;
	}
	return NULL;
}

/*
 * The one that has been idle longest makes room for another role. For a role
 * that has none at all a busy one does, after its job: else whoever has much
 * to do would keep all of them for ever.
 */
static Slot *
ask_one_to_leave(bool even_busy)
{
	Slot	   *longest = NULL;

	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->process != PROCESS_THERE || slot->job_state != JOB_NONE)
			continue;
		if (slot->leave)
		{
			/* Somebody else's wish already; one place is enough for now. */
			longest = slot;
			break;
		}
		if (longest == NULL || slot->idle_since < longest->idle_since)
			longest = slot;
	}
	if (longest == NULL && even_busy)
		longest = of_the_greediest();
	if (longest)
	{
		longest->leave = true;
		longest->wanted_by = MyLatch;
		SetLatch(longest->latch);
	}
	return longest;
}

/* One of the role that has the most, unless none has more than one. */
static Slot *
of_the_greediest(void)
{
	Slot	   *found = NULL;
	int			most = 1;

	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];
		int			n = 0;

		/* One that has not yet begun its job would leave without doing it. */
		if (slot->process != PROCESS_THERE || slot->job_state == JOB_GIVEN)
			continue;
		if (slot->leave)
			return slot;
		for (int other = 0; other < dtm_max_executors; other++)
		{
			if (pool->slot[other].process != PROCESS_NONE &&
				pool->slot[other].database == slot->database &&
				pool->slot[other].role == slot->role)
				n++;
		}
		if (n > most)
		{
			most = n;
			found = slot;
		}
	}
	return found;
}

static void
give(Slot *slot, Oid role, const DtmExecutorJob *job)
{
	slot->job_state = JOB_GIVEN;
	slot->job = *job;
	slot->worker_pid = MyProcPid;
	slot->worker_latch = MyLatch;
	slot->taken = 0;
	slot->terminated = 0;
	if (slot->latch)
		SetLatch(slot->latch);
}

static bool
register_process(int index, uint32 generation, Oid role)
{
	DtmExecutorArgs args = {.slot = index,.generation = generation};
	BackgroundWorker worker;
	MemoryContext old;
	bool		registered;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "dtm");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "dtm_executor_main");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "dtm executor");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "dtm executor");
	StaticAssertStmt(sizeof(args) <= BGW_EXTRALEN,
					 "arguments do not fit into bgw_extra");
	args.nologin = dtm_executor_needs_nologin(role);
	memcpy(worker.bgw_extra, &args, sizeof(args));

	if (handles[index])
		pfree(handles[index]);
	handles[index] = NULL;
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[index]);
	MemoryContextSwitchTo(old);
	return registered;
}

/* The process could not even be registered. */
static void
take_back(int index, uint32 generation)
{
	Slot	   *slot = &pool->slot[index];

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	slot->job_state = JOB_NONE;
	slot->worker_pid = 0;
	slot->worker_latch = NULL;
	if (slot->generation == generation)
		empty_slot(slot);
	LWLockRelease(&pool->lock);
}

/* Registered here, and ended before it came as far as its own callbacks? */
static void
notice_failed_start(Slot *slot)
{
	int			index = slot - pool->slot;
	pid_t		pid;

	if (slot->process != PROCESS_STARTING || slot->starter_pid != MyProcPid ||
		handles[index] == NULL ||
		GetBackgroundWorkerPid(handles[index], &pid) != BGWH_STOPPED)
		return;
	end_job(slot, "the executor could not be started: see the server's log");
	empty_slot(slot);
}

static void
worker_exits(int code, Datum arg)
{
	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->starter_pid == MyProcPid)
			slot->starter_pid = 0;
		if (slot->wanted_by == MyLatch)
			slot->wanted_by = NULL;
		if (slot->worker_pid != MyProcPid)
			continue;
		slot->worker_pid = 0;
		slot->worker_latch = NULL;

		/* One that is taken goes on, and finds that nobody asks for it. */
		if (slot->job_state != JOB_TAKEN)
			slot->job_state = JOB_NONE;
	}
	LWLockRelease(&pool->lock);
}

/* ---- the executor's side ---- */

/* Make the slot this process's own; false: it came too late. */
bool
dtm_executor_attach(const DtmExecutorArgs *args, Oid *database, Oid *role)
{
	Slot	   *slot;
	bool		mine;

	if (pool == NULL || args->slot < 0 || args->slot >= dtm_max_executors)
		return false;
	slot = &pool->slot[args->slot];

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	mine = slot->process == PROCESS_STARTING &&
		slot->generation == args->generation;
	if (mine)
	{
		slot->process = PROCESS_THERE;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->idle_since = GetCurrentTimestamp();
		*database = slot->database;
		*role = slot->role;
	}
	LWLockRelease(&pool->lock);
	if (!mine)
		return false;

	my_slot = slot;
	my_generation = args->generation;
	before_shmem_exit(executor_exits, (Datum) 0);
	return true;
}

DtmExecutorNext
dtm_executor_next(DtmExecutorJob *job, long *wait_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	DtmExecutorNext next = DTM_EXECUTOR_WAIT;

	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	if (my_slot->job_state == JOB_GIVEN && !my_slot->leave)
	{
		my_slot->job_state = JOB_TAKEN;
		my_slot->taken = now;
		*job = my_slot->job;
		next = DTM_EXECUTOR_RUN;
	}
	else
	{
		*wait_ms = TimestampDifferenceMilliseconds(now,
												   TimestampTzPlusMilliseconds(my_slot->idle_since,
																			   dtm_executor_idle_timeout));
		if (*wait_ms <= 0)
			my_slot->leave = true;
		if (my_slot->leave)
			next = DTM_EXECUTOR_LEAVE;
	}
	LWLockRelease(&pool->lock);
	return next;
}

/* The job has ended: let its worker know, if there still is one. */
void
dtm_executor_tell(const DtmExecutorResult *result, bool retire)
{
	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);

	/* Together with the result, or the worker gives the next job first. */
	if (retire)
		my_slot->leave = true;
	my_slot->idle_since = GetCurrentTimestamp();
	if (my_slot->worker_pid != 0)
	{
		my_slot->result = *result;
		my_slot->job_state = JOB_DONE;
		SetLatch(my_slot->worker_latch);
	}
	else
	{
		my_slot->job_state = JOB_NONE;
		my_slot->leave = true;
	}
	LWLockRelease(&pool->lock);
}

/* What the job's result says if this process ends before it is done. */
void
dtm_executor_last_words(const char *error)
{
	snprintf(last_words, sizeof(last_words), "%s", error);
}

static void
executor_exits(int code, Datum arg)
{
	/* The transaction, if there was one, has been rolled back by now. */
	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	if (my_slot->generation == my_generation)
	{
		if (my_slot->terminated != 0)
			snprintf(last_words, sizeof(last_words),
					 "no answer within " INT64_FORMAT " ms, and deaf to being cancelled: executor ended",
					 my_slot->job.timeout_ms);
		end_job(my_slot, last_words[0] ? last_words : "executor ended");
		empty_slot(my_slot);
	}
	LWLockRelease(&pool->lock);
}

pid_t
dtm_executor_some_pid(Oid database)
{
	pid_t		pid = 0;

	if (pool == NULL)
		return 0;
	LWLockAcquire(&pool->lock, LW_SHARED);
	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->process == PROCESS_THERE &&
			(slot->database == database || !OidIsValid(database)) &&
			(pid == 0 || slot->job_state == JOB_TAKEN))
			pid = slot->pid;
	}
	LWLockRelease(&pool->lock);
	return pid;
}

/* ---- both sides; under the lock ---- */

/* The process is gone, or never came: a job in the slot ends with an error. */
static void
end_job(Slot *slot, const char *error)
{
	if (slot->job_state != JOB_GIVEN && slot->job_state != JOB_TAKEN)
		return;
	if (slot->worker_pid == 0)
	{
		slot->job_state = JOB_NONE;
		return;
	}
	slot->result.answer = DTM_ANSWER_ERROR;
	slot->result.recorded = false;
	snprintf(slot->result.error, DTM_MAX_ERROR, "%s", error);
	slot->job_state = JOB_DONE;
	SetLatch(slot->worker_latch);
}

/* The process's part only: a result stays until its worker has taken it. */
static void
empty_slot(Slot *slot)
{
	slot->process = PROCESS_NONE;
	slot->pid = 0;
	slot->latch = NULL;
	slot->starter_pid = 0;
	slot->leave = false;
	if (slot->wanted_by)
		SetLatch(slot->wanted_by);
	slot->wanted_by = NULL;
}

static void
tell_to_leave(Oid database)
{
	LWLockAcquire(&pool->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dtm_max_executors; i++)
	{
		Slot	   *slot = &pool->slot[i];

		if (slot->database != database || slot->process == PROCESS_NONE)
			continue;
		if (slot->process == PROCESS_STARTING)
		{
			/* It has not connected, and finds that it must not any more. */
			end_job(slot, "executor ended");
			empty_slot(slot);
			slot->generation++;
			continue;
		}
		slot->leave = true;
		if (slot->job_state == JOB_TAKEN)
			kill(slot->pid, SIGTERM);
		else
			SetLatch(slot->latch);
	}
	LWLockRelease(&pool->lock);
}

static bool
any_process(Oid database)
{
	bool		any = false;

	LWLockAcquire(&pool->lock, LW_SHARED);
	for (int i = 0; i < dtm_max_executors; i++)
	{
		if (pool->slot[i].process != PROCESS_NONE &&
			pool->slot[i].database == database)
			any = true;
	}
	LWLockRelease(&pool->lock);
	return any;
}
