/*
 * launcher.c: keeps a worker running for every shard of every database that has
 * the extension.
 *
 * Connected to the shared catalogs only, so it is in nobody's way. It learns
 * of databases from pg_database, and whether one has the extension from a
 * probe: a process that connects, looks, answers in shared memory and ends.
 * What it has learned it remembers until something is said to have changed
 * (lifecycle.c), a worker ends, or, rarely, because a hint can be missed.
 *
 *	 unknown	nothing runs, or something ended		probe as soon as possible
 *	 absent		no extension, or one of another version	probe again, rarely
 *	 present	it has the extension					keep its workers running
 *
 * All it knows is in its own memory, and can be lost at any instant:
 *
 *	 killed before a worker is registered	its successor starts it;
 *	 killed after that						its successor sees the shard's slot,
 *											or starts a second worker, which
 *											finds the shard locked and ends;
 *	 killed while a probe runs				the late answer carries a ticket
 *											that is no longer valid.
 *
 * It must never wait for a worker, a probe or a backend, nor raise an error
 * because one of them failed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "debug_point.h"
#include "launcher.h"
#include "lifecycle.h"
#include "settings.h"
#include "shmem.h"
#include "worker.h"

#define FIRST_PAUSE_MS 1000
#define LONGEST_PAUSE_MS 60000
#define GOOD_LIFE_MS 60000		/* a worker that lived so long begins anew */
#define REPROBE_FACTOR 10		/* times dtm.launcher_interval */

typedef enum Knowledge
{
	UNKNOWN,
	ABSENT,
	PRESENT
} Knowledge;

/* When something that keeps failing may be tried again. */
typedef struct Backoff
{
	TimestampTz not_before;
	int			pause;			/* ms; 0: it has not failed yet */
} Backoff;

typedef struct Worker
{
	BackgroundWorkerHandle *handle; /* NULL: none that we started */
	TimestampTz started;
	bool		forgiven;		/* we know why it ends: no pause for that */
	Backoff		backoff;
} Worker;

typedef struct Database
{
	Oid			oid;			/* hash key */
	bool		listed;			/* may have workers, says pg_database */
	bool		hurried;		/* somebody waits for it: before others */
	bool		refused;		/* it was logged that there is no room */
	Knowledge	known;
	int			probe;			/* index of its probe; -1: none */
	bool		probe_outdated; /* it may have looked before the change */
	Backoff		probe_backoff;
	TimestampTz probe_again;	/* while it is absent */
	Worker		worker[FLEXIBLE_ARRAY_MEMBER];	/* one a shard */
} Database;

typedef struct Launcher
{
	HTAB	   *databases;
	BackgroundWorkerHandle *probe[DTM_MAX_PROBES];	/* NULL: free */
	TimestampTz now;
	TimestampTz next_scan;
	TimestampTz wake;			/* the earliest thing to do */
	bool		slots_missing;	/* ... and it was logged */
} Launcher;

/* What a probe is told. */
typedef struct ProbeArgs
{
	Oid			database;
	int32		index;
	uint32		ticket;
} ProbeArgs;

static Launcher launcher;

static void loop(void);
static void receive(void);
static void recheck(Database *database, bool at_once);
static void scan_databases(void);
static List *list_databases(MemoryContext context);
static bool may_have_workers(Form_pg_database row);
static Database *enter_database(Oid oid);
static void forget_unlisted(void);
static void manage(Database *database);
static void reap(Database *database);
static void reap_probe(Database *database);
static void reap_workers(Database *database);
static void start_probe(Database *database);
static void start_workers(Database *database);
static bool has_room(Database *database);
static bool is_in_use(Database *database);
static void start_worker(Database *database, int number);
static bool register_process(BackgroundWorker *what,
							 BackgroundWorkerHandle **handle);
static void describe_process(BackgroundWorker *what, const char *type,
							 const char *function);
static bool is_time(Backoff *backoff);
static void back_off(Backoff *backoff);
static void forgive(Backoff *backoff);
static void wake_at(TimestampTz when);
static DtmProbeAnswer look_for_extension(void);

void
dtm_launcher_register(void)
{
	BackgroundWorker what;

	/* Nothing may touch what pg_upgrade is moving. */
	if (IsBinaryUpgrade)
		return;

	describe_process(&what, "dtm launcher", "dtm_launcher_main");
	what.bgw_restart_time = 1;
	what.bgw_notify_pid = 0;
	RegisterBackgroundWorker(&what);
}

