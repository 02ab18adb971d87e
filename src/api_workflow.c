/*
 * api_workflow.c: the journal of workflows: dtm.workflow_prepare,
 * dtm.workflow_record, dtm.workflow_finish.
 *
 * The client runs the steps of a workflow itself and records what came of each.
 * Should it die, the workflow is prepared again, by whoever is called at
 * resume: that run is given the journal, and goes on behind its last entry.
 *
 * Each of the three first updates the row of the transaction, and so holds its
 * lock until its own transaction ends. That is what the rest stands on:
 *
 *	 - A run that begins sees every step that was recorded before, or waits for
 *	   the transaction that is recording one.
 *	 - A run that has been superseded is refused, if it tells its number. With
 *	   its business in the same transaction as the record, that business is
 *	   rolled back: each step in this database happens once.
 *	 - A client is not called while a transaction of it that has told of itself
 *	   is still open (store_load.c).
 *
 * At the higher isolation levels a journal that was added to since the transaction
 * began is a serialization failure: what the client reads besides must not be older
 * than the journal that it goes by.
 *
 * The commit is synchronous: what a client was told is recorded stays so.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "address.h"
#include "api_start.h"
#include "debug_point.h"
#include "decide.h"
#include "pending.h"
#include "settings.h"

/* What the barrier table has room for. */
#define MAX_BRANCH_ID	128

#define MAX_NAME		128		/* bytes */

PG_FUNCTION_INFO_V1(dtm_workflow_prepare);
PG_FUNCTION_INFO_V1(dtm_workflow_record);
PG_FUNCTION_INFO_V1(dtm_workflow_finish);

static const DtmOption options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

#define NOPTIONS ((int) lengthof(options) - 1)

/* What is in dtm.workflow. */
typedef struct Workflow
{
	char	   *name;
	int32		run;
	bytea	   *result;			/* NULL: none */
} Workflow;

/* One entry of the journal, as the client gives it. */
typedef struct Entry
{
	const char *branch_id;
	DtmPhase	phase;
	DtmOpStatus status;
	bytea	   *result;			/* NULL: none */
} Entry;

static text *given_name(FunctionCallInfo fcinfo, int n);
static text *given_resume(FunctionCallInfo fcinfo, int n);
static bytea *given_data(FunctionCallInfo fcinfo, int n, bool has_body);
static void insert_workflow(int64 id, const text *name, const bytea *data);
static DtmStatus take_over(const DtmApi *api, text *gid, const char *name,
						   const DtmFound *found);
static void return_progress(ReturnSetInfo *result, int64 id,
							const Workflow *workflow, DtmStatus status);
static void return_row(ReturnSetInfo *result, const Workflow *workflow,
					   const char *branch_id, const char *op,
					   const char *status, bytea *value);
static const char *given_word(FunctionCallInfo fcinfo, int n, const char *name);
static const char *given_branch_id(FunctionCallInfo fcinfo, int n);
static DtmPhase given_op(FunctionCallInfo fcinfo, int n);
static bool given_success(FunctionCallInfo fcinfo, int n);
static bytea *given_result(FunctionCallInfo fcinfo, int n);
static char *given_reason(FunctionCallInfo fcinfo, int n, bool success);
static void find_workflow(const DtmApi *api, const text *gid, DtmFound *found);
static bool renew(int64 id, bool is_new_run);
static void read_workflow(int64 id, Workflow *workflow);
static void check_run(FunctionCallInfo fcinfo, int n, const char *command,
					  const text *gid, int64 id);
static bool store_entry(const text *gid, int64 id, const Entry *entry);
static int	find_step(int64 id, const Entry *entry, DtmOpStatus *recorded);
static int	add_step(int64 id, const char *branch_id);
static void store_result(int64 id, bytea *result);

/*
 * workflow_prepare(gid, name, resume, data, ...options), data in all forms
 */
Datum
dtm_workflow_prepare(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		has_body = PG_NARGS() == NOPTIONS + 5;
	DtmStart	start = {.mode = DTM_WORKFLOW};
	DtmStatus	status = DTM_PREPARED;
	text	   *name;
	bytea	   *data;
	Workflow	workflow;
	DtmApi		api;
	DtmFound	found;
	int64		id;

	start.gid = dtm_given_gid(fcinfo, 0, "Pass dtm.new_gid() to get a new one, and keep it: to go on means to prepare the same gid again.");
	name = given_name(fcinfo, 1);
	start.query_prepared = given_resume(fcinfo, 2);
	data = given_data(fcinfo, 3, has_body);
	dtm_read_options(fcinfo, has_body ? 5 : 4, options, &start.options);
	InitMaterializedSRF(fcinfo, 0);

	dtm_api_begin(&api);
	id = dtm_begin_or_find(&api, &start, &found);
	if (id != 0)
		insert_workflow(id, name, data);
	else
	{
		status = take_over(&api, start.gid, text_to_cstring(name), &found);
		id = found.id;
	}
	read_workflow(id, &workflow);
	return_progress(result, id, &workflow, status);
	dtm_api_end(&api);
	return (Datum) 0;
}

