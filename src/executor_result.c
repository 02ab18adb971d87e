/*
 * executor_result.c: what a SQL branch's function has returned, as JSON.
 *
 * A function that returns a set is no branch, but it may have taken the place of
 * one. It is run to its end, as without keep_result: who keeps the first row must
 * not take away what the others do.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "executor_result.h"
#include "json_value.h"
#include "result_value.h"
#include "settings.h"

static void start_up(DestReceiver *self, int operation, TupleDesc desc);
static bool receive(TupleTableSlot *slot, DestReceiver *self);
static void shut_down(DestReceiver *self);

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
	Jsonb	   *value;
	char	   *json;
	size_t		size;
	bytea	   *bytes;

	note[0] = '\0';
	if (!first->is_there)
		return NULL;
	value = dtm_result_as_jsonb(first->value, first->type, note);
	if (value == NULL)
		return NULL;
	json = dtm_write_json(value, &size);
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
