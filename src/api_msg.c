/*
 * api_msg.c: messages: dtm.msg, dtm.msg_begin, dtm.msg_branch.
 *
 * dtm.msg stands in the transaction of the business: its commit is the
 * message. dtm.msg_begin is for those whose business is elsewhere: until they
 * submit, the message only stands ready, and in the end the business itself is
 * asked, at query_prepared.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "address.h"
#include "api_msg.h"
#include "api_placeholder.h"
#include "api_topic.h"

PG_FUNCTION_INFO_V1(dtm_msg);
PG_FUNCTION_INFO_V1(dtm_msg_new);
PG_FUNCTION_INFO_V1(dtm_msg_begin);
PG_FUNCTION_INFO_V1(dtm_msg_branch);

static const DtmOption msg_options[] = {
	DTM_DELAY, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT, DTM_RETRY_LIMIT,
	DTM_BRANCH_HEADERS, DTM_CONCURRENT,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

static const DtmOption begin_options[] = {
	DTM_TIMEOUT_TO_FAIL, DTM_DELAY, DTM_RETRY_INTERVAL, DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT, DTM_BRANCH_HEADERS, DTM_CONCURRENT,
	DTM_ON_SUCCESS, DTM_ON_FAILURE, DTM_OPTIONS_END
};

static Datum start_msg(FunctionCallInfo fcinfo, bool given);
static text *given_query_prepared(FunctionCallInfo fcinfo, int n);

/* msg(gid, steps, ...options) */
Datum
dtm_msg(PG_FUNCTION_ARGS)
{
	return start_msg(fcinfo, true);
}

/* msg(steps, ...options) */
Datum
dtm_msg_new(PG_FUNCTION_ARGS)
{
	return start_msg(fcinfo, false);
}

static Datum
start_msg(FunctionCallInfo fcinfo, bool given)
{
	DtmStart	start = {.mode = DTM_MSG};
	int			next = dtm_gid_or_new(fcinfo, given, &start);
	DtmApi		api;
	DtmStep    *steps;
	int			nsteps;

	dtm_read_options(fcinfo, next + 1, msg_options, &start.options);
	dtm_api_begin(&api);
	nsteps = dtm_steps_argument(fcinfo, next, &dtm_msg_kind, &steps);
	dtm_send(&api, &start, &dtm_msg_kind, steps, nsteps);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(start.gid);
}

void
dtm_send(const DtmApi *api, const DtmStart *start, const DtmStepKind *kind,
		 const DtmStep *steps, int nsteps)
{
	int64		id = dtm_start(api, start, kind, steps, nsteps);
	DtmStep    *expanded;
	int			n;

	/* A repeat is one whoever has subscribed since. */
	if (id == 0)
		return;
	n = dtm_expand_topics(api->user, steps, nsteps, 1, &expanded);
	dtm_check_uses(DTM_MSG, start->options.concurrent, expanded, n);
	dtm_store_start(id, expanded, n);
}

/* msg_begin(gid, query_prepared, ...options) */
Datum
dtm_msg_begin(PG_FUNCTION_ARGS)
{
	DtmStart	start = {.mode = DTM_MSG};

	start.gid = dtm_given_gid(fcinfo, 0, "Pass dtm.new_gid() to get a new one.");
	start.query_prepared = given_query_prepared(fcinfo, 1);
	dtm_read_options(fcinfo, 2, begin_options, &start.options);
	dtm_begin(&start);
	PG_RETURN_TEXT_P(start.gid);
}

/* A question to the application, so over HTTP; '' and NULL: nobody is asked. */
static text *
given_query_prepared(FunctionCallInfo fcinfo, int n)
{
	DtmAddress	address;
	const char *reason = "";
	char	   *url;

	if (PG_ARGISNULL(n) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(n)) == 0)
		return NULL;
	url = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (dtm_address_parse(url, &address, &reason) &&
		address.transport != DTM_CALL_HTTP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query_prepared: cannot ask \"%s\"", url),
				 errhint("It is asked at http://... or https://... For business in this database use dtm.msg(...) in its transaction: nobody needs to be asked.")));
	return PG_GETARG_TEXT_PP(n);
}

/* msg_branch(gid, action, payload, ...), payload in all forms */
Datum
dtm_msg_branch(PG_FUNCTION_ARGS)
{
	int			number = 1;
	text	   *gid;
	DtmStep		step;
	DtmStep    *expanded;
	int			n;
	DtmPlace	place;
	DtmApi		api;

	gid = dtm_given_gid(fcinfo, 0, "Pass what dtm.msg_begin returned.");
	dtm_step_of_arguments(fcinfo, 1, PG_NARGS() - 1, &dtm_msg_branch_kind, &step);

	dtm_api_begin(&api);
	dtm_make_place(&api, gid, DTM_MSG, &place);
	dtm_check_step(place.found.owner, &dtm_msg_branch_kind, &step, 0);
	/* Behind a topic there are more branches than numbers: 01-01, 01-02. */
	if (place.last_id != NULL)
		number = atoi(place.last_id) + 1;
	n = dtm_expand_topics(place.found.owner, &step, 1, number, &expanded);
	dtm_check_uses_in_place(&place, expanded, n);
	dtm_fill_place(&place, expanded, n);
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%02d", number)));
}
