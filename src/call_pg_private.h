/*
 * call_pg_private.h: what the files of call_pg share, and nobody else.
 */
#ifndef DTM_CALL_PG_PRIVATE_H
#define DTM_CALL_PG_PRIVATE_H

#include <libpq-fe.h>

#include "lib/ilist.h"

#include "call_pg.h"
#include "call_pg_step.h"

typedef enum ConnState
{
	RESOLVING,					/* its host names are being looked up */
	CONNECTING,
	CALLING,					/* the call is under way */
	RESETTING,					/* the session is made as new; a call may wait */
	IDLE
} ConnState;

typedef struct Conn Conn;

typedef struct Call
{
	dlist_node	node;			/* among the finished */
	DtmPgRequest request;
	Conn	   *conn;
	int64		deadline;		/* µs */
	bool		renewed;		/* an old connection was found dead: once */
	int			conflicts;		/* serialization failures and deadlocks */
	DtmPgResult result;
	PGresult   *answer;			/* holds the result's text */
} Call;

struct Conn
{
	dlist_node	node;			/* in connections */
	dlist_node	idle_node;		/* in free, while IDLE or RESETTING without call */
	bool		is_free;
	ConnState	state;
	Oid			role;
	Oid			server;
	uint64		generation;
	PGconn	   *pg;				/* NULL while resolving */
	DtmStep    *step;			/* that is at it: nobody else may be */
	dlist_node	step_node;		/* in waiting, for a thread */
	bool		is_waiting;
	int			fd;				/* in the poller; -1: none */
	int			wanted;			/* what the poller is to tell */
	Call	   *call;
	uint64		born;			/* the batch of events in which it was made */
	int64		deadline;		/* µs */
	bool		used;			/* it has served a call */
	bool		heard;			/* something came since the statement left */
	size_t		received;		/* bytes, about */
	PGresult   *answer;			/* the first of the statement */
};

struct DtmPg
{
	int			poller;
	DtmPgSettings settings;
	dlist_head	connections;
	dlist_head	free;			/* the most recently used first */
	dlist_head	waiting;		/* for a thread, who came first before */
	int			nconnections;
	dlist_head	finished;
	Call	   *handed_out;		/* whose result the caller is reading */
	int64		next_deadline;	/* none is earlier; INT64_MAX */
	uint64		batch;			/* of events, counted */
	Conn	  **by_fd;
	int			max_fd;
};

/*
 * call_pg_pool.c
 */

/* A free connection for calls of this server; NULL: none. */
extern Conn *dtm_pg_take_free(DtmPg *pg, const DtmPgServer *server);

/* A new one, not yet begun; it may cost a free one its place. NULL: see error. */
extern Conn *dtm_pg_open(DtmPg *pg, DtmPgServer *server,
						 char error[DTM_MAX_ERROR]);
extern void dtm_pg_close(DtmPg *pg, Conn *conn);

/* The place among the descriptors that a closed one has left to its step. */
extern void dtm_pg_end_step(DtmStep *step);

/* Without a call: it may be taken. */
extern void dtm_pg_set_free(DtmPg *pg, Conn *conn, bool is_free);

/* What its socket is waited for; false: out of memory or descriptors. */
extern bool dtm_pg_watch(DtmPg *pg, Conn *conn, int wanted);
extern void dtm_pg_set_deadline(DtmPg *pg, Conn *conn, int64 deadline);

/*
 * call_pg_connect.c: what libpq is told. The environment is not.
 */
extern void dtm_pg_clear_environment(void);

typedef enum ConnectStep
{
	CONNECT_LATER,				/* names are still being looked up */
	CONNECT_STARTED,
	CONNECT_FAILED				/* see error */
} ConnectStep;

/* deadline: of its names' lookup, on the monotonic clock in seconds. */
extern ConnectStep dtm_pg_connect(DtmPgServer *server, long deadline,
								  PGconn **conn, char error[DTM_MAX_ERROR]);

/*
 * call_pg_result.c: what an answer means; and what there is to be said when
 * there is none: "text: what libpq says".
 */
extern void dtm_pg_fill_result(const PGresult *answer, DtmPgResult *result);
extern void dtm_pg_fill_note(const PGresult *notice, DtmPgResult *result);
extern void dtm_pg_fill_error(const char *text, const PGconn *conn,
							  DtmPgResult *result);

/* Has the server, or an administrator, ended the session? */
extern bool dtm_pg_is_fatal(const PGresult *answer);

/* Would the same statement perhaps succeed at once? */
extern bool dtm_pg_is_conflict(const PGresult *answer);

#endif
