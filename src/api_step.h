/*
 * api_step.h: dtm.step values, read, checked and stored as branches.
 */
#ifndef DTM_API_STEP_H
#define DTM_API_STEP_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "trans.h"

typedef struct DtmStep
{
	text	   *action;
	text	   *compensate;
	bytea	   *payload;		/* NULL: none */
	Jsonb	   *headers;		/* NULL: none */
	Interval   *request_timeout;	/* NULL: the transaction's */
	int32		retry_limit;	/* 0: the transaction's */
	ArrayType  *predecessors;	/* indexes from 0; NULL: none */
} DtmStep;

/* Take an array of dtm.step apart and check every part of it. */
extern int	dtm_read_steps(Oid user, ArrayType *array, DtmStep **steps);

/* step: its number from 1, or 0 when there is only one. */
extern void dtm_check_step(Oid user, const DtmStep *step, int number);

/*
 * A step from a function's arguments, which may have three forms:
 *	7: action, compensate, payload text, body, headers, request_timeout, retry_limit
 *	6: action, compensate, payload json/jsonb, headers, request_timeout, retry_limit
 *	5: action, payload json/jsonb, headers, request_timeout, retry_limit
 * Not checked yet, but for what no dtm.step may be.
 */
extern void dtm_step_of_arguments(FunctionCallInfo fcinfo, int first, int nargs,
								  DtmStep *step);

/* Which step waits for which: {"3": [1, 2]}. */
extern void dtm_read_orders(Jsonb *orders, DtmStep *steps, int nsteps);

/* What the branch of that index waits for: numbers of branches before it. */
extern ArrayType *dtm_read_after(ArrayType *after, int branch);

/* Insert them as branches first, first + 1, ... of a transaction. */
extern void dtm_store_steps(int64 id, int first, const DtmStep *steps,
							int nsteps);

#endif
