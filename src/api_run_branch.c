/*
 * api_run_branch.c: a branch sql://server/schema.function, on that server.
 *
 * One statement, by itself a transaction, is all that the caller's worker
 * sends: the barrier, the function, its deferred triggers; then the server
 * commits, durably, and answers.
 *
 *	 killed before the commit		nothing has happened; it is called again;
 *	 killed after it, or the		it is called again, and the barrier says
 *	 answer lost					"a repeat": success without the function;
 *	 an error of the function		the barrier's rows go with its effects, so
 *									the next attempt is a new one;
 *	 called again while the first	the second waits in the barrier until the
 *	 one still runs					first has ended: a repeat, or new;
 *	 its compensation came first	the barrier keeps the late action out.
 *
 * The function runs as whoever calls; only the barrier's rows are written with
 * dtm's rights. So whoever may call this may do nothing more than before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "api_common.h"
#include "barrier.h"
#include "branch_context.h"
#include "debug_point.h"
#include "result_value.h"

PG_FUNCTION_INFO_V1(dtm_run_branch);

/* The arguments after those of the barrier. */
enum
{
	ARG_FUNCTION = 4,
	ARG_PAYLOAD,
	ARG_TIMEOUT_MS,
	ARG_TRACEPARENT,
	ARG_KEEP_RESULT
};

/* Of a warning; call_pg_result.c is who reads it. */
#define ERRCODE_DTM_NOT_KEPT MAKE_SQLSTATE('D', 'T', '4', '1', '3')

#define MAX_FUNCTION 512		/* bytes of its name, quotes and all */

/* The statement timeout as it was, to be put back. */
typedef struct Timer
{
	bool		changed;
	bool		was_active;
	TimestampTz was_until;
} Timer;

static bool op_fits(const char *trans_type, const char *op);
static Datum run(FunctionCallInfo fcinfo, const DtmBarrierKey *key,
				 const char *op, bool *is_null);
static void set_timer(int timeout_ms, Timer *timer);
static void put_timer_back(const Timer *timer);
static Oid	find_function(const char *name, List **names);
static Datum call_function(const char *name, FunctionCallInfo fcinfo,
						   bool *is_null);
static Datum result_as_json(Datum value, Oid type, bool *is_null);
static void set_traceparent(const char *traceparent);
static void describe_branch(void *branch);

/*
 * run_branch(trans_type, gid, branch_id, op, function, payload, timeout_ms,
 * traceparent, keep_result) -> what the function has returned, if asked for
 */
Datum
dtm_run_branch(PG_FUNCTION_ARGS)
{
	DtmBranchContext before = DtmCurrentBranch;
	DtmBranchContext branch = {0};
	DtmBarrierKey key;
	ErrorContextCallback context;
	Timer		timer = {0};
	char	   *op;
	volatile Datum result = (Datum) 0;
	bool		is_null = true;

	context.callback = describe_branch;
	context.arg = &branch;
	context.previous = error_context_stack;
	error_context_stack = &context;

	op = dtm_barrier_arguments(fcinfo, &key);
	key.barrier_id = cstring_to_text("01");
	branch.gid = text_to_cstring(key.gid);
	branch.branch_id = text_to_cstring(key.branch_id);
	branch.op = op;
	branch.trans_type = text_to_cstring(key.trans_type);
	branch.active = true;
	if (!op_fits(branch.trans_type, op))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("op: \"%s\" is no call of a branch of a %s", op,
						branch.trans_type),
				 errhint("dtm itself calls this function, where an address sql://server/schema.function is called.")));

	PG_TRY();
	{
		if (!PG_ARGISNULL(ARG_TIMEOUT_MS))
			set_timer(PG_GETARG_INT32(ARG_TIMEOUT_MS), &timer);
		DtmCurrentBranch = branch;
		result = run(fcinfo, &key, op, &is_null);
	}
	PG_FINALLY();
	{
		DtmCurrentBranch = before;
		put_timer_back(&timer);
	}
	PG_END_TRY();

	error_context_stack = context.previous;
	DTM_POINT("participant-function-done");
	if (is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* Which ops does a branch of this mode have? */
static bool
op_fits(const char *trans_type, const char *op)
{
	static const char *const ops[][4] = {
		{"saga", "action", "compensate"},
		{"tcc", "try", "confirm", "cancel"},
		{"msg", "action"},
	};

	for (int i = 0; i < lengthof(ops); i++)
	{
		if (strcmp(ops[i][0], trans_type) != 0)
			continue;
		for (int j = 1; j < 4 && ops[i][j] != NULL; j++)
		{
			if (strcmp(ops[i][j], op) == 0)
				return true;
		}
	}
	return false;
}

static Datum
run(FunctionCallInfo fcinfo, const DtmBarrierKey *key, const char *op,
	bool *is_null)
{
	ConstraintsSetStmt *all_immediate;
	char	   *function;
	Datum		result;

	function = text_to_cstring(dtm_barrier_argument(fcinfo, ARG_FUNCTION,
													"function", MAX_FUNCTION));
	if (dtm_barrier_enter(key, op) != DTM_BARRIER_NEW)
		return (Datum) 0;
	DTM_POINT("participant-barrier-written");

	if (!PG_ARGISNULL(ARG_TRACEPARENT))
		set_traceparent(text_to_cstring(PG_GETARG_TEXT_PP(ARG_TRACEPARENT)));
	result = call_function(function, fcinfo, is_null);

	/*
	 * Now, with the context of the branch and under its time limit: what they
	 * refuse is the function's refusal.
	 */
	all_immediate = makeNode(ConstraintsSetStmt);
	AfterTriggerSetState(all_immediate);
	return result;
}

/*
 * Whoever waits gives up after this time, and has no way to tell us. A shorter
 * limit that is in force stays.
 */
static void
set_timer(int timeout_ms, Timer *timer)
{
	TimestampTz until;

	if (timeout_ms <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout_ms: must be more than 0"),
				 errhint("Pass NULL for no limit.")));
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	timer->was_active = get_timeout_active(STATEMENT_TIMEOUT);
	if (timer->was_active)
	{
		timer->was_until = get_timeout_finish_time(STATEMENT_TIMEOUT);
		if (timer->was_until <= until)
			return;
		disable_timeout(STATEMENT_TIMEOUT, false);
	}
	timer->changed = true;
	enable_timeout_at(STATEMENT_TIMEOUT, until);
}

