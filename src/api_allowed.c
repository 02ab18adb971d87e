/*
 * api_allowed.c: whom a role may have called: dtm.allow, dtm.disallow, and the
 * check of every address when it is registered.
 *
 * An address is checked again, as a socket's address, when it is called. Here
 * is only what the role was granted. Nothing is, until somebody grants it.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "address.h"
#include "api_common.h"
#include "call_pg_server.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(dtm_allow);
PG_FUNCTION_INFO_V1(dtm_disallow);
PG_FUNCTION_INFO_V1(dtm_allowed_changed);

/*
 * What dtm.allowed grants to one user. Kept over statements: a trigger on the
 * table tells all sessions when it changes, the system cache when roles do.
 */
typedef struct Allowed
{
	bool		valid;
	Oid			user;
	Oid			table;
	int			nprefixes;
	char	  **prefixes;
	MemoryContext context;
} Allowed;

static Allowed allowed;

/* Counts what may have changed the list, to notice changes during a read. */
static uint64 changes;

static void check_http(Oid user, const char *address, const char *place);
static void check_sql(Oid user, const char *function, const bytea *payload,
					  const char *place);
static void check_payload(const bytea *payload, const char *place);
static void load_allowed(Oid user);
static void install_callbacks(void);
static void forget_allowed(Datum arg, int cache_id, uint32 hash_value);
static void forget_allowed_of_table(Datum arg, Oid relation);
static Oid	grantee(Name role);
static text *check_prefix(text *prefix);

void
dtm_check_address(Oid user, const text *address, const bytea *payload,
				  int step, const char *argument)
{
	char	   *string;
	DtmAddress	parsed;
	const char *reason = "";

	if (VARSIZE_ANY_EXHDR(address) == 0)
		return;

	string = text_to_cstring(address);
	if (!dtm_address_parse(string, &parsed, &reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: cannot call \"%s\"", dtm_place(step, argument),
						string),
				 errdetail("It is no usable address: %s.", reason),
				 errhint("An address is http://host/path, https://host/path, sql:schema.function, sql://server/schema.function or ''.")));
	switch (parsed.transport)
	{
		case DTM_CALL_NOBODY:
			break;
		case DTM_CALL_HTTP:
			if (!superuser_arg(user))
				check_http(user, string, dtm_place(step, argument));
			break;
		case DTM_CALL_SQL:
			check_sql(user, parsed.function, payload, dtm_place(step, argument));
			break;
		case DTM_CALL_REMOTE:
			/* Rights are PostgreSQL's own; the function is the other server's. */
			dtm_pg_check_server(user, pnstrdup(parsed.server, parsed.server_len),
								dtm_place(step, argument));
			check_payload(payload, dtm_place(step, argument));
			break;
		case DTM_CALL_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s: cannot call \"%s\"", dtm_place(step, argument),
							string),
					 errhint("An address is http://host/path, https://host/path, sql:schema.function, sql://server/schema.function or ''.")));
	}
	pfree(string);
}

static void
check_http(Oid user, const char *address, const char *place)
{
	load_allowed(user);
	for (int i = 0; i < allowed.nprefixes; i++)
	{
		if (dtm_address_allowed(address, allowed.prefixes[i]))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s: role \"%s\" may not have \"%s\" called", place,
					GetUserNameFromId(user, true), address),
			 errdetail("No prefix in dtm.allowed that was granted to the role covers this address."),
			 errhint("Ask a superuser to run: SELECT dtm.allow(%s, %s);",
					 quote_literal_cstr(GetUserNameFromId(user, true)),
					 quote_literal_cstr(address))));
}

/*
 * The function must be there, fit, and be the user's to execute. All of it is
 * looked at again, by the server itself, when the role's executor calls it.
 */
static void
check_sql(Oid user, const char *function, const bytea *payload,
		  const char *place)
{
	Oid			types[1] = {JSONBOID};
	Oid			oid = InvalidOid;
	Oid			schema;
	List	   *names;

	/* Of a schema that is not there, or not theirs, a user learns the same. */
	names = textToQualifiedNameList(cstring_to_text(function));
	if (list_length(names) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: \"%s\" must be schema.function", place, function),
				 errhint("The schema is needed because a search_path may differ when the function is called.")));
	schema = get_namespace_oid(strVal(linitial(names)), true);
	if (OidIsValid(schema) && dtm_may_use_schema(schema, user))
		oid = LookupFuncName(names, 1, types, true);

	if (!OidIsValid(oid) || get_func_prokind(oid) != PROKIND_FUNCTION ||
		get_func_retset(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s: function %s(jsonb) does not exist", place, function),
				 errhint("A SQL branch is a function with one argument, the payload as jsonb, that returns no set.")));
	if (!dtm_may_execute(oid, user))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s: permission denied for function %s", place, function),
				 errhint("GRANT EXECUTE ON FUNCTION %s(jsonb) TO %s;", function,
						 quote_identifier(GetUserNameFromId(user, true)))));

	check_payload(payload, place);
}

static void
check_payload(const bytea *payload, const char *place)
{
	if (payload != NULL)
	{
		char	   *json;

		if (!pg_verify_mbstr(PG_UTF8, VARDATA_ANY(payload),
							 VARSIZE_ANY_EXHDR(payload), true))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: the payload of a SQL branch must be JSON", place),
					 errhint("Give it as payload, not as body.")));
		json = pg_any_to_server(VARDATA_ANY(payload),
								VARSIZE_ANY_EXHDR(payload), PG_UTF8);

		if (json == VARDATA_ANY(payload))
			json = pnstrdup(json, VARSIZE_ANY_EXHDR(payload));
		dtm_check_json(json, psprintf("%s: the payload of a SQL branch", place));
		pfree(json);
	}
}

