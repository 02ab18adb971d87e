/*
 * store_write.c: writing decisions, marks and schedules, many at once.
 *
 * While a transaction is prepared its user adds branches. So the decision to end
 * that is made for the branches that it was decided from, or not at all: the
 * row is locked first, as for adding a branch, and they are counted after that.
 * Who adds one later finds the new status.
 *
 * The worker never waits for a user. A row of dtm.trans that somebody has
 * locked is passed over and tried again; a change is made only if the status
 * is still the one that it was decided from.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "decide.h"
#include "store.h"
#include "store_plan.h"

static DtmStatement lock_rows = {
	"SELECT FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
	" FOR NO KEY UPDATE SKIP LOCKED",
	1, {INT8ARRAYOID}, CURSOR_OPT_GENERIC_PLAN
};

static DtmStatement change_rows = {
	"UPDATE dtm.trans AS t SET status = c.new, due = c.due,"
	" finished_at = CASE WHEN c.new OPERATOR(pg_catalog.=) ANY ('{S,F}'::pg_catalog.\"char\"[])"
	" THEN coalesce(t.finished_at, pg_catalog.clock_timestamp()) END,"
	" submitted_at = CASE WHEN t.submitted_at IS NULL"
	" AND c.new OPERATOR(pg_catalog.=) ANY ('{s,S}'::pg_catalog.\"char\"[])"
	" THEN pg_catalog.clock_timestamp() ELSE t.submitted_at END,"
	" reason = CASE WHEN c.reason IS NULL THEN t.reason ELSE c.reason END"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
	" pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
	" pg_catalog.unnest($6))"
	" AS c (id, old, new, due, reason, branches)"
	" CROSS JOIN LATERAL (SELECT r.ctid AS place FROM dtm.trans AS r"
	" WHERE r.id OPERATOR(pg_catalog.=) c.id"
	" AND r.status OPERATOR(pg_catalog.=) c.old"
	" AND (c.branches IS NULL OR c.branches OPERATOR(pg_catalog.=)"
	" (SELECT pg_catalog.count(*) FROM dtm.branch AS b"
	" WHERE b.id OPERATOR(pg_catalog.=) c.id))"
	" FOR NO KEY UPDATE SKIP LOCKED) AS free"
	" WHERE t.ctid OPERATOR(pg_catalog.=) free.place"
	" RETURNING t.id",
	6, {INT8ARRAYOID, CHARARRAYOID, CHARARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID,
	INT4ARRAYOID}, CURSOR_OPT_GENERIC_PLAN
};

/* What an executor has committed as done is done: its row is not touched. */
static DtmStatement op_rows = {
	"INSERT INTO dtm.op AS o (id, branch, phase, status, stuck, attempts,"
	" failed_attempts, streak, next_attempt, last_attempt, last_error, result)"
	" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
	" pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
	" pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"
	" pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11),"
	" pg_catalog.unnest($12))"
	" ON CONFLICT (id, branch, phase) DO UPDATE SET"
	" status = excluded.status, stuck = excluded.stuck,"
	" attempts = excluded.attempts,"
	" failed_attempts = excluded.failed_attempts, streak = excluded.streak,"
	" next_attempt = excluded.next_attempt,"
	" last_attempt = excluded.last_attempt, last_error = excluded.last_error,"
	" result = excluded.result"
	" WHERE o.status OPERATOR(pg_catalog.<>) 'S'",
	12, {INT8ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, CHARARRAYOID, BOOLARRAYOID,
		INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, BYTEAARRAYOID}, CURSOR_OPT_GENERIC_PLAN
};

typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
} Column;

static Column
new_column(int n)
{
	Column		c;

	c.values = palloc(sizeof(Datum) * n);
	c.nulls = palloc0(sizeof(bool) * n);
	return c;
}

