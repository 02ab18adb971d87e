/*
 * compat.h: every difference between PostgreSQL 15, 16, 17 and 18 that dtm
 * meets, under one name each. No other file looks at PG_VERSION_NUM, but for
 * the module's magic block.
 */
#ifndef DTM_COMPAT_H
#define DTM_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* 18: the attribute that a function does not return has another name */
#if PG_VERSION_NUM >= 180000
#define DTM_NORETURN pg_noreturn
#else
#define DTM_NORETURN pg_attribute_noreturn()
#endif

/* 16: one ownership check for all kinds of objects */
static inline bool
dtm_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

static inline bool
dtm_owns_extension(Oid extension, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ExtensionRelationId, extension, role);
#else
	return pg_extension_ownercheck(extension, role);
#endif
}

static inline bool
dtm_may_execute(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static inline bool
dtm_may_use_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

static inline bool
dtm_may_use_server(Oid server, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* 17: a set belongs to a resource owner instead of a memory context */
static inline WaitEventSet *
dtm_create_wait_event_set(int nevents)
{
	/* One that lives as long as the process. */
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/*
 * 17: wait events of extensions have names. The first call in a process must
 * not be under a lock or in a callback; cache is a static of the caller.
 */
static inline uint32
dtm_wait_event(uint32 *cache, const char *name)
{
#if PG_VERSION_NUM >= 170000
	if (*cache == 0)
		*cache = WaitEventExtensionNew(name);
	return *cache;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* 18: a process that serves a client says so itself */
static inline bool
dtm_is_client(const PGPROC *proc)
{
#if PG_VERSION_NUM >= 180000
	return proc->isRegularBackend;
#else
	return !proc->isBackgroundWorker &&
		(proc->statusFlags & PROC_IS_AUTOVACUUM) == 0;
#endif
}

/*
 * 17: a background worker may be a role that cannot log in. Late minor
 * releases of 15 and 16 have the pieces of it.
 */
#ifndef BGWORKER_BYPASS_ROLELOGINCHECK
#define BGWORKER_BYPASS_ROLELOGINCHECK 0
#if PG_VERSION_NUM >= 160006 || \
	(PG_VERSION_NUM < 160000 && PG_VERSION_NUM >= 150010)
#define DTM_NOLOGIN_BY_HAND
#endif
#endif

#endif
