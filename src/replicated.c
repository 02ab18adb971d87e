/*
 * replicated.c: what logical replication brings from another server is not
 * ours to carry out.
 *
 * A publication FOR ALL TABLES takes dtm's tables along. Rows that arrive would
 * look like ours, and the same saga would be carried out on both servers; or
 * they would overwrite what has the same id here. So what a session that
 * replays another server's changes writes into these tables is dropped.
 *
 * The trigger is there for replicas only, and costs others nothing but a look
 * at its state. But a restore can enable it for all sessions, and a session
 * may be called a replica for other reasons; so it asks who writes.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "replication/origin.h"

PG_FUNCTION_INFO_V1(dtm_ignore_replicated);

Datum
dtm_ignore_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dtm.ignore_replicated must be called as a trigger for each row"),
				 errhint("It belongs to the tables of schema dtm.")));
	if (IsLogicalWorker() || replorigin_session_origin != InvalidRepOriginId)
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}
