/*
 * worker.c: the process that carries a shard's transactions out.
 *
 * One per database (or several, each with its share of the ids). The tables
 * are the truth; what is in memory here is a cache of what is unfinished, and
 * whenever this process dies, its successor reads the tables and goes on.
 *
 * A round of the loop:
 *
 *	 read	ids from the ring, and what the clock brings near
 *	 call	start what may start, take what has ended, decide
 *	 write	decisions and marks, many under one commit; then go on with what
 *			waited for them
 *	 wait	for the latch, a socket, or the next instant that matters
 *
 * Nothing is missed: we attach to our mailbox first and read the whole table
 * then, so that a transaction which commits in between is in either or in both.
 * What a full ring could not take is remembered as a range of ids. Besides, a
 * cheap read of what became due lately, and now and then of everything
 * unfinished, finds whatever any wake-up has missed.
 *
 * It must never hold a transaction or a snapshot while it waits for anything
 * but the disk, and never wait for a lock of a user.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "call.h"
#include "alert.h"
#include "carry.h"
#include "compat.h"
#include "debug_point.h"
#include "executor.h"
#include "identity.h"
#include "launcher.h"
#include "retention.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "worker.h"
#include "workset.h"

/* Ids that are read in one round; the calls of the last ones go on meanwhile. */
#define PAGE 512

/* What is due within this time is kept in memory. */
#define HORIZON (60 * DTM_SECOND)
#define HORIZON_STEP (15 * DTM_SECOND)
#define SHORT_HORIZON (2 * DTM_SECOND)

/* Reading everything unfinished may take no more than 1 % of our time. */
#define FULL_SCAN_SHARE 100
#define FULL_SCAN_INTERVAL (300 * DTM_SECOND)
#define REREAD_PAUSE INT64_C(200)	/* µs for each that is read again with it */

/* A transaction may commit this much later than it says it is due. */
#define SAFETY_OVERLAP (2 * DTM_SECOND)

#define SHEDDING_PAUSE (200 * DTM_MS)
#define MEMORY_PAUSE (20 * DTM_MS)
#define EXECUTOR_CHECK_INTERVAL (500 * DTM_MS)

/* A walk over rows in order of due time, a page a round. */
typedef struct DueScan
{
	bool		active;
	DtmDueCursor cursor;
	DtmTime		until;
	DtmTime		spent;			/* so far, in reading */
} DueScan;

static DtmShard *shard;
static int	shard_number;
static bool active;				/* do we work at all? */
static const char *idle_because;
static WaitEventSet *wait_set;

static DueScan full_scan;			/* everything unfinished */
static DueScan safety_scan;		/* what became due lately */
static DueScan horizon_scan;		/* what comes near */
static int64 lost_min = 1;		/* ids that did not fit the ring */
static int64 lost_max = 0;
static bool mail_left;			/* there was more than a page */
static bool memory_full;

static DtmTime next_full_scan;
static DtmTime full_scan_pause; /* not before, even if asked for */
static DtmTime next_safety_scan;
static DtmTime next_horizon_scan;
static DtmTime next_executor_check;
static DtmTime next_retention;
static DtmTime next_check;
static DtmTime next_shedding;
static DtmTime last_round;

static void start_worker(const DtmWorkerArgs *args);
static void check_state(void);
static bool extension_is_ours(void);
static void begin_work(void);
static void work(void);
static bool read_transactions(DtmTime now);
static int	read_mail(int64 *ids, DtmTime now);
static void note_lost(int64 min, int64 max);
static bool is_memory_full(DtmTime now);
static void clock_was_set_back(DtmTime now);
static void start_scans(DtmTime now);
static int	read_scan(DueScan *scan, int64 *ids);
static int	only_unknown(int64 *ids, int n);
static void load(int64 *ids, int n);
static int	only_known(int64 *ids, int n);
static int	read_lost(int64 *ids, int max);
static void house_keeping(DtmTime now);
static void publish_gauges(void);
static void wait_for_something(DtmTime now, bool more_to_read);
static DtmTime earliest(DtmTime a, DtmTime b);

