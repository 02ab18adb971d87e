/*
 * executor_result.h: what a SQL branch's function has returned.
 *
 * Only executor*.c include it.
 */
#ifndef DTM_EXECUTOR_RESULT_H
#define DTM_EXECUTOR_RESULT_H

#include "postgres.h"

#include "tcop/dest.h"
#include "trans.h"

/* The first column of the first row; all others are received and dropped. */
typedef struct DtmFirstValue
{
	DestReceiver receiver;		/* first: what PostgreSQL knows of it */
	MemoryContext context;		/* the value's */
	Oid			type;
	bool		is_there;		/* a row has come, and it is not NULL */
	bool		was_row;
	Datum		value;
} DtmFirstValue;

extern DestReceiver *dtm_receive_first_value(DtmFirstValue *first);

/*
 * The value as JSON, in UTF-8; NULL: there is none, or it is not kept, and then
 * note says why (else it is empty). Casts of the value's type to json are
 * somebody's functions: call it with their rights.
 */
extern bytea *dtm_first_value_as_json(const DtmFirstValue *first,
									  char note[DTM_MAX_ERROR]);

#endif
