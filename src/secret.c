/*
 * secret.c: secrets for headers: dtm.set_secret, dtm.drop_secret, references.
 *
 * A secret belongs to the role that set it, and goes only into calls of
 * transactions that this role owns. No value may get into a message, a view or
 * an error from here: not even a value that is refused.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "api_common.h"
#include "secret.h"

#define MAX_NAME	128			/* bytes */
#define MAX_VALUE	8192		/* servers refuse longer headers */

PG_FUNCTION_INFO_V1(dtm_set_secret);
PG_FUNCTION_INFO_V1(dtm_drop_secret);

static void check_name(const text *name);
static void check_value(const text *value);
static bool has_control_character(const text *text);

/* set_secret(name, value) */
Datum
dtm_set_secret(PG_FUNCTION_ARGS)
{
	Oid			types[3] = {OIDOID, TEXTOID, TEXTOID};
	Datum		values[3];
	DtmApi		api;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name: must not be NULL"),
				 errhint("Headers refer to the secret by this name.")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("value: must not be NULL"),
				 errhint("SELECT dtm.drop_secret(name) removes a secret.")));
	check_name(PG_GETARG_TEXT_PP(0));
	check_value(PG_GETARG_TEXT_PP(1));

	dtm_api_begin(&api);
	values[0] = ObjectIdGetDatum(api.user);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = PG_GETARG_DATUM(1);

	/* Whoever gets the number of a role that is gone gets nothing else. */
	SPI_execute("DELETE FROM dtm.secret AS s WHERE NOT EXISTS "
				"(SELECT FROM pg_catalog.pg_authid AS r "
				" WHERE r.oid OPERATOR(pg_catalog.=) s.role)", false, 0);
	SPI_execute_with_args("INSERT INTO dtm.secret AS s (role, name, value) "
						  "VALUES ($1, $2, $3) "
						  "ON CONFLICT (role, name) DO UPDATE "
						  "SET value = excluded.value, set_at = excluded.set_at",
						  3, types, values, NULL, false, 0);
	dtm_api_end(&api);
	PG_RETURN_VOID();
}

/* drop_secret(name): was there one? */
Datum
dtm_drop_secret(PG_FUNCTION_ARGS)
{
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2];
	DtmApi		api;
	bool		dropped;

	dtm_api_begin(&api);
	values[0] = ObjectIdGetDatum(api.user);
	values[1] = PG_GETARG_DATUM(0);
	SPI_execute_with_args("DELETE FROM dtm.secret "
						  "WHERE role OPERATOR(pg_catalog.=) $1 "
						  "AND name OPERATOR(pg_catalog.=) $2",
						  2, types, values, NULL, false, 0);
	dropped = SPI_processed > 0;
	dtm_api_end(&api);
	PG_RETURN_BOOL(dropped);
}

static void
check_name(const text *name)
{
	int			size = VARSIZE_ANY_EXHDR(name);

	if (size < 1 || size > MAX_NAME || has_control_character(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name: must have 1 to %d bytes, none of them a control character",
						MAX_NAME),
				 errhint("Headers refer to the secret by this name: {\"Authorization\": {\"secret\": \"pay-token\"}}.")));
}

static void
check_value(const text *value)
{
	int			size = VARSIZE_ANY_EXHDR(value);

	if (size < 1 || size > MAX_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value: has %d bytes", size),
				 errhint("The value of a header has 1 to %d.", MAX_VALUE)));
	if (has_control_character(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value: contains a control character"),
				 errhint("Line ends are not allowed in headers. A file often ends with one: trim it.")));
}

static bool
has_control_character(const text *text)
{
	const unsigned char *c = (const unsigned char *) VARDATA_ANY(text);

	for (int i = 0; i < VARSIZE_ANY_EXHDR(text); i++)
	{
		if ((c[i] < ' ' && c[i] != '\t') || c[i] == 0x7f)
			return true;
	}
	return false;
}

bool
dtm_secret_ref(const JsonbValue *value, DtmSecretRef *ref)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	v;
	bool		is_secret = false;

	memset(ref, 0, sizeof(*ref));
	ref->prefix = "";
	if (value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return false;

	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			is_secret = v.val.string.len == 6 &&
				memcmp(v.val.string.val, "secret", 6) == 0;
			if (!is_secret && (v.val.string.len != 6 ||
							   memcmp(v.val.string.val, "prefix", 6) != 0))
				return false;
		}
		else if (token == WJB_VALUE)
		{
			if (v.type != jbvString)
				return false;
			if (is_secret)
			{
				ref->name = v.val.string.val;
				ref->name_len = v.val.string.len;
			}
			else
			{
				ref->prefix = v.val.string.val;
				ref->prefix_len = v.val.string.len;
			}
		}
	}
	return ref->name != NULL;
}

void
dtm_check_secrets(Oid role, Jsonb *headers, const char *place)
{
	JsonbIterator *iterator;
	JsonbValue	v;

	if (headers == NULL)
		return;
	iterator = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&iterator, &v, true);
	while (JsonbIteratorNext(&iterator, &v, true) == WJB_KEY)
	{
		DtmSecretRef ref;
		Datum		values[2];
		char	   *name;

		(void) JsonbIteratorNext(&iterator, &v, true);
		if (!dtm_secret_ref(&v, &ref))
			continue;
		name = pnstrdup(ref.name, ref.name_len);
		values[0] = ObjectIdGetDatum(role);
		values[1] = CStringGetTextDatum(name);
		if (dtm_api_lookup(DTM_PLAN_SECRET, values, NULL) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("%s: role \"%s\" has no secret \"%s\"", place,
							GetUserNameFromId(role, true), name),
					 errhint("As that role: SELECT dtm.set_secret(%s, ...);",
							 quote_literal_cstr(name))));
	}
}