void
dtm_worker_main(Datum arg)
{
	DtmWorkerArgs args;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	start_worker(&args);
	check_state();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			dtm_calls_configure();
			check_state();
		}
		work();
	}
}

static void
start_worker(const DtmWorkerArgs *args)
{
	bool		alone;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/* A reload between our fork and here was not for us to hear: read again. */
	ConfigReloadPending = true;

	BackgroundWorkerInitializeConnectionByOid(args->database, InvalidOid, 0);
	dtm_pin_worker_settings();
	shard_number = args->shard;

	StartTransactionCommand();
	alone = dtm_shard_lock(shard_number);
	CommitTransactionCommand();
	if (alone)
		shard = dtm_shard_attach(MyDatabaseId, shard_number);
	if (shard == NULL)
	{
		ereport(DEBUG1,
				(errmsg_internal("dtm worker %d finds its place taken", shard_number)));
		proc_exit(1);
	}

	dtm_carry_init(shard);
	wait_set = dtm_create_wait_event_set(4);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, dtm_calls_fd(), NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, dtm_calls_remote_fd(), NULL, NULL);
}

/*
 * May we work? Not without the extension (then there is no reason to be), not
 * with one of another version, not on a copy of a database whose original may
 * be at work on the same transactions, not when told to be quiet.
 */
static void
check_state(void)
{
	const char *reason = NULL;

	dtm_store_begin();
	if (!extension_is_ours())
		reason = "idle: run ALTER EXTENSION dtm UPDATE";
	else if (!dtm_enabled)
		reason = "idle: dtm.enabled is off";
	else if (!dtm_is_adopted())
		reason = "idle: a copy of another database; see dtm.adopt()";
	dtm_store_commit(false);

	if (reason == NULL && !active)
		begin_work();
	else if (reason != NULL && active)
		dtm_carry_drop_all();
	active = reason == NULL;
	idle_because = reason;
}

static bool
extension_is_ours(void)
{
	bool		is_null;
	char	   *version;

	if (SPI_execute("SELECT extversion FROM pg_catalog.pg_extension"
					" WHERE extname OPERATOR(pg_catalog.=) 'dtm'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_extension");
	if (SPI_processed == 0)
	{
		ereport(DEBUG1, (errmsg_internal("dtm worker leaves: no extension here")));
		proc_exit(0);
	}
	version = TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1,
												&is_null));
	return strcmp(version, DTM_SQL_VERSION) == 0;
}

/* Everything unfinished is read; what is older than now may be half done. */
static void
begin_work(void)
{
	DtmTime		now = GetCurrentTimestamp();

	dtm_carry_drop_all();
	dtm_store_begin();
	dtm_carry_resume(dtm_store_last_id());
	dtm_store_commit(false);

	dtm_carry_set_horizon(now + HORIZON);
	memset(&safety_scan, 0, sizeof(safety_scan));
	memset(&horizon_scan, 0, sizeof(horizon_scan));
	memset(&full_scan, 0, sizeof(full_scan));
	next_full_scan = now;
	next_safety_scan = now + dtm_safety_interval * DTM_MS;
	next_horizon_scan = now + HORIZON_STEP;
	next_retention = now + dtm_retention_interval * DTM_MS;
}

