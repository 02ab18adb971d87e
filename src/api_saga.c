/*
 * api_saga.c: begin sagas: dtm.saga, dtm.saga_begin, dtm.saga_branch.
 *
 * Everything is checked before anything is stored. What is stored is in the
 * caller's own transaction: if it rolls back, nobody is ever called.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_common.h"
#include "api_step.h"
#include "debug_point.h"
#include "pending.h"
#include "secret.h"

PG_FUNCTION_INFO_V1(dtm_saga);
PG_FUNCTION_INFO_V1(dtm_saga_new);
PG_FUNCTION_INFO_V1(dtm_saga_begin);
PG_FUNCTION_INFO_V1(dtm_saga_begin_new);
PG_FUNCTION_INFO_V1(dtm_saga_branch);

typedef struct SagaOptions
{
	Interval   *timeout_to_fail;	/* NULL: not given, so for all below */
	int64		timeout_us;
	Interval   *retry_interval;
	Interval   *request_timeout;
	int32		retry_limit;	/* 0: not given */
	Jsonb	   *branch_headers;
	bool		concurrent;
	Jsonb	   *orders;
} SagaOptions;

/* 128 bits over everything that a start was given. */
typedef struct Digest
{
	uint64		half[2];
} Digest;

static Datum start_saga(FunctionCallInfo fcinfo, text *gid, bool gid_is_new,
						int first);
static Datum begin_saga(FunctionCallInfo fcinfo, text *gid, int first);
static void read_options(FunctionCallInfo fcinfo, int first, SagaOptions *options);
static int64 insert_saga(const DtmApi *api, text *gid, DtmStatus status,
						 const SagaOptions *options, const Digest *digest);
static bool is_repeat(const DtmApi *api, text *gid, const Digest *digest);
static void check_owner(const DtmApi *api, text *gid, const DtmFound *found);
static void gid_is_taken(text *gid, const char *detail);
static void digest_saga(const SagaOptions *options, const DtmStep *steps,
						int nsteps, Digest *digest);
static void digest_bytes(Digest *digest, const void *bytes, int size);
static void digest_varlena(Digest *digest, const void *value);
static void digest_interval(Digest *digest, const Interval *interval);

/* saga(gid, steps, ...options) */
Datum
dtm_saga(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("Leave the gid out to get a new one.")));
	return start_saga(fcinfo, PG_GETARG_TEXT_PP(0), false, 1);
}

/* saga(steps, ...options) */
Datum
dtm_saga_new(PG_FUNCTION_ARGS)
{
	return start_saga(fcinfo, dtm_make_gid(), true, 0);
}

static Datum
start_saga(FunctionCallInfo fcinfo, text *gid, bool gid_is_new, int first)
{
	SagaOptions options;
	DtmApi		api;
	DtmStep    *steps;
	int			nsteps;
	Digest		digest;
	int64		id;

	if (!gid_is_new)
		dtm_check_gid(gid);
	if (PG_ARGISNULL(first))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("steps: must not be NULL"),
				 errhint("Write ARRAY[dtm.step('http://...', 'http://...')].")));
	read_options(fcinfo, first + 1, &options);

	dtm_api_begin(&api);
	nsteps = dtm_read_steps(api.user, PG_GETARG_ARRAYTYPE_P(first), &steps);
	if (options.orders != NULL)
	{
		dtm_read_orders(options.orders, steps, nsteps);
		options.concurrent = true;
	}
	dtm_check_secrets(api.user, options.branch_headers, "branch_headers");
	for (int i = 0; i < nsteps; i++)
		dtm_check_secrets(api.user, steps[i].headers,
						  dtm_place(i + 1, "headers"));
	if (!gid_is_new)
		digest_saga(&options, steps, nsteps, &digest);
	dtm_notice_if_idle();

	for (;;)
	{
		id = insert_saga(&api, gid, DTM_SUBMITTED, &options,
						 gid_is_new ? NULL : &digest);
		if (id != 0)
		{
			dtm_store_steps(id, 0, steps, nsteps);
			DTM_POINT("backend-after-insert");
			dtm_pending_add(id);
			break;
		}
		if (is_repeat(&api, gid, &digest))
			break;
		/* It was there, and retention has taken it away since: try again. */
		CHECK_FOR_INTERRUPTS();
	}
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(gid);
}

/* saga_begin(gid, ...options but orders) */
Datum
dtm_saga_begin(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("Leave the gid out to get a new one.")));
	dtm_check_gid(PG_GETARG_TEXT_PP(0));
	return begin_saga(fcinfo, PG_GETARG_TEXT_PP(0), 1);
}

Datum
dtm_saga_begin_new(PG_FUNCTION_ARGS)
{
	return begin_saga(fcinfo, dtm_make_gid(), 0);
}

