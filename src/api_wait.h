/*
 * api_wait.h: wait for the outcome of a global transaction.
 */
#ifndef DTM_API_WAIT_H
#define DTM_API_WAIT_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "trans.h"

typedef struct DtmOutcome
{
	DtmStatus	status;			/* not a final one: the time was over */
	char	   *reason;			/* NULL: none */
} DtmOutcome;

/* Microseconds; -1 for NULL, which is for ever. */
extern int64 dtm_wait_timeout(const Interval *timeout);

/* Needs a transaction, no snapshot. The right to know has been checked. */
extern DtmOutcome dtm_wait_for(text *gid, int64 id, int64 timeout_us);

#endif
