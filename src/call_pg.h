/*
 * call_pg.h: calls of SQL functions on other PostgreSQL servers, many at once,
 * on one thread.
 *
 * The only users of libpq. Nothing here blocks, and nothing raises an error
 * while libpq is at work.
 */
#ifndef DTM_CALL_PG_H
#define DTM_CALL_PG_H

#include "postgres.h"

#include "call_pg_server.h"
#include "trans.h"

typedef struct DtmPg DtmPg;

typedef struct DtmPgSettings
{
	int			max_connections;	/* in all, those that are idle included */
	size_t		max_answer;		/* bytes of an answer that are read */
	int64		connect_timeout;	/* ms */
} DtmPgSettings;

/* In UTF-8. Everything pointed to must live until the result has been taken. */
typedef struct DtmPgRequest
{
	DtmPgServer *server;		/* the caller's use of it ends with the result */
	const char *trans_type;
	const char *gid;
	const char *branch_id;
	const char *op;
	const char *function;		/* schema.function */
	const char *payload;		/* JSON; NULL: none */
	const char *traceparent;	/* NULL: none */
	bool		keep_result;
	int64		timeout;		/* ms, for the whole call */
	void	   *tag;			/* comes back with the result */
} DtmPgRequest;

typedef struct DtmPgResult
{
	void	   *tag;
	DtmAnswer	answer;
	bool		answered;		/* the server said something, and is there */
	char		error[DTM_MAX_ERROR];	/* UTF-8; of a success: why its result is
										 * not kept, or "" */
	const char *result;			/* JSON, until the next call into DtmPg; or NULL */
	size_t		result_size;
} DtmPgResult;

extern DtmPg *dtm_pg_create(const DtmPgSettings *settings);
extern void dtm_pg_configure(DtmPg *pg, const DtmPgSettings *settings);

/* One descriptor that is readable when dtm_pg_drive has something to do. */
extern int	dtm_pg_fd(const DtmPg *pg);

/* Milliseconds until dtm_pg_drive must be called anyway; -1: no need. */
extern long dtm_pg_timeout(const DtmPg *pg);

/* false: out of memory or descriptors; error says why, nothing was started. */
extern bool dtm_pg_start(DtmPg *pg, const DtmPgRequest *request,
						 char error[DTM_MAX_ERROR]);

/* Move everything that can move. */
extern void dtm_pg_drive(DtmPg *pg);

/* Take one finished call; false: none is left. */
extern bool dtm_pg_result(DtmPg *pg, DtmPgResult *result);

#endif
