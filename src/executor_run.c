/*
 * executor_run.c: one op of a local SQL branch, in one transaction.
 *
 * The branch's effect and the op's row "it has succeeded" are one commit, so
 * the effect happens exactly once, whoever is killed and whoever asks again:
 *
 *	 killed before the commit	nothing has happened; the op is run again;
 *	 killed after it			the op's row says so; whoever asks again is
 *								told "success" without a call.
 *
 * All jobs of one branch follow each other, by a lock that is taken before the
 * transaction's first snapshot and held until its end. So each job sees, at
 * every isolation level, all that earlier ones of the same branch have done:
 *
 *	 the same op once more		(a worker that was restarted asks again while
 *								the old job still runs) finds the op's row;
 *	 an action that comes late	finds that its transaction is no longer
 *								submitted: that was durable before anything was
 *								compensated. It does not run; nor does a try
 *								once its transaction is no longer prepared;
 *	 a compensation				finds whether the action has committed. If not,
 *	 or a cancel				there is nothing to undo, and by the line above
 *								there never will be: success without a call.
 *								Only if the action, the try, was ours to call.
 *
 * The op's row is written last, after deferred triggers have run, so its lock
 * is held for no longer than a commit. User's code can run even there: a cursor
 * WITH HOLD is filled by the commit, so what is left of them is closed; a trigger
 * may defer itself again. So the timeout holds until all such code has ended,
 * just before the commit record is written. The worker, which writes rows of
 * failed attempts (and leaves alone what has succeeded), waits for this lock
 * only a moment (carry_write.c).
 *
 * The function runs with the identity that the process really has; only the
 * statements on dtm's own tables are lifted above it, one by one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "api_common.h"
#include "branch_context.h"
#include "debug_point.h"
#include "decide.h"
#include "executor.h"
#include "executor_result.h"
#include "executor_slot.h"
#include "executor_tables.h"
#include "placeholder.h"

#define SQL_SCHEME "sql:"

/* Tells our lock tags from those of pg_advisory_lock and of the shards. */
#define BRANCH_LOCK_FIELD4 0xD8

/* Serialization failures and deadlocks are tried again at once, so often. */
#define MAX_TRIES 5

/* Addresses whose calls are kept prepared. */
#define MAX_PLANS 32

/* What the tables say about the branch, under its lock. */
typedef struct BranchState
{
	DtmMode		mode;
	DtmStatus	status;
	Oid			owner;
	bool		driven;			/* its tries are ours */
	const char *gid;
	const char *branch_id;
	const char *traceparent;	/* "": none */
	const char *address[DTM_PHASES];
	DtmOpStatus op_status[DTM_PHASES];
	bytea	   *payload;		/* NULL: empty */
	bool		uses_results;	/* the payload has placeholders */
	Jsonb	   *filled_payload; /* then: what it is with them filled in */
	bool		keep_result;
	bytea	   *result;			/* NULL: none */
	char		result_note[DTM_MAX_ERROR]; /* why it is not kept; "" */
} BranchState;

typedef enum Verdict
{
	VERDICT_CALL,				/* and record its success */
	VERDICT_RECORD,				/* success without a call */
	VERDICT_ANSWER				/* the result is there already */
} Verdict;

typedef struct CallPlan
{
	char	   *address;
	SPIPlanPtr	plan;
} CallPlan;

DtmBranchContext DtmCurrentBranch;

static CallPlan call_plans[MAX_PLANS];
static int	ncall_plans;

static void end_timeout(XactEvent event, void *arg);
static int	run_once(const DtmExecutorJob *job, TimestampTz deadline,
					 DtmExecutorResult *result);
static bool run_branch(const DtmExecutorJob *job, DtmExecutorResult *result);
static void lock_branch(const DtmExecutorJob *job);
static void read_branch(const DtmExecutorJob *job, BranchState *state);
static const char *text_column(int column);
static char char_column(int column, char if_null);
static Verdict judge(const DtmExecutorJob *job, const BranchState *state,
					 DtmExecutorResult *result);
static DtmStatus status_for(const DtmExecutorJob *job, const BranchState *state);
static bool has_nothing_to_undo(const BranchState *state);
static Verdict refuse(DtmExecutorResult *result, const char *fmt,...) pg_attribute_printf(2, 3);
static Verdict fill_payload(const DtmExecutorJob *job, BranchState *state,
							DtmExecutorResult *result);
static void call_function(const DtmExecutorJob *job, BranchState *state);
static SPIPlanPtr call_plan(const char *address);
static char *call_text(const char *address);
static Datum payload_as_jsonb(bytea *payload);
static void record_success(const DtmExecutorJob *job,
						   const BranchState *state);