static void
load_allowed(Oid user)
{
	MemoryContext old;
	uint64		nrows;
	uint64		changes_before;

	if (allowed.valid && allowed.user == user)
		return;

	allowed.valid = false;
	install_callbacks();
	if (allowed.context == NULL)
		allowed.context = AllocSetContextCreate(CacheMemoryContext,
												"dtm allowed prefixes",
												ALLOCSET_SMALL_SIZES);
	MemoryContextReset(allowed.context);
	allowed.nprefixes = 0;
	allowed.user = user;

	/*
	 * Valid only when all of it is read, and when no invalidation arrived
	 * meanwhile: then it serves this once. The latest snapshot: a list that an
	 * old one shows would be kept beyond it.
	 */
	changes_before = changes;
	nrows = dtm_api_look_now(DTM_PLAN_ALLOWED, NULL);
	old = MemoryContextSwitchTo(allowed.context);
	allowed.prefixes = palloc(Max(nrows, 1) * sizeof(char *));
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Oid			role;

		role = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 1,
											  &isnull));
		if (role == ACL_ID_PUBLIC || has_privs_of_role(user, role))
			allowed.prefixes[allowed.nprefixes++] =
				TextDatumGetCString(SPI_getbinval(row, SPI_tuptable->tupdesc, 2,
												  &isnull));
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	allowed.valid = changes == changes_before;
}

static void
install_callbacks(void)
{
	static bool installed = false;

	allowed.table = get_relname_relid("allowed", get_namespace_oid("dtm", false));
	if (installed)
		return;
	CacheRegisterRelcacheCallback(forget_allowed_of_table, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_allowed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_allowed, (Datum) 0);
	installed = true;
}

static void
forget_allowed(Datum arg, int cache_id, uint32 hash_value)
{
	changes++;
	allowed.valid = false;
}

static void
forget_allowed_of_table(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == allowed.table)
	{
		changes++;
		allowed.valid = false;
	}
}

/*
 * Trigger on dtm.allowed, for each statement: only superusers change it, and
 * all sessions read it anew.
 */
Datum
dtm_allowed_changed(PG_FUNCTION_ARGS)
{
	Relation	table;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dtm.allowed_changed must be called as a trigger"),
				 errhint("It belongs to the tables dtm.allowed and dtm.topic.")));

	table = ((TriggerData *) fcinfo->context)->tg_relation;

	/*
	 * The right to write all data is not that to let roles have anything
	 * called.
	 */
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change dtm.%s",
						RelationGetRelationName(table)),
				 errhint("Ask a superuser to run dtm.allow, dtm.disallow, dtm.subscribe or dtm.unsubscribe.")));
	CacheInvalidateRelcache(table);
	return PointerGetDatum(NULL);
}

Datum
dtm_allow(PG_FUNCTION_ARGS)
{
	Oid			role = grantee(PG_GETARG_NAME(0));
	text	   *prefix = check_prefix(PG_GETARG_TEXT_PP(1));
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2] = {ObjectIdGetDatum(role), PointerGetDatum(prefix)};
	DtmApi		api;

	dtm_api_begin(&api);
	SPI_execute_with_args("INSERT INTO dtm.allowed (role, prefix) "
						  "VALUES ($1::pg_catalog.regrole, $2) "
						  "ON CONFLICT (role, prefix) DO NOTHING",
						  2, types, values, NULL, false, 0);
	if (SPI_processed > 0)
		dtm_log_command(api.user, "allow", NULL,
						psprintf("%s %s", NameStr(*PG_GETARG_NAME(0)),
								 text_to_cstring(prefix)));
	dtm_api_end(&api);
	PG_RETURN_VOID();
}

Datum
dtm_disallow(PG_FUNCTION_ARGS)
{
	Oid			role = grantee(PG_GETARG_NAME(0));
	text	   *prefix = PG_GETARG_TEXT_PP(1);
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2] = {ObjectIdGetDatum(role), PointerGetDatum(prefix)};
	DtmApi		api;
	bool		removed;

	dtm_api_begin(&api);
	SPI_execute_with_args("DELETE FROM dtm.allowed "
						  "WHERE role::pg_catalog.oid OPERATOR(pg_catalog.=) $1 "
						  "AND prefix OPERATOR(pg_catalog.=) $2",
						  2, types, values, NULL, false, 0);
	removed = SPI_processed > 0;
	if (removed)
		dtm_log_command(api.user, "disallow", NULL,
						psprintf("%s %s", NameStr(*PG_GETARG_NAME(0)),
								 text_to_cstring(prefix)));
	dtm_api_end(&api);
	PG_RETURN_BOOL(removed);
}

/* As in GRANT: public is everybody, and no role can have that name. */
static Oid
grantee(Name role)
{
	if (strcmp(NameStr(*role), "public") == 0)
		return ACL_ID_PUBLIC;
	return get_role_oid(NameStr(*role), false);
}

static text *
check_prefix(text *prefix)
{
	char	   *string = text_to_cstring(prefix);
	const char *reason = "";

	if (!dtm_prefix_is_valid(string, &reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("prefix: \"%s\" is no prefix of an address", string),
				 errdetail("Reason: %s.", reason),
				 errhint("Write http://host, https://host:8443/path/ or *, which is everything.")));
	return prefix;
}
