/*
 * api_xa.c: XA over HTTP, in dtm's form: dtm.xa_begin, dtm.xa_branch.
 *
 * A participant registers the URL of its second phase from inside its own
 * local transaction, and then prepares that. The URL is called with op=commit
 * or op=rollback; neither can be refused.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "address.h"
#include "api_branch_id.h"
#include "api_start.h"

PG_FUNCTION_INFO_V1(dtm_xa_begin);
PG_FUNCTION_INFO_V1(dtm_xa_begin_new);
PG_FUNCTION_INFO_V1(dtm_xa_branch);

static const DtmOption xa_options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

/* A url in the place of two addresses: of commit, and of rollback. */
static const DtmStepKind xa_kind = {
	.naddresses = 1,
	.address = {{"url", DTM_FORWARD}}
};

static Datum begin_xa(FunctionCallInfo fcinfo, bool given);
static void read_branch(FunctionCallInfo fcinfo, DtmStep *step);

/* xa_begin(gid, ...options) */
Datum
dtm_xa_begin(PG_FUNCTION_ARGS)
{
	return begin_xa(fcinfo, true);
}

Datum
dtm_xa_begin_new(PG_FUNCTION_ARGS)
{
	return begin_xa(fcinfo, false);
}

static Datum
begin_xa(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_XA};
	int			next = dtm_gid_or_new(fcinfo, given, &start);

	dtm_read_options(fcinfo, next, xa_options, &start.options);
	dtm_begin(&start);
	PG_RETURN_TEXT_P(start.gid);
}

/* xa_branch(gid, url, headers, request_timeout, retry_limit, parent, branch_id) */
Datum
dtm_xa_branch(PG_FUNCTION_ARGS)
{
	text	   *gid;
	text	   *branch_id;
	DtmStep		step;
	DtmPlace	place;
	DtmApi		api;

	gid = dtm_given_gid(fcinfo, 0, "Pass what dtm.xa_begin returned.");
	read_branch(fcinfo, &step);

	dtm_api_begin(&api);
	dtm_make_place(&api, gid, DTM_XA, &place);
	branch_id = dtm_add_branch(fcinfo, 5, &place, &xa_kind, &step);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(branch_id);
}

static void
read_branch(FunctionCallInfo fcinfo, DtmStep *step)
{
	DtmAddress	address;
	const char *reason = "";
	char	   *url;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("url: must not be NULL"),
				 errhint("Pass the address at which this branch is committed or rolled back.")));
	/* What is prepared over there must be ended over there: nobody is wrong. */
	url = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (dtm_address_parse(url, &address, &reason) &&
		address.transport != DTM_CALL_HTTP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("url: cannot call \"%s\"", url),
				 errhint("The second phase of an xa branch is called at http://... or https://...")));

	memset(step, 0, sizeof(*step));
	step->address[DTM_FORWARD] = PG_GETARG_TEXT_PP(1);
	step->address[DTM_BACKWARD] = PG_GETARG_TEXT_PP(1);
	if (!PG_ARGISNULL(2))
		step->headers = PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(3))
		step->request_timeout = PG_GETARG_INTERVAL_P(3);
	if (!PG_ARGISNULL(4))
		step->retry_limit = dtm_retry_limit(PG_GETARG_INT32(4), "retry_limit");
}
