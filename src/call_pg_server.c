/*
 * call_pg_server.c: a foreign server and a user mapping, as a role may use them.
 *
 * Rights are PostgreSQL's own: USAGE on the server and a mapping, for the role
 * or for PUBLIC. They are looked at when a branch is registered, and again at
 * each call, since they may have been revoked in between; what was read is kept
 * until the catalogs say that something has changed.
 *
 * Options may come from wrappers that check nothing. So only those are taken
 * that libpq needs to find and identify a server, each from where it belongs:
 * who and with which password from the mapping, everything else from the server.
 * Nothing may lend a role the files or the identity of the server's own user: a
 * role that is no superuser needs a password in its mapping (password_required
 * is not asked: some wrappers let everybody set it).
 *
 * Nor may it have this process open files of its choice, which may be pipes.
 *
 * Passwords are in memory here and in libpq, and in no message.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/sinval.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "call_pg_server.h"
#include "compat.h"
#include "store.h"

/* Who may give an option. */
typedef enum Giver
{
	FROM_SERVER,
	FROM_MAPPING,
	FROM_SERVER_TRUSTED,		/* of a superuser, or for a superuser */
	FROM_EITHER_TRUSTED
} Giver;

/*
 * Of libpq's options: not those that read other files (service, passfile), ask
 * others (Kerberos, OAuth: their libraries block), or belong to dtm (encoding,
 * connect_timeout).
 */
static const struct
{
	const char *name;
	Giver		giver;
}			known_options[] = {
	{"user", FROM_MAPPING},
	{"password", FROM_MAPPING},
	{"sslpassword", FROM_MAPPING},
	{"host", FROM_SERVER},
	{"hostaddr", FROM_SERVER},
	{"port", FROM_SERVER},
	{"dbname", FROM_SERVER},
	{"options", FROM_SERVER},
	{"application_name", FROM_SERVER},
	{"channel_binding", FROM_SERVER},
	{"require_auth", FROM_SERVER},
	{"requirepeer", FROM_SERVER},
	{"target_session_attrs", FROM_SERVER},
	{"load_balance_hosts", FROM_SERVER},
	{"keepalives", FROM_SERVER},
	{"keepalives_idle", FROM_SERVER},
	{"keepalives_interval", FROM_SERVER},
	{"keepalives_count", FROM_SERVER},
	{"tcp_user_timeout", FROM_SERVER},
	{"sslmode", FROM_SERVER},
	{"sslnegotiation", FROM_SERVER},
	{"sslcompression", FROM_SERVER},
	{"sslsni", FROM_SERVER},
	{"sslcertmode", FROM_SERVER},
	{"ssl_min_protocol_version", FROM_SERVER},
	{"ssl_max_protocol_version", FROM_SERVER},
	{"min_protocol_version", FROM_SERVER},
	{"max_protocol_version", FROM_SERVER},
	{"sslcert", FROM_EITHER_TRUSTED},
	{"sslkey", FROM_EITHER_TRUSTED},
	{"sslrootcert", FROM_EITHER_TRUSTED},
	{"sslcrl", FROM_EITHER_TRUSTED},
	{"sslcrldir", FROM_EITHER_TRUSTED},
	{"passfile", FROM_SERVER_TRUSTED},
};

#define MAX_KNOWN	1000		/* that are remembered */

/* What one role's server, by its name as SQL reads it, led to. */
typedef struct Known
{
	dlist_node	node;
	Oid			role;
	char	   *name;
	uint64		read_at;		/* the number of changes then */
	DtmPgServer *server;
} Known;

static dlist_head known = DLIST_STATIC_INIT(known);
static int	nknown;
static uint64 changes;			/* that have made it worth reading again */
static uint64 generations;

static char *folded_name(const char *written);
static Known *find_known(Oid role, const char *name);
static Known *add_known(Oid role, const char *name);
static void read_known(Known *entry);
static void forget_known(Known *entry);
static bool same_server(const DtmPgServer *a, const DtmPgServer *b);
static void watch_catalogs(void);
static void note_change(Datum arg, int cache, uint32 hash);
static DtmPgServer *read_server(Oid role, const char *name,
								const char *place);
static void check_mapping(Oid role, const ForeignServer *server,
						  const char *place);
static bool has_own_mapping(Oid role, Oid server);
static void check_files(const ForeignServer *server, bool trusted,
						const char *place);
static void take_options(DtmPgServer *into, List *options, bool from_mapping,
						 bool of_superuser);
static bool may_give(Giver giver, bool from_mapping, bool trusted,
					 bool of_superuser);
static bool has_password(const DtmPgServer *server);

void
dtm_pg_check_server(Oid role, const char *server, const char *place)
{
	dtm_pg_release_server(read_server(role, folded_name(server), place));
}

