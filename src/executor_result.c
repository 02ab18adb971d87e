/*
 * executor_result.c: what a SQL branch's function has returned, as JSON.
 *
 * A function that returns a set is no branch, but it may have taken the place of
 * one. It is run to its end, as without keep_result: who keeps the first row must
 * not take away what the others do.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/makefuncs.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "executor_result.h"
#include "json_value.h"
#include "settings.h"

/* No type takes so much more room than its JSON: larger than any limit. */
#define MAX_VALUE	(64 * 1024 * 1024)

static void start_up(DestReceiver *self, int operation, TupleDesc desc);
static bool receive(TupleTableSlot *slot, DestReceiver *self);
static void shut_down(DestReceiver *self);
static Jsonb *as_jsonb(Datum value, Oid type);

DestReceiver *
dtm_receive_first_value(DtmFirstValue *first)
{
	memset(first, 0, sizeof(*first));
	first->receiver.receiveSlot = receive;
	first->receiver.rStartup = start_up;
	first->receiver.rShutdown = shut_down;
	first->receiver.rDestroy = shut_down;
	first->receiver.mydest = DestNone;
	first->context = CurrentMemoryContext;
	return &first->receiver;
}

static void
start_up(DestReceiver *self, int operation, TupleDesc desc)
{
	((DtmFirstValue *) self)->type = TupleDescAttr(desc, 0)->atttypid;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	DtmFirstValue *first = (DtmFirstValue *) self;
	bool		isnull;
	Datum		value;
	int16		length;
	bool		by_value;
	MemoryContext before;

	if (first->was_row || first->type == VOIDOID)
		return true;
	first->was_row = true;
	value = slot_getattr(slot, 1, &isnull);
	if (isnull)
		return true;
	get_typlenbyval(first->type, &length, &by_value);
	before = MemoryContextSwitchTo(first->context);
	first->value = datumCopy(value, by_value, length);
	MemoryContextSwitchTo(before);
	first->is_there = true;
	return true;
}

static void
shut_down(DestReceiver *self)
{
}

bytea *
dtm_first_value_as_json(const DtmFirstValue *first, char note[DTM_MAX_ERROR])
{
	int16		length;
	bool		by_value;
	char	   *json;
	size_t		size;
	bytea	   *bytes;

	note[0] = '\0';
	if (!first->is_there)
		return NULL;
	get_typlenbyval(first->type, &length, &by_value);
	if (length == -1 && toast_raw_datum_size(first->value) > MAX_VALUE)
	{
		snprintf(note, DTM_MAX_ERROR, DTM_RESULT_TOO_LARGE,
				 (size_t) toast_raw_datum_size(first->value));
		return NULL;
	}
	json = dtm_write_json(as_jsonb(first->value, first->type), &size);
	if (size > (size_t) dtm_max_result_size * 1024)
	{
		snprintf(note, DTM_MAX_ERROR, DTM_RESULT_TOO_LARGE, size);
		return NULL;
	}
	bytes = palloc(VARHDRSZ + size);
	SET_VARSIZE(bytes, VARHDRSZ + size);
	memcpy(VARDATA(bytes), json, size);
	return bytes;
}

/* to_jsonb asks its own call what type its argument has. */
static Jsonb *
as_jsonb(Datum value, Oid type)
{
	Const	   *argument = makeNullConst(type, -1, InvalidOid);
	FuncExpr   *call = makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
									InvalidOid, InvalidOid,
									COERCE_EXPLICIT_CALL);
	FmgrInfo	to_jsonb;

	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr((Node *) call, &to_jsonb);
	return DatumGetJsonbP(FunctionCall1(&to_jsonb, value));
}
