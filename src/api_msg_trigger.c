/*
 * api_msg_trigger.c: dtm.msg_trigger: a changed row becomes a message.
 *
 * CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW
 * EXECUTE FUNCTION dtm.msg_trigger('http://cache/delete', 'id');
 *
 * The message belongs to whoever changes the row, with that role's rights and
 * allowed addresses: who may only create triggers on a table gains nothing by
 * this one. Values are made into JSON under that identity too, before dtm's
 * own begins: casts and output functions may be anybody's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "api_msg.h"

PG_FUNCTION_INFO_V1(dtm_msg_trigger);

static void check_trigger(FunctionCallInfo fcinfo);
static void send(Trigger *trigger, const char *payload);
static char *describe(TriggerData *data);
static const char *event_word(TriggerEvent event);
static Datum row_json(Relation table, HeapTuple row);
static void append_key(StringInfo out, TriggerData *data, Datum row);
static void append_column(StringInfo out, Jsonb *row, const char *name);

Datum
dtm_msg_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data;

	check_trigger(fcinfo);
	data = (TriggerData *) fcinfo->context;
	send(data->tg_trigger, describe(data));
	return PointerGetDatum(NULL);
}

static void
check_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dtm.msg_trigger must be called as a trigger"),
				 errhint("CREATE TRIGGER ... EXECUTE FUNCTION dtm.msg_trigger('http://...');")));

	/* Before the change it may still be another one, or none. */
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be an AFTER trigger",
						data->tg_trigger->tgname),
				 errhint("CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON ... FOR EACH ROW ...")));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) &&
		!TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be FOR EACH ROW",
						data->tg_trigger->tgname),
				 errdetail("A message says which row has changed."),
				 errhint("Only a TRUNCATE trigger may be FOR EACH STATEMENT.")));
	if (data->tg_trigger->tgnargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" does not say whom to tell",
						data->tg_trigger->tgname),
				 errhint("EXECUTE FUNCTION dtm.msg_trigger('http://host/path', 'key column', ...)")));
}

static void
send(Trigger *trigger, const char *payload)
{
	DtmStart	start = {.mode = DTM_MSG, .gid_is_new = true};
	DtmStep		step;
	DtmApi		api;

	memset(&step, 0, sizeof(step));
	step.address[DTM_FORWARD] = cstring_to_text(trigger->tgargs[0]);
	step.payload = dtm_payload_of_text(payload);
	step.payload_is_data = true;	/* whatever is in the row */
	start.gid = dtm_make_gid();

	dtm_api_begin(&api);
	dtm_check_step(api.user, &dtm_msg_branch_kind, &step, 0);
	dtm_send(&api, &start, NULL, &step, 1);
	dtm_api_end(&api);
}

/* {"op", "schema", "table", "key", "old", "new"}, always all of them. */
static char *
describe(TriggerData *data)
{
	Relation	table = data->tg_relation;
	bool		has_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	bool		has_old = has_row && !TRIGGER_FIRED_BY_INSERT(data->tg_event);
	bool		has_new = has_row && !TRIGGER_FIRED_BY_DELETE(data->tg_event);
	HeapTuple	new_row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
		data->tg_newtuple : data->tg_trigtuple;
	Datum		old_json = (Datum) 0;
	Datum		new_json = (Datum) 0;
	StringInfoData out;

	if (has_old)
		old_json = row_json(table, data->tg_trigtuple);
	if (has_new)
		new_json = row_json(table, new_row);

	initStringInfo(&out);
	appendStringInfo(&out, "{\"op\": \"%s\", \"schema\": ",
					 event_word(data->tg_event));
	escape_json(&out, get_namespace_name(RelationGetNamespace(table)));
	appendStringInfoString(&out, ", \"table\": ");
	escape_json(&out, RelationGetRelationName(table));
	appendStringInfoString(&out, ", \"key\": ");
	if (has_row)
		append_key(&out, data, has_new ? new_json : old_json);
	else
		appendStringInfoString(&out, "null");
	appendStringInfo(&out, ", \"old\": %s",
					 has_old ? TextDatumGetCString(old_json) : "null");
	appendStringInfo(&out, ", \"new\": %s}",
					 has_new ? TextDatumGetCString(new_json) : "null");
	return out.data;
}

static const char *
event_word(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "INSERT";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "UPDATE";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "DELETE";
	return "TRUNCATE";
}

static Datum
row_json(Relation table, HeapTuple row)
{
	return DirectFunctionCall1(row_to_json,
							   heap_copy_tuple_as_datum(row, RelationGetDescr(table)));
}

/* The columns that the trigger names, or the primary key; null if neither. */
static void
append_key(StringInfo out, TriggerData *data, Datum row)
{
	Trigger    *trigger = data->tg_trigger;
	TupleDesc	columns = RelationGetDescr(data->tg_relation);
	Bitmapset  *primary;
	Jsonb	   *json;
	int			n = 0;

	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(TextDatumGetCString(row))));
	for (int i = 1; i < trigger->tgnargs; i++)
	{
		int			number = SPI_fnumber(columns, trigger->tgargs[i]);

		if (number <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("trigger \"%s\" names a column \"%s\" that is not there",
							trigger->tgname, trigger->tgargs[i]),
					 errhint("Create the trigger again with the columns that tell rows of \"%s\" apart.",
							 RelationGetRelationName(data->tg_relation))));
		appendStringInfoString(out, n++ == 0 ? "{" : ", ");
		append_column(out, json, trigger->tgargs[i]);
	}
	if (n == 0)
	{
		int			member = -1;

		primary = RelationGetIndexAttrBitmap(data->tg_relation,
											 INDEX_ATTR_BITMAP_PRIMARY_KEY);
		while ((member = bms_next_member(primary, member)) >= 0)
		{
			int			number = member + FirstLowInvalidHeapAttributeNumber;

			appendStringInfoString(out, n++ == 0 ? "{" : ", ");
			append_column(out, json,
						  NameStr(TupleDescAttr(columns, number - 1)->attname));
		}
	}
	appendStringInfoString(out, n == 0 ? "null" : "}");
}

static void
append_column(StringInfo out, Jsonb *row, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(&row->root, name,
													 strlen(name), &buffer);
	Jsonb	   *json;

	escape_json(out, name);
	appendStringInfoString(out, ": ");
	if (value == NULL)
	{
		appendStringInfoString(out, "null");
		return;
	}
	json = JsonbValueToJsonb(value);
	(void) JsonbToCString(out, &json->root, VARSIZE(json));
}