static void translate_error(const ErrorData *edata, const DtmExecutorJob *job,
							TimestampTz deadline, DtmExecutorResult *result);
static bool is_transient(int sqlstate);

void
dtm_executor_run(const DtmExecutorJob *job, DtmExecutorResult *result)
{
	static bool prepared = false;
	TimestampTz deadline = 0;
	int			sqlstate;
	int			tries = 0;

	if (!prepared)
	{
		RegisterXactCallback(end_timeout, NULL);
		prepared = true;
	}
	if (job->timeout_ms > 0)
		deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   Min(job->timeout_ms, INT_MAX));
	do
	{
		memset(result, 0, sizeof(*result));
		sqlstate = run_once(job, deadline, result);
	} while (is_transient(sqlstate) && ++tries < MAX_TRIES &&
			 (deadline == 0 || GetCurrentTimestamp() < deadline));
}

/*
 * No more code of a user runs in this transaction. A cancel that has come counts
 * as if it had come before; one that comes later would end the wait for a
 * synchronous standby, and so undo what was promised.
 */
static void
end_timeout(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
}

/* Returns 0 or the SQLSTATE of the error that the result describes. */
static int
run_once(const DtmExecutorJob *job, TimestampTz deadline,
		 DtmExecutorResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		bool		committed;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		if (deadline != 0)
			enable_timeout_at(STATEMENT_TIMEOUT, deadline);

		lock_branch(job);
		DTM_POINT("executor-op-locked");
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		committed = job->branch == DTM_ENDING
			? dtm_executor_run_ending(job, result) : run_branch(job, result);

		/*
		 * The next branch, perhaps on another server, is called because of
		 * this effect: it must not be lost, whatever the role has set.
		 */
		if (result->recorded)
			ForceSyncCommit();
		SPI_finish();
		PopActiveSnapshot();

		CHECK_FOR_INTERRUPTS();
		DTM_POINT("executor-before-commit");
		if (committed)
			CommitTransactionCommand();
		else
		{
			disable_timeout(STATEMENT_TIMEOUT, false);
			AbortCurrentTransaction();
		}
		DTM_POINT("executor-after-commit");
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		DtmCurrentBranch.active = false;
		debug_query_string = NULL;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();

		/* Still in C, without a transaction: nothing here can fail. */
		translate_error(edata, job, deadline, result);
		sqlstate = edata->sqlerrcode;
		FreeErrorData(edata);
		MemoryContextSwitchTo(caller);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(caller);
	return sqlstate;
}

/* Returns whether the transaction is to be committed. */
static bool
run_branch(const DtmExecutorJob *job, DtmExecutorResult *result)
{
	BranchState state;
	Verdict		verdict;

	read_branch(job, &state);
	verdict = judge(job, &state, result);
	if (verdict == VERDICT_CALL && state.uses_results)
		verdict = fill_payload(job, &state, result);
	if (verdict == VERDICT_CALL)
	{
		call_function(job, &state);
		DTM_POINT("executor-function-done");
	}
	if (verdict != VERDICT_ANSWER)
	{
		record_success(job, &state);
		result->answer = DTM_ANSWER_SUCCESS;
		result->recorded = true;
	}
	return true;
}

static void
lock_branch(const DtmExecutorJob *job)
{
	LOCKTAG		tag;
	uint32		high = (uint32) ((uint64) job->id >> 32);

	/* Two branches that share a tag only wait for each other. */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 high + (uint32) job->branch * 0x9E3779B9u,
						 (uint32) job->id, BRANCH_LOCK_FIELD4);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

