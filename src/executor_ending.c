/*
 * executor_ending.c: the statement on_success or on_failure, in one transaction
 * with the status that it is for.
 *
 * In this order: the statement, what it has deferred, the transaction's row, the
 * op's row, the commit. The row is changed only if its status is still the one
 * that the end was decided from, and is passed over if somebody holds it: then
 * all is rolled back, the worker reads the row, and decides again. So:
 *
 *	 killed before the commit	nothing has happened: the statement is run again,
 *								if it still comes to this end;
 *	 killed after it			the status is final and nothing is due. Whoever
 *								asks again is told "success" without a call;
 *	 the worker is killed		this goes on, and may commit while the next worker
 *								is at work: either this changes the row first, and
 *								that one finds it ended, or it finds the row
 *								changed, and nothing has happened;
 *	 a user is faster			the same.
 *
 * The row is locked last, so that a statement which takes long keeps nobody from
 * aborting; and its lock is held for no longer than a commit.
 *
 * Once the status is final without the statement (it had failed, or a user has
 * ended the transaction), what makes the effect happen once is that the row is
 * still due: that is taken away by the same commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "api_common.h"
#include "branch_context.h"
#include "debug_point.h"
#include "decide.h"
#include "executor.h"
#include "executor_slot.h"
#include "executor_tables.h"

/* What the row says. */
typedef struct Ending
{
	DtmMode		mode;
	DtmStatus	status;			/* 0: there is no row */
	Oid			owner;
	const char *gid;
	const char *statement;		/* NULL: none */
	const char *traceparent;	/* "": none */
	bool		is_due;
} Ending;

static void read_row(const DtmExecutorJob *job, Ending *ending);
static bool is_to_be_run(const DtmExecutorJob *job, const Ending *ending,
						 DtmExecutorResult *result);
static void run_statement(const DtmExecutorJob *job, const Ending *ending);
static bool finish_row(const DtmExecutorJob *job, const Ending *ending);
static bool lock_row(const DtmExecutorJob *job, const Ending *ending);
static bool branches_are_the_same(const DtmExecutorJob *job);
static void look_for_own_change(const DtmExecutorJob *job);
static void record_success(const DtmExecutorJob *job);
static char *text_column(int number);
static Datum column(int number, bool *isnull);

/* Returns whether the transaction is to be committed. */
bool
dtm_executor_run_ending(const DtmExecutorJob *job, DtmExecutorResult *result)
{
	Ending		ending;

	read_row(job, &ending);
	if (!is_to_be_run(job, &ending, result))
		return false;

	run_statement(job, &ending);
	DTM_POINT("executor-ending-run");
	if (!finish_row(job, &ending))
	{
		look_for_own_change(job);
		result->answer = DTM_ANSWER_ONGOING;
		return false;
	}
	record_success(job);
	result->answer = DTM_ANSWER_SUCCESS;
	result->recorded = true;
	return true;
}

static void
read_row(const DtmExecutorJob *job, Ending *ending)
{
	static DtmStatement statement = {
		"SELECT mode, status, owner, gid, traceparent,"
		" CASE WHEN $2 OPERATOR(pg_catalog.=) 'S' THEN on_success"
		" ELSE on_failure END, due IS NOT NULL"
		" FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, CHAROID}
	};
	Datum		values[] = {Int64GetDatum(job->id), CharGetDatum(job->to)};
	bool		isnull;

	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, false);
	memset(ending, 0, sizeof(*ending));
	if (SPI_processed == 0)
		return;
	ending->mode = (DtmMode) DatumGetChar(column(1, &isnull));
	ending->status = (DtmStatus) DatumGetChar(column(2, &isnull));
	ending->owner = DatumGetObjectId(column(3, &isnull));
	ending->gid = text_column(4);
	ending->traceparent = text_column(5);
	if (ending->traceparent == NULL)
		ending->traceparent = "";
	ending->statement = text_column(6);
	ending->is_due = DatumGetBool(column(7, &isnull));
}

/* If not, the result says why. */
static bool
is_to_be_run(const DtmExecutorJob *job, const Ending *ending,
			 DtmExecutorResult *result)
{
	if (!dtm_executor_is_for(ending->status == 0 ? InvalidOid : ending->owner,
							 result))
		return false;

	/* Somebody else's job has done it, and this one's worker has not heard. */
	if (ending->status == job->to && !ending->is_due)
	{
		result->answer = DTM_ANSWER_SUCCESS;
		result->recorded = true;
		return false;
	}
	if (ending->status != job->from && ending->status != job->to)
	{
		result->answer = DTM_ANSWER_ONGOING;
		return false;
	}
	return true;
}

