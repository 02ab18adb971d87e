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

static Datum start_tcc(FunctionCallInfo fcinfo, DtmStart *start, int first);
static Datum begin_tcc(FunctionCallInfo fcinfo, text *gid, int first);

/* tcc(gid, steps, ...options) */
Datum
dtm_tcc(PG_FUNCTION_ARGS)
{
	DtmStart	start = {.mode = DTM_TCC, .driven = true};

	start.gid = dtm_given_gid(fcinfo, 0, "Leave the gid out to get a new one.");
	return start_tcc(fcinfo, &start, 1);
}

/* tcc(steps, ...options) */
Datum
dtm_tcc_new(PG_FUNCTION_ARGS)
{
	DtmStart	start = {.mode = DTM_TCC, .driven = true, .gid_is_new = true};

	start.gid = dtm_make_gid();
	return start_tcc(fcinfo, &start, 0);
}

static Datum
start_tcc(FunctionCallInfo fcinfo, DtmStart *start, int first)
{
	DtmApi		api;
	DtmStep    *steps;
	int			nsteps;
	int64		id;

	dtm_read_options(fcinfo, first + 1, tcc_options, &start->options);
	dtm_api_begin(&api);
	nsteps = dtm_steps_argument(fcinfo, first, api.user, &dtm_tcc_kind, &steps);
	dtm_check_uses(DTM_TCC, start->options.concurrent, steps, nsteps);
	id = dtm_start(&api, start, steps, nsteps);
	if (id != 0)
		dtm_store_start(id, steps, nsteps);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(start->gid);
}

/* tcc_begin(gid, ...options) */
Datum
dtm_tcc_begin(PG_FUNCTION_ARGS)
{
	return begin_tcc(fcinfo,
					 dtm_given_gid(fcinfo, 0, "Leave the gid out to get a new one."),
					 1);
}

Datum
dtm_tcc_begin_new(PG_FUNCTION_ARGS)
{
	return begin_tcc(fcinfo, dtm_make_gid(), 0);
}

static Datum
begin_tcc(FunctionCallInfo fcinfo, text *gid, int first)
{
	DtmStart	start = {.mode = DTM_TCC, .gid = gid};

	dtm_read_options(fcinfo, first, tcc_options, &start.options);
	dtm_begin(&start);
	PG_RETURN_TEXT_P(gid);
}

/* tcc_branch(gid, confirm, cancel, ..., parent, branch_id), payload in all forms */
Datum
dtm_tcc_branch(PG_FUNCTION_ARGS)
{
	int			parent_at = PG_NARGS() - 2;
	const char *parent = "";
	const char *wanted = NULL;
	text	   *gid;
	DtmStep		step;
	DtmPlace	place;
	DtmApi		api;

	gid = dtm_given_gid(fcinfo, 0, "Pass what dtm.tcc_begin returned.");
	dtm_step_of_arguments(fcinfo, 1, parent_at - 1, &dtm_tcc_branch_kind, &step);
	if (!PG_ARGISNULL(parent_at))
		parent = text_to_cstring(PG_GETARG_TEXT_PP(parent_at));
	if (!PG_ARGISNULL(parent_at + 1))
		wanted = text_to_cstring(PG_GETARG_TEXT_PP(parent_at + 1));

	dtm_api_begin(&api);
	dtm_make_place(&api, gid, DTM_TCC, &place);
	dtm_check_step(place.found.owner, &dtm_tcc_branch_kind, &step, 0);
	dtm_check_uses_in_place(&place, &step, 1);
	if (dtm_name_branch(&place, &step, parent, wanted))
		dtm_fill_place(&place, &step, 1);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(cstring_to_text(step.branch_id));
}
