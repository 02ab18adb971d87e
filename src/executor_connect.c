/*
 * executor_connect.c: connect a background worker as a role, even one that
 * may not log in.
 *
 * Applications are often owned by roles without LOGIN. From PostgreSQL 17 on
 * a background worker may be such a role. Before that, only the workers of
 * parallel queries may (since 15.10 and 16.6): they skip the checks of a login
 * and receive their identity from their leader. So the executor connects like
 * one of them and takes the identity itself. In all cases the authenticated
 * user is the role: no superuser stands behind it, and RESET SESSION
 * AUTHORIZATION leads nowhere else.
 *
 * On minor releases before those the connection is refused, and the job's result
 * says why.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "executor_slot.h"

bool		dtm_executor_superuser;

#ifdef DTM_NOLOGIN_BY_HAND
static void connect_like_parallel_worker(Oid database, Oid role);
static void complete_identity(Oid role);
static void apply_role_settings(Oid role);
#endif

/* Must the process be started with nologin? Asked by the worker. */
bool
dtm_executor_needs_nologin(Oid role)
{
#ifdef DTM_NOLOGIN_BY_HAND
	MemoryContext old = CurrentMemoryContext;
	bool		own_transaction = !IsTransactionState();
	bool		nologin = false;
	HeapTuple	tuple;

	if (own_transaction)
		StartTransactionCommand();
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	if (HeapTupleIsValid(tuple))
	{
		nologin = !((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	if (own_transaction)
		CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return nologin;
#else
	return false;
#endif
}

void
dtm_executor_connect(Oid database, Oid role, bool nologin)
{
#ifdef DTM_NOLOGIN_BY_HAND
	if (nologin)
		connect_like_parallel_worker(database, role);
	else
#endif
		BackgroundWorkerInitializeConnectionByOid(database, role,
												  BGWORKER_BYPASS_ROLELOGINCHECK);

	StartTransactionCommand();
	if (GetSessionUserId() != role)
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not become the role with OID %u", role)));
	dtm_executor_superuser = superuser();
	CommitTransactionCommand();
}

#ifdef DTM_NOLOGIN_BY_HAND

static void
connect_like_parallel_worker(Oid database, Oid role)
{
	/* An error on the way ends the process, and the flag with it. */
	InitializingParallelWorker = true;
	BackgroundWorkerInitializeConnectionByOid(database, role, 0);
	InitializingParallelWorker = false;

	StartTransactionCommand();
	if (!OidIsValid(GetSessionUserId()))
		complete_identity(role);
	CommitTransactionCommand();
}

/* What InitPostgres leaves to the leader of a parallel query. */
static void
complete_identity(Oid role)
{
	char	   *name = GetUserNameFromId(role, false);

	SetAuthenticatedUserId(role, superuser_arg(role));
	SetConfigOption("session_authorization", name, PGC_BACKEND,
					PGC_S_OVERRIDE);
	apply_role_settings(role);

	/* Once more, now that it can be seen whose process this is. */
	pgstat_bestart();
}

static void
apply_role_settings(Oid role)
{
	Relation	settings = table_open(DbRoleSettingRelationId, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(DbRoleSettingRelationId));

	/* Those of the database alone are in force already. */
	ApplySetting(snapshot, MyDatabaseId, role, settings, PGC_S_DATABASE_USER);
	ApplySetting(snapshot, InvalidOid, role, settings, PGC_S_USER);

	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);
}

#endif