void
dtm_launcher_main(Datum arg)
{
	HASHCTL		control;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	/* A reload between our fork and here was not for us to hear: read again. */
	ConfigReloadPending = true;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("dtm launcher");

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(Oid);
	control.entrysize = offsetof(Database, worker) +
		dtm_workers_per_database * sizeof(Worker);
	control.hcxt = TopMemoryContext;
	launcher.databases = hash_create("dtm databases", 64, &control,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	dtm_launcher_attach();
	loop();
}

static void
loop(void)
{
	static uint32 wait_event;

	for (;;)
	{
		HASH_SEQ_STATUS all;
		Database   *database;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			launcher.next_scan = 0;
		}

		launcher.now = GetCurrentTimestamp();
		receive();
		if (launcher.now >= launcher.next_scan)
			scan_databases();

		launcher.wake = launcher.next_scan;
		/* Twice, because only a few can be probed at a time. */
		for (int hurried = 1; hurried >= 0; hurried--)
		{
			hash_seq_init(&all, launcher.databases);
			while ((database = hash_seq_search(&all)) != NULL)
			{
				if (database->hurried == (hurried == 1))
					manage(database);
			}
		}
		forget_unlisted();

		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														 launcher.wake),
						 dtm_wait_event(&wait_event, "DtmLauncherMain"));
	}
}

static void
receive(void)
{
	DtmRecheck	asked[DTM_MAX_RECHECKS];
	bool		look;
	bool		recheck_all;
	int			n;

	n = dtm_launcher_receive(asked, &look, &recheck_all);
	for (int i = 0; i < n; i++)
	{
		Database   *database = hash_search(launcher.databases,
										   &asked[i].database, HASH_FIND, NULL);

		if (database != NULL)
			recheck(database, asked[i].at_once);
		else
			look = true;		/* a new one, or gone */
	}
	if (recheck_all)
	{
		HASH_SEQ_STATUS all;
		Database   *database;

		hash_seq_init(&all, launcher.databases);
		while ((database = hash_seq_search(&all)) != NULL)
			recheck(database, true);
		look = true;
	}
	if (look)
		launcher.next_scan = 0;
}

static void
recheck(Database *database, bool at_once)
{
	database->probe_outdated = database->probe >= 0;
	if (database->known == ABSENT || at_once)
	{
		database->known = UNKNOWN;
		database->hurried = true;
	}
	if (!at_once)
		return;

	forgive(&database->probe_backoff);
	for (int i = 0; i < dtm_workers_per_database; i++)
	{
		Worker	   *worker = &database->worker[i];

		forgive(&worker->backoff);
		/* Stopped by the statement that we hear of, but not reaped yet? */
		worker->forgiven = true;
	}
}

/*
 * Databases
 */

static void
scan_databases(void)
{
	MemoryContext context;
	HASH_SEQ_STATUS all;
	Database   *database;
	List	   *oids;
	ListCell   *cell;

	context = AllocSetContextCreate(TopMemoryContext, "dtm database list",
									ALLOCSET_SMALL_SIZES);
	pgstat_report_activity(STATE_RUNNING, "looking for databases");
	oids = list_databases(context);

	hash_seq_init(&all, launcher.databases);
	while ((database = hash_seq_search(&all)) != NULL)
		database->listed = false;
	foreach(cell, oids)
		enter_database(lfirst_oid(cell))->listed = true;

	MemoryContextDelete(context);
	launcher.next_scan = TimestampTzPlusMilliseconds(launcher.now,
													 dtm_launcher_interval);
}

static List *
list_databases(MemoryContext context)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *oids = NIL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();

	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (may_have_workers(row))
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			oids = lappend_oid(oids, row->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);

	CommitTransactionCommand();
	return oids;
}

static bool
may_have_workers(Form_pg_database row)
{
	/* A process in a template would be in the way of CREATE DATABASE. */
	if (row->datistemplate || !row->datallowconn)
		return false;
	/* What an interrupted DROP DATABASE leaves; unnamed in early minor versions. */
	return row->datconnlimit != -2;
}

static Database *
enter_database(Oid oid)
{
	bool		found;
	Database   *database = hash_search(launcher.databases, &oid, HASH_ENTER,
									   &found);

	if (!found)
	{
		memset((char *) database + sizeof(Oid), 0,
			   offsetof(Database, worker) - sizeof(Oid) +
			   dtm_workers_per_database * sizeof(Worker));
		database->probe = -1;
	}
	return database;
}

