/*
 * doctor.c: every misconfiguration that can be found from a session, each with
 * why it matters and the command that mends it.
 *
 * It only looks. What it looks at may be broken, so each look stands alone.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "api_common.h"
#include "barrier_guard.h"
#include "identity.h"
#include "launcher.h"
#include "settings.h"
#include "shmem.h"

/* A worker that is this late with a transaction is not keeping up. */
#define LATE_SECONDS	60

PG_FUNCTION_INFO_V1(dtm_doctor);

static void look_at_processes(ReturnSetInfo *result);
static void look_at_server(ReturnSetInfo *result);
static void look_at_retention(ReturnSetInfo *result);
static void look_at_version(ReturnSetInfo *result);
static void look_at_rights(ReturnSetInfo *result);
static void look_at_topics(ReturnSetInfo *result);
static void look_at_barrier(ReturnSetInfo *result);
static void look_at_transactions(ReturnSetInfo *result);
static int64 number(const char *sql);
static void complain(ReturnSetInfo *result, const char *problem,
					 const char *why, const char *remedy);

Datum
dtm_doctor(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DtmApi		api;

	InitMaterializedSRF(fcinfo, 0);
	dtm_api_begin(&api);
	look_at_version(result);
	look_at_processes(result);
	look_at_server(result);
	look_at_retention(result);
	look_at_rights(result);
	look_at_topics(result);
	look_at_barrier(result);
	look_at_transactions(result);
	dtm_api_end(&api);
	return (Datum) 0;
}

static void
look_at_version(ReturnSetInfo *result)
{
	if (number("SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension "
			   "WHERE extname OPERATOR(pg_catalog.=) 'dtm' "
			   "AND extversion OPERATOR(pg_catalog.=) '" DTM_SQL_VERSION "'") == 0)
		complain(result, "the extension's version is not that of the library",
				 psprintf("The library is made for version %s; workers rest until the SQL side has it too.",
						  DTM_SQL_VERSION),
				 "ALTER EXTENSION dtm UPDATE;");
}

static void
look_at_processes(ReturnSetInfo *result)
{
	int			needed;

	if (!dtm_shmem_ready())
	{
		complain(result, "dtm is not preloaded",
				 "Without it there are no workers: what is begun is stored, and no branch is called.",
				 "Add dtm to shared_preload_libraries in postgresql.conf and restart the server.");
		return;
	}

	/* The launcher, and looks for the extension in new databases, two at once. */
	needed = 1 + DTM_MAX_PROBES + dtm_workers_per_database + dtm_max_executors;
	if (max_worker_processes < needed)
		complain(result, psprintf("max_worker_processes is %d", max_worker_processes),
				 psprintf("dtm may need %d: a launcher, %d to look for the extension, %d for this database, %d executors; and there may be others.",
						  needed, DTM_MAX_PROBES, dtm_workers_per_database,
						  dtm_max_executors),
				 psprintf("ALTER SYSTEM SET max_worker_processes = %d; and restart the server.",
						  Max(needed + 8, 16)));

	if (!dtm_enabled)
		complain(result, "dtm.enabled is off",
				 "What is begun is stored, and no branch is called.",
				 "ALTER SYSTEM SET dtm.enabled = on; SELECT pg_reload_conf();");
	if (!dtm_is_adopted())
		complain(result, "this database is a copy of another one",
				 "Its global transactions rest here, so that nothing is done twice: the original may still carry them out.",
				 "If the original does not run any more: SELECT dtm.adopt();");

	if (RecoveryInProgress())
		return;					/* a standby has no workers, rightly */
	if (!dtm_worker_is_running(MyDatabaseId))
		complain(result, "no worker runs for this database",
				 "What is begun is stored, and no branch is called until one starts.",
				 "It starts within seconds of CREATE EXTENSION. If not: the server's log says why; see max_worker_processes, dtm.max_databases and datallowconn.");
	for (int i = 1; i < dtm_workers_per_database; i++)
	{
		if (!dtm_shard_is_running(MyDatabaseId, i))
			complain(result, psprintf("worker %d of this database does not run", i),
					 "Its share of the transactions waits.",
					 "It starts within seconds. If not: the server's log says why; see max_worker_processes.");
	}
}

