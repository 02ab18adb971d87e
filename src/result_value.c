/*
 * result_value.c: what a SQL branch's function has returned, as JSON.
 *
 * Its effects shall not depend on whether somebody wanted to know: a value that
 * has no JSON, or too large a one, takes nothing back. So it is converted inside
 * a subtransaction, after the call, and measured before it is written.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "json_value.h"
#include "result_value.h"
#include "settings.h"

/* No type takes so much more room than its JSON: larger than any limit. */
#define MAX_VALUE	(64 * 1024 * 1024)

/* One that is converted. */
typedef struct Conversion
{
	Datum		value;
	Oid			type;
	Jsonb	   *json;
} Conversion;

static void convert(void *conversion);

Jsonb *
dtm_result_as_jsonb(Datum value, Oid type, char note[DTM_MAX_ERROR])
{
	Conversion	c = {.value = value, .type = type};
	char		problem[DTM_MAX_PROBLEM];
	int16		length;
	bool		by_value;
	uint64		size;

	note[0] = '\0';
	get_typlenbyval(type, &length, &by_value);
	if (length == -1 && toast_raw_datum_size(value) > MAX_VALUE)
	{
		snprintf(note, DTM_MAX_ERROR, DTM_RESULT_TOO_LARGE,
				 (size_t) toast_raw_datum_size(value));
		return NULL;
	}
	if (!dtm_try(convert, &c, problem))
	{
		snprintf(note, DTM_MAX_ERROR, DTM_RESULT_NO_JSON, problem);
		return NULL;
	}

	/* In this database's encoding: of twice the limit it is certain. */
	size = dtm_json_text_size(&c.json->root);
	if (size > 2 * (uint64) DTM_MAX_RESULT_SIZE * 1024)
	{
		snprintf(note, DTM_MAX_ERROR, DTM_RESULT_TOO_LARGE, (size_t) size);
		return NULL;
	}
	return c.json;
}

/* to_jsonb asks its own call what type its argument has. */
static void
convert(void *conversion)
{
	Conversion *c = conversion;
	Const	   *argument = makeNullConst(c->type, -1, InvalidOid);
	FuncExpr   *call = makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
									InvalidOid, InvalidOid,
									COERCE_EXPLICIT_CALL);
	FmgrInfo	to_jsonb;

	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr((Node *) call, &to_jsonb);
	c->json = DatumGetJsonbP(FunctionCall1(&to_jsonb, c->value));
}