static void
read_branch(const DtmExecutorJob *job, BranchState *state)
{
	static DtmStatement statement = {
		"SELECT t.mode, t.status, t.owner, t.gid, b.branch_id,"
		" b.forward, b.backward, b.try, f.status, r.status,"
		" y.status, b.payload, t.driven, t.traceparent,"
		" b.uses IS NOT NULL, b.keep_result"
		" FROM dtm.trans t JOIN dtm.branch b"
		" ON b.id OPERATOR(pg_catalog.=) t.id"
		" LEFT JOIN dtm.op f ON f.id OPERATOR(pg_catalog.=) b.id"
		" AND f.branch OPERATOR(pg_catalog.=) b.branch"
		" AND f.phase OPERATOR(pg_catalog.=) 0"
		" LEFT JOIN dtm.op r ON r.id OPERATOR(pg_catalog.=) b.id"
		" AND r.branch OPERATOR(pg_catalog.=) b.branch"
		" AND r.phase OPERATOR(pg_catalog.=) 1"
		" LEFT JOIN dtm.op y ON y.id OPERATOR(pg_catalog.=) b.id"
		" AND y.branch OPERATOR(pg_catalog.=) b.branch"
		" AND y.phase OPERATOR(pg_catalog.=) 2"
		" WHERE t.id OPERATOR(pg_catalog.=) $1"
		" AND b.branch OPERATOR(pg_catalog.=) $2",
		2, {INT8OID, INT4OID}
	};
	Datum		values[] = {Int64GetDatum(job->id), Int32GetDatum(job->branch)};
	bool		isnull;
	Datum		payload;

	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, false);

	memset(state, 0, sizeof(*state));
	if (SPI_processed == 0)
		return;					/* status 0: it is gone */
	state->mode = (DtmMode) char_column(1, 0);
	state->status = (DtmStatus) char_column(2, 0);
	state->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc,
												  3, &isnull));
	state->gid = text_column(4);
	state->branch_id = text_column(5);
	state->address[DTM_FORWARD] = text_column(6);
	state->address[DTM_BACKWARD] = text_column(7);
	state->address[DTM_TRY] = text_column(8);
	for (int phase = 0; phase < DTM_PHASES; phase++)
		state->op_status[phase] = (DtmOpStatus) char_column(9 + phase,
															DTM_OP_PREPARED);
	state->driven = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc,
											   13, &isnull));
	state->traceparent = text_column(14);
	state->uses_results =
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
								   SPI_tuptable->tupdesc, 15, &isnull));
	state->keep_result =
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
								   SPI_tuptable->tupdesc, 16, &isnull));
	payload = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
							12, &isnull);
	if (!isnull)
		state->payload = DatumGetByteaPP(payload);
}

static const char *
text_column(int column)
{
	const char *text = SPI_getvalue(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, column);

	return text ? text : "";
}

static char
char_column(int column, char if_null)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? if_null : DatumGetChar(value);
}

/* May the op run, must it, or is there an answer already? */
static Verdict
judge(const DtmExecutorJob *job, const BranchState *state,
	  DtmExecutorResult *result)
{
	if (!dtm_executor_is_for(state->owner, result))
		return VERDICT_ANSWER;

	if (state->op_status[job->phase] == DTM_OP_SUCCEED)
	{
		result->answer = DTM_ANSWER_SUCCESS;
		result->recorded = true;
		return VERDICT_ANSWER;
	}
	if (state->status != status_for(job, state))
		return refuse(result, "came too late: the transaction is %s",
					  dtm_status_name(state->status));
	if (job->phase == DTM_BACKWARD && has_nothing_to_undo(state))
		return VERDICT_RECORD;
	return VERDICT_CALL;
}

/* owner InvalidOid: there is no row that would have one. */
bool
dtm_executor_is_for(Oid owner, DtmExecutorResult *result)
{
	if (!OidIsValid(owner))
		(void) refuse(result, "the transaction is gone");
	else if (owner != GetSessionUserId())
		(void) refuse(result, "the executor belongs to another role");
	else if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		(void) refuse(result, "the role that began the transaction is gone");
	else if (dtm_executor_superuser && !superuser())
		(void) refuse(result, "the role is no longer a superuser: a new executor will run this");
	else
		return true;
	return false;
}

/* In which status the op may run. 0, which none is: never. */
static DtmStatus
status_for(const DtmExecutorJob *job, const BranchState *state)
{
	switch (job->phase)
	{
		case DTM_FORWARD:
			return DTM_SUBMITTED;
		case DTM_BACKWARD:
			return DTM_ABORTING;
		case DTM_TRY:
			return state->driven ? DTM_PREPARED : 0;
	}
	return 0;
}

/*
 * What was done elsewhere, or by others than us, is not ours to know: then the
 * compensation is called.
 */
static bool
has_nothing_to_undo(const BranchState *state)
{
	DtmPhase	first = dtm_deciding_phase(state->mode);

	if (state->mode != DTM_SAGA && !state->driven)
		return false;
	/* "sql://..." is elsewhere. */
	return strncmp(state->address[first], SQL_SCHEME, strlen(SQL_SCHEME)) == 0 &&
		state->address[first][strlen(SQL_SCHEME)] != '/' &&
		state->op_status[first] != DTM_OP_SUCCEED;
}

static Verdict
refuse(DtmExecutorResult *result, const char *fmt,...)
{
	va_list		args;

	result->answer = DTM_ANSWER_ERROR;
	va_start(args, fmt);
	vsnprintf(result->error, sizeof(result->error), fmt, args);
	va_end(args);
	return VERDICT_ANSWER;
}

