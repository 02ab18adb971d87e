/*
 * carry_private.h: between carry.c and carry_write.c.
 */
#ifndef DTM_CARRY_PRIVATE_H
#define DTM_CARRY_PRIVATE_H

#include "postgres.h"

#include "shmem.h"
#include "workset.h"

/* There is something to write; at once, if it is a decision. */
extern void dtm_carry_note_dirty(DtmHeld *held, DtmTime now);

/* Make the calls that waited for what is durable now. */
extern void dtm_carry_start_waiting(DtmHeld *held);

/* Its row is not as we know it: read it again. */
extern void dtm_carry_reread(int64 id);

/* Its final status is durable. It leaves memory, unless its ending is pending. */
extern void dtm_carry_finish(DtmHeld *held);

/* A new status is durable: go on where it has to be looked at again for that. */
extern void dtm_carry_look_again(DtmHeld *held, DtmTime now);

/* It leaves memory. */
extern void dtm_carry_let_go(DtmHeld *held);

extern void dtm_carry_count(DtmCounter which, int64 n);

/* Decided, and not yet written by us; what an ending writes is not ours. */
static inline bool
is_undurable(const DtmTrans *trans)
{
	return dtm_is_to_be_written(trans);
}

/* Is there something that must be durable before another call is made? */
static inline bool
calls_must_wait(const DtmHeld *held)
{
	return is_undurable(held->trans) || held->has_new_result ||
		held->marks_first;
}

#endif
