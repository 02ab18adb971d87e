/*
 * call_forgotten.c: resumes under way whose workflow has left memory.
 *
 * When work stops for a moment, as with dtm.enabled, all that is in memory is
 * forgotten, and calls under way end with nobody to listen. When it goes on, all
 * is read anew. Other calls may then be made a second time, at once: branches
 * tolerate it. The client of a workflow must not be called while an earlier call
 * of ours runs: so these are remembered until they end. A worker that dies takes
 * its calls with it, and this list with them.
 *
 * The list is short: it has what was under way when work was stopped.
 */
#include "postgres.h"

#include "call_forgotten.h"

static dlist_head forgotten = DLIST_STATIC_INIT(forgotten);

void
dtm_forgotten_note(DtmCall *call)
{
	if (!dtm_call_is_resume(call))
		return;
	call->forgotten_id = call->trans->id;
	dlist_push_tail(&forgotten, &call->node);
}

void
dtm_forgotten_ended(DtmCall *call)
{
	if (call->forgotten_id != 0)
		dlist_delete(&call->node);
	call->forgotten_id = 0;
}

bool
dtm_forgotten_is_under_way(const DtmCall *call)
{
	dlist_iter	iter;

	if (call->trans == NULL || !dtm_call_is_resume(call))
		return false;
	dlist_foreach(iter, &forgotten)
	{
		const DtmCall *other = dlist_container(DtmCall, node, iter.cur);

		if (other->forgotten_id == call->trans->id)
			return true;
	}
	return false;
}
