/*
 * call_http_private.h: what the files of call_http share, and nobody else.
 */
#ifndef DTM_CALL_HTTP_PRIVATE_H
#define DTM_CALL_HTTP_PRIVATE_H

#include <netinet/in.h>

#include <curl/curl.h>

#include "call_http.h"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

#define MAX_HEADER_BYTES	(256 * 1024)	/* of one response, all of them */

/* One easy handle, and the call that it is making. */
typedef struct Call
{
	struct Call *next;			/* of all, or of the free ones */
	struct Call *next_free;
	struct Call *next_hopeless;
	DtmHttp    *http;
	CURL	   *easy;
	int			generation;		/* of the settings that easy has */
	bool		active;			/* in the multi handle */
	void	   *tag;
	const char *url;
	int64_t		timeout;
	struct curl_slist *headers; /* an array, linked */
	int			max_headers;
	char	   *body;
	size_t		body_size;
	size_t		body_room;
	size_t		header_bytes;
	bool		body_too_large;
	bool		headers_too_large;
	bool		headers_complete;	/* the empty line has come */
	bool		out_of_memory;
	bool		hopeless;		/* its end need not be waited for */
	bool		forbidden;		/* no socket may be opened to this address: */
	char		peer[INET6_ADDRSTRLEN];
	int			socket_errno;	/* why no socket could be made; 0: it could */
	char		curl_error[CURL_ERROR_SIZE];
} Call;

/* What the poller knows of a descriptor, and what curl wants of it. */
typedef struct Socket
{
	unsigned char registered;
	unsigned char wanted;
	bool		ours;			/* made by dtm_http_open_socket */
} Socket;

struct DtmHttp
{
	CURLM	   *multi;
	int			poller;
	int64_t		deadline;		/* of curl's timer, µs; -1: none */
	DtmHttpSettings settings;
	char	   *ca_file;
	int			generation;
	Call	   *calls;			/* all */
	Call	   *free_calls;
	Call	   *hopeless;		/* under way, but they have lost already */
	Call	   *handed_out;		/* whose body the caller is reading */
	int			in_flight;
	int			max_in_flight;	/* as descriptors allow */
	Socket	   *sockets;		/* by descriptor */
	int			max_sockets;
};

/*
 * call_http_request.c: give an easy handle what all calls have in common; and
 * what this one has. False: out of memory.
 */
extern bool dtm_http_set_up_handle(Call *call);
extern bool dtm_http_set_up_request(Call *call, const DtmHttpRequest *request);

/* call_http_result.c: what an ended call means. */
extern void dtm_http_fill_result(Call *call, CURLcode code,
								 DtmHttpResult *result);

/* call_http.c: sockets, as callbacks of the easy handles. */
extern curl_socket_t dtm_http_open_socket(void *call, curlsocktype purpose,
										  struct curl_sockaddr *address);
extern int	dtm_http_close_socket(void *http, curl_socket_t fd);

#endif
