/*
 * api_control.c: what can be asked of a global transaction that exists:
 * submit, abort, retry_now, force_stop, and submitting with the outcome.
 *
 * A command changes the row in the caller's own transaction, on the condition
 * that its status is still what it was when the command was judged, and looks
 * again when it is not. Commands that are repeated find nothing to do: they
 * lock nothing, so that an idle session never stands in the worker's way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_common.h"
#include "api_wait.h"
#include "debug_point.h"
#include "decide.h"
#include "pending.h"

PG_FUNCTION_INFO_V1(dtm_submit);
PG_FUNCTION_INFO_V1(dtm_submit_and_wait);
PG_FUNCTION_INFO_V1(dtm_abort);
PG_FUNCTION_INFO_V1(dtm_retry_now);
PG_FUNCTION_INFO_V1(dtm_force_stop);

typedef enum Command
{
	SUBMIT,
	ABORT,
	RETRY_NOW,
	FORCE_STOP
} Command;

typedef enum Verdict
{
	NOTHING_TO_DO,				/* it has been asked for before */
	CHANGE,
	ILLEGAL
} Verdict;

static const char *const command_names[] = {
	[SUBMIT] = "submit",
	[ABORT] = "abort",
	[RETRY_NOW] = "retry",
	[FORCE_STOP] = "stop"
};

static int64 carry_out(Command command, text *gid, const char *reason);
DTM_NORETURN static void is_for_its_client(Command command, const text *gid);
static Verdict judge(Command command, const DtmFound *found);
static bool has_just_ended(const text *gid, const DtmFound *found);
static bool ends(Command command, const DtmFound *found);
static uint64 change(Command command, const DtmFound *found,
					 const char *reason);
static text *given_gid(FunctionCallInfo fcinfo);
static char *given_reason(FunctionCallInfo fcinfo);

Datum
dtm_submit(PG_FUNCTION_ARGS)
{
	carry_out(SUBMIT, given_gid(fcinfo), NULL);
	PG_RETURN_VOID();
}

Datum
dtm_abort(PG_FUNCTION_ARGS)
{
	carry_out(ABORT, given_gid(fcinfo), given_reason(fcinfo));
	PG_RETURN_VOID();
}

Datum
dtm_retry_now(PG_FUNCTION_ARGS)
{
	carry_out(RETRY_NOW, given_gid(fcinfo), given_reason(fcinfo));
	PG_RETURN_VOID();
}

Datum
dtm_force_stop(PG_FUNCTION_ARGS)
{
	carry_out(FORCE_STOP, given_gid(fcinfo), given_reason(fcinfo));
	PG_RETURN_VOID();
}

/*
 * CALL submit(gid, wait_result, timeout): submit, commit, wait.
 *
 * The commit is what lets the worker begin; while we sleep, no snapshot and no
 * lock of ours is left. Inside a transaction block there can be no commit, so
 * there it is refused before anything happens.
 */
Datum
dtm_submit_and_wait(PG_FUNCTION_ARGS)
{
	bool		nonatomic = fcinfo->context != NULL &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	bool		wait_result = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	Interval   *timeout = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	int64		timeout_us = dtm_wait_timeout(timeout);
	MemoryContext caller = CurrentMemoryContext;
	text	   *gid;
	int64		id;
	DtmOutcome	outcome;

	if (!wait_result)
	{
		carry_out(SUBMIT, given_gid(fcinfo), NULL);
		return (Datum) 0;
	}
	if (!nonatomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("dtm.submit cannot wait for the result inside a transaction"),
				 errdetail("Branches are called after the commit, so it would wait for ever."),
				 errhint("Call it outside a transaction block, or commit first and use dtm.wait(gid).")));

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	gid = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(given_gid(fcinfo)));
	id = carry_out(SUBMIT, gid, NULL);
	SPI_commit();

	/*
	 * In the other levels the first snapshot would be kept until the end, and
	 * keep vacuum from its work as long as we sleep.
	 */
	XactIsoLevel = XACT_READ_COMMITTED;
	/* The outcome must outlive SPI, which frees what is its own. */
	MemoryContextSwitchTo(caller);
	outcome = dtm_wait_for(gid, id, timeout_us);
	SPI_finish();

	switch (outcome.status)
	{
		case DTM_SUCCEED:
			break;
		case DTM_FAILED:
			ereport(ERROR,
					(errcode(ERRCODE_DTM_REFUSED),
					 errmsg("global transaction failed: %s",
							outcome.reason != NULL ? outcome.reason : "no reason is recorded"),
					 errhint("dtm.query(gid) shows what each branch answered.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_DTM_ONGOING),
					 errmsg("global transaction has not finished in time: it is %s",
							dtm_status_name(outcome.status)),
					 errhint("It goes on. Ask for its outcome with dtm.wait(gid) or dtm.status(gid).")));
	}
	return (Datum) 0;
}