DtmPgServer *
dtm_pg_use_server(Oid role, const char *written, char error[DTM_MAX_ERROR])
{
	MemoryContext before = CurrentMemoryContext;
	char	   *name;
	Known	   *volatile entry = NULL;
	DtmPgServer *volatile server = NULL;

	PG_TRY();
	{
		watch_catalogs();
		/* What others have committed meanwhile; there may be no transaction. */
		AcceptInvalidationMessages();
		name = folded_name(written);
		entry = find_known(role, name);
		if (entry == NULL)
			entry = add_known(role, name);
		pfree(name);
		if (entry->server == NULL || entry->read_at != changes)
			read_known(entry);
		server = entry->server;
		server->users++;
	}
	PG_CATCH();
	{
		ErrorData  *data;

		MemoryContextSwitchTo(before);
		data = CopyErrorData();
		FlushErrorState();
		dtm_store_abort();
		MemoryContextSwitchTo(before);
		if (data->hint != NULL)
			snprintf(error, DTM_MAX_ERROR, "%s: %s", data->message, data->hint);
		else
			snprintf(error, DTM_MAX_ERROR, "%s", data->message);
		FreeErrorData(data);
		if (entry != NULL)
			forget_known(entry);
		server = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	return server;
}

void
dtm_pg_release_server(DtmPgServer *server)
{
	Assert(server->users > 0);
	if (--server->users == 0)
		MemoryContextDelete(server->context);
}

/* There are many ways to write one name. */
static char *
folded_name(const char *written)
{
	char	   *raw = pstrdup(written);
	char	   *name;
	List	   *names;

	if (!SplitIdentifierString(raw, '.', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a foreign server: %s", written)));
	name = pstrdup((char *) linitial(names));
	list_free(names);
	pfree(raw);
	return name;
}

/* Few: one for each role and server in use. */
static Known *
find_known(Oid role, const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, &known)
	{
		Known	   *entry = dlist_container(Known, node, iter.cur);

		if (entry->role == role && strcmp(entry->name, name) == 0)
		{
			dlist_move_head(&known, &entry->node);
			return entry;
		}
	}
	return NULL;
}

/* The one not used for the longest time makes room; its users keep it alive. */
static Known *
add_known(Oid role, const char *name)
{
	Known	   *entry;

	if (nknown >= MAX_KNOWN)
		forget_known(dlist_tail_element(Known, node, &known));
	entry = MemoryContextAllocZero(TopMemoryContext, sizeof(Known));
	entry->role = role;
	entry->name = MemoryContextStrdup(TopMemoryContext, name);
	dlist_push_head(&known, &entry->node);
	nknown++;
	return entry;
}

/* What has not really changed stays: so its connections do. */
static void
read_known(Known *entry)
{
	uint64		read_at;
	DtmPgServer *fresh;

	dtm_store_begin();
	/* Counted before the look: what changes during it is seen next time. */
	read_at = changes;
	fresh = read_server(entry->role, entry->name, NULL);
	dtm_store_commit(false);

	entry->read_at = read_at;
	if (entry->server != NULL && same_server(entry->server, fresh))
	{
		dtm_pg_release_server(fresh);
		return;
	}
	if (entry->server != NULL)
		dtm_pg_release_server(entry->server);
	fresh->generation = ++generations;
	entry->server = fresh;
}

static void
forget_known(Known *entry)
{
	dlist_delete(&entry->node);
	if (entry->server != NULL)
		dtm_pg_release_server(entry->server);
	pfree(entry->name);
	pfree(entry);
	nknown--;
}

static bool
same_server(const DtmPgServer *a, const DtmPgServer *b)
{
	if (a->server != b->server || a->trusted != b->trusted ||
		strcmp(a->name, b->name) != 0 || a->noptions != b->noptions)
		return false;
	for (int i = 0; i < a->noptions; i++)
	{
		if (strcmp(a->names[i], b->names[i]) != 0 ||
			strcmp(a->values[i], b->values[i]) != 0)
			return false;
	}
	return true;
}

static void
watch_catalogs(void)
{
	static const int caches[] = {FOREIGNSERVEROID, USERMAPPINGOID, AUTHOID,
	AUTHMEMROLEMEM};
	static bool watching = false;

	if (watching)
		return;
	for (int i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], note_change, (Datum) 0);
	watching = true;
}

static void
note_change(Datum arg, int cache, uint32 hash)
{
	changes++;
}

/* place: what errors begin with; NULL: nothing. */
static DtmPgServer *
read_server(Oid role, const char *name, const char *place)
{
	const char *quoted = quote_identifier(name);
	ForeignServer *server = GetForeignServerByName(name, true);
	UserMapping *mapping;
	DtmPgServer *found;
	MemoryContext context;
	MemoryContext before;

	place = place == NULL ? "" : psprintf("%s: ", place);
	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sforeign server \"%s\" does not exist", place, name),
				 errhint("CREATE SERVER %s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '...', dbname '...');",
						 quoted)));
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sthe role that began the transaction is gone", place)));
	if (!dtm_may_use_server(server->serverid, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%spermission denied for foreign server %s", place, name),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s;", quoted,
						 quote_identifier(GetUserNameFromId(role, false)))));
	check_mapping(role, server, place);
	check_files(server, superuser_arg(role), place);
	mapping = GetUserMapping(role, server->serverid);

	context = AllocSetContextCreate(CurrentMemoryContext, "dtm foreign server",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	found = palloc0(sizeof(DtmPgServer));
	found->context = context;
	found->users = 1;
	found->server = server->serverid;
	found->role = role;
	found->name = pstrdup(name);
	found->trusted = superuser_arg(role);
	found->names = palloc(lengthof(known_options) * 2 * sizeof(char *));
	found->values = palloc(lengthof(known_options) * 2 * sizeof(char *));
	take_options(found, server->options, false, superuser_arg(server->owner));
	take_options(found, mapping->options, true, false);
	MemoryContextSwitchTo(before);

	if (!found->trusted && !has_password(found))
		ereport(ERROR,
				(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
				 errmsg("%sthe user mapping of role \"%s\" for foreign server %s has no password",
						place, GetUserNameFromId(role, false), name),
				 errdetail("Without one, a role that is no superuser would connect with the identity of this server."),
				 errhint("ALTER USER MAPPING FOR %s SERVER %s OPTIONS (ADD password '...');",
						 !has_own_mapping(role, server->serverid) ? "PUBLIC" :
						 quote_identifier(GetUserNameFromId(role, false)),
						 quoted)));
	MemoryContextSetParent(context, TopMemoryContext);
	return found;
}

