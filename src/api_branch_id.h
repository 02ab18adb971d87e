/*
 * api_branch_id.h: ids of branches that may have branches of their own.
 */
#ifndef DTM_API_BRANCH_ID_H
#define DTM_API_BRANCH_ID_H

#include "postgres.h"

#include "api_start.h"

/*
 * Register the step, unless that very branch is registered already. Arguments n
 * and n + 1 are parent and branch_id: it gets the latter, else the next one below
 * parent, or of the whole. Returns its id. The place must be locked.
 */
extern text *dtm_add_branch(FunctionCallInfo fcinfo, int n,
							const DtmPlace *place, const DtmStepKind *kind,
							DtmStep *step);

#endif
