/*
 * api_step.c: dtm.step and dtm.tcc_step values, read, checked and stored as
 * branches.
 *
 * A step may come from dtm.step() or from anywhere else (ROW(...)::dtm.step, a
 * table), so nothing is believed here that dtm.step() has checked already.
 *
 * Thousands of sagas may start in one statement: no SQL is parsed here, nothing
 * goes through text, and a statement's plan is made once in a session's life.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/typcache.h"

#include "api_common.h"
#include "api_step.h"
#include "api_topic.h"

/* The columns of a step's type, behind its addresses. */
enum
{
	STEP_PAYLOAD,
	STEP_HEADERS,
	STEP_REQUEST_TIMEOUT,
	STEP_RETRY_LIMIT,
	STEP_KEEP_RESULT,
	STEP_REST
};

#define STEP_COLUMNS	(DTM_PHASES + STEP_REST)

const DtmStepKind dtm_saga_kind = {
	.type = "dtm.step",
	.example = "Write ARRAY[dtm.step('http://...', 'http://...')].",
	.nobody = "dtm.step('')",
	.naddresses = 2,
	.address = {{"action", DTM_FORWARD}, {"compensate", DTM_BACKWARD}}
};

const DtmStepKind dtm_msg_kind = {
	.type = "dtm.step",
	.example = "Write ARRAY[dtm.step('http://...', payload => '{}')].",
	.nobody = "dtm.step('')",
	.message = true,
	.naddresses = 2,
	.address = {{"action", DTM_FORWARD}, {"compensate", DTM_BACKWARD}}
};

const DtmStepKind dtm_tcc_kind = {
	.type = "dtm.tcc_step",
	.example = "Write ARRAY[dtm.tcc_step(try => 'http://...', confirm => 'http://...', cancel => 'http://...')].",
	.nobody = "dtm.tcc_step('', '', '')",
	.naddresses = 3,
	.address = {{"try", DTM_TRY}, {"confirm", DTM_FORWARD}, {"cancel", DTM_BACKWARD}}
};

const DtmStepKind dtm_tcc_branch_kind = {
	.naddresses = 2,
	.address = {{"confirm", DTM_FORWARD}, {"cancel", DTM_BACKWARD}}
};

const DtmStepKind dtm_msg_branch_kind = {
	.message = true,
	.naddresses = 1,
	.address = {{"action", DTM_FORWARD}}
};

/* The columns of dtm.branch that a step fills, and how many rows at most. */
#define BRANCH_COLUMNS	13
#define BRANCH_ROWS		8

PG_FUNCTION_INFO_V1(dtm_step);
PG_FUNCTION_INFO_V1(dtm_tcc_step);

static Datum make_step(FunctionCallInfo fcinfo, const DtmStepKind *kind);
static void must_not_be_null(const char *place);
static bytea *payload_argument(FunctionCallInfo fcinfo, int n);
static void read_step(HeapTupleHeader tuple, TupleDesc desc,
					  const DtmStepKind *kind, int number, DtmStep *step);
static void check_form(const DtmStepKind *kind, const DtmStep *step,
					   int number);
static void check_message(const DtmStep *step, int number);
static SPIPlanPtr insert_plan(int nrows);

/* step(action, compensate, ...), step(action, ...) */
Datum
dtm_step(PG_FUNCTION_ARGS)
{
	return make_step(fcinfo, &dtm_saga_kind);
}

/* tcc_step(try, confirm, cancel, ...) */
Datum
dtm_tcc_step(PG_FUNCTION_ARGS)
{
	return make_step(fcinfo, &dtm_tcc_kind);
}

/*
 * Only payloads given as text need to be checked: types json and jsonb are
 * JSON already.
 */