/* One round. */
static void
work(void)
{
	DtmTime		now = GetCurrentTimestamp();
	bool		more_to_read = false;

	if (now < last_round)
		clock_was_set_back(now);
	last_round = now;
	if (now >= next_check)
	{
		next_check = now + dtm_safety_interval * DTM_MS;
		check_state();
	}
	if (active)
	{
		more_to_read = read_transactions(now);
		dtm_carry_timers(now);
		dtm_calls_drive(now);
		if (dtm_carry_next_write() <= now)
		{
			dtm_carry_write(now);
			dtm_calls_drive(GetCurrentTimestamp());
		}
		house_keeping(now);
		dtm_alerts_give();
	}
	else
	{
		/* What arrives meanwhile is read when we begin to work. */
		int64		ids[PAGE];

		mail_left = read_mail(ids, now) == PAGE;
		/* Calls that were under way when we were told to stop end here. */
		dtm_calls_drive(now);
	}
	publish_gauges();
	wait_for_something(GetCurrentTimestamp(), more_to_read);
}

/*
 * Read a page of what there is to be read, the newest news first. Returns
 * whether there is more.
 */
static bool
read_transactions(DtmTime now)
{
	static int64 ids[2 * PAGE];
	int			n;

	start_scans(now);
	n = dtm_carry_rereads(ids, PAGE);
	memory_full = is_memory_full(now);
	n += read_mail(ids + n, now);
	if (n > 0)
		load(ids, n);
	if (memory_full)
		return false;

	if (lost_min <= lost_max || full_scan.active || safety_scan.active ||
		horizon_scan.active)
	{
		n = 0;
		dtm_store_begin();
		if (lost_min <= lost_max)
			n = read_lost(ids, PAGE);
		else if (horizon_scan.active)
			n = read_scan(&horizon_scan, ids);
		else if (safety_scan.active)
			n = read_scan(&safety_scan, ids);
		else
			n = read_scan(&full_scan, ids);
		dtm_store_commit(false);
		n = only_unknown(ids, n);
		if (n > 0)
			load(ids, n);
	}
	return mail_left || lost_min <= lost_max || full_scan.active ||
		safety_scan.active || horizon_scan.active;
}

static int
read_mail(int64 *ids, DtmTime now)
{
	DtmMail		mail;

	dtm_shard_receive(shard, ids, PAGE, &mail);
	mail_left = mail.nids == PAGE;
	if (mail.rescan)
		next_full_scan = earliest(next_full_scan, Max(now, full_scan_pause));
	if (mail.lost_min <= mail.lost_max)
	{
		note_lost(mail.lost_min, mail.lost_max);
		dtm_carry_doubt(mail.lost_min, mail.lost_max);
	}
	return mail.nids;
}

/* To be read from the table, as the ring or our memory could not take them. */
static void
note_lost(int64 min, int64 max)
{
	if (lost_min > lost_max)
	{
		lost_min = min;
		lost_max = max;
	}
	else
	{
		lost_min = Min(lost_min, min);
		lost_max = Max(lost_max, max);
	}
}

/*
 * Near the limit, what is due later than in a moment leaves memory. At the
 * limit, so do those that only wait for others, or for a server which does not
 * answer: else the slowest would keep everybody out. New ones wait in the table.
 */
static bool
is_memory_full(DtmTime now)
{
	Size		limit = (Size) dtm_worker_memory * 1024;
	Size		used = dtm_workset_memory();

	if (used < limit / 10 * 8)
		return false;
	if (now >= next_shedding)
	{
		dtm_carry_set_horizon(Min(dtm_carry_horizon(), now + SHORT_HORIZON));
		next_horizon_scan = earliest(next_horizon_scan, now + SHORT_HORIZON / 2);
		if (used >= limit)
			dtm_carry_shed(now, limit / 2);
		else
			dtm_carry_shed_idle(now);
		next_shedding = now + SHEDDING_PAUSE;
	}
	return used >= limit;
}

static void
start_scan(DueScan *scan, DtmTime from, DtmTime until)
{
	scan->active = true;
	scan->cursor.due = from;
	scan->cursor.id = PG_INT64_MAX;
	scan->until = until;
	scan->spent = 0;
}