static Datum
begin_saga(FunctionCallInfo fcinfo, text *gid, int first)
{
	SagaOptions options;
	DtmApi		api;

	read_options(fcinfo, first, &options);
	dtm_api_begin(&api);
	dtm_check_secrets(api.user, options.branch_headers, "branch_headers");
	dtm_notice_if_idle();
	for (;;)
	{
		DtmFound	found;
		int64		id = insert_saga(&api, gid, DTM_PREPARED, &options, NULL);

		if (id != 0)
		{
			dtm_pending_add(id);
			break;
		}
		if (dtm_api_find(&api, gid, DTM_RIGHT_NONE, DTM_LOOK_STATEMENT, &found))
		{
			check_owner(&api, gid, &found);
			if (found.mode != DTM_SAGA)
				gid_is_taken(gid, "It belongs to another global transaction.");
			if (found.status != DTM_PREPARED)
				dtm_illegal("begin", gid, found.status);
			break;
		}
		CHECK_FOR_INTERRUPTS();
	}
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(gid);
}

/* saga_branch(gid, ...a step's arguments, after), in all forms of a step */
Datum
dtm_saga_branch(PG_FUNCTION_ARGS)
{
	int			last = PG_NARGS() - 1;
	text	   *gid;
	ArrayType  *after = PG_ARGISNULL(last) ? NULL : PG_GETARG_ARRAYTYPE_P(last);
	Datum		values[1];
	DtmStep		step;
	DtmFound	found;
	DtmApi		api;
	int			branch = 0;
	char		branch_id[16];

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("gid: must not be NULL"),
				 errhint("Pass what dtm.saga_begin returned.")));
	gid = PG_GETARG_TEXT_PP(0);
	dtm_step_of_arguments(fcinfo, 1, last - 1, &step);

	dtm_api_begin(&api);
	dtm_api_must_find(&api, gid, DTM_RIGHT_OWN, DTM_LOOK_STATEMENT, &found);

	/*
	 * Calls have the owner's rights and secrets, whoever of its members adds
	 * them. Were the member's grants enough, it could send the owner's secrets
	 * where the owner may not have anything called.
	 */
	dtm_check_step(found.owner, &step, 0);
	dtm_check_secrets(found.owner, step.headers, "headers");
	values[0] = Int64GetDatum(found.id);
	if (found.mode != DTM_SAGA)
		gid_is_taken(gid, "It is not a saga.");
	if (found.status != DTM_PREPARED ||
		dtm_api_lookup(DTM_PLAN_LOCK, values, NULL) == 0)
	{
		/* If it has just changed, the error shall name what it is now. */
		dtm_api_must_find(&api, gid, DTM_RIGHT_OWN, DTM_LOOK_NOW, &found);
		dtm_illegal("add a branch to", gid, found.status);
	}
	if (dtm_api_lookup(DTM_PLAN_LAST_BRANCH, values, NULL) > 0)
	{
		bool		isnull;

		branch = DatumGetInt32(dtm_api_value(1, &isnull)) + 1;
	}
	if (after != NULL)
	{
		if (!found.concurrent)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("after: saga \"%s\" is not concurrent",
							text_to_cstring(gid)),
					 errdetail("Its branches run one after the other."),
					 errhint("Begin it with concurrent => true.")));
		step.predecessors = dtm_read_after(after, branch);
	}
	dtm_store_steps(found.id, branch, &step, 1);
	dtm_pending_add(found.id);
	dtm_api_end(&api);

	snprintf(branch_id, sizeof(branch_id), "%02d", branch + 1);
	PG_RETURN_TEXT_P(cstring_to_text(branch_id));
}

/*
 * timeout_to_fail, retry_interval, request_timeout, retry_limit,
 * branch_headers, concurrent, and orders where there are steps
 */
static void
read_options(FunctionCallInfo fcinfo, int first, SagaOptions *options)
{
	memset(options, 0, sizeof(*options));
	if (!PG_ARGISNULL(first))
	{
		options->timeout_to_fail = PG_GETARG_INTERVAL_P(first);
		options->timeout_us = dtm_interval_us(options->timeout_to_fail,
											  "timeout_to_fail");
	}
	if (!PG_ARGISNULL(first + 1))
	{
		options->retry_interval = PG_GETARG_INTERVAL_P(first + 1);
		(void) dtm_interval_us(options->retry_interval, "retry_interval");
	}
	if (!PG_ARGISNULL(first + 2))
	{
		options->request_timeout = PG_GETARG_INTERVAL_P(first + 2);
		(void) dtm_interval_us(options->request_timeout, "request_timeout");
	}
	if (!PG_ARGISNULL(first + 3))
		options->retry_limit = dtm_retry_limit(PG_GETARG_INT32(first + 3),
											   "retry_limit");
	if (!PG_ARGISNULL(first + 4))
	{
		options->branch_headers = PG_GETARG_JSONB_P(first + 4);
		dtm_check_headers(options->branch_headers, "branch_headers");
	}
	if (!PG_ARGISNULL(first + 5))
		options->concurrent = PG_GETARG_BOOL(first + 5);
	if (PG_NARGS() > first + 6 && !PG_ARGISNULL(first + 6))
		options->orders = PG_GETARG_JSONB_P(first + 6);
}

