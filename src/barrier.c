/*
 * barrier.c: is this call of a branch new, or a repeat, or too late?
 *
 * Runs in the participant's own transaction, together with the business, so
 * both are there or neither is. The rows are the protocol: services that use
 * dtm's SDKs read and write the same table.
 *
 *	 1	origin op: cancel -> try, compensate -> action, rollback -> action
 *	 2	insert (..., origin op, reason = op), unless it is there
 *	 3	insert (..., op, reason = op), unless it is there
 *	 4	2 has inserted: there is nothing to undo, and the forward op that may
 *		still arrive will find its row taken. 3 has not inserted: a repeat, or a
 *		forward op after its compensation. In both: no business, but success
 *
 * A second call that runs at the same time waits in its insert until the first
 * has committed (then it is a repeat) or rolled back (then it is new).
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_common.h"
#include "barrier.h"
#include "barrier_guard.h"
#include "branch_context.h"

PG_FUNCTION_INFO_V1(dtm_barrier);
PG_FUNCTION_INFO_V1(dtm_query_prepared);

static const char *const modes[] = {"saga", "tcc", "xa", "msg", "workflow"};
static const char *const ops[] = {
	"action", "compensate", "try", "confirm", "cancel", "commit", "rollback",
	"msg"
};

static bool inside_transaction(void);
static bool is_one_of(const char *word, const char *const *words, int n);
static const char *origin_of(const char *op);
static bool insert_barrier(const DtmBarrierKey *key, const char *op, const char *reason);

/* barrier(trans_type, gid, branch_id, op, barrier_id) -> do the business? */
Datum
dtm_barrier(PG_FUNCTION_ARGS)
{
	DtmBarrierKey key;
	char	   *op = dtm_barrier_arguments(fcinfo, &key);
	DtmBarrierVerdict verdict;

	key.barrier_id = dtm_barrier_argument(fcinfo, 4, "barrier_id", 45);
	if (!inside_transaction())
		ereport(ERROR,
				(errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
				 errmsg("dtm.barrier must be called in the transaction that does the business"),
				 errdetail("By itself it would be committed without it."),
				 errhint("BEGIN; SELECT dtm.barrier(...); the business, if that was true; COMMIT;")));

	verdict = dtm_barrier_enter(&key, op);
	if (verdict == DTM_BARRIER_REPEAT && strcmp(op, "msg") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("DUPLICATED: message \"%s\" has been decided before",
						text_to_cstring(key.gid)),
				 errhint("Roll back. dtm.query_prepared(gid) tells how it was decided.")));
	PG_RETURN_BOOL(verdict == DTM_BARRIER_NEW);
}

char *
dtm_barrier_arguments(FunctionCallInfo fcinfo, DtmBarrierKey *key)
{
	char	   *trans_type;
	char	   *op;

	key->trans_type = dtm_barrier_argument(fcinfo, 0, "trans_type", 45);
	key->gid = dtm_barrier_argument(fcinfo, 1, "gid", DTM_MAX_GID);
	key->branch_id = dtm_barrier_argument(fcinfo, 2, "branch_id", 128);
	op = text_to_cstring(dtm_barrier_argument(fcinfo, 3, "op", 45));
	trans_type = text_to_cstring(key->trans_type);

	if (!is_one_of(trans_type, modes, lengthof(modes)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trans_type: \"%s\" is none", trans_type),
				 errhint("It is saga, tcc, xa, msg or workflow, and comes with the call as the parameter trans_type.")));
	/* The ops of a workflow have names of the application's. */
	if (strcmp(trans_type, "workflow") != 0 &&
		!is_one_of(op, ops, lengthof(ops)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("op: \"%s\" is none", op),
				 errhint("It is action, compensate, try, confirm, cancel, commit, rollback or msg, and comes with the call as the parameter op.")));
	return op;
}

