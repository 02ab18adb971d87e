/*
 * api_common.c: what the SQL functions share: rights, identity, plans, errors.
 *
 * Every statement below runs as the bootstrap superuser inside a session of
 * somebody else. So each name in it is qualified, operators too, and nothing
 * of the user's (a function, a cast, a domain) may be reachable from it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "api_common.h"
#include "decide.h"
#include "identity.h"
#include "secret.h"
#include "settings.h"
#include "shmem.h"

#define MAX_ARGS 24
#define LONGEST_DAYS 36525		/* a hundred years */

typedef struct PlanText
{
	const char *sql;
	int			nargs;
	Oid			types[MAX_ARGS];
} PlanText;

#define IS_FINAL "status OPERATOR(pg_catalog.=) ANY ('{S,F}'::pg_catalog.\"char\"[])"

static const PlanText plan_texts[DTM_NPLANS] = {
	[DTM_PLAN_FIND] = {
		"SELECT id, owner, mode, status, concurrent, forced, reason, digest, "
		" driven, query_prepared IS NOT NULL AND deadline "
		"  OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(), "
		" due IS NOT NULL AND " IS_FINAL ", "
		" CASE WHEN due IS NOT NULL AND " IS_FINAL " THEN (SELECT stuck FROM dtm.op "
		"  WHERE op.id OPERATOR(pg_catalog.=) trans.id "
		"  AND op.branch OPERATOR(pg_catalog.=) -2 "
		"  AND op.status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\") END, "
		" created_at "
		"FROM dtm.trans WHERE gid OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[DTM_PLAN_BEGIN] = {
		"INSERT INTO dtm.trans (gid, mode, status, owner, concurrent, due, "
		" created_at, submitted_at, timeout_to_fail, deadline, retry_interval, "
		" retry_limit, request_timeout, branch_headers, digest, driven, not_before, "
		" query_prepared, on_success, on_failure, traceparent) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, "
		" $16, $17, $18, $19, $20, $21) "
		"ON CONFLICT (gid) DO NOTHING RETURNING id",
		21, {TEXTOID, CHAROID, CHAROID, OIDOID, BOOLOID, TIMESTAMPTZOID,
			TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, TIMESTAMPTZOID,
			INTERVALOID, INT4OID, INTERVALOID, JSONBOID, BYTEAOID, BOOLOID,
		TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[DTM_PLAN_LOCK] = {
		/* Two registrations at once must not take the same number. */
		"SELECT 1 FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" "
		"FOR NO KEY UPDATE",
		1, {INT8OID}
	},
	[DTM_PLAN_LAST_BRANCH] = {
		"SELECT branch, branch_id FROM dtm.branch "
		"WHERE id OPERATOR(pg_catalog.=) $1 ORDER BY branch DESC LIMIT 1",
		1, {INT8OID}
	},
	[DTM_PLAN_CHILDREN] = {
		/* $2: a branch, or '' for the whole; its last child, and is it there? */
		"SELECT pg_catalog.max(branch_id) FILTER (WHERE "
		"  pg_catalog.starts_with(branch_id, $2) AND pg_catalog.length(branch_id) "
		"  OPERATOR(pg_catalog.=) (pg_catalog.length($2) OPERATOR(pg_catalog.+) 2)), "
		" pg_catalog.bool_or(branch_id OPERATOR(pg_catalog.=) $2) "
		"FROM dtm.branch WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, TEXTOID}
	},
	[DTM_PLAN_BRANCH] = {
		"SELECT forward, backward, payload, keep_result FROM dtm.branch "
		"WHERE id OPERATOR(pg_catalog.=) $1 AND branch_id OPERATOR(pg_catalog.=) $2",
		2, {INT8OID, TEXTOID}
	},
	[DTM_PLAN_BRANCHES] = {
		"SELECT branch_id, forward, predecessors, keep_result FROM dtm.branch "
		"WHERE id OPERATOR(pg_catalog.=) $1 ORDER BY branch",
		1, {INT8OID}
	},
	[DTM_PLAN_SUBMIT] = {
		/* Only a saga has a deadline after that. */
		"UPDATE dtm.trans SET status = 's', submitted_at = $2, "
		" due = GREATEST($2, not_before), "
		" deadline = CASE WHEN mode OPERATOR(pg_catalog.=) 's'::pg_catalog.\"char\" "
		"  THEN $2 OPERATOR(pg_catalog.+) timeout_to_fail END "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\"",
		2, {INT8OID, TIMESTAMPTZOID}
	},
	[DTM_PLAN_ABORT] = {
		/* $3: the new status; $4 now, $5 finished_at. An ending is due now. */
		"UPDATE dtm.trans SET status = $3, "
		" due = CASE WHEN $3 OPERATOR(pg_catalog.<>) 'F'::pg_catalog.\"char\" "
		"  OR on_failure IS NOT NULL THEN $4 END, "
		" finished_at = $5, reason = $6 "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) $2",
		6, {INT8OID, CHAROID, CHAROID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID}
	},
	[DTM_PLAN_FORCE_STOP] = {
		"UPDATE dtm.trans SET status = 'F', forced = true, "
		" due = CASE WHEN on_failure IS NOT NULL THEN $3 END, "
		" finished_at = $3, reason = $4 "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) $2",
		4, {INT8OID, CHAROID, TIMESTAMPTZOID, TEXTOID}
	},
	[DTM_PLAN_FINISH] = {
		/* If it has a statement for this end, that is due now. */
		"UPDATE dtm.trans SET status = $3, finished_at = $4, "
		" due = CASE WHEN CASE WHEN $3 OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\" "
		"  THEN on_success ELSE on_failure END IS NOT NULL THEN $4 END, "
		" submitted_at = CASE WHEN $3 OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\" "
		"  THEN $4 END, reason = $5 "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) $2",
		5, {INT8OID, CHAROID, CHAROID, TIMESTAMPTZOID, TEXTOID}
	},
	[DTM_PLAN_RETRY_NOW] = {
		/*
		 * An ending may just have succeeded: it is not run again. Nobody waits
		 * any longer for a workflow to be heard of.
		 */
		"UPDATE dtm.trans SET hurried_at = $3, due = $3, "
		" deadline = CASE WHEN mode OPERATOR(pg_catalog.=) 'w'::pg_catalog.\"char\" "
		"  THEN LEAST($3, deadline) ELSE deadline END "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) $2 "
		"AND (due IS NOT NULL OR NOT " IS_FINAL ")",
		3, {INT8OID, CHAROID, TIMESTAMPTZOID}
	},
	[DTM_PLAN_GIVE_UP_ENDING] = {
		"UPDATE dtm.trans SET due = NULL "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) $2 AND due IS NOT NULL",
		2, {INT8OID, CHAROID}
	},
	[DTM_PLAN_LOG] = {
		"INSERT INTO dtm.operation_log (role, command, gid, reason) "
		"VALUES ($1, $2, $3, $4)",
		4, {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[DTM_PLAN_QUERY] = {
		"SELECT dtm.describe($1)",
		1, {INT8OID}
	},
	[DTM_PLAN_ALLOWED] = {
		"SELECT role::pg_catalog.oid, prefix FROM dtm.allowed",
		0, {InvalidOid}
	},
	[DTM_PLAN_SUBSCRIBERS] = {
		"SELECT url FROM dtm.topic WHERE topic OPERATOR(pg_catalog.=) $1 "
		"ORDER BY subscribed_at, url",
		1, {TEXTOID}
	},
	[DTM_PLAN_SECRET] = {
		"SELECT 1 FROM dtm.secret WHERE role OPERATOR(pg_catalog.=) $1 "
		"AND name OPERATOR(pg_catalog.=) $2",
		2, {OIDOID, TEXTOID}
	},
	[DTM_PLAN_BARRIER] = {
		"INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, "
		" barrier_id, reason, create_time, update_time) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $7) "
		"ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING",
		7, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	},
	[DTM_PLAN_BARRIER_REASON] = {
		"SELECT reason FROM dtm_barrier.barrier "
		"WHERE gid::pg_catalog.text OPERATOR(pg_catalog.=) $1 "
		"AND branch_id::pg_catalog.text OPERATOR(pg_catalog.=) $2 "
		"AND op::pg_catalog.text OPERATOR(pg_catalog.=) $3 "
		"AND barrier_id::pg_catalog.text OPERATOR(pg_catalog.=) $4",
		4, {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[DTM_PLAN_WORKFLOW] = {
		"INSERT INTO dtm.workflow (id, name, data, run) VALUES ($1, $2, $3, 1)",
		3, {INT8OID, TEXTOID, BYTEAOID}
	},
	[DTM_PLAN_WORKFLOW_ROW] = {
		"SELECT name, run, result FROM dtm.workflow "
		"WHERE id OPERATOR(pg_catalog.=) $1",
		1, {INT8OID}
	},
	[DTM_PLAN_WORKFLOW_RESULT] = {
		"UPDATE dtm.workflow SET result = $2 WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, BYTEAOID}
	},
	[DTM_PLAN_RENEW] = {
		"UPDATE dtm.trans SET "
		" deadline = $2 OPERATOR(pg_catalog.+) timeout_to_fail, "
		" due = $2 OPERATOR(pg_catalog.+) timeout_to_fail, "
		" hurried_at = CASE WHEN $3 THEN $2 ELSE hurried_at END "
		"WHERE id OPERATOR(pg_catalog.=) $1 "
		"AND status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\"",
		3, {INT8OID, TIMESTAMPTZOID, BOOLOID}
	},
	[DTM_PLAN_NEXT_RUN] = {
		"UPDATE dtm.workflow SET run = run OPERATOR(pg_catalog.+) 1 "
		"WHERE id OPERATOR(pg_catalog.=) $1",
		1, {INT8OID}
	},
	[DTM_PLAN_PROGRESS] = {
		"SELECT b.branch_id, o.phase, o.status, o.result "
		"FROM dtm.branch AS b JOIN dtm.op AS o ON o.id OPERATOR(pg_catalog.=) b.id "
		"AND o.branch OPERATOR(pg_catalog.=) b.branch "
		"WHERE b.id OPERATOR(pg_catalog.=) $1 ORDER BY b.branch, o.phase",
		1, {INT8OID}
	},
	[DTM_PLAN_STEP] = {
		"SELECT b.branch, o.status FROM dtm.branch AS b "
		"LEFT JOIN dtm.op AS o ON o.id OPERATOR(pg_catalog.=) b.id "
		"AND o.branch OPERATOR(pg_catalog.=) b.branch "
		"AND o.phase OPERATOR(pg_catalog.=) $3 "
		"WHERE b.id OPERATOR(pg_catalog.=) $1 "
		"AND b.branch_id OPERATOR(pg_catalog.=) $2",
		3, {INT8OID, TEXTOID, INT2OID}
	},
	[DTM_PLAN_RECORD] = {
		"INSERT INTO dtm.op (id, branch, phase, status, attempts, "
		" failed_attempts, streak, last_attempt, result) "
		"VALUES ($1, $2, $3, $4, 1, 0, 0, $5, $6)",
		6, {INT8OID, INT4OID, INT2OID, CHAROID, TIMESTAMPTZOID, BYTEAOID}
	},
};

static SPIPlanPtr plans[DTM_NPLANS];

static uint64 run(DtmApiPlan which, Datum *values, const char *nulls,
				  bool read_only);
static SPIPlanPtr plan_of(DtmApiPlan which);
static bool find_by_statement(const text *gid, DtmLook look, DtmFound *found);
static void check_header(const JsonbValue *name, const JsonbValue *value,
						 const char *place);

void
dtm_api_begin(DtmApi *api)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	GetUserIdAndSecContext(&api->user, &api->security);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   api->security | SECURITY_LOCAL_USERID_CHANGE);
}

void
dtm_api_end(DtmApi *api)
{
	SetUserIdAndSecContext(api->user, api->security);
	SPI_finish();
}

uint64
dtm_api_run(DtmApiPlan which, Datum *values, const char *nulls)
{
	return run(which, values, nulls, false);
}

uint64
dtm_api_lookup(DtmApiPlan which, Datum *values, const char *nulls)
{
	uint64		rows;
	int			level;

	/*
	 * The plan is kept as long as the session. Made while the table was small
	 * it might scan all of it, and do so until the table is analyzed.
	 */
	level = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	rows = run(which, values, nulls, false);
	AtEOXact_GUC(true, level);
	return rows;
}

uint64
dtm_api_look_now(DtmApiPlan which, Datum *values)
{
	uint64		rows;
	int			level;

	level = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetLatestSnapshot());
	rows = run(which, values, NULL, true);
	PopActiveSnapshot();
	AtEOXact_GUC(true, level);
	return rows;
}