/* Returns its id, or 0 when the gid exists. */
static int64
insert_saga(const DtmApi *api, text *gid, DtmStatus status,
			const SagaOptions *options, const Digest *digest)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		submitted = status == DTM_SUBMITTED;
	bool		has_deadline = options->timeout_to_fail != NULL;
	Datum		deadline = TimestampTzGetDatum(now + options->timeout_us);
	Datum		values[15];
	char		nulls[15];
	bool		isnull;
	int64		id;

	DTM_POINT("backend-before-insert");
	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(gid);
	values[1] = CharGetDatum(DTM_SAGA);
	values[2] = CharGetDatum(status);
	values[3] = ObjectIdGetDatum(api->user);
	values[4] = BoolGetDatum(options->concurrent);
	/* Begun only, it is looked at again when its time is over. */
	values[5] = submitted ? TimestampTzGetDatum(now) : deadline;
	nulls[5] = submitted || has_deadline ? ' ' : 'n';
	values[6] = TimestampTzGetDatum(now);
	values[7] = TimestampTzGetDatum(now);
	nulls[7] = submitted ? ' ' : 'n';
	values[8] = IntervalPGetDatum(options->timeout_to_fail);
	values[9] = deadline;
	nulls[8] = nulls[9] = has_deadline ? ' ' : 'n';
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

	if (dtm_api_run(DTM_PLAN_BEGIN, values, nulls) == 0)
		return 0;
	id = DatumGetInt64(dtm_api_value(1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/* The gid exists: the same saga again? false: it does not exist any more. */
static bool
is_repeat(const DtmApi *api, text *gid, const Digest *digest)
{
	DtmFound	found;

	if (!dtm_api_find(api, gid, DTM_RIGHT_NONE, DTM_LOOK_STATEMENT, &found))
		return false;
	check_owner(api, gid, &found);
	if (found.mode != DTM_SAGA || found.digest == NULL ||
		VARSIZE_ANY_EXHDR(found.digest) != sizeof(Digest) ||
		memcmp(VARDATA_ANY(found.digest), digest, sizeof(Digest)) != 0)
		gid_is_taken(gid, "It was started with other steps or options.");
	return true;
}

/*
 * Calls are made with the owner's rights and secrets. A repeat by another role
 * would get those where it meant its own, so it is none, even of a member.
 */
static void
check_owner(const DtmApi *api, text *gid, const DtmFound *found)
{
	if (found->owner == api->user)
		return;
	if (!dtm_may_act_as(api->user, found->owner))
		gid_is_taken(gid, "It belongs to another global transaction.");
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("gid \"%s\" is in use", text_to_cstring(gid)),
			 errdetail("It was begun by role \"%s\".",
					   GetUserNameFromId(found->owner, true)),
			 errhint("Take another gid, or repeat it as the role that has begun it.")));
}

static void
gid_is_taken(text *gid, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("gid \"%s\" is in use", text_to_cstring(gid)),
			 errdetail("%s", detail),
			 errhint("Take another gid. Repeating a start with the same content does nothing.")));
}

/*
 * Two independent hashes, not a cryptographic one: whoever makes two starts
 * with the same digest has deceived nobody but themselves.
 */
static void
digest_saga(const SagaOptions *options, const DtmStep *steps, int nsteps,
			Digest *digest)
{
	int32		numbers[3];

	digest->half[0] = UINT64CONST(0x9e3779b97f4a7c15);
	digest->half[1] = UINT64CONST(0xc2b2ae3d27d4eb4f);

	numbers[0] = options->retry_limit;
	numbers[1] = options->concurrent;
	numbers[2] = nsteps;
	digest_bytes(digest, numbers, sizeof(numbers));
	digest_interval(digest, options->timeout_to_fail);
	digest_interval(digest, options->retry_interval);
	digest_interval(digest, options->request_timeout);
	digest_varlena(digest, options->branch_headers);
	for (int i = 0; i < nsteps; i++)
	{
		digest_varlena(digest, steps[i].action);
		digest_varlena(digest, steps[i].compensate);
		digest_varlena(digest, steps[i].payload);
		digest_varlena(digest, steps[i].headers);
		digest_varlena(digest, steps[i].predecessors);
		digest_interval(digest, steps[i].request_timeout);
		digest_bytes(digest, &steps[i].retry_limit, sizeof(int32));
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
