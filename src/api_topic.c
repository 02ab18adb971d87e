/*
 * api_topic.c: topics: dtm.subscribe, dtm.unsubscribe, and the subscribers in
 * the place of topic://name.
 *
 * A subscription is a grant: whoever may send messages may send them to every
 * topic, and they go to its subscribers whatever the sender may have called
 * otherwise. So only administrators subscribe. A SQL function, though, runs as
 * the sender, who must be allowed to execute it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "address.h"
#include "api_common.h"
#include "api_topic.h"

#define SCHEME			"topic://"
#define MAX_TOPIC		128		/* bytes */

PG_FUNCTION_INFO_V1(dtm_subscribe);
PG_FUNCTION_INFO_V1(dtm_unsubscribe);

static char *topic_name(const text *address);
static void check_topic(const char *name, const char *place);
static List *subscribers(const char *topic);
static bool needs_rights_of_sender(const char *url);

Datum
dtm_subscribe(PG_FUNCTION_ARGS)
{
	char	   *topic = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text	   *url = PG_GETARG_TEXT_PP(1);
	Oid			types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];
	DtmApi		api;

	check_topic(topic, "topic");
	if (VARSIZE_ANY_EXHDR(url) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("url: must not be empty"),
				 errhint("Pass http://host/path, https://host/path, sql:schema.function or sql://server/schema.function.")));

	dtm_api_begin(&api);
	dtm_check_address(api.user, url, NULL, 0, "url");
	values[0] = CStringGetTextDatum(topic);
	values[1] = PointerGetDatum(url);
	values[2] = CStringGetTextDatum(GetUserNameFromId(api.user, false));
	SPI_execute_with_args("INSERT INTO dtm.topic (topic, url, subscribed_by) "
						  "VALUES ($1, $2, $3) "
						  "ON CONFLICT (topic, url) DO NOTHING",
						  3, types, values, NULL, false, 0);
	if (SPI_processed > 0)
		dtm_log_command(api.user, "subscribe", NULL,
						psprintf("%s %s", topic, text_to_cstring(url)));
	dtm_api_end(&api);
	PG_RETURN_VOID();
}

Datum
dtm_unsubscribe(PG_FUNCTION_ARGS)
{
	text	   *topic = PG_GETARG_TEXT_PP(0);
	text	   *url = PG_GETARG_TEXT_PP(1);
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {PointerGetDatum(topic), PointerGetDatum(url)};
	DtmApi		api;
	bool		removed;

	dtm_api_begin(&api);
	SPI_execute_with_args("DELETE FROM dtm.topic "
						  "WHERE topic OPERATOR(pg_catalog.=) $1 "
						  "AND url OPERATOR(pg_catalog.=) $2",
						  2, types, values, NULL, false, 0);
	removed = SPI_processed > 0;
	if (removed)
		dtm_log_command(api.user, "unsubscribe", NULL,
						psprintf("%s %s", text_to_cstring(topic),
								 text_to_cstring(url)));
	dtm_api_end(&api);
	PG_RETURN_BOOL(removed);
}

bool
dtm_is_topic(const text *address)
{
	int			length = strlen(SCHEME);

	return address != NULL && VARSIZE_ANY_EXHDR(address) >= length &&
		memcmp(VARDATA_ANY(address), SCHEME, length) == 0;
}

int
dtm_expand_topics(Oid user, const DtmStep *steps, int nsteps, int first,
				  DtmStep **expanded)
{
	int			room = nsteps;
	int			n = 0;

	*expanded = palloc(room * sizeof(DtmStep));
	for (int i = 0; i < nsteps; i++)
	{
		const DtmStep *step = &steps[i];
		int			number = first + i;
		List	   *urls = NIL;
		ListCell   *cell;
		int			nurls = 1;
		int			nth = 0;

		if (dtm_is_topic(step->address[DTM_FORWARD]))
		{
			urls = subscribers(topic_name(step->address[DTM_FORWARD]));
			nurls = list_length(urls);
		}
		room += nurls - 1;
		*expanded = repalloc(*expanded, room * sizeof(DtmStep));
		if (urls == NIL)
		{
			(*expanded)[n] = *step;
			(*expanded)[n++].branch_id = psprintf("%02d", number);
			continue;
		}
		foreach(cell, urls)
		{
			DtmStep    *one = &(*expanded)[n++];
			char	   *url = lfirst(cell);

			*one = *step;
			one->address[DTM_FORWARD] = cstring_to_text(url);
			one->branch_id = nurls == 1 ? psprintf("%02d", number) :
				psprintf("%02d-%02d", number, ++nth);
			if (needs_rights_of_sender(url))
				dtm_check_address(user, one->address[DTM_FORWARD],
								  one->payload, 0, "topic");
		}
	}
	return n;
}

/* The rest of topic://name. */
static char *
topic_name(const text *address)
{
	char	   *name = text_to_cstring(address) + strlen(SCHEME);

	check_topic(name, "topic");
	return name;
}

static void
check_topic(const char *name, const char *place)
{
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	if (name[0] == '\0' || strlen(name) > MAX_TOPIC ||
		strspn(name, good) != strlen(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: \"%s\" is no name of a topic", place, name),
				 errhint("Use 1 to %d letters, digits, dots, hyphens and underscores.",
						 MAX_TOPIC)));
}

static List *
subscribers(const char *topic)
{
	Datum		values[1] = {CStringGetTextDatum(topic)};
	uint64		n = dtm_api_lookup(DTM_PLAN_SUBSCRIBERS, values, NULL);
	List	   *urls = NIL;

	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" has no subscribers", topic),
				 errhint("Ask an administrator to run: SELECT dtm.subscribe(%s, 'http://...');",
						 quote_literal_cstr(topic))));
	for (uint64 i = 0; i < n; i++)
		urls = lappend(urls, SPI_getvalue(SPI_tuptable->vals[i],
										  SPI_tuptable->tupdesc, 1));
	SPI_freetuptable(SPI_tuptable);
	return urls;
}

/* A function is called as the sender, here and on other servers. */
static bool
needs_rights_of_sender(const char *url)
{
	DtmAddress	address;
	const char *reason = "";

	return dtm_address_parse(url, &address, &reason) &&
		(address.transport == DTM_CALL_SQL ||
		 address.transport == DTM_CALL_REMOTE);
}
