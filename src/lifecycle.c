/*
 * lifecycle.c: statements that concern the processes of dtm.
 *
 * A worker is connected to its database all the time, and the extension's
 * tables are its life. Both can be taken away by a statement:
 *
 *	 statement							before it runs		when it is committed
 *	 CREATE EXTENSION					-					look for it
 *	 DROP EXTENSION, also by CASCADE	stop, block			look for it
 *	 ALTER EXTENSION UPDATE				stop, block			look for it
 *	 DROP DATABASE						stop, block			free the slots
 *	 ALTER DATABASE RENAME, TABLESPACE	stop, block			start again
 *	 CREATE DATABASE ... TEMPLATE		stop, block			look at the list
 *	 other ALTER DATABASE				-					look at the list
 *	 COMMIT PREPARED					-					read what it brought
 *
 * The block is in shared memory and lasts until the transaction that stopped
 * the workers has ended, in whatever way: the callback of COMMIT, ABORT and
 * PREPARE takes it away, a backend that exits aborts first, and a crash takes
 * shared memory with it. So rolling back brings the workers back at once.
 *
 * Nothing is lost by stopping a worker at any instant; it is what a crash does.
 * What it must never do is to make a statement fail, or wait for long, that
 * would work without dtm; or to let somebody stop the workers of a database
 * who could not have run the statement.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "debug_point.h"
#include "executor.h"
#include "lifecycle.h"
#include "shmem.h"

/* How long a statement waits for the processes that it stops. */
#define STOP_TIMEOUT_MS 10000
#define SIGNAL_AGAIN_MS 1000

static ProcessUtility_hook_type previous_utility;
static object_access_hook_type previous_object_access;

/* What the end of the current transaction has to do. */
static bool blocking;			/* take our blocks away */
static bool extension_changed;	/* look for it in this database */
static bool databases_changed;	/* look at the list of databases */
static Oid	dropped_database;

static void process_utility(PlannedStmt *pstmt, const char *query,
							bool read_only_tree, ProcessUtilityContext context,
							ParamListInfo params, QueryEnvironment *environment,
							DestReceiver *dest, QueryCompletion *completion);
static void before_statement(Node *statement);
static bool commits_prepared(Node *statement);
static void after_prepared(void);
static bool drops_extension(DropStmt *statement);
static const char *template_of(CreatedbStmt *statement);
static const char *option_value(List *options, const char *name);
static void access_object(ObjectAccessType access, Oid class, Oid object,
						  int sub, void *arg);
static void stop_own_extension(void);
static void stop_extension(void);
static Oid	stop_database(const char *name);
static void stop_processes(Oid database);
static void wait_until_gone(Oid database);
static void at_xact_end(XactEvent event, void *arg);

void
dtm_lifecycle_install(void)
{
	/* Loaded by one session: there are no processes to care about. */
	if (!process_shared_preload_libraries_in_progress)
		return;

	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_object_access = object_access_hook;
	object_access_hook = access_object;
	RegisterXactCallback(at_xact_end, NULL);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest,
				QueryCompletion *completion)
{
	bool		prepared = false;

	switch (nodeTag(pstmt->utilityStmt))
	{
		case T_DropStmt:
		case T_AlterExtensionStmt:
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_RenameStmt:
		case T_AlterDatabaseStmt:
			if (dtm_shmem_ready())
				before_statement(pstmt->utilityStmt);
			break;
		case T_TransactionStmt:
			/* Looked at now: a ROLLBACK may free its own statement. */
			prepared = commits_prepared(pstmt->utilityStmt);
			break;
		default:
			break;
	}

	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params,
						 environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
								environment, dest, completion);

	if (prepared)
		after_prepared();
}

static void
before_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropStmt:
			/*
			 * The object access hook would see this too, but only when the
			 * tables are locked already: not before a long SQL branch ends.
			 */
			if (drops_extension((DropStmt *) statement))
				stop_own_extension();
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) statement)->extname, "dtm") == 0)
				stop_own_extension();
			break;
		case T_CreatedbStmt:
			stop_database(template_of((CreatedbStmt *) statement));
			databases_changed = true;
			break;
		case T_DropdbStmt:
			dropped_database = stop_database(((DropdbStmt *) statement)->dbname);
			databases_changed = true;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				stop_database(((RenameStmt *) statement)->subname);
			break;
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) statement)->options,
							 "tablespace") != NULL)
				stop_database(((AlterDatabaseStmt *) statement)->dbname);
			databases_changed = true;
			break;
		default:
			break;
	}
}