static text *
given_name(FunctionCallInfo fcinfo, int n)
{
	text	   *name;
	const unsigned char *bytes;
	int			size;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name: must not be NULL"),
				 errhint("It tells whoever is called at resume which workflow to go on with.")));
	name = PG_GETARG_TEXT_PP(n);
	bytes = (const unsigned char *) VARDATA_ANY(name);
	size = VARSIZE_ANY_EXHDR(name);
	if (size == 0 || size > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name: has %d bytes", size),
				 errhint("Give it 1 to %d. It is the name of a piece of code, like refund-order.",
						 MAX_NAME)));
	for (int i = 0; i < size; i++)
	{
		if (bytes[i] < ' ' || bytes[i] == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("name: must not contain control characters"),
					 errdetail("Byte %d is 0x%02x.", i + 1, bytes[i]),
					 errhint("A name may contain any letters, digits, spaces and signs.")));
	}
	return name;
}

/* Whoever is called runs the client's code, so it is not in this database. */
static text *
given_resume(FunctionCallInfo fcinfo, int n)
{
	DtmAddress	address;
	const char *reason = "";
	char	   *url;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("resume: must not be NULL"),
				 errhint("It is the http address of the client, which is called when nothing was heard of it for timeout_to_fail. '' means that nobody is called.")));
	url = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (url[0] == '\0')
		return NULL;
	if (dtm_address_parse(url, &address, &reason) &&
		address.transport != DTM_CALL_HTTP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("resume: cannot call \"%s\"", url),
				 errhint("A workflow is resumed at http://... or https://..., where its code is. For steps that are functions of this database start a saga: dtm.saga(...).")));
	return PG_GETARG_TEXT_PP(n);
}

/* JSON, or with body bytes of any kind; what is empty is none. */
static bytea *
given_data(FunctionCallInfo fcinfo, int n, bool has_body)
{
	bytea	   *data = NULL;

	if (!PG_ARGISNULL(n))
	{
		char	   *json;

		if (has_body && !PG_ARGISNULL(n + 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("data and body cannot both be given"),
					 errhint("data is JSON, body is for bytes of any other kind.")));
		if (get_fn_expr_argtype(fcinfo->flinfo, n) == JSONBOID)
		{
			Jsonb	   *jsonb = PG_GETARG_JSONB_P(n);

			json = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
		}
		else
		{
			json = text_to_cstring(PG_GETARG_TEXT_PP(n));
			dtm_check_json(json, "argument data");
		}
		data = dtm_payload_of_text(json);
	}
	else if (has_body && !PG_ARGISNULL(n + 1))
		data = PG_GETARG_BYTEA_PP(n + 1);
	return data != NULL && VARSIZE_ANY_EXHDR(data) > 0 ? data : NULL;
}

static void
insert_workflow(int64 id, const text *name, const bytea *data)
{
	Datum		values[3] = {
		Int64GetDatum(id), PointerGetDatum(name), PointerGetDatum(data)
	};

	(void) dtm_api_run(DTM_PLAN_WORKFLOW, values, data == NULL ? "  n" : NULL);
	DTM_POINT("backend-after-insert");
}

/*
 * It is there: a new run of it begins, unless it has ended. Its data, its
 * options and whom to call stay what they were.
 */
static DtmStatus
take_over(const DtmApi *api, text *gid, const char *name,
		  const DtmFound *first_found)
{
	DtmFound	found = *first_found;
	Workflow	workflow;

	if (!dtm_api_find(api, gid, DTM_RIGHT_NONE, DTM_LOOK_STATEMENT, &found))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: workflow \"%s\" was begun after this transaction",
						text_to_cstring(gid)),
				 errhint("Repeat the whole transaction.")));
	read_workflow(found.id, &workflow);
	if (strcmp(workflow.name, name) != 0)
		dtm_gid_is_taken(gid, psprintf("It is the workflow \"%s\".",
									   workflow.name));
	while (!dtm_status_is_final(found.status))
	{
		if (renew(found.id, true))
		{
			Datum		values[1] = {Int64GetDatum(found.id)};

			(void) dtm_api_lookup(DTM_PLAN_NEXT_RUN, values, NULL);
			break;
		}
		/* It has ended between the two statements. */
		CHECK_FOR_INTERRUPTS();
		find_workflow(api, gid, &found);
	}
	return found.status;
}

