/*
 * retention.c: finished transactions, barrier rows and records of what people
 * have done go when they are old.
 *
 * Rows are walked in order of id, which is nearly the order of time, from
 * where the last step stopped: no index serves this alone, no row is visited
 * twice in a pass, and the dead rows of one step are not read again by the
 * next. Each step is one short transaction over a few hundred rows; what is
 * locked is passed over and found in the next pass. The three walks stand
 * alone: where one cannot go on, because a table is not as it should be, the
 * others do.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "barrier_guard.h"
#include "debug_point.h"
#include "retention.h"
#include "settings.h"
#include "store.h"
#include "store_plan.h"

#define STEP 500				/* rows */
#define AFTER_ERROR (60 * DTM_SECOND)

/*
 * The walk ends at the first page that is too young to have finished long ago;
 * rows from a time when the clock was ahead do not count. Unfinished rows that
 * are older are passed over, and so are those whose ending is still to be run.
 */
static DtmStatement old_transactions = {
	"WITH page AS MATERIALIZED ("
	" SELECT id, created_at, finished_at FROM dtm.trans"
	" WHERE id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $3),"
	" old AS MATERIALIZED ("
	" SELECT t.id FROM dtm.trans AS t WHERE t.id OPERATOR(pg_catalog.=) ANY"
	" (ARRAY(SELECT id FROM page WHERE finished_at OPERATOR(pg_catalog.<) $2))"
	" AND t.due IS NULL FOR UPDATE SKIP LOCKED),"
	" ids AS MATERIALIZED (SELECT ARRAY(SELECT id FROM old) AS list),"
	" ops AS (DELETE FROM dtm.op WHERE id OPERATOR(pg_catalog.=) ANY"
	" ((SELECT list FROM ids)::pg_catalog.int8[])),"
	" workflows AS (DELETE FROM dtm.workflow WHERE id OPERATOR(pg_catalog.=) ANY"
	" ((SELECT list FROM ids)::pg_catalog.int8[])),"
	" branches AS (DELETE FROM dtm.branch WHERE id OPERATOR(pg_catalog.=) ANY"
	" ((SELECT list FROM ids)::pg_catalog.int8[])),"
	" transactions AS (DELETE FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) ANY"
	" ((SELECT list FROM ids)::pg_catalog.int8[]))"
	" SELECT pg_catalog.max(id),"
	" coalesce(pg_catalog.bool_and(created_at OPERATOR(pg_catalog.>=) $2"
	" AND created_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()), false)"
	" OR pg_catalog.count(*) OPERATOR(pg_catalog.<) $3 FROM page",
	3, {INT8OID, TIMESTAMPTZOID, INT8OID}
};

static DtmStatement old_barriers = {
	"WITH page AS MATERIALIZED ("
	" SELECT id, create_time FROM dtm_barrier.barrier"
	" WHERE id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $3),"
	" old AS MATERIALIZED ("
	" SELECT b.id FROM dtm_barrier.barrier AS b WHERE b.id OPERATOR(pg_catalog.=)"
	" ANY (ARRAY(SELECT id FROM page WHERE create_time OPERATOR(pg_catalog.<) $2))"
	" FOR UPDATE SKIP LOCKED),"
	" barriers AS (DELETE FROM dtm_barrier.barrier WHERE id OPERATOR(pg_catalog.=)"
	" ANY (ARRAY(SELECT id FROM old)))"
	" SELECT pg_catalog.max(id),"
	" coalesce(pg_catalog.bool_and(create_time OPERATOR(pg_catalog.>=) $2"
	" AND create_time OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()), false)"
	" OR pg_catalog.count(*) OPERATOR(pg_catalog.<) $3 FROM page",
	3, {INT8OID, TIMESTAMPTZOID, INT8OID}
};

/* What people have done to a transaction is kept as long as it is there. */
static DtmStatement old_records = {
	"WITH page AS MATERIALIZED ("
	" SELECT id, at, gid FROM dtm.operation_log"
	" WHERE id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $3),"
	" records AS (DELETE FROM dtm.operation_log WHERE id OPERATOR(pg_catalog.=)"
	" ANY (ARRAY(SELECT id FROM page WHERE at OPERATOR(pg_catalog.<) $2"
	" AND (SELECT t.id FROM dtm.trans AS t"
	" WHERE t.gid OPERATOR(pg_catalog.=) page.gid) IS NULL)))"
	" SELECT pg_catalog.max(id),"
	" coalesce(pg_catalog.bool_and(at OPERATOR(pg_catalog.>=) $2"
	" AND at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()), false)"
	" OR pg_catalog.count(*) OPERATOR(pg_catalog.<) $3 FROM page",
	3, {INT8OID, TIMESTAMPTZOID, INT8OID}
};

typedef struct Walk
{
	DtmStatement *statement;
	int64		done;			/* where a pass has got to; 0: it begins */
	DtmTime		rests_until;	/* it has failed, and would fail again */
} Walk;

static Walk transactions = {&old_transactions};
static Walk barriers = {&old_barriers};
static Walk records = {&old_records};

static bool walk_on(Walk *walk, DtmTime now, int seconds);
static bool step(Walk *walk, DtmTime before);

bool
dtm_retention_step(DtmTime now)
{
	bool		more;

	more = walk_on(&transactions, now, dtm_retention);
	more |= walk_on(&barriers, now, dtm_barrier_retention);
	more |= walk_on(&records, now, dtm_retention);
	return more;
}

static bool
walk_on(Walk *walk, DtmTime now, int seconds)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool more = false;

	if (now < walk->rests_until)
		return false;
	PG_TRY();
	{
		dtm_store_begin();
		if (walk == &barriers)
			dtm_guard_barrier();
		more = step(walk, now - seconds * DTM_SECOND);
		DTM_POINT("worker-before-retention-commit");
		dtm_store_commit(false);
		DTM_POINT("worker-after-retention-commit");
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		dtm_store_abort();
		more = false;
		walk->rests_until = now +
			Max(dtm_retention_interval * DTM_MS, AFTER_ERROR);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return more;
}

static bool
step(Walk *walk, DtmTime before)
{
	Datum		values[3] = {
		Int64GetDatum(walk->done), TimestampTzGetDatum(before),
		Int64GetDatum(STEP)
	};
	bool		is_null;
	bool		at_end;
	Datum		last;

	dtm_statement_run(walk->statement, values, NULL, SPI_OK_SELECT);
	last = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						 &is_null);
	at_end = is_null;
	walk->done = is_null ? 0 : DatumGetInt64(last);
	if (!at_end)
		at_end = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
											SPI_tuptable->tupdesc, 2,
											&is_null));
	if (at_end)
		walk->done = 0;
	SPI_freetuptable(SPI_tuptable);
	return !at_end;
}
