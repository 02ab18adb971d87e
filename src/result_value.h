/*
 * result_value.h: what a SQL branch's function has returned, as JSON.
 */
#ifndef DTM_RESULT_VALUE_H
#define DTM_RESULT_VALUE_H

#include "postgres.h"

#include "trans.h"
#include "utils/jsonb.h"

/*
 * The value as to_jsonb has it; NULL: that cannot be, or its text is larger than
 * any result that is kept, and note says so (else it is empty). The function has
 * succeeded all the same. Casts of the type to json are somebody's functions:
 * call it with their rights, inside a transaction.
 */
extern Jsonb *dtm_result_as_jsonb(Datum value, Oid type,
								  char note[DTM_MAX_ERROR]);

#endif