static void
return_progress(ReturnSetInfo *result, int64 id, const Workflow *workflow,
				DtmStatus status)
{
	Datum		values[1] = {Int64GetDatum(id)};
	uint64		n;
	SPITupleTable *rows;

	return_row(result, workflow, "00", workflow->name, dtm_status_name(status),
			   workflow->result);
	n = dtm_api_lookup(DTM_PLAN_PROGRESS, values, NULL);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	row = rows->vals[i];
		bool		isnull;
		DtmPhase	phase = DatumGetInt16(SPI_getbinval(row, rows->tupdesc, 2,
														&isnull));
		char		recorded = DatumGetChar(SPI_getbinval(row, rows->tupdesc, 3,
														  &isnull));
		Datum		value = SPI_getbinval(row, rows->tupdesc, 4, &isnull);

		return_row(result, workflow, SPI_getvalue(row, rows->tupdesc, 1),
				   dtm_op_name(DTM_WORKFLOW, phase),
				   dtm_op_status_name((DtmOpStatus) recorded),
				   isnull ? NULL : DatumGetByteaPP(value));
	}
	SPI_freetuptable(rows);
}

static void
return_row(ReturnSetInfo *result, const Workflow *workflow,
		   const char *branch_id, const char *op, const char *status,
		   bytea *value)
{
	Datum		values[5] = {
		CStringGetTextDatum(branch_id), CStringGetTextDatum(op),
		CStringGetTextDatum(status), PointerGetDatum(value),
		Int32GetDatum(workflow->run)
	};
	bool		nulls[5] = {false, false, false, value == NULL, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* workflow_record(gid, branch_id, op, status, result, run) -> is it new? */
Datum
dtm_workflow_record(PG_FUNCTION_ARGS)
{
	text	   *gid;
	Entry		entry;
	DtmApi		api;
	DtmFound	found;
	bool		is_new;

	gid = dtm_given_gid(fcinfo, 0, "Pass the gid that was prepared.");
	entry.branch_id = given_branch_id(fcinfo, 1);
	entry.phase = given_op(fcinfo, 2);
	entry.status = given_success(fcinfo, 3) ? DTM_OP_SUCCEED : DTM_OP_FAILED;
	entry.result = given_result(fcinfo, 4);

	dtm_api_begin(&api);
	for (;;)
	{
		find_workflow(&api, gid, &found);
		if (found.status != DTM_PREPARED)
			dtm_illegal("record a step of", gid, found.status);
		if (renew(found.id, false))
			break;
		/* It has ended between the two statements. */
		CHECK_FOR_INTERRUPTS();
	}
	check_run(fcinfo, 5, "record a step of", gid, found.id);
	is_new = store_entry(gid, found.id, &entry);
	dtm_api_end(&api);
	PG_RETURN_BOOL(is_new);
}

/* workflow_finish(gid, status, result, reason, run) */
Datum
dtm_workflow_finish(PG_FUNCTION_ARGS)
{
	text	   *gid;
	bool		success;
	DtmStatus	outcome;
	bytea	   *result;
	char	   *reason;
	DtmApi		api;
	DtmFound	found;

	gid = dtm_given_gid(fcinfo, 0, "Pass the gid that was prepared.");
	success = given_success(fcinfo, 1);
	outcome = success ? DTM_SUCCEED : DTM_FAILED;
	result = given_result(fcinfo, 2);
	reason = given_reason(fcinfo, 3, success);

	dtm_api_begin(&api);
	for (;;)
	{
		find_workflow(&api, gid, &found);
		if (found.status == DTM_PREPARED &&
			!dtm_write_outcome(&found, outcome, reason))
		{
			/* It has changed between the two statements. */
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		break;
	}
	check_run(fcinfo, 4, "finish", gid, found.id);
	if (found.status == DTM_PREPARED)
		store_result(found.id, result);
	else if (found.status != outcome)
		dtm_illegal("finish", gid, found.status);
	dtm_api_end(&api);
	PG_RETURN_VOID();
}

static const char *
given_word(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s: must not be NULL", name),
				 errhint("\\df+ dtm.workflow_* tells what it may be.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* Participants put it into their barrier tables, and get it in a URL. */
static const char *
given_branch_id(FunctionCallInfo fcinfo, int n)
{
	const char *branch_id = given_word(fcinfo, n, "branch_id");
	size_t		length = strlen(branch_id);

	if (length == 0 || length > MAX_BRANCH_ID ||
		strspn(branch_id, "0123456789abcdefghijklmnopqrstuvwxyz"
			   "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") != length ||
		strcmp(branch_id, "00") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("branch_id: \"%s\" is no id of a step",
						length > MAX_BRANCH_ID ? "..." : branch_id),
				 errhint("Number the steps 01, 02, ... in the order of the code. 1 to %d letters, digits, hyphens, underscores and dots will do; 00 is the workflow itself.",
						 MAX_BRANCH_ID)));
	return branch_id;
}

static DtmPhase
given_op(FunctionCallInfo fcinfo, int n)
{
	const char *op = given_word(fcinfo, n, "op");

	for (int phase = 0; phase < DTM_PHASES; phase++)
	{
		if (strcmp(op, dtm_op_name(DTM_WORKFLOW, phase)) == 0)
			return phase;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("op: \"%s\" is none of a workflow", op),
			 errhint("It is action, rollback or commit.")));
	return DTM_FORWARD;
}

static bool
given_success(FunctionCallInfo fcinfo, int n)
{
	const char *status = given_word(fcinfo, n, "status");
	bool		success = strcmp(status, "succeed") == 0;

	if (!success && strcmp(status, "failed") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("status: \"%s\" is no outcome", status),
				 errhint("It is succeed or failed. What has not ended yet is not recorded.")));
	return success;
}

/* Text in UTF-8, and bytes as they are. */
static bytea *
given_result(FunctionCallInfo fcinfo, int n)
{
	bytea	   *result;
	int			size;

	if (PG_ARGISNULL(n))
		return NULL;
	switch (get_fn_expr_argtype(fcinfo->flinfo, n))
	{
		case BYTEAOID:
			result = PG_GETARG_BYTEA_PP(n);
			break;
		case JSONBOID:
			{
				Jsonb	   *jsonb = PG_GETARG_JSONB_P(n);

				result = dtm_payload_of_text(JsonbToCString(NULL, &jsonb->root,
															VARSIZE(jsonb)));
				break;
			}
		default:
			result = dtm_payload_of_text(text_to_cstring(PG_GETARG_TEXT_PP(n)));
			break;
	}
	size = VARSIZE_ANY_EXHDR(result);
	if (size > (int64) dtm_max_response_size * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("result: has %d bytes, the limit is %d kB", size,
						dtm_max_response_size),
				 errhint("Record where it is kept instead, or ALTER SYSTEM SET dtm.max_response_size.")));
	return result;
}

/* People read it, as why anything else was rolled back. */
static char *
given_reason(FunctionCallInfo fcinfo, int n, bool success)
{
	text	   *reason;

	if (PG_ARGISNULL(n))
		return success ? NULL : pstrdup("failed, as its client says");
	reason = PG_GETARG_TEXT_PP(n);
	if (success)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason: only what has failed has one"),
				 errhint("What it has come to is its result.")));
	if (VARSIZE_ANY_EXHDR(reason) > DTM_MAX_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason: has %d bytes, the limit is %d",
						(int) VARSIZE_ANY_EXHDR(reason), DTM_MAX_ERROR),
				 errhint("Say it shorter; the result may have more.")));
	return text_to_cstring(reason);
}

