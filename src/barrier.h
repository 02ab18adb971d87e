/*
 * barrier.h: the barrier of a participant, for whoever runs its business.
 */
#ifndef DTM_BARRIER_H
#define DTM_BARRIER_H

#include "postgres.h"

#include "fmgr.h"

typedef struct DtmBarrierKey
{
	text	   *trans_type;
	text	   *gid;
	text	   *branch_id;
	text	   *barrier_id;
} DtmBarrierKey;

typedef enum DtmBarrierVerdict
{
	DTM_BARRIER_NEW,			/* do the business, in this transaction */
	DTM_BARRIER_REPEAT,			/* it was done; or its compensation was first */
	DTM_BARRIER_NOTHING_TO_UNDO
} DtmBarrierVerdict;

/*
 * A SQL function's first four arguments: trans_type, gid, branch_id and op;
 * an error if they are none. The op is the result.
 */
extern char *dtm_barrier_arguments(FunctionCallInfo fcinfo, DtmBarrierKey *key);

/*
 * Write the rows, with dtm's rights, whatever the caller's. The transaction
 * will commit durably.
 */
extern DtmBarrierVerdict dtm_barrier_enter(const DtmBarrierKey *key,
										   const char *op);

/* A text argument that must be there and have at most so many bytes. */
extern text *dtm_barrier_argument(FunctionCallInfo fcinfo, int n,
								  const char *name, int limit);

#endif