static void
forget_unlisted(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;

	hash_seq_init(&all, launcher.databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		if (!database->listed && database->probe < 0 && !is_in_use(database))
			hash_search(launcher.databases, &database->oid, HASH_REMOVE, NULL);
	}
}

/*
 * One database
 */

static void
manage(Database *database)
{
	reap(database);

	if (!database->listed)
	{
		/* It has become a template, or refuses connections. */
		(void) dtm_signal_processes(database->oid, SIGTERM);
		return;
	}
	/* Whoever blocks it says so when that is over. */
	if (dtm_workers_are_blocked(database->oid))
		return;

	switch (database->known)
	{
		case ABSENT:
			if (launcher.now < database->probe_again)
			{
				wake_at(database->probe_again);
				break;
			}
			/* FALLTHROUGH */
		case UNKNOWN:
			start_probe(database);
			break;
		case PRESENT:
			start_workers(database);
			break;
	}
}

static void
reap(Database *database)
{
	if (database->probe >= 0)
		reap_probe(database);
	reap_workers(database);
}

static void
reap_probe(Database *database)
{
	BackgroundWorkerHandle **handle = &launcher.probe[database->probe];
	DtmProbeAnswer answer;
	pid_t		pid;

	if (GetBackgroundWorkerPid(*handle, &pid) != BGWH_STOPPED)
		return;
	answer = dtm_probe_result(database->probe);
	pfree(*handle);
	*handle = NULL;
	database->probe = -1;
	if (database->probe_outdated)
	{
		database->probe_outdated = false;
		return;
	}

	switch (answer)
	{
		case DTM_PROBE_PRESENT:
			database->known = PRESENT;
			forgive(&database->probe_backoff);
			break;
		case DTM_PROBE_OTHER_VERSION:
		case DTM_PROBE_ABSENT:
			database->known = ABSENT;
			database->hurried = false;
			forgive(&database->probe_backoff);
			database->probe_again =
				TimestampTzPlusMilliseconds(launcher.now,
											(int64) dtm_launcher_interval *
											REPROBE_FACTOR);
			/* Should be so already; say, the drop had been prepared. */
			(void) dtm_signal_processes(database->oid, SIGTERM);
			break;
		case DTM_PROBE_NONE:
			/* It could not connect, or was stopped. */
			back_off(&database->probe_backoff);
			break;
	}
}

static void
reap_workers(Database *database)
{
	for (int i = 0; i < dtm_workers_per_database; i++)
	{
		Worker	   *worker = &database->worker[i];
		pid_t		pid;

		if (worker->handle == NULL ||
			GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
			continue;
		pfree(worker->handle);
		worker->handle = NULL;

		if (TimestampDifferenceExceeds(worker->started, launcher.now,
									   GOOD_LIFE_MS))
			forgive(&worker->backoff);
		if (!worker->forgiven)
			back_off(&worker->backoff);
		/* Why did it end? Perhaps the extension is gone. */
		if (database->known == PRESENT)
			database->known = UNKNOWN;
	}
}

static void
start_probe(Database *database)
{
	BackgroundWorker what;
	ProbeArgs	args;
	int			i;

	if (database->probe >= 0 || !is_time(&database->probe_backoff))
		return;
	for (i = 0; i < DTM_MAX_PROBES; i++)
	{
		if (launcher.probe[i] == NULL)
			break;
	}
	if (i == DTM_MAX_PROBES)
		return;					/* the end of one of them wakes us */

	args.database = database->oid;
	args.index = i;
	args.ticket = dtm_probe_reset(i);
	describe_process(&what, "dtm probe", "dtm_probe_main");
	memcpy(what.bgw_extra, &args, sizeof(args));
	if (register_process(&what, &launcher.probe[i]))
		database->probe = i;
	else
		back_off(&database->probe_backoff);
}

static void
start_workers(Database *database)
{
	if (!has_room(database))
		return;
	for (int i = 0; i < dtm_workers_per_database; i++)
	{
		Worker	   *worker = &database->worker[i];

		if (worker->handle != NULL || !is_time(&worker->backoff))
			continue;
		/* One that an earlier launcher started; its end wakes us. */
		if (dtm_shard_is_running(database->oid, i))
			continue;
		start_worker(database, i);
	}
	database->hurried = false;
}

static bool
has_room(Database *database)
{
	HASH_SEQ_STATUS all;
	Database   *other;
	int			others = 0;

	hash_seq_init(&all, launcher.databases);
	while ((other = hash_seq_search(&all)) != NULL)
	{
		if (other != database && is_in_use(other))
			others++;
	}
	if (others < dtm_max_databases)
	{
		database->refused = false;
		return true;
	}

	if (!database->refused)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("dtm cannot start workers for database %u: %d other databases have them",
						database->oid, others),
				 errhint("Increase \"dtm.max_databases\" and restart the server.")));
	database->refused = true;
	return false;
}

