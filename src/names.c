/*
 * names.c: what things are called, in SQL, in HTTP and to people.
 *
 * These words are the protocol: branch services and barrier tables written
 * for dtm compare them. Never change one.
 */
#include "decide.h"

const char *
dtm_mode_name(DtmMode mode)
{
	switch (mode)
	{
		case DTM_SAGA:
			return "saga";
		case DTM_TCC:
			return "tcc";
		case DTM_XA:
			return "xa";
		case DTM_MSG:
			return "msg";
		case DTM_WORKFLOW:
			return "workflow";
	}
	return "unknown";
}

const char *
dtm_status_name(DtmStatus status)
{
	switch (status)
	{
		case DTM_PREPARED:
			return "prepared";
		case DTM_SUBMITTED:
			return "submitted";
		case DTM_ABORTING:
			return "aborting";
		case DTM_SUCCEED:
			return "succeed";
		case DTM_FAILED:
			return "failed";
	}
	return "unknown";
}

const char *
dtm_op_status_name(DtmOpStatus status)
{
	switch (status)
	{
		case DTM_OP_PREPARED:
			return "prepared";
		case DTM_OP_SUCCEED:
			return "succeed";
		case DTM_OP_FAILED:
			return "failed";
	}
	return "unknown";
}

/* The same of one op, which may be the transaction's own. */
const char *
dtm_op_name_of(const DtmTrans *trans, int branch, DtmPhase phase)
{
	if (branch == DTM_WHOLE)
		return trans->workflow != NULL ? trans->workflow : "msg";
	if (branch == DTM_ENDING)
		return trans->status == DTM_SUCCEED ? "on_success" : "on_failure";
	return dtm_op_name(trans->mode, phase);
}

const char *
dtm_op_name(DtmMode mode, DtmPhase phase)
{
	bool		forward = (phase == DTM_FORWARD);

	if (phase == DTM_TRY)
		return mode == DTM_WORKFLOW ? "commit" : "try";
	switch (mode)
	{
		case DTM_SAGA:
			return forward ? "action" : "compensate";
		case DTM_TCC:
			return forward ? "confirm" : "cancel";
		case DTM_XA:
			return forward ? "commit" : "rollback";
		case DTM_MSG:
			return forward ? "action" : "compensate";
		case DTM_WORKFLOW:
			return forward ? "action" : "rollback";
	}
	return "unknown";
}