static void
run_statement(const DtmExecutorJob *job, const Ending *ending)
{
	SPIExecuteOptions options = {0};
	int			rc;

	if (ending->statement == NULL)
		return;
	pgstat_report_activity(STATE_RUNNING, ending->statement);
	debug_query_string = ending->statement;

	/* Nobody reads what it returns, however many rows that are. */
	options.dest = CreateDestReceiver(DestNone);

	DtmCurrentBranch.gid = ending->gid;
	DtmCurrentBranch.branch_id = "00";
	DtmCurrentBranch.op = job->to == DTM_SUCCEED ? "on_success" : "on_failure";
	DtmCurrentBranch.trans_type = dtm_mode_name(ending->mode);
	DtmCurrentBranch.active = true;
	(void) set_config_option("dtm.traceparent", ending->traceparent,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	rc = SPI_execute_extended(ending->statement, &options);
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the statement cannot be run here: %s",
						SPI_result_code_string(rc))));
	dtm_executor_run_deferred_triggers();
	dtm_executor_close_held_cursors();
	DtmCurrentBranch.active = false;
	debug_query_string = NULL;
}

/* false: the row is not ours to change; all is to be rolled back. */
static bool
finish_row(const DtmExecutorJob *job, const Ending *ending)
{
	static DtmStatement statement = {
		"UPDATE dtm.trans SET status = $2, due = NULL,"
		" finished_at = coalesce(finished_at, pg_catalog.clock_timestamp()),"
		" submitted_at = CASE WHEN submitted_at IS NULL"
		" AND $2 OPERATOR(pg_catalog.=) 'S'"
		" THEN pg_catalog.clock_timestamp() ELSE submitted_at END,"
		" reason = CASE WHEN $3 OPERATOR(pg_catalog.=) '' THEN reason"
		" ELSE $3 END"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		3, {INT8OID, CHAROID, TEXTOID}
	};
	bool		decides = ending->status != job->to;
	Datum		values[] = {Int64GetDatum(job->id), CharGetDatum(job->to),
	CStringGetTextDatum(decides ? job->reason : "")};

	if (!lock_row(job, ending))
		return false;
	if (decides && job->nbranches >= 0 && !branches_are_the_same(job))
		return false;
	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_UPDATE, false);
	return SPI_processed == 1;
}

static bool
lock_row(const DtmExecutorJob *job, const Ending *ending)
{
	static DtmStatement statement = {
		"SELECT FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) $1"
		" AND status OPERATOR(pg_catalog.=) $2"
		" AND ($3 OR due IS NOT NULL)"
		" FOR NO KEY UPDATE SKIP LOCKED",
		3, {INT8OID, CHAROID, BOOLOID}
	};
	Datum		values[] = {Int64GetDatum(job->id), CharGetDatum(ending->status),
	BoolGetDatum(ending->status != job->to)};

	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, false);
	return SPI_processed == 1;
}

/*
 * Under the row's lock, which whoever adds a branch takes. As it is now, also
 * where the isolation level would have us look at the past.
 */
static bool
branches_are_the_same(const DtmExecutorJob *job)
{
	static DtmStatement statement = {
		"SELECT pg_catalog.count(*) FROM dtm.branch"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		1, {INT8OID}
	};
	Datum		values[] = {Int64GetDatum(job->id)};
	bool		isnull;
	int64		n;

	PushActiveSnapshot(GetLatestSnapshot());
	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, true);
	n = DatumGetInt64(column(1, &isnull));
	PopActiveSnapshot();
	return n == job->nbranches;
}

/*
 * What the statement itself has done to the row would be in its own way for
 * ever.
 */
static void
look_for_own_change(const DtmExecutorJob *job)
{
	static DtmStatement statement = {
		"SELECT xmin FROM dtm.trans"
		" WHERE id OPERATOR(pg_catalog.=) $1"
		" UNION ALL (SELECT xmin FROM dtm.branch"
		" WHERE id OPERATOR(pg_catalog.=) $1"
		" ORDER BY branch DESC LIMIT 1)",
		1, {INT8OID}
	};
	Datum		values[] = {Int64GetDatum(job->id)};

	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_SELECT, false);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		isnull;
		Datum		xmin = SPI_getbinval(SPI_tuptable->vals[row],
										 SPI_tuptable->tupdesc, 1, &isnull);

		if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
			ereport(ERROR,
					(errcode(ERRCODE_DTM_ILLEGAL),
					 errmsg("the statement has changed its own global transaction")));
	}
}

static void
record_success(const DtmExecutorJob *job)
{
	static DtmStatement statement = {
		"INSERT INTO dtm.op AS o (id, branch, phase, status,"
		" attempts, failed_attempts, streak, last_attempt)"
		" VALUES ($1, $2, 0, 'S', 1, 0, 0, pg_catalog.clock_timestamp())"
		" ON CONFLICT (id, branch, phase) DO UPDATE"
		" SET status = 'S', stuck = false, streak = 0,"
		" attempts = o.attempts OPERATOR(pg_catalog.+) 1,"
		" next_attempt = NULL, last_attempt = excluded.last_attempt",
		2, {INT8OID, INT4OID}
	};
	Datum		values[] = {Int64GetDatum(job->id), Int32GetDatum(DTM_ENDING)};

	dtm_executor_on_tables(&statement, values, NULL, SPI_OK_INSERT, false);
}

/* NULL stays NULL. */
static char *
text_column(int number)
{
	bool		isnull;
	Datum		value = column(number, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static Datum
column(int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number,
						 isnull);
}
