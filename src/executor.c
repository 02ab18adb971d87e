/*
 * executor.c: the process that runs local SQL branches of one role.
 *
 * It is connected as that role, really: there is no higher identity behind it
 * that a branch's function could go back to. It takes one job after the other
 * from its slot (executor_pool.c), runs each in a transaction of its own
 * (executor_run.c), tells the result, and only then tidies up, so that nobody
 * waits for that.
 *
 * It leaves by itself: when it has been idle for long, when its role has been
 * changed, after some minutes in any case (so that ALTER ROLE ... SET is seen,
 * and what functions leak is given back), when another role needs the slot,
 * or when the worker that gave the last job is gone.
 *
 * It must never keep anything of one job for the next one to see.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "libpq/pqsignal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/portal.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "debug_point.h"
#include "executor.h"
#include "executor_slot.h"
#include "settings.h"

/* A process older than this is replaced by a fresh one. */
#define LIFETIME_MS (10 * 60 * 1000)

static emit_log_hook_type previous_log_hook;
static bool role_changed;

static void become_executor(void);
static void remember_error(ErrorData *edata);
static void note_role_change(Datum arg, int cacheid, uint32 hashvalue);
static void tidy_up(void);

void
dtm_executor_main(Datum arg)
{
	static uint32 wait_event;
	TimestampTz born = GetCurrentTimestamp();

	become_executor();

	for (;;)
	{
		DtmExecutorJob job;
		DtmExecutorResult result;
		DtmExecutorNext next;
		long		wait_ms;
		bool		old;

		ResetLatch(MyLatch);

		/* A cancel that came after the function had ended means nobody. */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		next = dtm_executor_next(&job, &wait_ms);
		if (next == DTM_EXECUTOR_LEAVE)
			proc_exit(0);
		if (next == DTM_EXECUTOR_WAIT)
		{
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 wait_ms,
							 dtm_wait_event(&wait_event, "DtmExecutorIdle"));
			continue;
		}

		DTM_POINT("executor-job-taken");
		dtm_executor_run(&job, &result);
		old = TimestampDifferenceExceeds(born, GetCurrentTimestamp(),
										 LIFETIME_MS);
		dtm_executor_tell(&result, old || role_changed);
		DTM_POINT("executor-result-told");
		tidy_up();
	}
}

static void
become_executor(void)
{
	DtmExecutorArgs args;
	Oid			database;
	Oid			role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	if (!dtm_executor_attach(&args, &database, &role))
		proc_exit(0);

	previous_log_hook = emit_log_hook;
	emit_log_hook = remember_error;
	BackgroundWorkerUnblockSignals();

	/* A reload between our fork and here was not for us to hear: read again. */
	ConfigReloadPending = true;

	dtm_executor_connect(database, role, args.nologin);
	dtm_pin_settings();
	CacheRegisterSyscacheCallback(AUTHOID, note_role_change, (Datum) 0);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Whatever ends this process says why: a role that may not log in or is gone,
 * an administrator's command. The job's result repeats it to the user. (Errors
 * of branches are caught, and never come here.)
 */
static void
remember_error(ErrorData *edata)
{
	if (edata->elevel >= ERROR && edata->message)
	{
		char		text[DTM_MAX_ERROR];
		int			length = strlen(edata->message);

		if (length >= sizeof(text) - 20)
			length = pg_mbcliplen(edata->message, length, sizeof(text) - 20);
		snprintf(text, sizeof(text), "executor ended: %.*s",
				 length, edata->message);
		dtm_executor_last_words(text);
	}
	if (previous_log_hook)
		previous_log_hook(edata);
}

static void
note_role_change(Datum arg, int cacheid, uint32 hashvalue)
{
	role_changed = true;
}

/*
 * Undo what a function can leave behind in a session. Most leave nothing, so
 * what costs something without anything to undo is asked for first.
 *
 * RESET ALL leaves out who one is. It brings pinned settings back to what they
 * were pinned to.
 */
static void
tidy_up(void)
{
	StartTransactionCommand();

	PortalHashTableDeleteAll();
	if (GetSessionUserId() != GetAuthenticatedUserId())
		SetPGVariable("session_authorization", NIL, false);
	if (OidIsValid(GetCurrentRoleId()))
		SetConfigOption("role", "none", PGC_USERSET, PGC_S_SESSION);
	ResetAllOptions();
	DropAllPreparedStatements();
	Async_UnlistenAll();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetTempTableNamespace();
	ResetSequenceCaches();

	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}