DtmBarrierVerdict
dtm_barrier_enter(const DtmBarrierKey *key, const char *op)
{
	const char *origin = origin_of(op);
	bool		nothing_to_undo = false;
	bool		is_new;
	DtmApi		api;

	dtm_api_begin(&api);
	dtm_guard_barrier();
	/* The caller answers "done" after its commit: then it must be durable. */
	ForceSyncCommit();
	if (origin != NULL)
		nothing_to_undo = insert_barrier(key, origin, op);
	is_new = insert_barrier(key, op, op);
	dtm_api_end(&api);

	return !is_new ? DTM_BARRIER_REPEAT :
		nothing_to_undo ? DTM_BARRIER_NOTHING_TO_UNDO : DTM_BARRIER_NEW;
}

/*
 * query_prepared(gid): was the business of this message committed? If nothing
 * is known yet, then it never will be: the row written here keeps it out.
 */
Datum
dtm_query_prepared(PG_FUNCTION_ARGS)
{
	DtmBarrierKey key;
	Datum		values[4];
	DtmApi		api;
	char	   *reason = NULL;
	bool		rolled_back;

	key.trans_type = cstring_to_text("msg");
	key.gid = dtm_barrier_argument(fcinfo, 0, "gid", DTM_MAX_GID);
	key.branch_id = cstring_to_text("00");
	key.barrier_id = cstring_to_text("01");

	dtm_api_begin(&api);
	dtm_guard_barrier();
	ForceSyncCommit();
	(void) insert_barrier(&key, "msg", "rollback");
	values[0] = PointerGetDatum(key.gid);
	values[1] = PointerGetDatum(key.branch_id);
	values[2] = CStringGetTextDatum("msg");
	values[3] = PointerGetDatum(key.barrier_id);
	if (dtm_api_lookup(DTM_PLAN_BARRIER_REASON, values, NULL) > 0)
		reason = dtm_api_text(1);
	if (reason == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the barrier of message \"%s\" cannot be seen",
						text_to_cstring(key.gid)),
				 errhint("Ask again in a new transaction.")));
	rolled_back = strcmp(reason, "rollback") == 0;
	dtm_api_end(&api);
	PG_RETURN_TEXT_P(cstring_to_text(rolled_back ? "FAILURE" : "SUCCESS"));
}

/*
 * Is there more to this transaction than the one statement that calls us? In
 * a block there is; so there is inside a procedural function or a DO block,
 * where SPI is connected; and in an executor, which runs a branch.
 *
 * Unregistering a relation that nobody registered does nothing but tell
 * whether SPI is connected; there is no plainer way to ask.
 */
static bool
inside_transaction(void)
{
	return IsTransactionBlock() || DtmCurrentBranch.active ||
		MyBackendType == B_BG_WORKER ||
		SPI_unregister_relation("dtm: none") != SPI_ERROR_UNCONNECTED;
}

text *
dtm_barrier_argument(FunctionCallInfo fcinfo, int n, const char *name, int limit)
{
	text	   *value;

	if (PG_ARGISNULL(n) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(n)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must not be NULL or empty", name),
				 errhint("Pass what came with the call as the parameter %s.", name)));
	value = PG_GETARG_TEXT_PP(n);
	if (VARSIZE_ANY_EXHDR(value) > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: has %d bytes, the limit is %d", name,
						(int) VARSIZE_ANY_EXHDR(value), limit),
				 errhint("Pass what came with the call as the parameter %s.", name)));
	return value;
}

static bool
is_one_of(const char *word, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

static const char *
origin_of(const char *op)
{
	if (strcmp(op, "cancel") == 0)
		return "try";
	if (strcmp(op, "compensate") == 0 || strcmp(op, "rollback") == 0)
		return "action";
	return NULL;
}

/* Was it not there yet? */
static bool
insert_barrier(const DtmBarrierKey *key, const char *op, const char *reason)
{
	Datum		values[7];

	values[0] = PointerGetDatum(key->trans_type);
	values[1] = PointerGetDatum(key->gid);
	values[2] = PointerGetDatum(key->branch_id);
	values[3] = CStringGetTextDatum(op);
	values[4] = PointerGetDatum(key->barrier_id);
	values[5] = CStringGetTextDatum(reason);
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	return dtm_api_run(DTM_PLAN_BARRIER, values, NULL) > 0;
}