static void
find_workflow(const DtmApi *api, const text *gid, DtmFound *found)
{
	dtm_api_must_find(api, gid, DTM_RIGHT_OWN, DTM_LOOK_STATEMENT, found);
	if (found->mode != DTM_WORKFLOW)
		dtm_gid_is_taken(gid, "It is not a workflow.");
}

/*
 * A sign of life, which also locks the row. false: it is not prepared. A new
 * run ends the wait after calls that failed: whoever was called is there again.
 */
static bool
renew(int64 id, bool is_new_run)
{
	Datum		values[3] = {
		Int64GetDatum(id), TimestampTzGetDatum(GetCurrentTimestamp()),
		BoolGetDatum(is_new_run)
	};

	if (dtm_api_lookup(DTM_PLAN_RENEW, values, NULL) == 0)
		return false;
	DTM_POINT("backend-command-written");
	dtm_pending_add(id);
	return true;
}

static void
read_workflow(int64 id, Workflow *workflow)
{
	Datum		values[1] = {Int64GetDatum(id)};
	bool		isnull;
	Datum		result;

	if (dtm_api_lookup(DTM_PLAN_WORKFLOW_ROW, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a workflow is missing from dtm.workflow"),
				 errhint("Only dtm may change its tables. SELECT dtm.force_stop(gid, reason) gives it up.")));
	workflow->name = dtm_api_text(1);
	workflow->run = DatumGetInt32(dtm_api_value(2, &isnull));
	result = dtm_api_value(3, &isnull);
	workflow->result = isnull ? NULL : DatumGetByteaPCopy(result);
	SPI_freetuptable(SPI_tuptable);
}

