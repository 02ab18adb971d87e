/*
 * store.c: the worker's transactions, its plans, and arrays to feed them.
 *
 * The statements themselves are in store_load.c and store_write.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "debug_point.h"
#include "store.h"
#include "store_plan.h"

void
dtm_store_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * Until the end of this transaction, whoever holds what we want is waited for
 * no longer than this.
 */
void
dtm_store_limit_waits(int timeout_ms)
{
	char		text[16];

	snprintf(text, sizeof(text), "%d", timeout_ms);
	(void) set_config_option("lock_timeout", text, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

void
dtm_store_commit(bool synchronous)
{
	SPI_finish();
	PopActiveSnapshot();

	/*
	 * Marks and schedules may be lost: a repeated call is all that comes of
	 * it. Decisions may not.
	 */
	if (synchronous)
		ForceSyncCommit();
	else
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
	DTM_POINT(synchronous ? "worker-before-decision" : "worker-before-marks");
	CommitTransactionCommand();
	DTM_POINT(synchronous ? "worker-after-decision" : "worker-after-marks");
	pgstat_report_stat(false);
}

void
dtm_store_abort(void)
{
	/* Also ends SPI and pops every snapshot. */
	AbortCurrentTransaction();
}

void
dtm_statement_run(DtmStatement *statement, Datum *values, const char *nulls,
				  int expected)
{
	dtm_statement_run_some(statement, values, nulls, expected, 0);
}

/* max_rows 0: all */
void
dtm_statement_run_some(DtmStatement *statement, Datum *values,
					   const char *nulls, int expected, long max_rows)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, statement->nargs,
											  statement->types,
											  statement->options);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		statement->plan = plan;
	}

	result = SPI_execute_plan(statement->plan, values, nulls, false, max_rows);
	if (result != expected)
		elog(ERROR, "\"%s\" gave %s", statement->sql,
			 SPI_result_code_string(result));
}

Datum
dtm_int8_array(const int64 *values, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(values[i]);
	return dtm_array(datums, NULL, n, INT8OID);
}

Datum
dtm_array(const Datum *values, const bool *nulls, int n, Oid type)
{
	int			lower = 1;
	int16		len = -1;
	bool		by_value = false;
	char		align = TYPALIGN_INT;

	switch (type)
	{
		case INT8OID:
		case TIMESTAMPTZOID:
			len = 8;
			by_value = FLOAT8PASSBYVAL;
			align = TYPALIGN_DOUBLE;
			break;
		case INT4OID:
			len = 4;
			by_value = true;
			break;
		case INT2OID:
			len = 2;
			by_value = true;
			align = TYPALIGN_SHORT;
			break;
		case CHAROID:
		case BOOLOID:
			len = 1;
			by_value = true;
			align = TYPALIGN_CHAR;
			break;
		case TEXTOID:
		case BYTEAOID:
			break;
		default:
			elog(ERROR, "no array of type %u is made here", type);
	}
	return PointerGetDatum(construct_md_array((Datum *) values, (bool *) nulls,
											  1, &n, &lower, type, len,
											  by_value, align));
}