/*
 * Parts of earlier branches' results take the places of placeholders: see
 * fill_payload in call_request.c, which says the same of calls over HTTP.
 */
static Verdict
fill_payload(const DtmExecutorJob *job, BranchState *state,
			 DtmExecutorResult *result)
{
	static DtmStatement statement = {
		DTM_SELECT_RESULTS,
		2, {INT8OID, INT4OID}
	};
	Datum		values[] = {Int64GetDatum(job->id), Int32GetDatum(job->branch)};
	DtmResult  *results;
	int			nresults;
	const char *missing;

	if (state->payload == NULL)
		return VERDICT_CALL;
	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, false);
	nresults = dtm_results_of_rows(CurrentMemoryContext, &results);
	state->filled_payload =
		dtm_fill_placeholders(state->branch_id, VARDATA_ANY(state->payload),
							  VARSIZE_ANY_EXHDR(state->payload),
							  results, nresults,
							  job->phase == DTM_BACKWARD, &missing);
	if (state->filled_payload != NULL)
		return VERDICT_CALL;
	(void) refuse(result, "%s", missing);
	result->answer = DTM_ANSWER_FAILURE;
	result->unmade = true;
	return VERDICT_ANSWER;
}

static void
call_function(const DtmExecutorJob *job, BranchState *state)
{
	const char *address = state->address[job->phase];
	SPIExecuteOptions options = {0};
	ParamListInfo params;
	ParamExternData *payload;
	DtmFirstValue first;
	SPIPlanPtr	plan;
	int			rc;

	pgstat_report_activity(STATE_RUNNING, address);
	debug_query_string = address;

	plan = call_plan(address);
	params = makeParamList(1);
	payload = &params->params[0];
	payload->ptype = JSONBOID;
	payload->pflags = PARAM_FLAG_CONST;
	payload->isnull = state->payload == NULL ||
		VARSIZE_ANY_EXHDR(state->payload) == 0;
	payload->value = payload->isnull ? (Datum) 0 :
		state->filled_payload != NULL ? JsonbPGetDatum(state->filled_payload) :
		payload_as_jsonb(state->payload);

	/* At most the first row is read, however many there are. */
	options.params = params;
	options.dest = state->keep_result ? dtm_receive_first_value(&first)
		: CreateDestReceiver(DestNone);

	DtmCurrentBranch.gid = state->gid;
	DtmCurrentBranch.branch_id = state->branch_id;
	DtmCurrentBranch.op = dtm_op_name(state->mode, job->phase);
	DtmCurrentBranch.trans_type = dtm_mode_name(state->mode);
	DtmCurrentBranch.active = true;
	/* What the function begins belongs to the same trace. */
	(void) set_config_option("dtm.traceparent", state->traceparent,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	rc = SPI_execute_plan_extended(plan, &options);
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not call \"%s\": %s", address,
						SPI_result_code_string(rc))));
	if (state->keep_result)
		state->result = dtm_first_value_as_json(&first, state->result_note);
	dtm_executor_run_deferred_triggers();
	dtm_executor_close_held_cursors();
	DtmCurrentBranch.active = false;
	debug_query_string = NULL;
}

/* The call of an address, prepared once in this process. */
static SPIPlanPtr
call_plan(const char *address)
{
	Oid			types[] = {JSONBOID};
	SPIPlanPtr	plan;

	for (int i = 0; i < ncall_plans; i++)
	{
		if (strcmp(call_plans[i].address, address) == 0)
			return call_plans[i].plan;
	}

	plan = SPI_prepare(call_text(address), 1, types);
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not prepare the call of \"%s\": %s", address,
						SPI_result_code_string(SPI_result))));

	/* Few roles have so many functions: start over instead of choosing. */
	if (ncall_plans == MAX_PLANS)
	{
		while (ncall_plans > 0)
		{
			CallPlan   *last = &call_plans[--ncall_plans];

			SPI_freeplan(last->plan);
			pfree(last->address);
		}
	}
	call_plans[ncall_plans].address = MemoryContextStrdup(TopMemoryContext,
														  address);
	if (SPI_keepplan(plan) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not keep the plan that calls \"%s\"", address)));
	call_plans[ncall_plans].plan = plan;
	ncall_plans++;
	return plan;
}

/*
 * "sql:schema.function" as a statement. The name comes from the table, but a
 * user wrote it: it is taken apart by SQL's own rules and quoted again.
 */