/* Does it have, or is it about to have, a worker? */
static bool
is_in_use(Database *database)
{
	for (int i = 0; i < dtm_workers_per_database; i++)
	{
		if (database->worker[i].handle != NULL ||
			dtm_shard_is_running(database->oid, i))
			return true;
	}
	return false;
}

static void
start_worker(Database *database, int number)
{
	Worker	   *worker = &database->worker[number];
	BackgroundWorker what;
	DtmWorkerArgs args;

	memset(&args, 0, sizeof(args));
	args.database = database->oid;
	args.shard = number;
	describe_process(&what, "dtm worker", "dtm_worker_main");
	memcpy(what.bgw_extra, &args, sizeof(args));

	DTM_POINT("launcher-before-start");
	if (register_process(&what, &worker->handle))
	{
		worker->started = launcher.now;
		worker->forgiven = false;
	}
	else
		back_off(&worker->backoff);
	DTM_POINT("launcher-after-start");
}

/*
 * Processes
 */

static bool
register_process(BackgroundWorker *what, BackgroundWorkerHandle **handle)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		registered = RegisterDynamicBackgroundWorker(what, handle);

	MemoryContextSwitchTo(old);
	if (registered)
		launcher.slots_missing = false;
	else
	{
		*handle = NULL;
		if (!launcher.slots_missing)
			ereport(LOG,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("dtm cannot start its processes: no background worker slot is free"),
					 errhint("Increase \"max_worker_processes\" and restart the server.")));
		launcher.slots_missing = true;
	}
	return registered;
}

static void
describe_process(BackgroundWorker *what, const char *type,
				 const char *function)
{
	memset(what, 0, sizeof(*what));
	snprintf(what->bgw_name, BGW_MAXLEN, "%s", type);
	snprintf(what->bgw_type, BGW_MAXLEN, "%s", type);
	what->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	what->bgw_start_time = BgWorkerStart_RecoveryFinished;
	what->bgw_restart_time = BGW_NEVER_RESTART;
	/* The size of the library's name differs between versions. */
	snprintf(what->bgw_library_name, sizeof(what->bgw_library_name), "dtm");
	snprintf(what->bgw_function_name, BGW_MAXLEN, "%s", function);
	what->bgw_notify_pid = MyProcPid;
}

static bool
is_time(Backoff *backoff)
{
	if (launcher.now >= backoff->not_before)
		return true;
	wake_at(backoff->not_before);
	return false;
}

static void
back_off(Backoff *backoff)
{
	backoff->pause = backoff->pause == 0 ? FIRST_PAUSE_MS :
		Min(backoff->pause * 2, LONGEST_PAUSE_MS);
	backoff->not_before = TimestampTzPlusMilliseconds(launcher.now,
													  backoff->pause);
	wake_at(backoff->not_before);
}

static void
forgive(Backoff *backoff)
{
	backoff->not_before = 0;
	backoff->pause = 0;
}

static void
wake_at(TimestampTz when)
{
	launcher.wake = Min(launcher.wake, when);
}

/*
 * The probe's process
 */

void
dtm_probe_main(Datum arg)
{
	ProbeArgs	args;
	DtmProbeAnswer answer;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, InvalidOid, 0);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	answer = look_for_extension();
	CommitTransactionCommand();

	dtm_probe_answer(args.index, args.ticket, answer);
	proc_exit(0);
}

static DtmProbeAnswer
look_for_extension(void)
{
	DtmProbeAnswer answer = DTM_PROBE_ABSENT;
	Relation	relation;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("dtm"));
	relation = table_open(ExtensionRelationId, AccessShareLock);
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		char	   *version;

		version = TextDatumGetCString(heap_getattr(tuple,
												   Anum_pg_extension_extversion,
												   RelationGetDescr(relation),
												   &isnull));
		answer = DTM_PROBE_PRESENT;
		if (strcmp(version, DTM_SQL_VERSION) != 0)
		{
			answer = DTM_PROBE_OTHER_VERSION;
			ereport(LOG,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"dtm\" has version %s in this database, but its library serves version %s",
							version, DTM_SQL_VERSION),
					 errhint("Run ALTER EXTENSION dtm UPDATE in database %u.",
							 MyDatabaseId)));
		}
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return answer;
}
