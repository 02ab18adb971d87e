/*
 * call_http.h: HTTP calls, many at once, on one thread.
 *
 * The only users of libcurl. Plain C and malloc: no palloc, no ereport, so it
 * is tested and measured without a server, and no error ever jumps over curl.
 */
#ifndef DTM_CALL_HTTP_H
#define DTM_CALL_HTTP_H

#include "trans.h"

typedef struct DtmHttp DtmHttp;

typedef struct DtmHttpSettings
{
	int			max_connections;	/* kept alive, in all */
	int			max_per_host;
	size_t		max_response;	/* bytes of a body that are read */
	int64_t		connect_timeout;	/* ms */
	const char *ca_file;		/* NULL or "": the system's */
} DtmHttpSettings;

/* Everything pointed to must live until the result has been taken. */
typedef struct DtmHttpRequest
{
	const char *url;			/* complete, with query */
	const char *const *headers; /* "Name: value", each already checked */
	int			nheaders;
	const void *body;
	size_t		body_size;
	bool		post;
	int64_t		timeout;		/* ms, for the whole call */
	void	   *tag;			/* comes back with the result */
} DtmHttpRequest;

typedef struct DtmHttpResult
{
	void	   *tag;
	DtmAnswer	answer;
	bool		answered;		/* the server said something, whatever */
	int			http_status;	/* 0: none */
	char		error[DTM_MAX_ERROR];	/* "" on success */
	const char *body;			/* valid until the next call into DtmHttp */
	size_t		body_size;
} DtmHttpResult;

extern bool dtm_http_global_init(void);
extern DtmHttp *dtm_http_create(const DtmHttpSettings *settings);
extern void dtm_http_configure(DtmHttp *http, const DtmHttpSettings *settings);
extern void dtm_http_destroy(DtmHttp *http);

/* One descriptor that is readable when dtm_http_drive has something to do. */
extern int	dtm_http_fd(const DtmHttp *http);

/* Milliseconds until dtm_http_drive must be called anyway; -1: no need. */
extern long dtm_http_timeout(const DtmHttp *http);

/* false: out of memory or descriptors; error says why, nothing was started. */
extern bool dtm_http_start(DtmHttp *http, const DtmHttpRequest *request,
						   char error[DTM_MAX_ERROR]);

/* Move everything that can move, without blocking. */
extern void dtm_http_drive(DtmHttp *http);

/* Take one finished call; false: none is left. */
extern bool dtm_http_result(DtmHttp *http, DtmHttpResult *result);

extern int	dtm_http_in_flight(const DtmHttp *http);

/* answer.c, pure: what a status and a body mean. ONGOING beats FAILURE. */
extern DtmAnswer dtm_http_answer(int status, const char *body, size_t size);

#endif