/*
 * At the higher isolation levels a statement sees what was there when the
 * transaction began. Who adds to what others have begun, or added to, needs
 * what is there now, and locks it.
 */
uint64
dtm_api_lookup_latest(DtmApiPlan which, Datum *values)
{
	int			level;
	int			rc;

	if (!IsolationUsesXactSnapshot())
		return dtm_api_lookup(which, values, NULL);
	level = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	rc = SPI_execute_snapshot(plan_of(which), values, NULL, GetLatestSnapshot(),
							  InvalidSnapshot, false, true, 0);
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", (int) which,
			 SPI_result_code_string(rc));
	AtEOXact_GUC(true, level);
	return SPI_processed;
}

static uint64
run(DtmApiPlan which, Datum *values, const char *nulls, bool read_only)
{
	int			rc;

	rc = SPI_execute_plan(plan_of(which), values, nulls, read_only, 0);
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", (int) which,
			 SPI_result_code_string(rc));
	return SPI_processed;
}

static SPIPlanPtr
plan_of(DtmApiPlan which)
{
	if (plans[which] == NULL)
	{
		const PlanText *text = &plan_texts[which];
		SPIPlanPtr	plan;

		/* One plan fits all arguments: there is nothing to choose from. */
		plan = SPI_prepare_cursor(text->sql, text->nargs,
								  (Oid *) text->types,
								  CURSOR_OPT_GENERIC_PLAN);
		if (plan == NULL)
			elog(ERROR, "could not prepare statement %d: %s", (int) which,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[which] = plan;
	}
	return plans[which];
}

Datum
dtm_api_value(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column,
						 isnull);
}

