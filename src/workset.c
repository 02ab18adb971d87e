/*
 * workset.c: the unfinished transactions that a worker holds in memory.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "workset.h"

static MemoryContext workset_context;
static HTAB *by_id;
static pairingheap *by_due;
static dlist_head dirty = DLIST_STATIC_INIT(dirty);
static Size memory_in_use;

static int	compare_due(const pairingheap_node *a, const pairingheap_node *b,
						void *arg);

void
dtm_workset_init(void)
{
	HASHCTL		info = {0};

	workset_context = AllocSetContextCreate(TopMemoryContext, "dtm workset",
											ALLOCSET_DEFAULT_SIZES);
	info.keysize = sizeof(int64);
	info.entrysize = sizeof(DtmHeld);
	info.hcxt = workset_context;
	by_id = hash_create("dtm transactions", 1024, &info,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	by_due = pairingheap_allocate(compare_due, NULL);
	dlist_init(&dirty);
	memory_in_use = 0;
}

/* A pairing heap keeps its greatest on top: the earliest is the greatest. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	DtmTime		due_a = pairingheap_const_container(DtmHeld, due_node, a)->trans->due;
	DtmTime		due_b = pairingheap_const_container(DtmHeld, due_node, b)->trans->due;

	return due_a < due_b ? 1 : due_a > due_b ? -1 : 0;
}

MemoryContext
dtm_workset_context(void)
{
	return workset_context;
}

DtmHeld *
dtm_workset_find(int64 id)
{
	return hash_search(by_id, &id, HASH_FIND, NULL);
}

DtmHeld *
dtm_workset_add(const DtmLoaded *loaded)
{
	bool		found;
	DtmHeld    *held = hash_search(by_id, &loaded->trans->id, HASH_ENTER,
								   &found);

	Assert(!found);
	memset((char *) held + sizeof(int64), 0, sizeof(DtmHeld) - sizeof(int64));
	held->trans = loaded->trans;
	held->context = loaded->context;
	held->hurried_at = loaded->hurried_at;
	held->created_at = loaded->created_at;
	held->stored_due = loaded->trans->due;
	held->memory = MemoryContextMemAllocated(loaded->context, true);
	loaded->trans->keeper = held;
	memory_in_use += held->memory;
	return held;
}

void
dtm_workset_remove(DtmHeld *held)
{
	int64		id = held->id;

	if (held->is_due_listed)
		pairingheap_remove(by_due, &held->due_node);
	dtm_workset_mark_clean(held);
	memory_in_use -= held->memory;
	MemoryContextDelete(held->context);
	hash_search(by_id, &id, HASH_REMOVE, NULL);
}

/*
 * The heap compares trans->due, so an entry leaves it before that changes in
 * place: callers change due, then call this, and nothing compares in between
 * but this very removal, which never looks at the removed node's key.
 */
void
dtm_workset_reschedule(DtmHeld *held)
{
	if (held->is_due_listed)
		pairingheap_remove(by_due, &held->due_node);
	held->is_due_listed = held->trans->due != DTM_NEVER;
	if (held->is_due_listed)
		pairingheap_add(by_due, &held->due_node);
}

DtmHeld *
dtm_workset_first_due(void)
{
	if (pairingheap_is_empty(by_due))
		return NULL;
	return pairingheap_container(DtmHeld, due_node, pairingheap_first(by_due));
}

void
dtm_workset_mark_dirty(DtmHeld *held)
{
	if (held->is_dirty)
		return;
	held->is_dirty = true;
	dlist_push_tail(&dirty, &held->dirty_node);
}

void
dtm_workset_mark_clean(DtmHeld *held)
{
	if (!held->is_dirty)
		return;
	held->is_dirty = false;
	dlist_delete(&held->dirty_node);
}

dlist_head *
dtm_workset_dirty(void)
{
	return &dirty;
}

int
dtm_workset_size(void)
{
	return (int) hash_get_num_entries(by_id);
}

Size
dtm_workset_memory(void)
{
	return memory_in_use;
}

void
dtm_workset_visit(DtmVisit visit, void *arg)
{
	HASH_SEQ_STATUS scan;
	DtmHeld    *held;

	hash_seq_init(&scan, by_id);
	while ((held = hash_seq_search(&scan)) != NULL)
		visit(held, arg);
}
