/*
 * api_start.c: begin a global transaction of any mode, and register branches.
 *
 * What is stored is in the caller's own transaction: if it rolls back, nobody is
 * ever called; and an error rolls it back.
 *
 * The form of all arguments is checked before anything is stored, but rights and
 * secrets only after, when it turned out to be new: to repeat the beginning of
 * what exists calls nobody, so it goes on when a right was taken back since.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_start.h"
#include "debug_point.h"
#include "pending.h"
#include "secret.h"
#include "settings.h"

/* 128 bits over everything that a start was given. */
typedef struct Digest
{
	uint64		half[2];
} Digest;

static text *statement_argument(FunctionCallInfo fcinfo, int n,
								const char *argument);
static int64 insert(const DtmApi *api, const DtmStart *start, bool one_call,
					const Digest *digest);
static void check_rights(const DtmApi *api, const DtmStart *start);
static bool is_there(const DtmStart *start);
static Interval *time_to_prepare(const DtmStart *start);
static void check_owner(const DtmApi *api, const text *gid,
						const DtmFound *found);
static bool is_repeat(const DtmApi *api, const DtmStart *start,
					  const Digest *digest);
static const char *what_it_is_not(DtmMode mode);
static void digest_start(const DtmStart *start, const DtmStep *steps,
						 int nsteps, Digest *digest);
static void digest_bytes(Digest *digest, const void *bytes, int size);
static void digest_varlena(Digest *digest, const void *value);
static void digest_interval(Digest *digest, const Interval *interval);

text *
dtm_given_gid(FunctionCallInfo fcinfo, int n, const char *hint)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("%s", hint)));
	dtm_check_gid(PG_GETARG_TEXT_PP(n));
	return PG_GETARG_TEXT_PP(n);
}

int
dtm_gid_or_new(FunctionCallInfo fcinfo, bool given, DtmStart *start)
{
	start->gid_is_new = !given;
	start->gid = given ?
		dtm_given_gid(fcinfo, 0, "Leave the gid out to get a new one.") :
		dtm_make_gid();
	return given ? 1 : 0;
}

void
dtm_read_options(FunctionCallInfo fcinfo, int first, const DtmOption *list,
				 DtmOptions *options)
{
	memset(options, 0, sizeof(*options));
	for (int n = first; *list != DTM_OPTIONS_END; n++, list++)
	{
		if (PG_ARGISNULL(n))
			continue;
		switch (*list)
		{
			case DTM_TIMEOUT_TO_FAIL:
				options->timeout_to_fail = PG_GETARG_INTERVAL_P(n);
				options->timeout_us = dtm_interval_us(options->timeout_to_fail,
													  "timeout_to_fail");
				break;
			case DTM_DELAY:
				options->delay = PG_GETARG_INTERVAL_P(n);
				if (options->delay->time == 0 && options->delay->day == 0 &&
					options->delay->month == 0)
					options->delay = NULL;	/* at once: the default */
				else
					options->delay_us = dtm_interval_us(options->delay, "delay");
				break;
			case DTM_RETRY_INTERVAL:
				options->retry_interval = PG_GETARG_INTERVAL_P(n);
				(void) dtm_interval_us(options->retry_interval,
									   "retry_interval");
				break;
			case DTM_REQUEST_TIMEOUT:
				options->request_timeout = PG_GETARG_INTERVAL_P(n);
				(void) dtm_interval_us(options->request_timeout,
									   "request_timeout");
				break;
			case DTM_RETRY_LIMIT:
				options->retry_limit = dtm_retry_limit(PG_GETARG_INT32(n),
													   "retry_limit");
				break;
			case DTM_BRANCH_HEADERS:
				options->branch_headers = PG_GETARG_JSONB_P(n);
				dtm_check_headers(options->branch_headers, "branch_headers");
				break;
			case DTM_CONCURRENT:
				options->concurrent = PG_GETARG_BOOL(n);
				break;
			case DTM_ORDERS:
				options->orders = PG_GETARG_JSONB_P(n);
				break;
			case DTM_ON_SUCCESS:
				options->on_success = statement_argument(fcinfo, n,
														 "on_success");
				break;
			case DTM_ON_FAILURE:
				options->on_failure = statement_argument(fcinfo, n,
														 "on_failure");
				break;
			case DTM_OPTIONS_END:
				break;
		}
	}
}

/* NULL and '' are none. */
static text *
statement_argument(FunctionCallInfo fcinfo, int n, const char *argument)
{
	text	   *statement = PG_GETARG_TEXT_PP(n);

	if (VARSIZE_ANY_EXHDR(statement) == 0)
		return NULL;
	dtm_check_statement(statement, argument);
	return statement;
}