static void
put_timer_back(const Timer *timer)
{
	if (!timer->changed)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (timer->was_active)
		enable_timeout_at(STATEMENT_TIMEOUT, timer->was_until);
}

/* The same function as where it would be registered: one that takes jsonb. */
static Oid
find_function(const char *name, List **names)
{
	Oid			types[1] = {JSONBOID};
	Oid			function;

	*names = textToQualifiedNameList(cstring_to_text(name));
	if (list_length(*names) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("function: \"%s\" must be schema.function", name),
				 errhint("An address reads sql://server/schema.function.")));
	function = LookupFuncName(*names, 1, types, true);
	if (!OidIsValid(function) ||
		get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_retset(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb) does not exist in database \"%s\"",
						name, get_database_name(MyDatabaseId)),
				 errhint("A SQL branch is a function with one argument, the payload as jsonb, that returns no set.")));
	return function;
}

static Datum
call_function(const char *name, FunctionCallInfo fcinfo, bool *is_null)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		wants_result = !PG_ARGISNULL(ARG_KEEP_RESULT) &&
		PG_GETARG_BOOL(ARG_KEEP_RESULT);
	Oid			types[1] = {JSONBOID};
	Datum		values[1];
	char		nulls[1] = {' '};
	List	   *names;
	Oid			returns;
	char	   *call;
	char	   *statement;
	Datum		result = (Datum) 0;
	int			rc;

	*is_null = true;
	returns = get_func_rettype(find_function(name, &names));
	call = psprintf("%s($1)",
					quote_qualified_identifier(strVal(linitial(names)),
											   strVal(lsecond(names))));
	wants_result = wants_result && returns != VOIDOID;
	statement = psprintf("SELECT %s", call);
	if (PG_ARGISNULL(ARG_PAYLOAD))
		nulls[0] = 'n';
	values[0] = PG_ARGISNULL(ARG_PAYLOAD) ? (Datum) 0 : PG_GETARG_DATUM(ARG_PAYLOAD);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	rc = SPI_execute_with_args(statement, 1, types, values, nulls, false, 0);
	if (rc != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not call %s: %s", name,
						SPI_result_code_string(rc))));
	if (wants_result && SPI_processed > 0)
	{
		Datum		value;
		bool		isnull;

		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							  &isnull);
		if (!isnull)
		{
			MemoryContext spi = MemoryContextSwitchTo(caller);

			result = result_as_json(value, SPI_gettypeid(SPI_tuptable->tupdesc, 1),
									is_null);
			MemoryContextSwitchTo(spi);
		}
	}
	SPI_finish();
	return result;
}

/* What cannot be told is no reason to undo what was done. */
static Datum
result_as_json(Datum value, Oid type, bool *is_null)
{
	char		note[DTM_MAX_ERROR];
	Jsonb	   *json = dtm_result_as_jsonb(value, type, note);

	*is_null = json == NULL;
	if (json == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_DTM_NOT_KEPT),
				 errmsg_internal("%s", note)));
	return *is_null ? (Datum) 0 : JsonbPGetDatum(json);
}

/* Where the function may start calls of its own, they belong to one trace. */
static void
set_traceparent(const char *traceparent)
{
	(void) set_config_option("dtm.traceparent", traceparent, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
describe_branch(void *arg)
{
	const DtmBranchContext *branch = arg;

	if (branch->active)
		errcontext("%s of branch %s of %s \"%s\"", branch->op,
				   branch->branch_id, branch->trans_type, branch->gid);
	else
		errcontext("dtm.run_branch");
}