static char *
call_text(const char *address)
{
	const char *name = address + strlen(SQL_SCHEME);
	List	   *names;

	if (strncmp(address, SQL_SCHEME, strlen(SQL_SCHEME)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the address of an SQL branch", address),
				 errhint("Such an address reads sql:schema.function.")));
	names = textToQualifiedNameList(cstring_to_text(name));
	if (list_length(names) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" does not name a schema and a function", name),
				 errhint("An SQL branch's address reads sql:schema.function.")));
	return psprintf("SELECT %s($1)",
					quote_qualified_identifier(strVal(linitial(names)),
											   strVal(lsecond(names))));
}

/* Payloads are kept as they are sent: JSON text in UTF-8. */
static Datum
payload_as_jsonb(bytea *payload)
{
	int			length = VARSIZE_ANY_EXHDR(payload);
	char	   *utf8 = pnstrdup(VARDATA_ANY(payload), length);

	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(pg_any_to_server(utf8, length,
																PG_UTF8)));
}

/*
 * Now, with the identity and the context of the branch, and before the op's
 * row is locked.
 */
void
dtm_executor_run_deferred_triggers(void)
{
	ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(all_immediate);
}

/*
 * The commit would run their queries, for as long as they take, with the op's
 * row locked; and nobody could read them, as the session is tidied up.
 */
void
dtm_executor_close_held_cursors(void)
{
	static DtmStatement statement = {
		"SELECT c.name FROM pg_catalog.pg_cursor() AS c"
		" WHERE c.is_holdable",
	};

	dtm_executor_on_tables(&statement, NULL, NULL, SPI_OK_SELECT, false);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		Portal		portal =
			GetPortalByName(SPI_getvalue(SPI_tuptable->vals[row],
										 SPI_tuptable->tupdesc, 1));

		if (PortalIsValid(portal))
			PortalDrop(portal, false);
	}
}

static void
record_success(const DtmExecutorJob *job, const BranchState *state)
{
	static DtmStatement statement = {
		"INSERT INTO dtm.op AS o (id, branch, phase, status,"
		" attempts, failed_attempts, streak, last_attempt,"
		" result, last_error)"
		" VALUES ($1, $2, $3, 'S', 1, 0, 0,"
		" pg_catalog.clock_timestamp(), $4, $5)"
		" ON CONFLICT (id, branch, phase) DO UPDATE"
		" SET status = 'S', stuck = false, streak = 0,"
		" attempts = o.attempts OPERATOR(pg_catalog.+) 1,"
		" next_attempt = NULL, last_attempt = excluded.last_attempt,"
		" result = excluded.result,"
		" last_error = COALESCE(excluded.last_error, o.last_error)",
		5, {INT8OID, INT4OID, INT2OID, BYTEAOID, TEXTOID}
	};
	Datum		values[] = {Int64GetDatum(job->id), Int32GetDatum(job->branch),
		Int16GetDatum((int16) job->phase), PointerGetDatum(state->result),
	(Datum) 0};
	char		nulls[] = {' ', ' ', ' ', state->result == NULL ? 'n' : ' ', 'n'};

	if (state->result_note[0] != '\0')
	{
		values[4] = CStringGetTextDatum(state->result_note);
		nulls[4] = ' ';
	}

	dtm_executor_on_tables(&statement, values, nulls, SPI_OK_INSERT, false);
}

static void
translate_error(const ErrorData *edata, const DtmExecutorJob *job,
				TimestampTz deadline, DtmExecutorResult *result)
{
	const char *message = edata->message ? edata->message : "no message";
	int			length = strlen(message);
	int			room = sizeof(result->error) - 10;	/* "SQLSTATE: " less one */

	if (length >= room)
		length = pg_mbcliplen(message, length, room - 1);

	result->recorded = false;
	if (job->branch == DTM_ENDING)
		result->answer = DTM_ANSWER_ERROR;	/* nobody asks it for more */
	else if (edata->sqlerrcode == ERRCODE_DTM_REFUSED)
		result->answer = DTM_ANSWER_FAILURE;
	else if (edata->sqlerrcode == ERRCODE_DTM_ONGOING)
		result->answer = DTM_ANSWER_ONGOING;
	else
		result->answer = DTM_ANSWER_ERROR;

	if (result->answer != DTM_ANSWER_ERROR)
		snprintf(result->error, sizeof(result->error), "%.*s", length, message);
	else if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED && deadline != 0 &&
			 GetCurrentTimestamp() >= deadline)
		snprintf(result->error, sizeof(result->error),
				 "no answer within " INT64_FORMAT " ms", job->timeout_ms);
	else
		snprintf(result->error, sizeof(result->error), "%s: %.*s",
				 unpack_sql_state(edata->sqlerrcode), length, message);
}

static bool
is_transient(int sqlstate)
{
	return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED;
}