static void
look_at_server(ReturnSetInfo *result)
{
	if (!enableFsync)
		complain(result, "fsync is off",
				 "After a crash, transactions that were acknowledged can be lost, or branches called twice with different outcomes.",
				 "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();");
	if (!fullPageWrites)
		complain(result, "full_page_writes is off",
				 "A crash can damage pages, unless the file system prevents it.",
				 "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();");
	if (MaxConnections < 10)
		complain(result, psprintf("max_connections is %d", MaxConnections),
				 "Participants in this server need connections of their own while the worker calls them.",
				 "ALTER SYSTEM SET max_connections = 100; and restart the server.");
	if (dtm_max_in_flight_per_host > dtm_max_in_flight)
		complain(result, "dtm.max_in_flight_per_host is larger than dtm.max_in_flight",
				 "One slow host can take all calls, and delay those to the others.",
				 psprintf("ALTER SYSTEM SET dtm.max_in_flight_per_host = %d; SELECT pg_reload_conf();",
						  Max(1, dtm_max_in_flight / 4)));
	if (dtm_default_retry_interval > dtm_max_retry_interval)
		complain(result, "dtm.retry_interval is longer than dtm.max_retry_interval",
				 "The delays between retries do not grow.",
				 "ALTER SYSTEM RESET dtm.max_retry_interval; SELECT pg_reload_conf();");
}

static void
look_at_retention(ReturnSetInfo *result)
{
	if (dtm_retention < 60)
		complain(result, psprintf("dtm.retention is %d s", dtm_retention),
				 "Finished transactions vanish before anybody can ask for their outcome, and a repeated start is no longer known as one.",
				 "ALTER SYSTEM SET dtm.retention = '7 days'; SELECT pg_reload_conf();");
	if (dtm_barrier_retention < dtm_retention)
		complain(result, "dtm.barrier_retention is shorter than dtm.retention",
				 "A late repeat of a call would find its barrier gone, and the business would be done again.",
				 psprintf("ALTER SYSTEM SET dtm.barrier_retention = '%d s'; SELECT pg_reload_conf();",
						  dtm_retention));
}

static void
look_at_rights(ReturnSetInfo *result)
{
	int64		grantees;

	grantees = number("SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace AS n, "
					  "LATERAL pg_catalog.aclexplode(n.nspacl) AS a "
					  "LEFT JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) a.grantee "
					  "WHERE n.nspname OPERATOR(pg_catalog.=) 'dtm' "
					  "AND NOT coalesce(r.rolsuper, false) "
					  "AND coalesce(r.rolname, '') OPERATOR(pg_catalog.<>) 'pg_monitor'");
	if (grantees > 0 &&
		number("SELECT pg_catalog.count(*) FROM dtm.allowed") == 0)
		complain(result, "nobody may have an address called",
				 "Roles were granted the use of dtm, but dtm.allowed is empty: only superusers can have HTTP services called. SQL branches need no grant.",
				 "SELECT dtm.allow('role', 'http://host/path/');");
	if (number("SELECT pg_catalog.count(*) FROM dtm.allowed "
			   "WHERE role::pg_catalog.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid "
			   "AND role::pg_catalog.oid NOT IN (SELECT oid FROM pg_catalog.pg_authid)") > 0)
		complain(result, "dtm.allowed has grants to roles that are gone",
				 "A new role could be given the same number, and the grant with it.",
				 "DELETE FROM dtm.allowed WHERE role NOT IN (SELECT oid FROM pg_roles) AND role <> 0;");
}

static void
look_at_topics(ReturnSetInfo *result)
{
	int64		n;

	n = number("SELECT pg_catalog.count(*) FROM dtm.topic "
			   "WHERE pg_catalog.starts_with(url, 'sql:') "
			   "AND NOT pg_catalog.starts_with(url, 'sql://') "
			   "AND pg_catalog.to_regprocedure(pg_catalog.substr(url, 5) "
			   " OPERATOR(pg_catalog.||) '(pg_catalog.jsonb)') IS NULL");
	if (n > 0)
		complain(result, psprintf(INT64_FORMAT " subscribers of topics are functions that are gone", n),
				 "Every message to these topics is an error for its sender.",
				 "SELECT dtm.unsubscribe(topic, url) FROM dtm.topics WHERE url ~ '^sql:[^/]' AND to_regprocedure(substr(url, 5) || '(jsonb)') IS NULL;");
}