static Datum
make_step(FunctionCallInfo fcinfo, const DtmStepKind *kind)
{
	TupleDesc	desc = fcinfo->flinfo->fn_extra;
	Datum		values[STEP_COLUMNS];
	bool		nulls[STEP_COLUMNS] = {false};
	Datum	   *rest = values + kind->naddresses;
	bool	   *rest_null = nulls + kind->naddresses;
	DtmStep		step;

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
			desc->natts != kind->naddresses + STEP_REST)
			elog(ERROR, "%s is not the type that this library knows", kind->type);
		desc = BlessTupleDesc(CreateTupleDescCopy(desc));
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(old);
	}

	dtm_step_of_arguments(fcinfo, 0, PG_NARGS(), kind, &step);
	for (int i = 0; i < kind->naddresses; i++)
		values[i] = PointerGetDatum(step.address[kind->address[i].phase]);
	rest[STEP_PAYLOAD] = PointerGetDatum(step.payload);
	rest[STEP_HEADERS] = JsonbPGetDatum(step.headers);
	rest[STEP_REQUEST_TIMEOUT] = IntervalPGetDatum(step.request_timeout);
	rest[STEP_RETRY_LIMIT] = Int32GetDatum(step.retry_limit);
	rest[STEP_KEEP_RESULT] = BoolGetDatum(step.keep_result);
	rest_null[STEP_PAYLOAD] = step.payload == NULL;
	rest_null[STEP_HEADERS] = step.headers == NULL;
	rest_null[STEP_REQUEST_TIMEOUT] = step.request_timeout == NULL;
	rest_null[STEP_RETRY_LIMIT] = step.retry_limit == 0;
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

void
dtm_step_of_arguments(FunctionCallInfo fcinfo, int first, int nargs,
					  const DtmStepKind *kind, DtmStep *step)
{
	/* The forms, by their number of arguments: see the header. */
	bool		has_body = nargs == kind->naddresses + STEP_REST + 1;
	int			naddresses = nargs - STEP_REST - (has_body ? 1 : 0);
	int			payload = first + naddresses;
	int			rest = payload + (has_body ? 2 : 1);

	memset(step, 0, sizeof(*step));
	for (int i = 0; i < kind->naddresses; i++)
	{
		text	  **address = &step->address[kind->address[i].phase];

		if (i >= naddresses)
			*address = cstring_to_text("");
		else if (PG_ARGISNULL(first + i))
			must_not_be_null(kind->address[i].name);
		else
			*address = PG_GETARG_TEXT_PP(first + i);
	}

	if (!PG_ARGISNULL(payload))
	{
		if (has_body && !PG_ARGISNULL(payload + 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("payload and body cannot both be given"),
					 errhint("payload is JSON, body is for bytes of any other kind.")));
		step->payload = payload_argument(fcinfo, payload);
	}
	else if (has_body && !PG_ARGISNULL(payload + 1))
		step->payload = PG_GETARG_BYTEA_PP(payload + 1);

	if (!PG_ARGISNULL(rest))
		step->headers = PG_GETARG_JSONB_P(rest);
	if (!PG_ARGISNULL(rest + 1))
		step->request_timeout = PG_GETARG_INTERVAL_P(rest + 1);
	if (!PG_ARGISNULL(rest + 2))
		step->retry_limit = dtm_retry_limit(PG_GETARG_INT32(rest + 2),
											"retry_limit");
	step->keep_result = !PG_ARGISNULL(rest + 3) && PG_GETARG_BOOL(rest + 3);
}

static void
must_not_be_null(const char *place)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s: must not be NULL", place),
			 errhint("An empty address, '', means that nobody is called.")));
}

/* Text and json byte for byte, jsonb in its own normal form. */
static bytea *
payload_argument(FunctionCallInfo fcinfo, int n)
{
	char	   *json;

	switch (get_fn_expr_argtype(fcinfo->flinfo, n))
	{
		case JSONBOID:
			{
				Jsonb	   *jsonb = PG_GETARG_JSONB_P(n);

				json = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
				break;
			}
		case JSONOID:
			json = text_to_cstring(PG_GETARG_TEXT_PP(n));
			break;
		default:
			json = text_to_cstring(PG_GETARG_TEXT_PP(n));
			dtm_check_json(json, "argument payload");
			break;
	}
	return dtm_payload_of_text(json);
}

bytea *
dtm_payload_of_text(const char *json)
{
	char	   *utf8 = pg_server_to_any(json, strlen(json), PG_UTF8);
	int			size = strlen(utf8);
	bytea	   *payload = palloc(VARHDRSZ + size);

	SET_VARSIZE(payload, VARHDRSZ + size);
	memcpy(VARDATA(payload), utf8, size);
	return payload;
}