/* Its row must be locked, or final: then the number does not change. */
static void
check_run(FunctionCallInfo fcinfo, int n, const char *command,
		  const text *gid, int64 id)
{
	Workflow	workflow;
	int32		run;

	if (PG_ARGISNULL(n))
		return;
	run = PG_GETARG_INT32(n);
	read_workflow(id, &workflow);
	if (run < 1 || run > workflow.run)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("run: there is no run %d of global transaction \"%s\"",
						run, text_to_cstring(gid)),
				 errhint("Pass the number that dtm.workflow_prepare returned.")));
	if (run < workflow.run)
		ereport(ERROR,
				(errcode(ERRCODE_DTM_ILLEGAL),
				 errmsg("cannot %s global transaction \"%s\": run %d was superseded by run %d",
						command, text_to_cstring(gid), run, workflow.run),
				 errhint("Another run goes on with it, so stop here. It was begun because nothing was heard of this one for timeout_to_fail, or by somebody who prepared the same gid.")));
}

/* false: it is in the journal; what was recorded first stays. */
static bool
store_entry(const text *gid, int64 id, const Entry *entry)
{
	DtmOpStatus recorded = DTM_OP_PREPARED;
	int			branch = find_step(id, entry, &recorded);
	Datum		values[6];

	if (recorded == entry->status)
		return false;
	if (recorded != DTM_OP_PREPARED)
		ereport(ERROR,
				(errcode(ERRCODE_DTM_ILLEGAL),
				 errmsg("cannot record that %s of step %s of global transaction \"%s\" is %s: it is recorded as %s",
						dtm_op_name(DTM_WORKFLOW, entry->phase),
						entry->branch_id, text_to_cstring(gid),
						dtm_op_status_name(entry->status),
						dtm_op_status_name(recorded)),
				 errhint("What is in the journal counts: dtm.workflow_prepare returns it. Do two runs number their steps differently, or do both go on? Pass run to find out.")));
	if (branch < 0)
		branch = add_step(id, entry->branch_id);

	values[0] = Int64GetDatum(id);
	values[1] = Int32GetDatum(branch);
	values[2] = Int16GetDatum(entry->phase);
	values[3] = CharGetDatum(entry->status);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[5] = PointerGetDatum(entry->result);
	(void) dtm_api_run(DTM_PLAN_RECORD, values,
					   entry->result == NULL ? "     n" : NULL);
	return true;
}

/* Its index, -1: there is none yet; and what is recorded of this op. */
static int
find_step(int64 id, const Entry *entry, DtmOpStatus *recorded)
{
	Datum		values[3] = {
		Int64GetDatum(id), CStringGetTextDatum(entry->branch_id),
		Int16GetDatum(entry->phase)
	};
	int			branch;
	bool		isnull;
	Datum		status;

	if (dtm_api_lookup(DTM_PLAN_STEP, values, NULL) == 0)
		return -1;
	branch = DatumGetInt32(dtm_api_value(1, &isnull));
	status = dtm_api_value(2, &isnull);
	if (!isnull)
		*recorded = (DtmOpStatus) DatumGetChar(status);
	SPI_freetuptable(SPI_tuptable);
	return branch;
}

static int
add_step(int64 id, const char *branch_id)
{
	Datum		values[1] = {Int64GetDatum(id)};
	DtmStep		step = {.branch_id = branch_id};
	int			branch = 0;

	if (dtm_api_lookup(DTM_PLAN_LAST_BRANCH, values, NULL) > 0)
	{
		bool		isnull;

		branch = DatumGetInt32(dtm_api_value(1, &isnull)) + 1;
	}
	dtm_store_steps(id, branch, &step, 1);
	return branch;
}

static void
store_result(int64 id, bytea *result)
{
	Datum		values[2] = {Int64GetDatum(id), PointerGetDatum(result)};

	if (result != NULL)
		(void) dtm_api_lookup(DTM_PLAN_WORKFLOW_RESULT, values, NULL);
}