static void
start_scans(DtmTime now)
{
	if (now >= next_full_scan && !full_scan.active)
	{
		start_scan(&full_scan, DT_NOBEGIN, dtm_carry_horizon());

		/*
		 * It finds what is new. What users have done to those that we hold may
		 * not show in it: one that has ended is in no scan.
		 */
		dtm_carry_doubt(PG_INT64_MIN, PG_INT64_MAX);
		next_full_scan = DTM_NEVER;
	}
	if (now >= next_safety_scan && !safety_scan.active)
	{
		DtmTime		interval = dtm_safety_interval * DTM_MS;

		start_scan(&safety_scan, now - interval - SAFETY_OVERLAP, now);
		next_safety_scan = now + interval;
	}
	if (now >= next_horizon_scan && !horizon_scan.active)
	{
		bool		spare = dtm_workset_memory() < (Size) dtm_worker_memory * 1024 / 2;
		DtmTime		reach = spare ? HORIZON : SHORT_HORIZON;
		DtmTime		from = dtm_carry_horizon();

		if (now + reach > from)
		{
			dtm_carry_set_horizon(now + reach);
			start_scan(&horizon_scan, from, now + reach);
		}
		next_horizon_scan = now + (spare ? HORIZON_STEP : SHORT_HORIZON / 2);
	}
}

static int
read_scan(DueScan *scan, int64 *ids)
{
	DtmTime		began = GetCurrentTimestamp();
	DtmTime		ended;
	int			n;

	n = dtm_store_due(&scan->cursor, scan->until, shard_number,
					  dtm_workers_per_database, ids, PAGE);
	ended = GetCurrentTimestamp();
	scan->spent += ended - began;
	if (n < PAGE)
	{
		scan->active = false;
		if (scan == &full_scan)
		{
			full_scan_pause = ended + FULL_SCAN_SHARE * scan->spent +
				dtm_workset_size() * REREAD_PAUSE;
			next_full_scan = earliest(next_full_scan,
									  Max(ended + FULL_SCAN_INTERVAL,
										  full_scan_pause));
		}
	}
	return n;
}

static int
read_lost(int64 *ids, int max)
{
	/* Those due later were sent back to the table, and are found in time. */
	int			n = dtm_store_range(&lost_min, lost_max, dtm_carry_horizon(),
									shard_number, dtm_workers_per_database,
									ids, max);

	if (n < max)
	{
		lost_min = 1;
		lost_max = 0;
	}
	return n;
}

static int
only_unknown(int64 *ids, int n)
{
	int			unknown = 0;

	for (int i = 0; i < n; i++)
	{
		if (dtm_workset_find(ids[i]) == NULL)
			ids[unknown++] = ids[i];
	}
	return unknown;
}

/*
 * Take these up. If they are too much for one go, in two halves. If they cannot
 * be read, each by itself, so that one damaged row keeps nobody else from being
 * served; the next full scan tries it again. While memory is full, only those
 * that we hold are read again; the others stay in the table for now.
 */
static void
load(int64 *ids, int n)
{
	MemoryContext before = CurrentMemoryContext;
	static DtmLoaded loaded[2 * PAGE];
	volatile int nloaded = 0;
	volatile bool failed = false;
	MemoryContext batch;

	if (dtm_workset_memory() >= (Size) dtm_worker_memory * 1024)
		n = only_known(ids, n);
	if (n == 0)
		return;
	batch = AllocSetContextCreate(dtm_workset_context(), "dtm load",
								  ALLOCSET_SMALL_SIZES);

	PG_TRY();
	{
		dtm_store_begin();
		nloaded = dtm_store_load(ids, n, batch, loaded);
		dtm_store_commit(false);
		DTM_POINT("worker-after-load");
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		dtm_store_abort();
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);

	if (!failed && nloaded >= 0)
	{
		DtmTime		now = GetCurrentTimestamp();

		for (int i = 0; i < nloaded; i++)
		{
			MemoryContextSetParent(loaded[i].context, dtm_workset_context());
			dtm_carry_take(&loaded[i], now);
		}
	}
	MemoryContextDelete(batch);
	if (failed && n > 1)
	{
		for (int i = 0; i < n; i++)
			load(&ids[i], 1);
	}
	else if (!failed && nloaded < 0)
	{
		load(ids, n / 2);
		load(ids + n / 2, n - n / 2);
	}
}