int
dtm_read_steps(ArrayType *array, const DtmStepKind *kind, DtmStep **steps)
{
	Oid			type = ARR_ELEMTYPE(array);
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (desc->natts != kind->naddresses + STEP_REST)
		elog(ERROR, "%s is not the type that this library knows", kind->type);
	deconstruct_array(array, type, -1, false, TYPALIGN_DOUBLE, &elements, &nulls,
					  &n);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("steps: must not be empty"),
				 errhint("%s", kind->example)));

	*steps = palloc(n * sizeof(DtmStep));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("step %d: must not be NULL", i + 1),
					 errhint("Write %s, which calls nobody, for a step without effect.",
							 kind->nobody)));
		read_step(DatumGetHeapTupleHeader(elements[i]), desc, kind, i + 1,
				  &(*steps)[i]);
		check_form(kind, &(*steps)[i], i + 1);
	}
	ReleaseTupleDesc(desc);
	return n;
}

static void
read_step(HeapTupleHeader header, TupleDesc desc, const DtmStepKind *kind,
		  int number, DtmStep *step)
{
	HeapTupleData tuple;
	Datum		values[STEP_COLUMNS];
	bool		nulls[STEP_COLUMNS];
	Datum	   *rest = values + kind->naddresses;
	bool	   *rest_null = nulls + kind->naddresses;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, nulls);

	memset(step, 0, sizeof(*step));
	for (int i = 0; i < kind->naddresses; i++)
	{
		if (nulls[i])
			must_not_be_null(dtm_place(number, kind->address[i].name));
		step->address[kind->address[i].phase] = DatumGetTextPP(values[i]);
	}
	if (!rest_null[STEP_PAYLOAD])
		step->payload = DatumGetByteaPP(rest[STEP_PAYLOAD]);
	if (!rest_null[STEP_HEADERS])
		step->headers = DatumGetJsonbP(rest[STEP_HEADERS]);
	if (!rest_null[STEP_REQUEST_TIMEOUT])
		step->request_timeout = DatumGetIntervalP(rest[STEP_REQUEST_TIMEOUT]);
	if (!rest_null[STEP_RETRY_LIMIT])
		step->retry_limit = dtm_retry_limit(DatumGetInt32(rest[STEP_RETRY_LIMIT]),
											dtm_place(number, "retry_limit"));
	step->keep_result = !rest_null[STEP_KEEP_RESULT] &&
		DatumGetBool(rest[STEP_KEEP_RESULT]);
}

void
dtm_check_step(Oid user, const DtmStepKind *kind, const DtmStep *step,
			   int number)
{
	dtm_check_addresses(user, kind, step, number);
	check_form(kind, step, number);
}

void
dtm_check_addresses(Oid user, const DtmStepKind *kind, const DtmStep *step,
					int number)
{
	for (int i = 0; i < kind->naddresses; i++)
	{
		text	   *address = step->address[kind->address[i].phase];

		/* The subscribers are checked when they take the topic's place. */
		if (!kind->message || !dtm_is_topic(address))
			dtm_check_address(user, address, step->payload, number,
							  kind->address[i].name);
	}
}

static void
check_form(const DtmStepKind *kind, const DtmStep *step, int number)
{
	if (kind->message)
		check_message(step, number);
	if (step->headers != NULL)
		dtm_check_headers(step->headers, dtm_place(number, "headers"));
	if (step->request_timeout != NULL)
		(void) dtm_interval_us(step->request_timeout,
							   dtm_place(number, "request_timeout"));
}

static void
check_message(const DtmStep *step, int number)
{
	text	   *compensate = step->address[DTM_BACKWARD];

	if (compensate != NULL && VARSIZE_ANY_EXHDR(compensate) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: a message is never undone",
						dtm_place(number, "compensate")),
				 errhint("Leave it out, or start a saga: dtm.saga(...).")));
}

static Datum
address_value(const DtmStep *step, DtmPhase phase)
{
	text	   *address = step->address[phase];

	return PointerGetDatum(address != NULL ? address : cstring_to_text(""));
}