static bool
commits_prepared(Node *statement)
{
	return ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/*
 * It is over when the statement returns. Whatever the prepared transaction had
 * for us was forgotten when it was prepared, perhaps before a restart. It may
 * have begun global transactions; and it may have created the extension.
 */
static void
after_prepared(void)
{
	if (!dtm_shmem_ready())
		return;
	DTM_POINT("backend-after-commit-prepared");
	if (dtm_worker_is_running(MyDatabaseId))
		dtm_shmem_request_rescan(MyDatabaseId);
	else
	{
		/* Not what was there when this statement began. */
		InvalidateCatalogSnapshot();
		if (OidIsValid(get_extension_oid("dtm", true)))
			dtm_launcher_recheck(MyDatabaseId, false);
	}
}

static bool
drops_extension(DropStmt *statement)
{
	ListCell   *cell;

	if (statement->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, statement->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "dtm") == 0)
			return true;
	}
	return false;
}

static const char *
template_of(CreatedbStmt *statement)
{
	const char *name = option_value(statement->options, "template");

	return name != NULL ? name : "template1";
}

static const char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return option->arg != NULL ? defGetString(option) : NULL;
	}
	return NULL;
}

/*
 * Extensions come by CREATE EXTENSION ... CASCADE of others, and go by DROP
 * SCHEMA, DROP OWNED and so on: the utility hook alone would miss that.
 */
static void
access_object(ObjectAccessType access, Oid class, Oid object, int sub,
			  void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, sub, arg);

	if (class != ExtensionRelationId || !dtm_shmem_ready())
		return;
	/* A new one cannot be asked for its name yet; the launcher will look. */
	if (access == OAT_POST_CREATE)
		extension_changed = true;
	else if (access == OAT_DROP && object == get_extension_oid("dtm", true))
		stop_extension();
}

/* Who may not drop it will be told so; the workers go on meanwhile. */
static void
stop_own_extension(void)
{
	Oid			extension = get_extension_oid("dtm", true);

	if (OidIsValid(extension) && dtm_owns_extension(extension, GetUserId()))
		stop_extension();
}

static void
stop_extension(void)
{
	extension_changed = true;
	stop_processes(MyDatabaseId);
}

/* Returns the database's oid when it is one that the user may alter. */
static Oid
stop_database(const char *name)
{
	Oid			database;

	database = get_database_oid(name, true);
	if (!OidIsValid(database) || database == MyDatabaseId ||
		!dtm_owns_database(database, GetUserId()))
		return InvalidOid;
	stop_processes(database);
	return database;
}

/*
 * Order matters: block first, then look for processes. The workers go before
 * the executors, which they would start again.
 */
static void
stop_processes(Oid database)
{
	/* Before the block, so that even an error takes it away again. */
	blocking = true;
	dtm_block_workers(database);
	wait_until_gone(database);
	dtm_executors_stop(database);
}

static void
wait_until_gone(Oid database)
{
	static uint32 wait_event;
	TimestampTz begin = GetCurrentTimestamp();
	TimestampTz signalled = 0;
	long		pause = 1;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		again;

		again = TimestampDifferenceExceeds(signalled, now, SIGNAL_AGAIN_MS);
		if (again)
			signalled = now;
		if (dtm_signal_processes(database, again ? SIGTERM : 0) == 0)
			return;
		if (TimestampDifferenceExceeds(begin, now, STOP_TIMEOUT_MS))
		{
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("processes of dtm in database %u did not end within %d seconds",
							database, STOP_TIMEOUT_MS / 1000),
					 errhint("Look for them in pg_stat_activity, where backend_type begins with \"dtm\".")));
			return;
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pause,
						 dtm_wait_event(&wait_event, "DtmStopProcesses"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause = Min(pause * 2, 50);
	}
}

/*
 * The truth is what is connected, not what our own slots say: a worker that has
 * not attached yet counts, and so does one that hangs after detaching.
 */
int
dtm_signal_processes(Oid database, int signal)
{
	int			n = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		pid_t		pid = proc->pid;
		const char *type;

		/* Without ProcArrayLock: whoever changes now is seen the next time. */
		if (pid == 0 || pid == MyProcPid || proc->databaseId != database)
			continue;
		type = GetBackgroundWorkerTypeByPid(pid);
		if (type == NULL || strncmp(type, "dtm ", 4) != 0)
			continue;
		n++;
		if (signal != 0)
			kill(pid, signal);
	}
	return n;
}

/* Must not fail: the transaction has ended. */
static void
at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (OidIsValid(dropped_database))
				dtm_shmem_forget(dropped_database);
			if (databases_changed)
				dtm_launcher_look();
			if (extension_changed)
				dtm_launcher_recheck(MyDatabaseId, true);
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}

	if (blocking)
		dtm_unblock_workers();
	blocking = false;
	extension_changed = false;
	databases_changed = false;
	dropped_database = InvalidOid;
}
