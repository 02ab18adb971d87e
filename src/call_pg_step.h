/*
 * call_pg_step.h: steps of libpq's connecting, each on a thread of its own.
 *
 * What a participant says while connecting decides how long a step takes. Plain
 * C and malloc.
 */
#ifndef DTM_CALL_PG_STEP_H
#define DTM_CALL_PG_STEP_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DtmStep
{
	PGconn	   *pg;				/* the thread's, until the step has been taken */
	void	   *owner;			/* NULL: it is not waited for any more */
	unsigned int role;			/* on whose behalf */
	uint64_t	generation;		/* of which server and mapping */
	PostgresPollingStatusType status;	/* what came of it */
} DtmStep;

typedef enum DtmStepStart
{
	DTM_STEP_BEGUN,
	DTM_STEP_LATER,				/* when another has ended */
	DTM_STEP_FAILED				/* no memory, no thread */
} DtmStepStart;

/* false: no descriptors */
extern bool dtm_steps_init(void);

/* Readable when a step has ended. */
extern int	dtm_steps_fd(void);

/*
 * PQconnectPoll, elsewhere. Until the step has been taken nobody else may touch
 * pg; who does not wait for it sets its owner to NULL and leaves pg to it.
 */
extern DtmStepStart dtm_step_start(PGconn *pg, unsigned int role,
								   uint64_t generation, void *owner,
								   DtmStep **step);

/* Take one that has ended, to be freed; NULL: there is none. */
extern DtmStep *dtm_step_taken(void);

/* How many have not been taken. */
extern int	dtm_steps_running(void);

#endif
