/*
 * api_saga.c: begin sagas: dtm.saga, dtm.saga_begin, dtm.saga_branch.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "api_placeholder.h"
#include "api_start.h"

PG_FUNCTION_INFO_V1(dtm_saga);
PG_FUNCTION_INFO_V1(dtm_saga_new);
PG_FUNCTION_INFO_V1(dtm_saga_begin);
PG_FUNCTION_INFO_V1(dtm_saga_begin_new);
PG_FUNCTION_INFO_V1(dtm_saga_branch);

static const DtmOption saga_options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS, DTM_CONCURRENT, DTM_ORDERS,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

static const DtmOption begin_options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS, DTM_CONCURRENT,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

static Datum start_saga(FunctionCallInfo fcinfo, bool given);
static Datum begin_saga(FunctionCallInfo fcinfo, bool given);

/* saga(gid, steps, ...options) */
Datum
dtm_saga(PG_FUNCTION_ARGS)
{
	return start_saga(fcinfo, true);
}

/* saga(steps, ...options) */
Datum
dtm_saga_new(PG_FUNCTION_ARGS)
{
	return start_saga(fcinfo, false);
}

static Datum
start_saga(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_SAGA};
	int			next = dtm_gid_or_new(fcinfo, given, &start);
	DtmApi		api;
	DtmStep    *steps;
	int			nsteps;
	int64		id;

	dtm_read_options(fcinfo, next + 1, saga_options, &start.options);
	dtm_api_begin(&api);
	nsteps = dtm_steps_argument(fcinfo, next, &dtm_saga_kind, &steps);
	if (start.options.orders != NULL)
	{
		dtm_read_orders(start.options.orders, steps, nsteps);
		start.options.concurrent = true;
	}
	dtm_check_uses(DTM_SAGA, start.options.concurrent, steps, nsteps);
	id = dtm_start(&api, &start, &dtm_saga_kind, steps, nsteps);
	if (id != 0)
		dtm_store_start(id, steps, nsteps);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(start.gid);
}

/* saga_begin(gid, ...options but orders) */
Datum
dtm_saga_begin(PG_FUNCTION_ARGS)
{
	return begin_saga(fcinfo, true);
}

Datum
dtm_saga_begin_new(PG_FUNCTION_ARGS)
{
	return begin_saga(fcinfo, false);
}

static Datum
begin_saga(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_SAGA};
	int			next = dtm_gid_or_new(fcinfo, given, &start);

	dtm_read_options(fcinfo, next, begin_options, &start.options);
	dtm_begin(&start);
	PG_RETURN_TEXT_P(start.gid);
}

/* saga_branch(gid, ...a step's arguments, after), in all forms of a step */
Datum
dtm_saga_branch(PG_FUNCTION_ARGS)
{
	int			last = PG_NARGS() - 1;
	ArrayType  *after = PG_ARGISNULL(last) ? NULL : PG_GETARG_ARRAYTYPE_P(last);
	text	   *gid;
	DtmStep		step;
	DtmPlace	place;
	DtmApi		api;

	gid = dtm_given_gid(fcinfo, 0, "Pass what dtm.saga_begin returned.");
	dtm_step_of_arguments(fcinfo, 1, last - 1, &dtm_saga_kind, &step);

	dtm_api_begin(&api);
	dtm_make_place(&api, gid, DTM_SAGA, &place);
	dtm_check_step(place.found.owner, &dtm_saga_kind, &step, 0);
	if (after != NULL)
	{
		if (!place.found.concurrent)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("after: saga \"%s\" is not concurrent",
							text_to_cstring(gid)),
					 errdetail("Its branches run one after the other."),
					 errhint("Begin it with concurrent => true.")));
		step.predecessors = dtm_read_after(after, place.branch);
	}
	dtm_check_uses_in_place(&place, &step, 1);
	dtm_fill_place(&place, &step, 1);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%02d", place.branch + 1)));
}
