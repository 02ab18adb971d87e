/*
 * call_http_request.c: what a request looks like, and how much of a response
 * is taken. The rules for every call are here: where it may go, what it sends.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "call_http_private.h"

#define CA_CACHE_SECONDS	60L

static bool set_up_headers(Call *call, const DtmHttpRequest *request);
static bool is_transport_header(const char *header);
static size_t on_body(char *data, size_t one, size_t size, void *call);
static size_t on_header(char *data, size_t one, size_t size, void *call);

/* What all requests have in common. */
bool
dtm_http_set_up_handle(Call *call)
{
	CURL	   *easy = call->easy;
	const DtmHttpSettings *settings = &call->http->settings;
	bool		ok = true;

#define SET(option, value) \
	ok = curl_easy_setopt(easy, option, value) == CURLE_OK && ok

	SET(CURLOPT_PRIVATE, call);
	SET(CURLOPT_ERRORBUFFER, call->curl_error);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_OPENSOCKETFUNCTION, dtm_http_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, call);
	/* A connection outlives the call that opened it. */
	SET(CURLOPT_CLOSESOCKETFUNCTION, dtm_http_close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, call->http);

#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");		/* not even from the environment */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_USERAGENT, "dtm/1.0");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NOPROGRESS, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) settings->connect_timeout);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Else the resolver's thread of a call that timed out is waited for. */
	SET(CURLOPT_QUICK_EXIT, 1L);
	/* Else a CA file with new content is not read for a day. */
	SET(CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);
#endif

	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (settings->ca_file != NULL)
	{
		SET(CURLOPT_CAINFO, settings->ca_file);
		/* Instead of the system's, not besides them. */
		SET(CURLOPT_CAPATH, NULL);
	}
	return ok;
}

bool
dtm_http_set_up_request(Call *call, const DtmHttpRequest *request)
{
	CURL	   *easy = call->easy;
	bool		ok = true;

	call->tag = request->tag;
	call->url = request->url;
	call->timeout = request->timeout > 0 ? request->timeout : 1;
	if (call->timeout > LONG_MAX / 2)
		call->timeout = LONG_MAX / 2;
	call->body_size = 0;
	call->header_bytes = 0;
	call->body_too_large = false;
	call->headers_too_large = false;
	call->headers_complete = false;
	call->out_of_memory = false;
	call->hopeless = false;
	call->forbidden = false;
	call->socket_errno = 0;
	call->curl_error[0] = '\0';

	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_TIMEOUT_MS, (long) call->timeout);
	if (request->post)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_size);
		SET(CURLOPT_POSTFIELDS, request->body_size > 0 ? request->body : "");
	}
	else
		SET(CURLOPT_HTTPGET, 1L);
	return set_up_headers(call, request) && ok;
#undef SET
}

/* The list's nodes lie in an array of the call's; the texts are the caller's. */
static bool
set_up_headers(Call *call, const DtmHttpRequest *request)
{
	int			n = 0;
	bool		has_content_type = false;

	if (call->max_headers < request->nheaders + 2)
	{
		int			room = request->nheaders + 8;
		struct curl_slist *headers = realloc(call->headers,
											 room * sizeof(*headers));

		if (headers == NULL)
			return false;
		call->headers = headers;
		call->max_headers = room;
	}

	for (int i = 0; i < request->nheaders; i++)
	{
		if (is_transport_header(request->headers[i]))
			continue;
		if (strncasecmp(request->headers[i], "Content-Type:", 13) == 0)
			has_content_type = true;
		call->headers[n++].data = (char *) request->headers[i];
	}
	/* No waiting for "100 Continue", and no type that curl makes up. */
	call->headers[n++].data = (char *) "Expect:";
	if (request->post && !has_content_type)
		call->headers[n++].data = (char *) "Content-Type:";

	for (int i = 0; i < n; i++)
		call->headers[i].next = i + 1 < n ? &call->headers[i + 1] : NULL;
	return curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER,
							call->headers) == CURLE_OK;
}

/*
 * Headers that say where a message ends or whom it is for are ours alone:
 * different roles share a connection, and no role may make the server take
 * the tail of its own request for the head of another's.
 */
static bool
is_transport_header(const char *header)
{
	static const char *const names[] = {
		"Connection", "Content-Length", "Expect", "Host", "Keep-Alive",
		"TE", "Trailer", "Transfer-Encoding", "Upgrade"
	};
	size_t		len = strcspn(header, ":;");

	while (len > 0 && isspace((unsigned char) header[len - 1]))
		len--;
	if (header[len] == '\0' || strpbrk(header, "\r\n") != NULL)
		return true;			/* no header at all */
	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (strlen(names[i]) == len &&
			strncasecmp(header, names[i], len) == 0)
			return true;
	}
	return false;
}

/* Returning less than was given ends the transfer. */
static size_t
on_body(char *data, size_t one, size_t size, void *arg)
{
	Call	   *call = arg;
	size_t		room = call->http->settings.max_response - call->body_size;
	size_t		taken = size;

	(void) one;
	if (call->body_size > call->http->settings.max_response)
		room = 0;				/* the limit was lowered meanwhile */
	if (size > room)
	{
		call->body_too_large = true;
		taken = room;
	}
	if (call->body_size + taken > call->body_room)
	{
		size_t		more = (call->body_size + taken) * 2;
		char	   *body;

		if (more < 1024)
			more = 1024;
		body = realloc(call->body, more);
		if (body == NULL)
		{
			call->out_of_memory = true;
			call->body_too_large = false;
			return 0;
		}
		call->body = body;
		call->body_room = more;
	}
	memcpy(call->body + call->body_size, data, taken);
	call->body_size += taken;
	return taken < size ? 0 : size;
}

/*
 * curl itself caps one header, not all of them, and keeps them all. And it
 * takes headers that break off for a response without a body.
 */
static size_t
on_header(char *data, size_t one, size_t size, void *arg)
{
	Call	   *call = arg;

	(void) one;
	if (size >= 5 && memcmp(data, "HTTP/", 5) == 0)
		call->headers_complete = false; /* another response, after a 1xx */
	else if (size <= 2)
		call->headers_complete = true;
	call->header_bytes += size;
	if (call->header_bytes <= MAX_HEADER_BYTES)
		return size;
	call->headers_too_large = true;
	return 0;
}
