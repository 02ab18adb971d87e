/*
 * decide.c: what a global transaction does next, whatever its mode.
 *
 * Pure: no I/O, no clock, no allocation.
 *
 * An event first changes what is known (attempts.c); then everything else is
 * derived from what is known, never from the event, by the file of the mode.
 * So a transaction that was read back after a crash, whichever of its rows had
 * been written, goes on exactly as one that never left memory.
 */
#include "attempts.h"

void
dtm_decide(DtmTrans *trans, const DtmEvent *event, DtmPlan *plan)
{
	DtmStatus	before;

	plan->status_changed = false;
	plan->cause = DTM_CAUSE_NONE;
	plan->cause_branch = DTM_WHOLE;
	plan->nstart = 0;

	dtm_take_event(trans, event);

	before = trans->status;
	trans->due = DTM_NEVER;
	switch (trans->mode)
	{
		case DTM_SAGA:
			dtm_saga_decide(trans, event, plan);
			break;
		case DTM_TCC:
			dtm_tcc_decide(trans, event, plan);
			break;
		case DTM_MSG:
			dtm_msg_decide(trans, event, plan);
			break;
		case DTM_XA:
			dtm_xa_decide(trans, event, plan);
			break;
		case DTM_WORKFLOW:
			dtm_workflow_decide(trans, event, plan);
			break;
	}
	dtm_ending_decide(trans, event, plan);
	plan->status_changed = (trans->status != before);
}

/* Rows of other modes are left alone. */
bool
dtm_mode_is_known(DtmMode mode)
{
	switch (mode)
	{
		case DTM_SAGA:
		case DTM_TCC:
		case DTM_MSG:
		case DTM_XA:
		case DTM_WORKFLOW:
			return true;
	}
	return false;
}
