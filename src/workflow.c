/*
 * workflow.c: what becomes of a workflow whose client falls silent.
 *
 * Pure: no I/O, no clock, no allocation. doc/states.md holds the state table
 * that this file mirrors row by row.
 *
 * The client runs the code; we keep its journal. Each sign of life moves the
 * deadline on (api_workflow.c). When it has passed, the client is called, and
 * goes on from its journal. An answer, whichever, ends nothing: only
 * dtm.workflow_finish, which writes the status itself, and force_stop do. So
 * there is no decision here, and no time after which a workflow fails.
 *
 * It must never call the client while a call of ours is under way, nor before
 * the deadline.
 */
#include "attempts.h"

void
dtm_workflow_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	if (trans->status != DTM_PREPARED || trans->check.running)
		return;
	if (trans->deadline > event->now)
		trans->due = trans->deadline;
	else if (!dtm_call_is_needless(trans, DTM_WHOLE, DTM_FORWARD))
		dtm_start_or_wait(trans, DTM_WHOLE, DTM_FORWARD, event->now, plan);
}