char *
dtm_api_text(int column)
{
	bool		isnull;
	Datum		value = dtm_api_value(column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

bool
dtm_api_find(const DtmApi *api, const text *gid, DtmRight right, DtmLook look,
			 DtmFound *found)
{
	if (!(look == DTM_LOOK_NOW ? dtm_api_peek(gid, found)
		  : find_by_statement(gid, look, found)))
		return false;

	switch (right)
	{
		case DTM_RIGHT_NONE:
			return true;
		case DTM_RIGHT_READ:
			return dtm_may_act_as(api->user, found->owner) ||
				dtm_may_act_as(api->user, ROLE_PG_MONITOR);
		case DTM_RIGHT_OWN:
			return dtm_may_act_as(api->user, found->owner);
	}
	return false;
}

static bool
find_by_statement(const text *gid, DtmLook look, DtmFound *found)
{
	Datum		values[1] = {PointerGetDatum(gid)};
	bool		isnull;
	Datum		digest;

	if ((look == DTM_LOOK_LATEST ?
		 dtm_api_lookup_latest(DTM_PLAN_FIND, values) :
		 dtm_api_lookup(DTM_PLAN_FIND, values, NULL)) == 0)
		return false;

	found->id = DatumGetInt64(dtm_api_value(1, &isnull));
	found->owner = DatumGetObjectId(dtm_api_value(2, &isnull));
	found->mode = (DtmMode) DatumGetChar(dtm_api_value(3, &isnull));
	found->status = (DtmStatus) DatumGetChar(dtm_api_value(4, &isnull));
	found->concurrent = DatumGetBool(dtm_api_value(5, &isnull));
	found->forced = DatumGetBool(dtm_api_value(6, &isnull));
	found->reason = dtm_api_text(7);
	digest = dtm_api_value(8, &isnull);
	found->digest = isnull ? NULL : DatumGetByteaPCopy(digest);
	found->driven = DatumGetBool(dtm_api_value(9, &isnull));
	found->can_be_asked = DatumGetBool(dtm_api_value(10, &isnull)) && !isnull;
	found->ending_pending = DatumGetBool(dtm_api_value(11, &isnull));
	found->ending_stuck = DatumGetBool(dtm_api_value(12, &isnull)) && !isnull;
	found->created_at = DatumGetTimestampTz(dtm_api_value(13, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

void
dtm_api_must_find(const DtmApi *api, const text *gid, DtmRight right,
				  DtmLook look, DtmFound *found)
{
	if (!dtm_api_find(api, gid, right, look, found))
		dtm_unknown_gid(gid);
}

bool
dtm_api_was_unfinished(const text *gid)
{
	Datum		values[1] = {PointerGetDatum(gid)};
	bool		isnull;

	/* Read-only: with the snapshot of whoever calls us, not one of now. */
	if (run(DTM_PLAN_FIND, values, NULL, true) == 0)
		return false;
	return !dtm_status_is_final((DtmStatus) DatumGetChar(dtm_api_value(4, &isnull))) ||
		DatumGetBool(dtm_api_value(11, &isnull));
}

void
dtm_unknown_gid(const text *gid)
{
	/* Another's gid is as unknown as one that does not exist. */
	ereport(ERROR,
			(errcode(ERRCODE_DTM_UNKNOWN_GID),
			 errmsg("unknown gid \"%s\"", text_to_cstring(gid)),
			 errhint("The view dtm.transactions lists the global transactions that you may see.")));
}

void
dtm_illegal(const char *command, const text *gid, DtmStatus status)
{
	ereport(ERROR,
			(errcode(ERRCODE_DTM_ILLEGAL),
			 errmsg("cannot %s global transaction \"%s\": it is %s",
					command, text_to_cstring(gid), dtm_status_name(status)),
			 errhint("dtm.query(gid) shows everything about it.")));
}

bool
dtm_may_act_as(Oid user, Oid owner)
{
	return user == owner || has_privs_of_role(user, owner);
}

const char *
dtm_place(int step, const char *argument)
{
	return step > 0 ? psprintf("step %d: %s", step, argument) : argument;
}

int64
dtm_interval_us(const Interval *interval, const char *place)
{
	int64		result;

	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must not have months or years", place),
				 errdetail("They have no fixed length."),
				 errhint("Write it in days or smaller units, like '36 hours'.")));
	if (interval->day > LONGEST_DAYS || interval->day < -LONGEST_DAYS ||
		pg_add_s64_overflow(interval->time, (int64) interval->day * USECS_PER_DAY,
							&result) ||
		result > LONGEST_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: is too long", place),
				 errhint("Leave it out, or give at most %d days.", LONGEST_DAYS)));
	if (result < 1000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must be one millisecond or more", place),
				 errhint("Write an interval like '500 ms', '30s' or '5 min'.")));
	return result;
}

int
dtm_retry_limit(int32 limit, const char *place)
{
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must be 1 or more", place),
				 errhint("It counts failed attempts, the first one included. Leave it out for no limit.")));
	return limit;
}