static int64
carry_out(Command command, text *gid, const char *reason)
{
	DtmApi		api;
	DtmFound	found;

	dtm_api_begin(&api);
	for (;;)
	{
		Verdict		verdict;

		dtm_api_must_find(&api, gid, DTM_RIGHT_OWN, DTM_LOOK_STATEMENT, &found);
		if (found.mode == DTM_WORKFLOW && (command == SUBMIT || command == ABORT))
			is_for_its_client(command, gid);
		verdict = judge(command, &found);
		if (verdict == NOTHING_TO_DO)
			break;
		if (verdict == ILLEGAL && command == RETRY_NOW &&
			has_just_ended(gid, &found))
			break;
		if (verdict == ILLEGAL)
			dtm_illegal(command_names[command], gid, found.status);
		if (change(command, &found, reason) > 0)
		{
			DTM_POINT("backend-command-written");
			if (ends(command, &found))
				dtm_pending_ended(found.id, DTM_FAILED, found.created_at);
			else
				dtm_pending_add(found.id);
			if (command == SUBMIT)
				dtm_notice_if_idle();
			else
				dtm_log_command(api.user, command_names[command], gid, reason);
			break;
		}
		/* It has changed between the two statements. */
		CHECK_FOR_INTERRUPTS();
	}
	dtm_api_end(&api);
	return found.id;
}

/* How a workflow has ended is known to those who run it, and to nobody else. */
static void
is_for_its_client(Command command, const text *gid)
{
	ereport(ERROR,
			(errcode(ERRCODE_DTM_ILLEGAL),
			 errmsg("cannot %s global transaction \"%s\": it is a workflow",
					command_names[command], text_to_cstring(gid)),
			 errhint("Its client ends it with dtm.workflow_finish(gid, 'succeed' or 'failed'). To give it up: SELECT dtm.force_stop(gid, reason).")));
}

/* The table of semantics: what a command means in which status. */
static Verdict
judge(Command command, const DtmFound *found)
{
	switch (command)
	{
		case SUBMIT:
			/* Started with its tries, it is submitted when they are done. */
			if (found->status == DTM_PREPARED)
				return found->driven ? NOTHING_TO_DO : CHANGE;
			return found->status == DTM_SUBMITTED ||
				found->status == DTM_SUCCEED ? NOTHING_TO_DO : ILLEGAL;

		case ABORT:
			if (found->status == DTM_PREPARED)
				return CHANGE;
			if (found->status == DTM_SUBMITTED && found->mode == DTM_SAGA)
				return CHANGE;
			return found->status == DTM_ABORTING ||
				found->status == DTM_FAILED ? NOTHING_TO_DO : ILLEGAL;

		case RETRY_NOW:
			if (found->status == DTM_PREPARED)
				return found->driven || found->can_be_asked ||
					found->mode == DTM_WORKFLOW ? CHANGE : ILLEGAL;
			return found->status == DTM_SUBMITTED ||
				found->status == DTM_ABORTING ||
				found->ending_pending ? CHANGE : ILLEGAL;

		case FORCE_STOP:
			/*
			 * A statement that does not succeed can be given up, too; but to
			 * stop once more what was stopped does not take its ending away.
			 */
			if (!dtm_status_is_final(found->status) || found->ending_stuck)
				return CHANGE;
			return found->status == DTM_FAILED ? NOTHING_TO_DO : ILLEGAL;
	}
	return ILLEGAL;
}

/*
 * A statement over thousands shall not fail because one of them succeeds while
 * it runs. Only for retry_now: whoever stops or aborts must know that it did
 * not happen.
 */
