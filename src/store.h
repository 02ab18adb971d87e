/*
 * store.h: what the worker reads from the tables and writes to them.
 *
 * Everything here runs inside a transaction opened by dtm_store_begin. Reads
 * and writes of many transactions share one commit.
 */
#ifndef DTM_STORE_H
#define DTM_STORE_H

#include "postgres.h"

#include "placeholder.h"
#include "trans.h"

/* Payloads up to this size are kept in memory; larger ones are read when sent. */
#define DTM_INLINE_PAYLOAD 8192

extern void dtm_store_begin(void);

/* In this transaction no lock is waited for longer: 55P03 then. */
extern void dtm_store_limit_waits(int timeout_ms);

/* Synchronous when anything in it is a decision; else it may be lost. */
extern void dtm_store_commit(bool synchronous);
extern void dtm_store_abort(void);

/*
 * store_load.c
 */

/* A transaction as its rows have it, in a memory context of its own. */
typedef struct DtmLoaded
{
	DtmTrans   *trans;
	MemoryContext context;
	DtmTime		hurried_at;		/* 0: never */
	DtmTime		created_at;
	bool		client_is_back; /* of a workflow: hurried by a new run of it */
} DtmLoaded;

/*
 * Read these, finished ones too. Returns how many were found; or -1 if they are
 * too much for one go (never when there is one only): then read fewer. What was
 * made below parent by then is the caller's to delete.
 */
extern int	dtm_store_load(const int64 *ids, int nids, MemoryContext parent,
						   DtmLoaded *loaded);

/* Where a reader of unfinished transactions is: everything up to here is read. */
typedef struct DtmDueCursor
{
	DtmTime		due;
	int64		id;
} DtmDueCursor;

/* The next ids, in order of due time, up to and including until. */
extern int	dtm_store_due(DtmDueCursor *cursor, DtmTime until, int shard,
						  int nshards, int64 *ids, int max);

/*
 * The next unfinished ids of a range that are due by then; *from moves behind
 * the last one.
 */
extern int	dtm_store_range(int64 *from, int64 to, DtmTime until, int shard,
							int nshards, int64 *ids, int max);

/* Every id up to this one may have been given out by now. */
extern int64 dtm_store_last_id(void);

/* The payload of one branch, palloc'd in the given context. */
extern char *dtm_store_payload(int64 id, int branch, MemoryContext context,
							   size_t *size);

/*
 * Is the workflow to be resumed now? Not while its client has told of itself,
 * or is about to: then false. Its data, palloc'd in the given context; NULL:
 * none.
 */
extern bool dtm_store_is_silent(int64 id, DtmTime now, MemoryContext context,
								char **data, size_t *size);

/*
 * The results that a branch's payload draws from, palloc'd in the given
 * context; returns how many.
 */
extern int	dtm_store_results(int64 id, int branch, MemoryContext context,
							  DtmResult **results);

/* The value of a role's secret, palloc'd in the given context; NULL: none. */
extern char *dtm_store_secret(Oid role, const char *name,
							  MemoryContext context);

/*
 * store_write.c
 */

/* A change of a transaction's row, made only if its status is still the old. */
typedef struct DtmChange
{
	int64		id;
	DtmStatus	from;
	DtmStatus	to;
	DtmTime		due;			/* DTM_NEVER: infinity; of an end: NULL */
	const char *reason;			/* NULL: as it was */
	int			nbranches;		/* it must still have so many; -1: any number */
	bool		made;			/* out: false when somebody holds or changed it */
} DtmChange;

extern void dtm_store_change(DtmChange *changes, int nchanges);

/* One row of dtm.op, whole. */
typedef struct DtmOpRow
{
	int64		id;
	int			branch;
	DtmPhase	phase;
	DtmOp	   *op;
} DtmOpRow;

extern void dtm_store_ops(const DtmOpRow *rows, int nrows);

#endif
