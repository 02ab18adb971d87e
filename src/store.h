/*
 * store.h: every SQL text of the worker, and nothing else.
 *
 * All calls are made inside a transaction that the worker opened with
 * dtm_store_begin; dtm_store_commit ends it, synchronously when anything in it
 * is a decision.
 */
#ifndef DTM_STORE_H
#define DTM_STORE_H

#include "postgres.h"
#include "trans.h"

extern void dtm_store_begin(void);
extern void dtm_store_commit(bool synchronous);
extern void dtm_store_abort(void);

/* Unfinished transactions, each in a memory context of its own (keeper). */
typedef void (*DtmLoaded) (DtmTrans *trans, void *arg);

#endif
