/*
 * api_start.h: begin a global transaction of any mode, and register branches.
 */
#ifndef DTM_API_START_H
#define DTM_API_START_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "api_common.h"
#include "api_step.h"
#include "trans.h"

/* How long a tcc, xa or msg may stay prepared, if nothing else is said. */
#define DTM_PREPARED_SECONDS 33

typedef struct DtmOptions
{
	Interval   *timeout_to_fail;	/* NULL: not given, so for all below */
	int64		timeout_us;
	Interval   *delay;
	int64		delay_us;
	Interval   *retry_interval;
	Interval   *request_timeout;
	int32		retry_limit;	/* 0: not given */
	Jsonb	   *branch_headers;
	bool		concurrent;
	Jsonb	   *orders;
	text	   *on_success;		/* statements; NULL: none */
	text	   *on_failure;
} DtmOptions;

/* Lists of these say in which order a function takes its options. */
typedef enum DtmOption
{
	DTM_OPTIONS_END,
	DTM_TIMEOUT_TO_FAIL,
	DTM_DELAY,
	DTM_RETRY_INTERVAL,
	DTM_REQUEST_TIMEOUT,
	DTM_RETRY_LIMIT,
	DTM_BRANCH_HEADERS,
	DTM_CONCURRENT,
	DTM_ORDERS,
	DTM_ON_SUCCESS,
	DTM_ON_FAILURE
} DtmOption;

typedef struct DtmStart
{
	DtmMode		mode;
	text	   *gid;
	bool		gid_is_new;		/* ours: nobody else can have it */
	bool		driven;			/* tcc: dtm calls the tries */
	text	   *query_prepared; /* msg; workflow: resume. NULL: none */
	DtmOptions	options;
} DtmStart;

/* The argument gid, checked; NULL is an error with this hint. */
extern text *dtm_given_gid(FunctionCallInfo fcinfo, int n, const char *hint);

/*
 * For functions that have a form without it: the first argument, if it is given
 * at all, else a new one. Returns which argument comes next.
 */
extern int	dtm_gid_or_new(FunctionCallInfo fcinfo, bool given, DtmStart *start);

extern void dtm_read_options(FunctionCallInfo fcinfo, int first,
							 const DtmOption *list, DtmOptions *options);

/* The argument steps: an array of the kind's type; see dtm_read_steps. */
extern int	dtm_steps_argument(FunctionCallInfo fcinfo, int n,
							   const DtmStepKind *kind, DtmStep **steps);

/*
 * A start in one call. Returns the id of the new transaction, whose branches
 * the caller then stores, checked; 0 when it is a repeat, and there is nothing
 * to do. kind is NULL when whom the steps call is checked already.
 */
extern int64 dtm_start(const DtmApi *api, const DtmStart *start,
					   const DtmStepKind *kind, const DtmStep *steps,
					   int nsteps);
extern void dtm_store_start(int64 id, const DtmStep *steps, int nsteps);

/* xxx_begin: a new transaction, prepared, or one that is prepared already. */
extern void dtm_begin(const DtmStart *start);

/*
 * The same for those who have more to do: the id of the new one; or 0, and what
 * was found: the user's, of this mode, in any status.
 */
extern int64 dtm_begin_or_find(const DtmApi *api, const DtmStart *start,
							   DtmFound *found);

/* A place for a new branch of a transaction that is prepared. */
typedef struct DtmPlace
{
	DtmFound	found;
	int			branch;			/* its index */
	char	   *last_id;		/* branch_id of the last one; NULL: the first */
} DtmPlace;

/* Errors unless it is the user's, of this mode, and prepared. Locks it. */
extern void dtm_make_place(const DtmApi *api, text *gid, DtmMode mode,
						   DtmPlace *place);

/* A branch, or a topic's branches, into the place; the worker hears of it. */
extern void dtm_fill_place(const DtmPlace *place, const DtmStep *steps,
						   int nsteps);

DTM_NORETURN extern void dtm_gid_is_taken(const text *gid, const char *detail);

#endif