int
dtm_steps_argument(FunctionCallInfo fcinfo, int n, const DtmStepKind *kind,
				   DtmStep **steps)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("steps: must not be NULL"),
				 errhint("%s", kind->example)));
	return dtm_read_steps(PG_GETARG_ARRAYTYPE_P(n), kind, steps);
}

int64
dtm_start(const DtmApi *api, const DtmStart *start, const DtmStepKind *kind,
		  const DtmStep *steps, int nsteps)
{
	Digest		digest;

	if (!start->gid_is_new)
		digest_start(start, steps, nsteps, &digest);
	dtm_notice_if_idle();
	for (;;)
	{
		int64		id = insert(api, start, true,
								start->gid_is_new ? NULL : &digest);

		if (id != 0)
		{
			check_rights(api, start);
			for (int i = 0; i < nsteps; i++)
			{
				if (kind != NULL)
					dtm_check_addresses(api->user, kind, &steps[i], i + 1);
				dtm_check_secrets(api->user, steps[i].headers,
								  dtm_place(i + 1, "headers"));
			}
			return id;
		}
		if (is_repeat(api, start, &digest))
			return 0;
		/* It was there, and retention has taken it away since: try again. */
		CHECK_FOR_INTERRUPTS();
	}
}

void
dtm_store_start(int64 id, const DtmStep *steps, int nsteps)
{
	dtm_store_steps(id, 0, steps, nsteps);
	DTM_POINT("backend-after-insert");
	dtm_pending_begun(id);
}

void
dtm_begin(const DtmStart *start)
{
	DtmApi		api;
	DtmFound	found;

	dtm_api_begin(&api);
	if (dtm_begin_or_find(&api, start, &found) == 0 &&
		found.status != DTM_PREPARED)
		dtm_illegal("begin", start->gid, found.status);
	dtm_api_end(&api);
}

/* Of the transaction as a whole, once it turned out to be new. */
static void
check_rights(const DtmApi *api, const DtmStart *start)
{
	if (start->query_prepared != NULL)
		dtm_check_address(api->user, start->query_prepared, NULL, 0,
						  start->mode == DTM_WORKFLOW ? "resume"
						  : "query_prepared");
	dtm_check_secrets(api->user, start->options.branch_headers,
					  "branch_headers");
}

