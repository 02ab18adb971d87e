/*
 * api_common.h: what the SQL functions share: rights, identity, plans, errors.
 */
#ifndef DTM_API_COMMON_H
#define DTM_API_COMMON_H

#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "trans.h"

/* Class DT. */
#define ERRCODE_DTM_UNKNOWN_GID	MAKE_SQLSTATE('D', 'T', '4', '0', '4')
#define ERRCODE_DTM_REFUSED		MAKE_SQLSTATE('D', 'T', '4', '0', '9')
#define ERRCODE_DTM_ILLEGAL		MAKE_SQLSTATE('D', 'T', '4', '1', '2')
#define ERRCODE_DTM_ONGOING		MAKE_SQLSTATE('D', 'T', '4', '2', '5')

/*
 * Between these two a function works on the tables as their owner, over SPI.
 * Nothing of the user's may run in between. An error restores the identity.
 */
typedef struct DtmApi
{
	Oid			user;			/* who called */
	int			security;
} DtmApi;

extern void dtm_api_begin(DtmApi *api);
extern void dtm_api_end(DtmApi *api);

/* Every statement of the SQL functions; the texts are in api_common.c. */
typedef enum DtmApiPlan
{
	DTM_PLAN_FIND,
	DTM_PLAN_BEGIN,
	DTM_PLAN_LOCK,
	DTM_PLAN_LAST_BRANCH,
	DTM_PLAN_CHILDREN,
	DTM_PLAN_BRANCH,
	DTM_PLAN_BRANCHES,
	DTM_PLAN_SUBMIT,
	DTM_PLAN_ABORT,
	DTM_PLAN_FORCE_STOP,
	DTM_PLAN_FINISH,
	DTM_PLAN_GIVE_UP_ENDING,
	DTM_PLAN_RETRY_NOW,
	DTM_PLAN_LOG,
	DTM_PLAN_QUERY,
	DTM_PLAN_ALLOWED,
	DTM_PLAN_SUBSCRIBERS,
	DTM_PLAN_SECRET,
	DTM_PLAN_BARRIER,
	DTM_PLAN_BARRIER_REASON,
	DTM_PLAN_WORKFLOW,
	DTM_PLAN_WORKFLOW_ROW,
	DTM_PLAN_WORKFLOW_RESULT,
	DTM_PLAN_RENEW,
	DTM_PLAN_NEXT_RUN,
	DTM_PLAN_PROGRESS,
	DTM_PLAN_STEP,
	DTM_PLAN_RECORD,
	DTM_NPLANS
} DtmApiPlan;

/* Run it, as SPI_execute_plan does; returns the number of rows. */
extern uint64 dtm_api_run(DtmApiPlan which, Datum *values, const char *nulls);

/* The same for plans that look rows up: never by a sequential scan. */
extern uint64 dtm_api_lookup(DtmApiPlan which, Datum *values,
							 const char *nulls);

/* As dtm_api_lookup, with what is committed by now, whatever the isolation. */
extern uint64 dtm_api_look_now(DtmApiPlan which, Datum *values);

/* The same where the statement may lock rows, or must see its own changes. */
extern uint64 dtm_api_lookup_latest(DtmApiPlan which, Datum *values);

/* The value in the first row; the text is palloc'ed, NULL stays NULL. */
extern Datum dtm_api_value(int column, bool *isnull);
extern char *dtm_api_text(int column);

/* A transaction's row, as the functions need it. */
typedef struct DtmFound
{
	int64		id;
	Oid			owner;
	DtmMode		mode;
	DtmStatus	status;
	bool		concurrent;
	bool		forced;
	bool		driven;			/* dtm itself calls the tries and submits */
	bool		can_be_asked;	/* prepared, but its back-check is due */
	bool		ending_pending; /* final, but its statement has not succeeded */
	bool		ending_stuck;	/* and people have been told so */
	char	   *reason;			/* NULL: none */
	bytea	   *digest;			/* NULL: none */
	TimestampTz created_at;
} DtmFound;

typedef enum DtmRight
{
	DTM_RIGHT_NONE,				/* any row counts */
	DTM_RIGHT_READ,				/* one's own, or pg_monitor */
	DTM_RIGHT_OWN				/* one's own: as a member of the owner */
} DtmRight;

typedef enum DtmLook
{
	DTM_LOOK_STATEMENT,			/* the calling statement's snapshot, or later */
	DTM_LOOK_LATEST,			/* the latest, in any isolation level ... */
	DTM_LOOK_NOW				/* ... and quickly: without all columns */
} DtmLook;

/* false: there is none, or none that this user may know of. */
extern bool dtm_api_find(const DtmApi *api, const text *gid, DtmRight right,
						 DtmLook look, DtmFound *found);
extern void dtm_api_must_find(const DtmApi *api, const text *gid,
							  DtmRight right, DtmLook look, DtmFound *found);

/* Does the calling statement itself still see something to be done? */
extern bool dtm_api_was_unfinished(const text *gid);

/* api_peek.c: the row as it is now, but for its digest; no rights are checked. */
extern bool dtm_api_peek(const text *gid, DtmFound *found);

DTM_NORETURN extern void dtm_unknown_gid(const text *gid);

/* DT412: the command is not possible in this status. */
DTM_NORETURN extern void dtm_illegal(const char *command,
									 const text *gid,
									 DtmStatus status);

/* Is the user a member of the role, or a superuser? */
extern bool dtm_may_act_as(Oid user, Oid owner);

/*
 * Options and arguments. A place is "retry_interval" or "step 3: compensate";
 * errors begin with it.
 */
extern const char *dtm_place(int step, const char *argument);
extern int64 dtm_interval_us(const Interval *interval, const char *place);
extern int	dtm_retry_limit(int32 limit, const char *place);
extern void dtm_check_headers(Jsonb *headers, const char *place);
extern void dtm_check_json(const char *json, const char *place);

/* NOTICE, once per session and cause, when nothing will be called for now. */
extern void dtm_notice_if_idle(void);

/* gid.c */
extern text *dtm_make_gid(void);
extern void dtm_check_gid(const text *gid);

/*
 * api_allowed.c: may the user have this address called? An error if not. The
 * step's number (0: there is only one) and the argument's name are for errors.
 */
extern void dtm_check_address(Oid user, const text *address,
							  const bytea *payload, int step,
							  const char *argument);

/* api_ending.c: an error unless it may be an on_success or on_failure. */
extern void dtm_check_statement(const text *statement, const char *argument);

/*
 * api_control.c: its user says how it has ended. false: it is not in the status
 * any more in which it was found.
 */
extern bool dtm_write_outcome(const DtmFound *found, DtmStatus outcome,
							  const char *reason);
extern void dtm_log_command(Oid user, const char *command, const text *gid,
							const char *reason);

#endif
