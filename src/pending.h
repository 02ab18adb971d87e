/*
 * pending.h: what this backend's current transaction has changed, told to the
 * workers if, and only if, it commits.
 */
#ifndef DTM_PENDING_H
#define DTM_PENDING_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "trans.h"

/* Callbacks, once, from _PG_init. */
extern void dtm_pending_install(void);

/*
 * This (sub)transaction has begun or changed the global transaction: its
 * commit is forced to be synchronous, and then the worker hears of it.
 */
extern void dtm_pending_add(int64 id);

/*
 * The same, and dtm.stats counts it. Only by this is it counted once: the worker
 * may take up the same transaction often, or never hear of one that has ended.
 */
extern void dtm_pending_begun(int64 id);
extern void dtm_pending_ended(int64 id, DtmStatus outcome,
							  TimestampTz created_at);

/* Has the current transaction (not yet committed) changed it? */
extern bool dtm_pending_contains(int64 id);

#endif
