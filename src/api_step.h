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

/*
 * What one step of a mode has: the addresses in the order of the type's
 * columns, or of the function's arguments; behind them come payload, [body,]
 * headers, request_timeout, retry_limit and keep_result.
 */
typedef struct DtmStepKind
{
	const char *type;			/* NULL: there is only a function */
	const char *example;		/* a hint for those who pass no steps */
	const char *nobody;			/* and for those who pass NULL: how to call nobody */
	bool		message;		/* never undone, and may go to a topic */
	int			naddresses;
	struct
	{
		const char *name;
		DtmPhase	phase;
	}			address[DTM_PHASES];
} DtmStepKind;

extern const DtmStepKind dtm_saga_kind;
extern const DtmStepKind dtm_msg_kind;
extern const DtmStepKind dtm_tcc_kind;
extern const DtmStepKind dtm_tcc_branch_kind;
extern const DtmStepKind dtm_msg_branch_kind;

typedef struct DtmStep
{
	const char *branch_id;		/* NULL: its number, with two digits */
	text	   *address[DTM_PHASES];	/* by phase; NULL: the mode has none */
	bytea	   *payload;		/* NULL: none */
	bool		payload_is_data;	/* nothing in it is a placeholder */
	Jsonb	   *headers;		/* NULL: none */
	Interval   *request_timeout;	/* NULL: the transaction's */
	int32		retry_limit;	/* 0: the transaction's */
	bool		keep_result;
	ArrayType  *predecessors;	/* indexes from 0; NULL: none */
	ArrayType  *uses;			/* whose results its payload needs; NULL: none */
} DtmStep;

/*
 * Take an array of the kind's type apart and check every part of it, but for
 * whom the steps call: see dtm_check_addresses.
 */
extern int	dtm_read_steps(ArrayType *array, const DtmStepKind *kind,
						   DtmStep **steps);

/* May the user have them called? A repeat of what exists is not asked that. */
extern void dtm_check_addresses(Oid user, const DtmStepKind *kind,
								const DtmStep *step, int number);

/* Both. step: its number from 1, or 0 when there is only one. */
extern void dtm_check_step(Oid user, const DtmStepKind *kind,
						   const DtmStep *step, int number);

/*
 * A step from a function's arguments. There are up to three forms: payload as
 * text and then body; payload as json or jsonb; the same without the last
 * address. Not checked yet, but for what no step may be.
 */
extern void dtm_step_of_arguments(FunctionCallInfo fcinfo, int first, int nargs,
								  const DtmStepKind *kind, DtmStep *step);

/* JSON as a payload: in UTF-8, whatever this database speaks. */
extern bytea *dtm_payload_of_text(const char *json);

/* Which step waits for which: {"3": [1, 2]}. */
extern void dtm_read_orders(Jsonb *orders, DtmStep *steps, int nsteps);

/* What the branch of that index waits for: numbers of branches before it. */
extern ArrayType *dtm_read_after(ArrayType *after, int branch);

/* Insert them as branches first, first + 1, ... of a transaction. */
extern void dtm_store_steps(int64 id, int first, const DtmStep *steps,
							int nsteps);

#endif
