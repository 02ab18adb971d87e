/*
 * identity.c: is this database the one whose transactions its tables hold?
 *
 * The row is compared, never guessed at: a missing row is "not adopted". What
 * cannot be seen here is a promoted physical copy of a server that goes on
 * running: it has the same identity, as a failover must.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "identity.h"

static const char read_identity[] =
"SELECT system_identifier, database OPERATOR(pg_catalog.=) $2 "
"  AND system_identifier OPERATOR(pg_catalog.=) $1 "
"FROM dtm.identity";

static const char write_identity[] =
"INSERT INTO dtm.identity (only_row, system_identifier, database) "
"VALUES (true, $1, $2) "
"ON CONFLICT (only_row) DO UPDATE "
"SET system_identifier = excluded.system_identifier, "
"    database = excluded.database, "
"    adopted_at = pg_catalog.clock_timestamp()";

static int	run_with_identity(const char *sql, bool read_only);

bool
dtm_is_adopted(void)
{
	bool		adopted = false;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	run_with_identity(read_identity, true);
	if (SPI_processed == 1)
	{
		bool		isnull;
		Datum		same = SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 2, &isnull);

		adopted = !isnull && DatumGetBool(same);
	}
	PopActiveSnapshot();
	SPI_finish();
	return adopted;
}

void
dtm_adopt_here(void)
{
	SPI_connect();
	run_with_identity(write_identity, false);
	SPI_finish();
}

static int
run_with_identity(const char *sql, bool read_only)
{
	Oid			types[2] = {INT8OID, OIDOID};
	Datum		values[2];
	int			rc;

	/* The same form as pg_control_system() has it. */
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	rc = SPI_execute_with_args(sql, 2, types, values, NULL, read_only, 0);
	if (rc < 0)
		elog(ERROR, "dtm.identity: %s", SPI_result_code_string(rc));
	return rc;
}
