/*
 * branch_context.h: which branch this process is running, for
 * dtm.current_branch().
 */
#ifndef DTM_BRANCH_CONTEXT_H
#define DTM_BRANCH_CONTEXT_H

#include <stdbool.h>

/* The texts live as long as active is true. */
typedef struct DtmBranchContext
{
	bool		active;			/* false: not called by an executor */
	const char *gid;
	const char *branch_id;
	const char *op;				/* "action", "compensate", ... */
	const char *trans_type;		/* "saga", ... */
} DtmBranchContext;

extern DtmBranchContext DtmCurrentBranch;	/* executor_run.c */

#endif