void
dtm_check_headers(Jsonb *headers, const char *place)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must be a JSON object of strings", place),
				 errhint("Write it like '{\"X-Tenant\": \"7\"}'.")));

	iterator = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &name, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		check_header(&name, &value, place);
	}
}

static void
check_header(const JsonbValue *name, const JsonbValue *value, const char *place)
{
	/* They belong to the call itself; a branch must be able to trust them. */
	static const char *const reserved[] = {
		"Host", "Content-Length", "Transfer-Encoding", "Connection"
	};
	const char *key = name->val.string.val;
	int			len = name->val.string.len;
	const char *text;
	int			text_len;
	DtmSecretRef ref;

	if (len == 0 || len > 256)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: a header's name has %d bytes", place, len),
				 errhint("Give it 1 to 256.")));
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) key[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			  (c >= 'A' && c <= 'Z') ||
			  (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: \"%.*s\" is not a header's name", place, len, key),
					 errhint("Use letters, digits and hyphens.")));
	}
	for (int i = 0; i < lengthof(reserved); i++)
	{
		if (len == strlen(reserved[i]) &&
			pg_strncasecmp(key, reserved[i], len) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: header \"%s\" cannot be set", place, reserved[i]),
					 errhint("It follows from the address and the payload.")));
	}

	if (value->type == jbvString)
	{
		text = value->val.string.val;
		text_len = value->val.string.len;
	}
	else if (dtm_secret_ref(value, &ref))
	{
		text = ref.prefix;
		text_len = ref.prefix_len;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: the value of header \"%.*s\" must be a string",
						place, len, key),
				 errhint("Put numbers into double quotes as well. A secret is named like {\"secret\": \"pay-token\", \"prefix\": \"Bearer \"}.")));
	for (int i = 0; i < text_len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: the value of header \"%.*s\" contains a control character",
							place, len, key),
					 errhint("Line ends and other control characters are not allowed in headers.")));
	}
}

