/*
 * executor_slot.h: what the executor's files share.
 *
 * Only executor*.c and the debug points include it.
 */
#ifndef DTM_EXECUTOR_SLOT_H
#define DTM_EXECUTOR_SLOT_H

#include "postgres.h"

#include "executor.h"

/* What the pool tells a new process through bgw_extra. */
typedef struct DtmExecutorArgs
{
	int32		slot;
	uint32		generation;		/* of the slot; another one: too late */
	bool		nologin;		/* see executor_connect.c */
} DtmExecutorArgs;

typedef enum DtmExecutorNext
{
	DTM_EXECUTOR_WAIT,			/* nothing to do, for *wait_ms at most */
	DTM_EXECUTOR_RUN,			/* a job was taken */
	DTM_EXECUTOR_LEAVE			/* nobody will give this process another one */
} DtmExecutorNext;

/* executor_pool.c, for the executor's own process */
extern bool dtm_executor_attach(const DtmExecutorArgs *args, Oid *database,
								Oid *role);
extern DtmExecutorNext dtm_executor_next(DtmExecutorJob *job, long *wait_ms);
extern void dtm_executor_tell(const DtmExecutorResult *result, bool retire);
extern void dtm_executor_last_words(const char *error);

/*
 * The pid of some executor of the database (InvalidOid: of any) that runs,
 * busy ones first; or 0.
 */
extern pid_t dtm_executor_some_pid(Oid database);

/* executor_connect.c */
extern bool dtm_executor_superuser; /* the role, when it connected */
extern bool dtm_executor_needs_nologin(Oid role);
extern void dtm_executor_connect(Oid database, Oid role, bool nologin);

/* executor_run.c */
extern void dtm_executor_run(const DtmExecutorJob *job,
							 DtmExecutorResult *result);

/* May this process run what belongs to this role? If not, result says why. */
extern bool dtm_executor_is_for(Oid owner, DtmExecutorResult *result);
extern void dtm_executor_run_deferred_triggers(void);
extern void dtm_executor_close_held_cursors(void);

/* executor_ending.c: inside its transaction; false: roll it back. */
extern bool dtm_executor_run_ending(const DtmExecutorJob *job,
									DtmExecutorResult *result);

#endif
