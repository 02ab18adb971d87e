/*
 * api_tcc.c: try, then confirm or cancel: dtm.tcc, dtm.tcc_begin,
 * dtm.tcc_branch.
 *
 * dtm.tcc gives all addresses away, and dtm calls the tries. Otherwise the
 * application registers a branch, then calls its try, and at last submits or
 * aborts; a branch must be registered, and committed, before its try runs.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "api_branch_id.h"
#include "api_placeholder.h"
#include "api_start.h"

PG_FUNCTION_INFO_V1(dtm_tcc);
PG_FUNCTION_INFO_V1(dtm_tcc_new);
PG_FUNCTION_INFO_V1(dtm_tcc_begin);
PG_FUNCTION_INFO_V1(dtm_tcc_begin_new);
PG_FUNCTION_INFO_V1(dtm_tcc_branch);

static const DtmOption tcc_options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS, DTM_CONCURRENT,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

static Datum start_tcc(FunctionCallInfo fcinfo, bool given);
static Datum begin_tcc(FunctionCallInfo fcinfo, bool given);

/* tcc(gid, steps, ...options) */
Datum
dtm_tcc(PG_FUNCTION_ARGS)
{
	return start_tcc(fcinfo, true);
}

/* tcc(steps, ...options) */
Datum
dtm_tcc_new(PG_FUNCTION_ARGS)
{
	return start_tcc(fcinfo, false);
}

static Datum
start_tcc(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_TCC, .driven = true};
	int			next = dtm_gid_or_new(fcinfo, given, &start);
	DtmApi		api;
	DtmStep    *steps;
	int			nsteps;
	int64		id;

	dtm_read_options(fcinfo, next + 1, tcc_options, &start.options);
	dtm_api_begin(&api);
	nsteps = dtm_steps_argument(fcinfo, next, &dtm_tcc_kind, &steps);
	dtm_check_uses(DTM_TCC, start.options.concurrent, steps, nsteps);
	id = dtm_start(&api, &start, &dtm_tcc_kind, steps, nsteps);
	if (id != 0)
		dtm_store_start(id, steps, nsteps);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(start.gid);
}

/* tcc_begin(gid, ...options) */
Datum
dtm_tcc_begin(PG_FUNCTION_ARGS)
{
	return begin_tcc(fcinfo, true);
}

Datum
dtm_tcc_begin_new(PG_FUNCTION_ARGS)
{
	return begin_tcc(fcinfo, false);
}

static Datum
begin_tcc(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_TCC};
	int			next = dtm_gid_or_new(fcinfo, given, &start);

	dtm_read_options(fcinfo, next, tcc_options, &start.options);
	dtm_begin(&start);
	PG_RETURN_TEXT_P(start.gid);
}

/* tcc_branch(gid, confirm, cancel, ..., parent, branch_id), payload in all forms */
Datum
dtm_tcc_branch(PG_FUNCTION_ARGS)
{
	int			parent_at = PG_NARGS() - 2;
	text	   *gid;
	text	   *branch_id;
	DtmStep		step;
	DtmPlace	place;
	DtmApi		api;

	gid = dtm_given_gid(fcinfo, 0, "Pass what dtm.tcc_begin returned.");
	dtm_step_of_arguments(fcinfo, 1, parent_at - 1, &dtm_tcc_branch_kind, &step);

	dtm_api_begin(&api);
	dtm_make_place(&api, gid, DTM_TCC, &place);
	branch_id = dtm_add_branch(fcinfo, parent_at, &place, &dtm_tcc_branch_kind,
							   &step);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(branch_id);
}