/* GetUserMapping has an error of its own, which says nothing of what to do. */
static void
check_mapping(Oid role, const ForeignServer *server, const char *place)
{
	if (!has_own_mapping(role, server->serverid) &&
		!has_own_mapping(InvalidOid, server->serverid))	/* PUBLIC's */
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%srole \"%s\" has no user mapping for foreign server %s",
						place, GetUserNameFromId(role, false),
						server->servername),
				 errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (user '...', password '...');",
						 quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));
}

static bool
has_own_mapping(Oid role, Oid server)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER,
								 ObjectIdGetDatum(role),
								 ObjectIdGetDatum(server));
}

/*
 * What the certificate of the other side is checked with must not be left out
 * in silence; and a role must not have this process open the files it likes.
 */
static void
check_files(const ForeignServer *server, bool trusted, const char *place)
{
	ListCell   *cell;

	if (trusted || superuser_arg(server->owner))
		return;
	foreach(cell, server->options)
	{
		const DefElem *option = lfirst(cell);

		if (strcmp(option->defname, "sslrootcert") != 0 &&
			strcmp(option->defname, "sslcrl") != 0 &&
			strcmp(option->defname, "sslcrldir") != 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%soption \"%s\" of foreign server %s names a file, and the server does not belong to a superuser",
						place, option->defname, server->servername),
				 errhint("As a superuser: ALTER SERVER %s OWNER TO CURRENT_USER;",
						 quote_identifier(server->servername))));
	}
}

static void
take_options(DtmPgServer *into, List *options, bool from_mapping,
			 bool of_superuser)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		for (int i = 0; i < lengthof(known_options); i++)
		{
			if (strcmp(option->defname, known_options[i].name) != 0 ||
				!may_give(known_options[i].giver, from_mapping, into->trusted,
						  of_superuser))
				continue;
			into->names[into->noptions] = pstrdup(option->defname);
			into->values[into->noptions] = pstrdup(defGetString(option));
			into->noptions++;
		}
	}
}

static bool
may_give(Giver giver, bool from_mapping, bool trusted, bool of_superuser)
{
	switch (giver)
	{
		case FROM_SERVER:
			return !from_mapping;
		case FROM_MAPPING:
			return from_mapping;
		case FROM_SERVER_TRUSTED:
			return !from_mapping && trusted;
		case FROM_EITHER_TRUSTED:
			return trusted || (!from_mapping && of_superuser);
	}
	return false;
}

static bool
has_password(const DtmPgServer *server)
{
	for (int i = 0; i < server->noptions; i++)
	{
		if (strcmp(server->names[i], "password") == 0 &&
			server->values[i][0] != '\0')
			return true;
	}
	return false;
}