static void
put_text(Column *c, int i, const char *text)
{
	c->nulls[i] = text == NULL;
	c->values[i] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_bytes(Column *c, int i, const char *bytes, size_t size)
{
	bytea	   *value;

	c->nulls[i] = bytes == NULL;
	if (bytes == NULL)
		return;
	value = palloc(VARHDRSZ + size);
	SET_VARSIZE(value, VARHDRSZ + size);
	memcpy(VARDATA(value), bytes, size);
	c->values[i] = PointerGetDatum(value);
}

static void
put_time(Column *c, int i, DtmTime time, DtmTime null_value)
{
	c->nulls[i] = time == null_value;
	c->values[i] = TimestampTzGetDatum(time);
}

void
dtm_store_change(DtmChange *changes, int nchanges)
{
	Column		id = new_column(nchanges);
	Column		from = new_column(nchanges);
	Column		to = new_column(nchanges);
	Column		due = new_column(nchanges);
	Column		reason = new_column(nchanges);
	Column		branches = new_column(nchanges);
	Datum	   *locked = palloc(sizeof(Datum) * nchanges);
	int			nlocked = 0;
	Datum		values[6];
	int			left = 0;

	for (int i = 0; i < nchanges; i++)
	{
		id.values[i] = Int64GetDatum(changes[i].id);
		from.values[i] = CharGetDatum(changes[i].from);
		to.values[i] = CharGetDatum(changes[i].to);
		/*
		 * DTM_NEVER is 'infinity': unfinished, and nothing to be done now. An
		 * end that is due has a statement yet to be run.
		 */
		due.values[i] = TimestampTzGetDatum(changes[i].due);
		due.nulls[i] = dtm_status_is_final(changes[i].to) &&
			changes[i].due == DTM_NEVER;
		put_text(&reason, i, changes[i].reason);
		branches.values[i] = Int32GetDatum(changes[i].nbranches);
		branches.nulls[i] = changes[i].nbranches < 0;
		if (!branches.nulls[i])
			locked[nlocked++] = id.values[i];
		changes[i].made = false;
	}
	if (nlocked > 0)
	{
		values[0] = dtm_array(locked, NULL, nlocked, INT8OID);
		dtm_statement_run(&lock_rows, values, NULL, SPI_OK_SELECT);
		SPI_freetuptable(SPI_tuptable);
	}
	values[0] = dtm_array(id.values, NULL, nchanges, INT8OID);
	values[1] = dtm_array(from.values, NULL, nchanges, CHAROID);
	values[2] = dtm_array(to.values, NULL, nchanges, CHAROID);
	values[3] = dtm_array(due.values, due.nulls, nchanges, TIMESTAMPTZOID);
	values[4] = dtm_array(reason.values, reason.nulls, nchanges, TEXTOID);
	values[5] = dtm_array(branches.values, branches.nulls, nchanges, INT4OID);
	dtm_statement_run(&change_rows, values, NULL, SPI_OK_UPDATE_RETURNING);

	/* They come back in the order in which they went in, some missing. */
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		is_null;
		int64		made = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row],
													   SPI_tuptable->tupdesc, 1,
													   &is_null));

		for (int tried = 0; tried < nchanges; tried++)
		{
			int			i = (left + tried) % nchanges;

			if (changes[i].id == made)
			{
				changes[i].made = true;
				left = i + 1;
				break;
			}
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

void
dtm_store_ops(const DtmOpRow *rows, int nrows)
{
	Column		id = new_column(nrows);
	Column		branch = new_column(nrows);
	Column		phase = new_column(nrows);
	Column		status = new_column(nrows);
	Column		stuck = new_column(nrows);
	Column		attempts = new_column(nrows);
	Column		failed = new_column(nrows);
	Column		streak = new_column(nrows);
	Column		next = new_column(nrows);
	Column		last = new_column(nrows);
	Column		error = new_column(nrows);
	Column		result = new_column(nrows);
	Datum		values[12];

	for (int i = 0; i < nrows; i++)
	{
		const DtmOp *op = rows[i].op;

		id.values[i] = Int64GetDatum(rows[i].id);
		branch.values[i] = Int32GetDatum(rows[i].branch);
		phase.values[i] = Int16GetDatum(rows[i].phase);
		status.values[i] = CharGetDatum(op->status);
		stuck.values[i] = BoolGetDatum(op->stuck);
		attempts.values[i] = Int32GetDatum(op->attempts);
		failed.values[i] = Int32GetDatum(op->failed_attempts);
		streak.values[i] = Int32GetDatum(op->streak);
		put_time(&next, i,
				 op->status == DTM_OP_PREPARED ? op->due : DTM_NEVER,
				 DTM_NEVER);
		put_time(&last, i, op->last_attempt, 0);
		put_text(&error, i, op->last_error);
		put_bytes(&result, i, op->result, op->result_size);
	}
	values[0] = dtm_array(id.values, NULL, nrows, INT8OID);
	values[1] = dtm_array(branch.values, NULL, nrows, INT4OID);
	values[2] = dtm_array(phase.values, NULL, nrows, INT2OID);
	values[3] = dtm_array(status.values, NULL, nrows, CHAROID);
	values[4] = dtm_array(stuck.values, NULL, nrows, BOOLOID);
	values[5] = dtm_array(attempts.values, NULL, nrows, INT4OID);
	values[6] = dtm_array(failed.values, NULL, nrows, INT4OID);
	values[7] = dtm_array(streak.values, NULL, nrows, INT4OID);
	values[8] = dtm_array(next.values, next.nulls, nrows, TIMESTAMPTZOID);
	values[9] = dtm_array(last.values, last.nulls, nrows, TIMESTAMPTZOID);
	values[10] = dtm_array(error.values, error.nulls, nrows, TEXTOID);
	values[11] = dtm_array(result.values, result.nulls, nrows, BYTEAOID);
	dtm_statement_run(&op_rows, values, NULL, SPI_OK_INSERT);
}
