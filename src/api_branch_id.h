/*
 * api_branch_id.h: ids of branches that may have branches of their own.
 */
#ifndef DTM_API_BRANCH_ID_H
#define DTM_API_BRANCH_ID_H

#include "postgres.h"

#include "api_start.h"

/*
 * Give the step an id: the wanted one, else the next one below parent ('': of
 * the whole). Returns false when that very branch is registered already, so
 * that nothing is left to do. The place must be locked.
 */
extern bool dtm_name_branch(const DtmPlace *place, DtmStep *step,
							const char *parent, const char *wanted);

#endif
