/*
 * barrier_guard.h: is dtm_barrier.barrier fit to be written with all rights?
 */
#ifndef DTM_BARRIER_GUARD_H
#define DTM_BARRIER_GUARD_H

#include "postgres.h"

typedef struct DtmBarrierFault
{
	int			code;			/* SQLSTATE */
	const char *problem;
	const char *remedy;			/* the command that mends it */
} DtmBarrierFault;

/*
 * An error unless the table is as dtm needs it. It stays so until the end of
 * the transaction: the lock that every write takes is taken here.
 */
extern void dtm_guard_barrier(void);

/* The same as an answer; for whoever only looks, the lock is a reader's. */
extern bool dtm_barrier_has_fault(bool to_write, DtmBarrierFault *fault);

#endif
