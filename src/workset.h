/*
 * workset.h: the unfinished transactions that a worker holds in memory.
 *
 * A cache of the tables: found by id, ordered by when they are due, and those
 * with something to write in a list. Nothing here decides, reads or writes.
 */
#ifndef DTM_WORKSET_H
#define DTM_WORKSET_H

#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "decide.h"
#include "store.h"
#include "trans.h"

/* A transaction and what the worker knows of it beyond deciding. */
typedef struct DtmHeld
{
	int64		id;				/* hash key */
	DtmTrans   *trans;
	MemoryContext context;
	Size		memory;
	DtmTime		hurried_at;
	DtmTime		created_at;
	DtmTime		stored_due;		/* what its row says */
	pairingheap_node due_node;
	dlist_node	dirty_node;
	bool		is_due_listed;
	bool		is_dirty;
	bool		is_doubted;		/* its row is about to be read again */
	DtmTime		write_after;	/* a failed write is not tried before */
	DtmTime		write_pause;	/* grows with each failure */
	bool		has_new_result; /* of a branch, kept, and not durable yet */
	bool		marks_first;	/* its ending waits for them to be written */
	int			nwaiting;		/* calls that wait for the new status, or the
								 * new result, ... */
	DtmOpRef   *waiting;		/* ... to be durable */
} DtmHeld;

extern void dtm_workset_init(void);
extern MemoryContext dtm_workset_context(void);
extern DtmHeld *dtm_workset_find(int64 id);
extern DtmHeld *dtm_workset_add(const DtmLoaded *loaded);
extern void dtm_workset_remove(DtmHeld *held);

/* After trans->due has changed. */
extern void dtm_workset_reschedule(DtmHeld *held);

/* The one that is due first; NULL: none. */
extern DtmHeld *dtm_workset_first_due(void);

extern void dtm_workset_mark_dirty(DtmHeld *held);
extern void dtm_workset_mark_clean(DtmHeld *held);
extern dlist_head *dtm_workset_dirty(void);

extern int	dtm_workset_size(void);
extern Size dtm_workset_memory(void);

/* All of them, in no order; the one at hand may be removed. */
typedef void (*DtmVisit) (DtmHeld *held, void *arg);
extern void dtm_workset_visit(DtmVisit visit, void *arg);

static inline DtmHeld *
dtm_held(const DtmTrans *trans)
{
	return (DtmHeld *) trans->keeper;
}

/* Nothing is under way and nothing waits to be written. */
static inline bool
dtm_held_is_idle(const DtmHeld *held)
{
	return held->trans->running == 0 && held->nwaiting == 0 && !held->is_dirty;
}

#endif
