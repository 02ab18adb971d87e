/*
 * api_query.c: status, query and wait: how a global transaction is getting on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "api_common.h"
#include "api_wait.h"
#include "compat.h"
#include "decide.h"
#include "json_value.h"
#include "pending.h"
#include "shmem.h"

/* Outcomes are announced; this only bounds the harm of a lost announcement. */
#define LOOK_AGAIN_MS	1000

/* Payloads are shown up to this size. */
#define SHOWN_PAYLOAD	(1024 * 1024)
#define SHOWN_TEXT		(4 * SHOWN_PAYLOAD)	/* as jsonb writes it */

PG_FUNCTION_INFO_V1(dtm_status);
PG_FUNCTION_INFO_V1(dtm_query);
PG_FUNCTION_INFO_V1(dtm_wait);
PG_FUNCTION_INFO_V1(dtm_payload_json);

static bool is_text(const char *bytes, int size);

Datum
dtm_status(PG_FUNCTION_ARGS)
{
	text	   *gid = PG_GETARG_TEXT_PP(0);
	DtmApi		api;
	DtmFound	found;

	dtm_api_begin(&api);
	dtm_api_must_find(&api, gid, DTM_RIGHT_READ, DTM_LOOK_STATEMENT, &found);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
}

Datum
dtm_query(PG_FUNCTION_ARGS)
{
	text	   *gid = PG_GETARG_TEXT_PP(0);
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext old;
	Datum		values[1];
	DtmApi		api;
	DtmFound	found;
	bool		isnull;
	Datum		result;

	dtm_api_begin(&api);
	dtm_api_must_find(&api, gid, DTM_RIGHT_READ, DTM_LOOK_STATEMENT, &found);
	values[0] = Int64GetDatum(found.id);
	if (dtm_api_lookup(DTM_PLAN_QUERY, values, NULL) == 0)
		dtm_unknown_gid(gid);
	result = dtm_api_value(1, &isnull);
	if (isnull)
		dtm_unknown_gid(gid);
	old = MemoryContextSwitchTo(caller);
	result = PointerGetDatum(PG_DETOAST_DATUM_COPY(result));
	MemoryContextSwitchTo(old);
	dtm_api_end(&api);
	PG_RETURN_DATUM(result);
}

/* wait(gid, timeout): the final status, or NULL when the time is over. */
Datum
dtm_wait(PG_FUNCTION_ARGS)
{
	text	   *gid;
	int64		timeout_us;
	DtmApi		api;
	DtmFound	found;
	DtmOutcome	outcome;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("The view dtm.transactions lists your global transactions.")));
	gid = PG_GETARG_TEXT_PP(0);
	timeout_us = dtm_wait_timeout(PG_ARGISNULL(1) ? NULL :
								  PG_GETARG_INTERVAL_P(1));

	dtm_api_begin(&api);
	dtm_api_must_find(&api, gid, DTM_RIGHT_READ, DTM_LOOK_NOW, &found);
	dtm_api_end(&api);

	if (dtm_status_is_final(found.status))
		PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
	if (dtm_pending_contains(found.id))
		ereport(ERROR,
				(errcode(ERRCODE_DTM_ILLEGAL),
				 errmsg("cannot wait for global transaction \"%s\" in the transaction that changed it",
						text_to_cstring(gid)),
				 errdetail("Its branches are called after this transaction has committed."),
				 errhint("COMMIT first, or use CALL dtm.submit(gid, wait_result => true).")));

	outcome = dtm_wait_for(gid, found.id, timeout_us);
	if (!dtm_status_is_final(outcome.status))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(outcome.status)));
}

int64
dtm_wait_timeout(const Interval *timeout)
{
	if (timeout == NULL)
		return -1;
	/* Nothing at all is a fair question: has it ended? */
	if (timeout->month == 0 && timeout->day == 0 && timeout->time == 0)
		return 0;
	return dtm_interval_us(timeout, "timeout");
}

DtmOutcome
dtm_wait_for(text *gid, int64 id, int64 timeout_us)
{
	static uint32 wait_event = 0;
	uint32		event = dtm_wait_event(&wait_event, "DtmOutcome");
	TimestampTz begin = GetCurrentTimestamp();
	bool		announced = dtm_shmem_ready();
	DtmOutcome	outcome = {0};

	/* Be on the list before looking: nothing can end unseen in between. */
	if (announced)
		ConditionVariablePrepareToSleep(dtm_outcome_cv(id));
	for (;;)
	{
		MemoryContext caller = CurrentMemoryContext;
		int64		left_ms = LOOK_AGAIN_MS;
		DtmApi		api;
		DtmFound	found;

		dtm_api_begin(&api);
		if (!dtm_api_find(&api, gid, DTM_RIGHT_NONE, DTM_LOOK_NOW, &found) ||
			found.id != id)
			dtm_unknown_gid(gid);
		outcome.status = found.status;
		if (found.reason != NULL && dtm_status_is_final(found.status))
			outcome.reason = MemoryContextStrdup(caller, found.reason);
		dtm_api_end(&api);

		/* It would hold back vacuum while we sleep. */
		InvalidateCatalogSnapshot();

		if (dtm_status_is_final(outcome.status))
			break;
		if (timeout_us >= 0)
		{
			int64		left_us = begin + timeout_us - GetCurrentTimestamp();

			if (left_us <= 0)
				break;
			left_ms = Min(left_ms, (left_us + 999) / 1000);
		}
		if (announced)
			(void) ConditionVariableTimedSleep(dtm_outcome_cv(id),
											   (long) left_ms, event);
		else
		{
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 (long) left_ms, event);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	if (announced)
		ConditionVariableCancelSleep();
	return outcome;
}

/*
 * payload_json(bytea) -> jsonb: a payload for people: JSON as it is, text as a
 * string, other bytes as {"base64": ...}, NULL when it is too long to show. JSON
 * with numbers of so many digits that all of them are too long is text as well.
 */
Datum
dtm_payload_json(PG_FUNCTION_ARGS)
{
	bytea	   *payload = PG_GETARG_BYTEA_PP(0);
	int			size = VARSIZE_ANY_EXHDR(payload);
	char	   *bytes = VARDATA_ANY(payload);
	StringInfoData json;
	Datum		value;

	if (size > SHOWN_PAYLOAD)
		PG_RETURN_NULL();
	if (is_text(bytes, size))
	{
		char	   *copy = pnstrdup(bytes, size);

		if (dtm_try_input(jsonb_in, copy, size, &value) &&
			dtm_json_text_size(&DatumGetJsonbP(value)->root) <= SHOWN_TEXT)
			PG_RETURN_DATUM(value);
		initStringInfo(&json);
		escape_json(&json, copy);
		if (dtm_try_input(jsonb_in, json.data, json.len, &value))
			PG_RETURN_DATUM(value);
	}
	initStringInfo(&json);
	appendStringInfo(&json, "{\"base64\": ");
	escape_json(&json,
				TextDatumGetCString(DirectFunctionCall2(binary_encode,
														PointerGetDatum(payload),
														CStringGetTextDatum("base64"))));
	appendStringInfoChar(&json, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* Can this database show it as characters? Payloads are UTF-8, if text at all. */
static bool
is_text(const char *bytes, int size)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return pg_verify_mbstr(PG_UTF8, bytes, size, true);
	for (int i = 0; i < size; i++)
	{
		if (bytes[i] == '\0' || IS_HIGHBIT_SET(bytes[i]))
			return false;
	}
	return true;
}