static void
look_at_barrier(ReturnSetInfo *result)
{
	DtmBarrierFault fault;

	if (dtm_barrier_has_fault(false, &fault))
		complain(result, fault.problem,
				 "dtm writes to this table as a superuser, and all code there would run as one: dtm.barrier refuses to, and old barriers stay.",
				 fault.remedy);
}

static void
look_at_transactions(ReturnSetInfo *result)
{
	int64		n;

	/* As dtm.stuck: not what is of no use any more, since it has ended. */
	n = number("SELECT pg_catalog.count(DISTINCT t.id) FROM dtm.trans AS t "
			   "JOIN dtm.op AS o ON o.id OPERATOR(pg_catalog.=) t.id "
			   "WHERE t.due IS NOT NULL AND o.stuck "
			   "AND o.status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" "
			   "AND CASE WHEN o.branch OPERATOR(pg_catalog.=) -1 "
			   "THEN t.status OPERATOR(pg_catalog.=) 'p'::pg_catalog.\"char\" "
			   "ELSE (o.branch OPERATOR(pg_catalog.=) -2) OPERATOR(pg_catalog.=) "
			   "(t.status OPERATOR(pg_catalog.=) ANY ('{S,F}'::pg_catalog.\"char\"[])) END");
	if (n > 0)
		complain(result, psprintf(INT64_FORMAT " global transactions are stuck", n),
				 "Something that must succeed has failed again and again. It is still retried, at the largest interval.",
				 "SELECT * FROM dtm.stuck; mend the branch, then SELECT dtm.retry_now(gid);");

	if (dtm_enabled && !RecoveryInProgress())
	{
		/* Of those that have been due for long: what waits for a retry is well. */
		n = number(psprintf("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM ("
							"SELECT id FROM dtm.trans WHERE due OPERATOR(pg_catalog.<) "
							"(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '%d s'::pg_catalog.interval) "
							"ORDER BY due LIMIT 10000) AS t WHERE NOT EXISTS ("
							"SELECT FROM dtm.op AS o WHERE o.id OPERATOR(pg_catalog.=) t.id "
							"AND GREATEST(o.next_attempt, o.last_attempt) OPERATOR(pg_catalog.>) "
							"(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '%d s'::pg_catalog.interval)) "
							"LIMIT 1000) AS late", LATE_SECONDS, LATE_SECONDS));
		if (n > 0)
			complain(result, psprintf(INT64_FORMAT "%s global transactions are overdue",
									  n, n == 1000 ? " or more" : ""),
					 psprintf("The worker should have looked at them more than %d s ago.",
							  LATE_SECONDS),
					 "SELECT * FROM dtm.workers; SELECT * FROM dtm.stats; the server's log. More at once: dtm.max_in_flight, dtm.workers_per_database.");
	}

	n = number("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM dtm.trans "
			   "WHERE created_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() "
			   "OPERATOR(pg_catalog.+) '1 s'::pg_catalog.interval) "
			   "LIMIT 1000) AS future");
	if (n > 0)
		complain(result, psprintf(INT64_FORMAT " global transactions were begun in the future", n),
				 "The clock was set back: retries and deadlines come too late, by as much.",
				 "Keep the clock with NTP; SELECT dtm.retry_now(gid) for what must not wait.");
}

static int64
number(const char *sql)
{
	bool		isnull;
	int64		result;

	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "dtm.doctor could not look: %s", sql);
	result = DatumGetInt64(dtm_api_value(1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return isnull ? 0 : result;
}

static void
complain(ReturnSetInfo *result, const char *problem, const char *why,
		 const char *remedy)
{
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = CStringGetTextDatum(problem);
	values[1] = CStringGetTextDatum(why);
	values[2] = CStringGetTextDatum(remedy);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