int64
dtm_begin_or_find(const DtmApi *api, const DtmStart *start, DtmFound *found)
{
	dtm_notice_if_idle();
	for (;;)
	{
		int64		id = insert(api, start, false, NULL);

		if (id != 0)
		{
			check_rights(api, start);
			dtm_pending_begun(id);
			return id;
		}
		if (dtm_api_find(api, start->gid, DTM_RIGHT_NONE, DTM_LOOK_LATEST,
						 found))
		{
			check_owner(api, start->gid, found);
			if (found->mode != start->mode)
				dtm_gid_is_taken(start->gid,
								 "It belongs to another global transaction.");
			if (found->driven)
				dtm_gid_is_taken(start->gid, "It was started with all its steps.");
			return 0;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

void
dtm_make_place(const DtmApi *api, text *gid, DtmMode mode, DtmPlace *place)
{
	DtmFound   *found = &place->found;
	Datum		values[1];

	dtm_api_must_find(api, gid, DTM_RIGHT_OWN, DTM_LOOK_LATEST, found);
	values[0] = Int64GetDatum(found->id);
	if (found->mode != mode)
		dtm_gid_is_taken(gid, what_it_is_not(mode));
	if (found->driven)
		dtm_gid_is_taken(gid, "It was started with all its steps.");
	if (found->status != DTM_PREPARED ||
		dtm_api_lookup_latest(DTM_PLAN_LOCK, values) == 0)
	{
		/* If it has just changed, the error shall name what it is now. */
		dtm_api_must_find(api, gid, DTM_RIGHT_OWN, DTM_LOOK_NOW, found);
		dtm_illegal("add a branch to", gid, found->status);
	}

	place->branch = 0;
	place->last_id = NULL;
	if (dtm_api_lookup_latest(DTM_PLAN_LAST_BRANCH, values) > 0)
	{
		bool		isnull;

		place->branch = DatumGetInt32(dtm_api_value(1, &isnull)) + 1;
		place->last_id = dtm_api_text(2);
	}
}

void
dtm_fill_place(const DtmPlace *place, const DtmStep *steps, int nsteps)
{
	/*
	 * Calls have the owner's rights and secrets, whoever of its members adds
	 * them: were the member's grants enough (see the callers), it could send the
	 * owner's secrets where the owner may not have anything called.
	 */
	dtm_check_secrets(place->found.owner, steps[0].headers, "headers");
	dtm_store_steps(place->found.id, place->branch, steps, nsteps);
	dtm_pending_add(place->found.id);
}

/* Returns its id, or 0 when the gid exists. */
static int64
insert(const DtmApi *api, const DtmStart *start, bool one_call,
	   const Digest *digest)
{
	const DtmOptions *options = &start->options;
	TimestampTz now = GetCurrentTimestamp();
	bool		submitted = one_call && !start->driven;
	Interval   *timeout = submitted ? options->timeout_to_fail :
		time_to_prepare(start);
	TimestampTz deadline = now;
	TimestampTz not_before = now + options->delay_us;
	Datum		values[21];
	char		nulls[21];
	bool		isnull;
	int64		id;

	if (timeout != NULL)
		deadline += dtm_interval_us(timeout, "timeout_to_fail");

	DTM_POINT("backend-before-insert");
	if (is_there(start))
		return 0;
	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(start->gid);
	values[1] = CharGetDatum(start->mode);
	values[2] = CharGetDatum(submitted ? DTM_SUBMITTED : DTM_PREPARED);
	values[3] = ObjectIdGetDatum(api->user);
	values[4] = BoolGetDatum(options->concurrent);
	/* Begun only, it is looked at again when its time is over. */
	values[5] = TimestampTzGetDatum(one_call ? not_before : deadline);
	nulls[5] = one_call || timeout != NULL ? ' ' : 'n';
	values[6] = TimestampTzGetDatum(now);
	values[7] = TimestampTzGetDatum(now);
	nulls[7] = submitted ? ' ' : 'n';
	values[8] = IntervalPGetDatum(timeout);
	values[9] = TimestampTzGetDatum(deadline);
	nulls[8] = nulls[9] = timeout != NULL ? ' ' : 'n';
	values[10] = IntervalPGetDatum(options->retry_interval);
	nulls[10] = options->retry_interval != NULL ? ' ' : 'n';
	values[11] = Int32GetDatum(options->retry_limit);
	nulls[11] = options->retry_limit != 0 ? ' ' : 'n';
	values[12] = IntervalPGetDatum(options->request_timeout);
	nulls[12] = options->request_timeout != NULL ? ' ' : 'n';
	values[13] = JsonbPGetDatum(options->branch_headers);
	nulls[13] = options->branch_headers != NULL ? ' ' : 'n';
	nulls[14] = 'n';
	values[14] = (Datum) 0;
	if (digest != NULL)
	{
		bytea	   *bytes = palloc(VARHDRSZ + sizeof(Digest));

		SET_VARSIZE(bytes, VARHDRSZ + sizeof(Digest));
		memcpy(VARDATA(bytes), digest, sizeof(Digest));
		values[14] = PointerGetDatum(bytes);
		nulls[14] = ' ';
	}
	values[15] = BoolGetDatum(start->driven);
	values[16] = TimestampTzGetDatum(not_before);
	nulls[16] = options->delay != NULL ? ' ' : 'n';
	values[17] = PointerGetDatum(start->query_prepared);
	nulls[17] = start->query_prepared != NULL ? ' ' : 'n';
	values[18] = PointerGetDatum(options->on_success);
	nulls[18] = options->on_success != NULL ? ' ' : 'n';
	values[19] = PointerGetDatum(options->on_failure);
	nulls[19] = options->on_failure != NULL ? ' ' : 'n';
	values[20] = CStringGetTextDatum(dtm_traceparent);
	nulls[20] = dtm_traceparent[0] != '\0' ? ' ' : 'n';

	if (dtm_api_run(DTM_PLAN_BEGIN, values, nulls) == 0)
		return 0;
	id = DatumGetInt64(dtm_api_value(1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/*
 * With an old snapshot, to find the gid in use by what that does not show would
 * be a serialization failure: look first. Whoever takes it at this very moment
 * is still one.
 */
static bool
is_there(const DtmStart *start)
{
	DtmFound	found;

	return !start->gid_is_new && IsolationUsesXactSnapshot() &&
		dtm_api_peek(start->gid, &found);
}

/* Nobody reserves for ever: only a saga, which reserves nothing, may wait. */
static Interval *
time_to_prepare(const DtmStart *start)
{
	Interval   *timeout = start->options.timeout_to_fail;

	if (timeout == NULL && start->mode != DTM_SAGA)
	{
		timeout = palloc0(sizeof(Interval));
		timeout->time = DTM_PREPARED_SECONDS * USECS_PER_SEC;
	}
	return timeout;
}

/* The gid exists: the same start again? false: it does not exist any more. */
static bool
is_repeat(const DtmApi *api, const DtmStart *start, const Digest *digest)
{
	DtmFound	found;

	if (!dtm_api_find(api, start->gid, DTM_RIGHT_NONE, DTM_LOOK_LATEST,
					  &found))
		return false;
	check_owner(api, start->gid, &found);
	if (found.mode != start->mode || found.digest == NULL ||
		VARSIZE_ANY_EXHDR(found.digest) != sizeof(Digest) ||
		memcmp(VARDATA_ANY(found.digest), digest, sizeof(Digest)) != 0)
		dtm_gid_is_taken(start->gid, "It was started with other steps or options.");
	return true;
}

/*
 * Calls are made with the owner's rights and secrets. A repeat by another role
 * would get those where it meant its own, so it is none, even of a member.
 */
static void
check_owner(const DtmApi *api, const text *gid, const DtmFound *found)
{
	if (found->owner == api->user)
		return;
	if (!dtm_may_act_as(api->user, found->owner))
		dtm_gid_is_taken(gid, "It belongs to another global transaction.");
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("gid \"%s\" is in use", text_to_cstring(gid)),
			 errdetail("It was begun by role \"%s\".",
					   GetUserNameFromId(found->owner, true)),
			 errhint("Take another gid, or repeat it as the role that has begun it.")));
}

void
dtm_gid_is_taken(const text *gid, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("gid \"%s\" is in use", text_to_cstring(gid)),
			 errdetail("%s", detail),
			 errhint("Take another gid. Repeating a start with the same content does nothing.")));
}

static const char *
what_it_is_not(DtmMode mode)
{
	switch (mode)
	{
		case DTM_SAGA:
			return "It is not a saga.";
		case DTM_TCC:
			return "It is not a tcc transaction.";
		case DTM_XA:
			return "It is not an xa transaction.";
		case DTM_MSG:
			return "It is not a message.";
		case DTM_WORKFLOW:
			return "It is not a workflow.";
	}
	return "It is of another kind.";
}

/*
 * Two independent hashes, not a cryptographic one: whoever makes two starts
 * with the same digest has deceived nobody but themselves.
 */
static void
digest_start(const DtmStart *start, const DtmStep *steps, int nsteps,
			 Digest *digest)
{
	const DtmOptions *options = &start->options;
	int32		numbers[3];

	digest->half[0] = UINT64CONST(0x9e3779b97f4a7c15);
	digest->half[1] = UINT64CONST(0xc2b2ae3d27d4eb4f);

	numbers[0] = options->retry_limit;
	numbers[1] = options->concurrent;
	numbers[2] = nsteps;
	digest_bytes(digest, numbers, sizeof(numbers));
	digest_interval(digest, options->timeout_to_fail);
	digest_interval(digest, options->delay);
	digest_interval(digest, options->retry_interval);
	digest_interval(digest, options->request_timeout);
	digest_varlena(digest, options->branch_headers);
	digest_varlena(digest, options->on_success);
	digest_varlena(digest, options->on_failure);
	for (int i = 0; i < nsteps; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			digest_varlena(digest, steps[i].address[phase]);
		digest_varlena(digest, steps[i].payload);
		digest_varlena(digest, steps[i].headers);
		digest_varlena(digest, steps[i].predecessors);
		digest_interval(digest, steps[i].request_timeout);
		digest_bytes(digest, &steps[i].retry_limit, sizeof(int32));
		digest_bytes(digest, &steps[i].keep_result, sizeof(bool));
	}
}

static void
digest_bytes(Digest *digest, const void *bytes, int size)
{
	for (int i = 0; i < 2; i++)
		digest->half[i] = hash_bytes_extended(bytes, size, digest->half[i]);
}

/* Its length goes into the hash, and NULL differs from empty. */
static void
digest_varlena(Digest *digest, const void *value)
{
	int32		size = value == NULL ? -1 : (int32) VARSIZE_ANY_EXHDR(value);

	digest_bytes(digest, &size, sizeof(size));
	if (size > 0)
		digest_bytes(digest, VARDATA_ANY(value), size);
}

static void
digest_interval(Digest *digest, const Interval *interval)
{
	int64		us = interval == NULL ? 0 :
		interval->time + (int64) interval->day * USECS_PER_DAY;

	digest_bytes(digest, &us, sizeof(us));
}