void
dtm_store_steps(int64 id, int first, const DtmStep *steps, int nsteps)
{
	Datum		values[BRANCH_ROWS * BRANCH_COLUMNS];
	char		nulls[BRANCH_ROWS * BRANCH_COLUMNS];

	/* Rows as plain parameters: for few of them faster than arrays. */
	for (int done = 0; done < nsteps;)
	{
		int			nrows = Min(nsteps - done, BRANCH_ROWS);
		int			rc;

		for (int row = 0; row < nrows; row++)
		{
			const DtmStep *step = &steps[done + row];
			int			branch = first + done + row;
			Datum	   *value = &values[row * BRANCH_COLUMNS];
			char	   *null = &nulls[row * BRANCH_COLUMNS];
			char		number[16];

			snprintf(number, sizeof(number), "%02d", branch + 1);
			memset(null, ' ', BRANCH_COLUMNS);
			value[0] = Int64GetDatum(id);
			value[1] = Int32GetDatum(branch);
			value[2] = CStringGetTextDatum(step->branch_id != NULL ?
										   step->branch_id : number);
			value[3] = address_value(step, DTM_FORWARD);
			value[4] = address_value(step, DTM_BACKWARD);
			value[5] = PointerGetDatum(step->predecessors);
			value[6] = IntervalPGetDatum(step->request_timeout);
			value[7] = Int32GetDatum(step->retry_limit);
			value[8] = JsonbPGetDatum(step->headers);
			value[9] = PointerGetDatum(step->payload);
			value[10] = address_value(step, DTM_TRY);
			value[11] = BoolGetDatum(step->keep_result);
			value[12] = PointerGetDatum(step->uses);
			if (step->predecessors == NULL)
				null[5] = 'n';
			if (step->request_timeout == NULL)
				null[6] = 'n';
			if (step->retry_limit == 0)
				null[7] = 'n';
			if (step->headers == NULL)
				null[8] = 'n';
			if (step->payload == NULL)
				null[9] = 'n';
			if (step->uses == NULL)
				null[12] = 'n';
		}
		rc = SPI_execute_plan(insert_plan(nrows), values, nulls, false, 0);
		if (rc != SPI_OK_INSERT)
			elog(ERROR, "could not store branches: %s",
				 SPI_result_code_string(rc));
		done += nrows;
	}
}

/* INSERT INTO dtm.branch VALUES ($1, ...), ($13, ...), ..., once per length. */
static SPIPlanPtr
insert_plan(int nrows)
{
	static const Oid column_types[BRANCH_COLUMNS] = {
		INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4ARRAYOID, INTERVALOID,
		INT4OID, JSONBOID, BYTEAOID, TEXTOID, BOOLOID, INT4ARRAYOID
	};
	static SPIPlanPtr plans[BRANCH_ROWS + 1];

	if (plans[nrows] == NULL)
	{
		Oid			types[BRANCH_ROWS * BRANCH_COLUMNS];
		StringInfoData sql;
		SPIPlanPtr	plan;

		initStringInfo(&sql);
		appendStringInfoString(&sql,
							   "INSERT INTO dtm.branch (id, branch, branch_id, "
							   "forward, backward, predecessors, request_timeout, "
							   "retry_limit, branch_headers, payload, try, "
							   "keep_result, uses) VALUES ");
		for (int row = 0; row < nrows; row++)
		{
			for (int i = 0; i < BRANCH_COLUMNS; i++)
			{
				int			parameter = row * BRANCH_COLUMNS + i;

				appendStringInfo(&sql, "%s$%d",
								 i > 0 ? ", " : row > 0 ? "), (" : "(",
								 parameter + 1);
				types[parameter] = column_types[i];
			}
		}
		appendStringInfoChar(&sql, ')');
		plan = SPI_prepare_cursor(sql.data, nrows * BRANCH_COLUMNS, types,
								  CURSOR_OPT_GENERIC_PLAN);
		if (plan == NULL)
			elog(ERROR, "could not prepare the insertion of branches: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[nrows] = plan;
	}
	return plans[nrows];
}