static bool
has_just_ended(const text *gid, const DtmFound *found)
{
	if (!dtm_status_is_final(found->status) || !dtm_api_was_unfinished(gid))
		return false;
	ereport(NOTICE,
			(errmsg("global transaction \"%s\" has ended meanwhile: it is %s",
					text_to_cstring(gid), dtm_status_name(found->status))));
	return true;
}

/* Does it have its final status by this? It was judged to be a change. */
static bool
ends(Command command, const DtmFound *found)
{
	switch (command)
	{
		case ABORT:
			/* Only what nobody was called for can end at once. */
			return found->status == DTM_PREPARED &&
				(found->mode == DTM_SAGA || found->mode == DTM_MSG);
		case FORCE_STOP:
			return !dtm_status_is_final(found->status);
		case SUBMIT:
		case RETRY_NOW:
			return false;
	}
	return false;
}

static uint64
change(Command command, const DtmFound *found, const char *reason)
{
	Datum		id = Int64GetDatum(found->id);
	Datum		from = CharGetDatum(found->status);
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());

	switch (command)
	{
		case SUBMIT:
			{
				Datum		values[] = {id, now};

				return dtm_api_lookup(DTM_PLAN_SUBMIT, values, NULL);
			}
		case ABORT:
			{
				bool		fails = ends(command, found);
				Datum		to = CharGetDatum(fails ? DTM_FAILED : DTM_ABORTING);
				Datum		why = CStringGetTextDatum(reason != NULL ? reason :
													  "aborted by its user");
				Datum		values[] = {id, from, to, now, now, why};

				return dtm_api_lookup(DTM_PLAN_ABORT, values,
									  fails ? NULL : "    n ");
			}
		case RETRY_NOW:
			{
				Datum		values[] = {id, from, now};

				return dtm_api_lookup(DTM_PLAN_RETRY_NOW, values, NULL);
			}
		case FORCE_STOP:
			{
				Datum		why = CStringGetTextDatum(reason != NULL ? reason :
													  "stopped by force");
				Datum		values[] = {id, from, now, why};

				return dtm_api_lookup(dtm_status_is_final(found->status) ?
									  DTM_PLAN_GIVE_UP_ENDING :
									  DTM_PLAN_FORCE_STOP, values, NULL);
			}
	}
	return 0;
}

bool
dtm_write_outcome(const DtmFound *found, DtmStatus outcome, const char *reason)
{
	Datum		values[5] = {
		Int64GetDatum(found->id), CharGetDatum(found->status),
		CharGetDatum(outcome), TimestampTzGetDatum(GetCurrentTimestamp()),
		(Datum) 0
	};

	if (reason != NULL)
		values[4] = CStringGetTextDatum(reason);
	if (dtm_api_lookup(DTM_PLAN_FINISH, values,
					   reason == NULL ? "    n" : NULL) == 0)
		return false;
	DTM_POINT("backend-command-written");
	dtm_pending_ended(found->id, outcome, found->created_at);
	return true;
}

/* Who has interfered, when: for those who look into it later. */
void
dtm_log_command(Oid user, const char *command, const text *gid,
				const char *reason)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	values[0] = CStringGetTextDatum(GetUserNameFromId(user, false));
	values[1] = CStringGetTextDatum(command);
	values[2] = PointerGetDatum(gid);
	nulls[2] = gid != NULL ? ' ' : 'n';
	values[3] = (Datum) 0;
	if (reason != NULL)
		values[3] = CStringGetTextDatum(reason);
	nulls[3] = reason != NULL ? ' ' : 'n';
	(void) dtm_api_run(DTM_PLAN_LOG, values, nulls);
}

static text *
given_gid(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("The view dtm.transactions lists your global transactions.")));
	return PG_GETARG_TEXT_PP(0);
}

/* People read it: as much as they would. */
static char *
given_reason(FunctionCallInfo fcinfo)
{
	text	   *reason;

	if (PG_ARGISNULL(1))
		return NULL;
	reason = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(reason) > DTM_MAX_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason: has %d bytes, the limit is %d",
						(int) VARSIZE_ANY_EXHDR(reason), DTM_MAX_ERROR),
				 errhint("Say it shorter.")));
	return text_to_cstring(reason);
}