static int
only_known(int64 *ids, int n)
{
	int			known = 0;

	for (int i = 0; i < n; i++)
	{
		int64		id = ids[i];

		if (dtm_workset_find(id) != NULL)
			ids[known++] = id;
		else
			note_lost(id, id);
	}
	return known;
}

/* Our own times are instants of the clock: they come when it comes again. */
static void
clock_was_set_back(DtmTime now)
{
	next_full_scan = now;
	full_scan_pause = now;
	next_safety_scan = now;
	next_horizon_scan = now;
	next_executor_check = now;
	next_retention = now;
	next_check = now;
	next_shedding = now;
	dtm_carry_clock_set_back(now);
	dtm_calls_clock_set_back(now);
}

static void
house_keeping(DtmTime now)
{
	if (now >= next_executor_check)
	{
		dtm_executor_check(now);
		next_executor_check = now + EXECUTOR_CHECK_INTERVAL;
	}
	/* One worker of a database suffices, and only a small step at a time. */
	if (shard_number == 0 && now >= next_retention)
	{
		MemoryContext before = CurrentMemoryContext;

		next_retention = now + dtm_retention_interval * DTM_MS;
		PG_TRY();
		{
			if (dtm_retention_step(now))
				next_retention = now + 50 * DTM_MS;
		}
		PG_CATCH();
		{
			EmitErrorReport();
			FlushErrorState();
			dtm_store_abort();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(before);
	}
}

static void
publish_gauges(void)
{
	dtm_gauge(shard, DTM_COUNT_IN_MEMORY, dtm_workset_size());
	dtm_gauge(shard, DTM_COUNT_IN_FLIGHT, dtm_calls_in_flight());
	dtm_gauge(shard, DTM_COUNT_QUEUED, dtm_calls_queued());
	dtm_gauge(shard, DTM_COUNT_OPEN_CIRCUITS, dtm_calls_open_circuits());
}

static void
wait_for_something(DtmTime now, bool more_to_read)
{
	DtmTime		next = next_check;
	long		timeout;
	WaitEvent	events[4];
	int			nevents;

	if (active)
	{
		long		calls = dtm_calls_timeout(now);

		next = earliest(next, next_safety_scan);
		next = earliest(next, next_full_scan);
		next = earliest(next, next_horizon_scan);
		next = earliest(next, dtm_carry_next_timer());
		next = earliest(next, dtm_carry_next_write());
		if (shard_number == 0)
			next = earliest(next, next_retention);
		if (dtm_calls_in_flight() > 0)
			next = earliest(next, next_executor_check);
		if (calls >= 0)
			next = earliest(next, now + calls * DTM_MS);
	}
	if (more_to_read || (mail_left && !memory_full))
		next = now;
	if (active && memory_full)
		next = earliest(next, now + MEMORY_PAUSE);
	timeout = next <= now ? 0
		: (long) Min((next - now + DTM_MS - 1) / DTM_MS, 3600 * 1000);

	if (timeout > 0)
	{
		char		activity[128];

		if (active)
			snprintf(activity, sizeof(activity),
					 "dtm: %d transactions, %d calls in flight, %d queued",
					 dtm_workset_size(), dtm_calls_in_flight(),
					 dtm_calls_queued());
		pgstat_report_activity(STATE_IDLE, active ? activity : idle_because);
		pgstat_report_stat(false);
	}
	nevents = WaitEventSetWait(wait_set, timeout, events, lengthof(events),
							   PG_WAIT_EXTENSION);
	for (int i = 0; i < nevents; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
}

static DtmTime
earliest(DtmTime a, DtmTime b)
{
	return a < b ? a : b;
}
