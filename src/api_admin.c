/*
 * api_admin.c: who may use dtm, whose database this is, what the workers say.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "api_common.h"
#include "identity.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(dtm_grant_usage);
PG_FUNCTION_INFO_V1(dtm_revoke_usage);
PG_FUNCTION_INFO_V1(dtm_adopt);
PG_FUNCTION_INFO_V1(dtm_worker_list);

/*
 * What users may do, as one array of statements. The functions are those whose
 * comment does not begin with "Internal" or "For administrators": \df+ and the
 * rights cannot disagree.
 */
static const char usage_statements[] =
"SELECT pg_catalog.format('%s EXECUTE ON ROUTINE %s %s', "
"   $1, p.oid::pg_catalog.regprocedure, $2) "
"FROM pg_catalog.pg_proc p "
"WHERE p.pronamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace "
"AND pg_catalog.obj_description(p.oid, 'pg_proc') "
"  OPERATOR(pg_catalog.!~) '^(Internal|For administrators)' "
"UNION ALL SELECT pg_catalog.format('%s SELECT ON %s %s', "
"   $1, c.oid::pg_catalog.regclass, $2) "
"FROM pg_catalog.pg_class c "
"WHERE c.relnamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace "
"AND c.relkind OPERATOR(pg_catalog.=) 'v' "
"UNION ALL SELECT pg_catalog.format('%s USAGE ON SCHEMA dtm %s', $1, $2)";

static void change_usage(Name role, const char *verb, const char *preposition,
						 const char *command);

Datum
dtm_grant_usage(PG_FUNCTION_ARGS)
{
	change_usage(PG_GETARG_NAME(0), "GRANT", "TO", "grant_usage");
	PG_RETURN_VOID();
}

Datum
dtm_revoke_usage(PG_FUNCTION_ARGS)
{
	change_usage(PG_GETARG_NAME(0), "REVOKE", "FROM", "revoke_usage");
	PG_RETURN_VOID();
}

static void
change_usage(Name role, const char *verb, const char *preposition,
			 const char *command)
{
	bool		is_public = strcmp(NameStr(*role), "public") == 0;
	const char *who = is_public ? "PUBLIC" : quote_identifier(NameStr(*role));
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];
	SPITupleTable *statements;
	uint64		n;
	DtmApi		api;

	if (!is_public)
		(void) get_role_oid(NameStr(*role), false);

	dtm_api_begin(&api);
	values[0] = CStringGetTextDatum(verb);
	values[1] = CStringGetTextDatum(psprintf("%s %s", preposition, who));
	if (SPI_execute_with_args(usage_statements, 2, types, values, NULL, false,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not list what users of dtm may do");
	statements = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		char	   *sql = SPI_getvalue(statements->vals[i], statements->tupdesc, 1);

		if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not execute \"%s\"", sql);
	}
	dtm_log_command(api.user, command, NULL, NameStr(*role));
	dtm_api_end(&api);
}

Datum
dtm_adopt(PG_FUNCTION_ARGS)
{
	DtmApi		api;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser can adopt a database's global transactions"),
				 errhint("Connect as a superuser.")));
	dtm_api_begin(&api);
	dtm_adopt_here();
	dtm_log_command(api.user, "adopt", NULL, NULL);
	dtm_api_end(&api);

	/* The worker looks at its state now and then; nothing else is lost. */
	if (dtm_shmem_ready())
		dtm_shmem_request_rescan(MyDatabaseId);
	PG_RETURN_VOID();
}

/*
 * worker_list(): one row for each worker: database, shard, pid, started, then
 * the counters in the order of DtmCounter. Other databases' are shown only to
 * members of pg_monitor.
 */
Datum
dtm_worker_list(PG_FUNCTION_ARGS)
{
	enum
	{
		DATABASE,
		SHARD,
		PID,
		STARTED,
		COUNTERS,
		COLUMNS = COUNTERS + DTM_NCOUNTERS
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		sees_all = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);

	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->natts != COLUMNS)
		elog(ERROR, "dtm.worker_list is not the function that this library knows");
	if (!dtm_shmem_ready())
		return (Datum) 0;

	for (int i = 0; i < dtm_shard_count(); i++)
	{
		DtmShard   *shard = dtm_shard_at(i);
		Datum		values[COLUMNS] = {0};
		bool		nulls[COLUMNS] = {false};
		Oid			database;

		LWLockAcquire(shard->lock, LW_SHARED);
		database = shard->database;
		values[DATABASE] = ObjectIdGetDatum(database);
		values[SHARD] = Int32GetDatum(shard->number);
		values[PID] = Int32GetDatum((int32) shard->pid);
		nulls[PID] = shard->pid == 0;
		values[STARTED] = TimestampTzGetDatum(shard->started);
		nulls[STARTED] = shard->pid == 0;
		LWLockRelease(shard->lock);

		if (!OidIsValid(database) || (database != MyDatabaseId && !sees_all))
			continue;
		for (int c = 0; c < DTM_NCOUNTERS; c++)
			values[COUNTERS + c] =
				Int64GetDatum((int64) pg_atomic_read_u64(&shard->counter[c]));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
