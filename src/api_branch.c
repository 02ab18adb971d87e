/*
 * api_branch.c: what a SQL branch says and asks: fail, ongoing,
 * current_branch.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "api_common.h"
#include "branch_context.h"

PG_FUNCTION_INFO_V1(dtm_fail);
PG_FUNCTION_INFO_V1(dtm_ongoing);
PG_FUNCTION_INFO_V1(dtm_current_branch);

Datum
dtm_fail(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_DTM_REFUSED),
			 errmsg("%s", PG_ARGISNULL(0) ? "refused" :
					text_to_cstring(PG_GETARG_TEXT_PP(0))),
			 errhint("A branch has refused: its global transaction is rolled back.")));
	PG_RETURN_VOID();
}

Datum
dtm_ongoing(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_DTM_ONGOING),
			 errmsg("%s", PG_ARGISNULL(0) ? "not finished yet" :
					text_to_cstring(PG_GETARG_TEXT_PP(0))),
			 errhint("A branch wants to be asked again after retry_interval.")));
	PG_RETURN_VOID();
}

/* current_branch(OUT gid, OUT branch_id, OUT op, OUT trans_type) */
Datum
dtm_current_branch(PG_FUNCTION_ARGS)
{
	const DtmBranchContext *branch = &DtmCurrentBranch;
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		nulls[4] = {true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "dtm.current_branch must return a record");
	if (branch->active)
	{
		values[0] = CStringGetTextDatum(branch->gid);
		values[1] = CStringGetTextDatum(branch->branch_id);
		values[2] = CStringGetTextDatum(branch->op);
		values[3] = CStringGetTextDatum(branch->trans_type);
		memset(nulls, false, sizeof(nulls));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
