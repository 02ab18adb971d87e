/*
 * alert.c: telling people of calls that fail again and again.
 *
 * After dtm.alert_after failed attempts of an op in a row, and again whenever
 * their number has doubled (3, 6, 12, ...: its pauses double too), three ways
 * are taken: a line in the server's log, NOTIFY dtm_alert, and a POST to
 * dtm.alert_url. Each has a bounded rate, so that a dead server with thousands
 * of transactions is a few lines and not a flood; what is left out is counted,
 * and the next alert on that way says how many.
 *
 * Anybody who may connect can LISTEN. So NOTIFY says which op of which
 * transaction fails, and not the error, which may hold what is not theirs to
 * read: dtm.branches shows that to those who may.
 *
 * An alert is news, not state: what was noted and not yet told is lost with the
 * worker. dtm.stuck and dtm.branches know the truth at any time.
 */
#include "postgres.h"

#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "alert.h"
#include "call.h"
#include "decide.h"
#include "encoding.h"
#include "settings.h"
#include "store.h"

#define CHANNEL "dtm_alert"

/* Noted in one round of the worker's loop; the rest counts as left out. */
#define MAX_NOTED 1000

/* Posts that have not ended. To a receiver that is down they would pile up. */
#define MAX_POSTS 64

typedef struct Way
{
	double		tokens;			/* alerts that may be given now */
	DtmTime		counted_at;		/* 0: never yet */
	int64		left_out;		/* since the last one */
	int			nnoted;
	char	   *noted[MAX_NOTED];
} Way;

static Way log_way;
static Way notify_way;
static Way post_way;
static MemoryContext noted_context;
static int	posts;				/* that have not ended */

static bool is_time(int32 streak);
static bool may_take(Way *way, int max_noted, DtmTime now);
static void note(Way *way, char *text);
static void write_log(const DtmTrans *trans, int branch, DtmPhase phase,
					  const DtmOp *op);
static char *as_json(const DtmTrans *trans, int branch, DtmPhase phase,
					 const DtmOp *op, bool with_error, int64 left_out);
static void append_member(StringInfo json, const char *name, const char *value);
static void notify_all(void);
static void post_all(void);
static void post_ended(const char *error);

void
dtm_alert_note(const DtmTrans *trans, int branch, DtmPhase phase, DtmTime now)
{
	const DtmOp *op = dtm_op_of((DtmTrans *) trans, branch, phase);
	MemoryContext before;

	if (op->status != DTM_OP_PREPARED || !is_time(op->streak))
		return;
	if (noted_context == NULL)
		noted_context = AllocSetContextCreate(TopMemoryContext, "dtm alerts",
											  ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(noted_context);

	if (may_take(&log_way, MAX_NOTED, now))
		write_log(trans, branch, phase, op);
	if (may_take(&notify_way, MAX_NOTED, now))
		note(&notify_way, as_json(trans, branch, phase, op, false,
								  notify_way.left_out));
	if (dtm_alert_url[0] != '\0' &&
		may_take(&post_way, MAX_POSTS - posts, now))
		note(&post_way, as_json(trans, branch, phase, op, true,
								post_way.left_out));
	MemoryContextSwitchTo(before);
}

/* The number after which to alert, or that times a power of two. */
static bool
is_time(int32 streak)
{
	if (dtm_alert_after <= 0 || streak < dtm_alert_after ||
		streak % dtm_alert_after != 0)
		return false;
	streak /= dtm_alert_after;
	return (streak & (streak - 1)) == 0;
}

/* A token bucket that holds the alerts of one minute. */
static bool
may_take(Way *way, int max_noted, DtmTime now)
{
	double		rate = dtm_alert_rate;

	if (way->counted_at == 0)
		way->tokens = rate;
	else if (now > way->counted_at)
		way->tokens += (double) (now - way->counted_at) * rate / (60.0 * DTM_SECOND);
	way->tokens = Min(way->tokens, rate);
	way->counted_at = now;

	if (way->tokens < 1 || way->nnoted >= max_noted)
	{
		way->left_out++;
		return false;
	}
	way->tokens -= 1;
	return true;
}

static void
note(Way *way, char *text)
{
	way->noted[way->nnoted++] = text;
	way->left_out = 0;
}

static void
write_log(const DtmTrans *trans, int branch, DtmPhase phase, const DtmOp *op)
{
	ereport(LOG,
			(errmsg("global transaction \"%s\": %s of branch %s has failed %d times in a row",
					trans->gid, dtm_op_name_of(trans, branch, phase),
					dtm_branch_id_of(trans, branch), op->streak),
			 errdetail("%s", op->last_error != NULL ? op->last_error
					   : "No reason was given."),
			 errhint("It is tried again. SELECT * FROM dtm.branches WHERE gid = %s; shows when; dtm.retry_now(gid) does not wait.",
					 quote_literal_cstr(trans->gid)),
			 log_way.left_out > 0 ?
			 errcontext(INT64_FORMAT " alerts were left out before this one; see dtm.alert_rate",
						log_way.left_out) : 0));
	log_way.left_out = 0;
}

static char *
as_json(const DtmTrans *trans, int branch, DtmPhase phase, const DtmOp *op,
		bool with_error, int64 left_out)
{
	StringInfoData json;

	initStringInfo(&json);
	append_member(&json, "gid", trans->gid);
	append_member(&json, "trans_type", dtm_mode_name(trans->mode));
	append_member(&json, "status", dtm_status_name(trans->status));
	append_member(&json, "branch", dtm_branch_id_of(trans, branch));
	append_member(&json, "op", dtm_op_name_of(trans, branch, phase));
	if (with_error)
		append_member(&json, "error", op->last_error != NULL ? op->last_error : "");
	appendStringInfo(&json, ", \"retry_count\": %d", op->streak);
	if (left_out > 0)
		appendStringInfo(&json, ", \"left_out\": " INT64_FORMAT, left_out);
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
append_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->len == 0 ? "{" : ", ", name);
	escape_json(json, value);
}

void
dtm_alerts_give(void)
{
	if (notify_way.nnoted > 0)
		notify_all();
	if (post_way.nnoted > 0)
		post_all();
	if (noted_context != NULL)
		MemoryContextReset(noted_context);
}

/* One transaction for all: NOTIFY takes a lock that all others wait for. */
static void
notify_all(void)
{
	MemoryContext before = CurrentMemoryContext;

	PG_TRY();
	{
		dtm_store_begin();
		for (int i = 0; i < notify_way.nnoted; i++)
			Async_Notify(CHANNEL, notify_way.noted[i]);
		dtm_store_commit(false);
	}
	PG_CATCH();
	{
		/* Nobody reads the queue, so that it is full? The log has it. */
		MemoryContextSwitchTo(before);
		EmitErrorReport();
		FlushErrorState();
		dtm_store_abort();
		notify_way.left_out += notify_way.nnoted;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	notify_way.nnoted = 0;
}

static void
post_all(void)
{
	for (int i = 0; i < post_way.nnoted; i++)
	{
		posts++;
		dtm_call_post(dtm_alert_url, dtm_to_utf8(post_way.noted[i]), post_ended);
	}
	post_way.nnoted = 0;
}

/* It is not tried again: when the matter lasts, so do the alerts. */
static void
post_ended(const char *error)
{
	posts--;
	if (error == NULL)
		return;
	post_way.left_out++;
	/* The address may hold a token of its receiver's. */
	ereport(LOG,
			(errmsg("an alert could not be posted to dtm.alert_url: %s", error)));
}