static void
in_place(void *arg)
{
	errcontext("%s", (const char *) arg);
}

void
dtm_check_json(const char *json, const char *place)
{
	ErrorContextCallback callback;

	callback.callback = in_place;
	callback.arg = unconstify(char *, place);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	(void) DirectFunctionCall1(json_in, CStringGetDatum(json));
	error_context_stack = callback.previous;
}

void
dtm_notice_if_idle(void)
{
	static bool told_not_loaded = false;
	static bool told_disabled = false;
	static bool looked_at_identity = false;

	if (!dtm_shmem_ready())
	{
		if (!told_not_loaded)
			ereport(NOTICE,
					(errmsg("stored, but no branch will be called: dtm is not preloaded"),
					 errhint("Add dtm to shared_preload_libraries and restart the server; SELECT * FROM dtm.doctor() tells more.")));
		told_not_loaded = true;
		return;
	}
	if (!dtm_enabled)
	{
		if (!told_disabled)
			ereport(NOTICE,
					(errmsg("stored, but no branch will be called: dtm.enabled is off"),
					 errhint("ALTER SYSTEM SET dtm.enabled = on; SELECT pg_reload_conf();")));
		told_disabled = true;
		return;
	}
	if (!looked_at_identity)
	{
		looked_at_identity = true;
		if (!dtm_is_adopted())
			ereport(NOTICE,
					(errmsg("stored, but no branch will be called: this database is a copy of another one"),
					 errhint("If it is to carry out its transactions itself: SELECT dtm.adopt();")));
	}
}
