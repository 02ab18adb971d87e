/*
 * executor.h: local SQL branches, run by processes that really are the role.
 */
#ifndef DTM_EXECUTOR_H
#define DTM_EXECUTOR_H

#include "postgres.h"
#include "trans.h"

typedef struct DtmExecutorResult
{
	DtmAnswer	answer;
	bool		recorded;		/* the op's success is committed already */
	bool		unmade;			/* the function was not called, nor can be */
	char		error[DTM_MAX_ERROR];
} DtmExecutorResult;

/* A reason as decided, with what the branch said in it. */
#define DTM_MAX_REASON (DTM_MAX_ERROR + 256)

/* What an executor is to do. */
typedef struct DtmExecutorJob
{
	int64		id;
	int			branch;			/* or DTM_ENDING */
	DtmPhase	phase;
	int64		timeout_ms;		/* 0: none */

	/* DTM_ENDING; see executor_ending.c */
	DtmStatus	from;			/* what the end was decided from ... */
	int			nbranches;		/* ... and with so many branches; -1: any */
	DtmStatus	to;				/* which end; it is there already if the same */
	char		reason[DTM_MAX_REASON]; /* "": as it is */
} DtmExecutorJob;

/* Shared memory for the slots; called by shmem.c's hooks. */
extern Size dtm_executor_shmem_size(void);
extern void dtm_executor_shmem_init(void);

/*
 * Worker side. Give a job to an idle executor of the role, or start a new one.
 * Returns the slot's index, or -1 when none is free or can be started (try
 * again after the next dtm_executor_result or in a while), with the reason in
 * error.
 */
extern int	dtm_executor_start(Oid role, const DtmExecutorJob *job,
							   char error[DTM_MAX_ERROR]);

/* Has the op in this slot ended? Frees the job (the process stays pooled). */
extern bool dtm_executor_result(int slot, DtmExecutorResult *result);

/* Called now and then: give up on executors that outlived their timeout. */
extern void dtm_executor_check(TimestampTz now);

/* All executors of a database away, e.g. for DROP DATABASE; waits for them. */
extern void dtm_executors_stop(Oid database);

extern PGDLLEXPORT void dtm_executor_main(Datum arg);

#endif
