/*
 * call_http_result.c: what the end of a call means, in a word and in a sentence.
 *
 * The sentence is for people who look at dtm.branches: whom we called, and what
 * happened. It is stored, so it must be a text that any database takes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "call_http_private.h"
#include "clean_text.h"

#define MAX_QUOTED			400		/* bytes of a body in an error text */
#define MAX_TARGET			300

static void describe_answer(Call *call, DtmHttpResult *result);
static void describe_failure(Call *call, CURLcode code, DtmHttpResult *result);
static bool is_too_large(CURLcode code);
static void describe_target(const Call *call, char *buf, size_t size);

void
dtm_http_fill_result(Call *call, CURLcode code, DtmHttpResult *result)
{
	long		status = 0;
	curl_off_t	first_byte = 0;

	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(call->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte);
	result->tag = call->tag;
	result->answer = DTM_ANSWER_ERROR;
	result->answered = status != 0 || call->header_bytes > 0 ||
		(first_byte > 0 && code != CURLE_GOT_NOTHING);
	result->http_status = (int) status;
	result->error[0] = '\0';
	result->body = call->body != NULL ? call->body : "";
	result->body_size = call->body_size;

	if (code == CURLE_OK && !call->headers_complete)
		code = CURLE_PARTIAL_FILE;

	/* A body cut off by our own cap still says what it says. */
	if (code == CURLE_OK || call->body_too_large)
		result->answer = dtm_http_answer(result->http_status, result->body,
										 result->body_size);
	if (result->answer == DTM_ANSWER_SUCCESS && call->body_too_large)
	{
		/* The word that makes it no success may be in the rest. */
		result->answer = DTM_ANSWER_ERROR;
		snprintf(result->error, sizeof(result->error),
				 "response larger than dtm.max_response_size (%zu bytes)",
				 call->http->settings.max_response);
		return;
	}
	if (code == CURLE_OK || call->body_too_large)
		describe_answer(call, result);
	else
		describe_failure(call, code, result);
}

static void
describe_answer(Call *call, DtmHttpResult *result)
{
	size_t		used;
	char	   *location = NULL;

	if (result->answer == DTM_ANSWER_SUCCESS)
		return;
	used = snprintf(result->error, sizeof(result->error), "HTTP %d",
					result->http_status);

	curl_easy_getinfo(call->easy, CURLINFO_REDIRECT_URL, &location);
	if (location != NULL)
	{
		used += snprintf(result->error + used, sizeof(result->error) - used,
						 ": redirects are not followed, to ");
		dtm_clean_text(result->error + used, sizeof(result->error) - used,
			  location, strlen(location));
	}
	else if (result->body_size > 0)
	{
		used += snprintf(result->error + used, sizeof(result->error) - used,
						 ": ");
		/* the part that says most, in one line */
		if (dtm_clean_text(result->error + used, MAX_QUOTED, result->body,
				  result->body_size) == 0)
			result->error[used - 2] = '\0';
	}
}

static void
describe_failure(Call *call, CURLcode code, DtmHttpResult *result)
{
	char	   *error = result->error;
	const size_t size = sizeof(result->error);
	char		target[MAX_TARGET];
	char		detail[CURL_ERROR_SIZE];
	const char *curl_says = call->curl_error[0] != '\0'
		? call->curl_error : curl_easy_strerror(code);
	long		os_error = 0;
	long		request_size = 0;

	describe_target(call, target, sizeof(target));
	dtm_clean_text(detail, sizeof(detail), curl_says, strlen(curl_says));
	curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &os_error);
	curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &request_size);

	if (call->forbidden)
		snprintf(error, size,
				 "refused: %s is a link-local or metadata address, or one that no service can have",
				 call->peer);
	else if (call->hopeless)
		snprintf(error, size, "no socket for %s: %s", target,
				 strerror(call->socket_errno));
	else if (call->out_of_memory)
		snprintf(error, size, "out of memory for the response of %s", target);
	else if (call->headers_too_large)
		snprintf(error, size, "response headers of %s larger than %d bytes",
				 target, MAX_HEADER_BYTES);
	else if (is_too_large(code) && result->answered)
		snprintf(error, size,
				 "a response header of %s is too large, or memory is short",
				 target);
	else if (code == CURLE_COULDNT_RESOLVE_HOST)
		snprintf(error, size, "cannot resolve the name of %s", target);
	else if (code == CURLE_COULDNT_CONNECT && os_error == ECONNREFUSED)
		snprintf(error, size, "connection refused by %s", target);
	else if (code == CURLE_COULDNT_CONNECT)
		snprintf(error, size, "cannot connect to %s: %s", target,
				 os_error != 0 ? strerror((int) os_error) : detail);
	else if (code == CURLE_OPERATION_TIMEDOUT && request_size == 0 &&
			 !result->answered)
		snprintf(error, size, "no connection to %s within %lld ms", target,
				 (long long) (call->timeout < call->http->settings.connect_timeout
							  ? call->timeout
							  : call->http->settings.connect_timeout));
	else if (code == CURLE_OPERATION_TIMEDOUT)
		snprintf(error, size, "no %sanswer from %s within %lld ms",
				 result->answered ? "complete " : "", target,
				 (long long) call->timeout);
	else if (code == CURLE_GOT_NOTHING)
		snprintf(error, size, "%s closed the connection without an answer",
				 target);
	else if (code == CURLE_PARTIAL_FILE)
		snprintf(error, size, "answer of %s is shorter than it says", target);
	else if (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR)
		snprintf(error, size, "connection to %s broke: %s", target, detail);
	else
		snprintf(error, size, "call to %s failed: %s", target, detail);
}

/* How curl says that one header is larger than it takes, by its version. */
static bool
is_too_large(CURLcode code)
{
#if LIBCURL_VERSION_NUM >= 0x080600
	if (code == CURLE_TOO_LARGE)
		return true;
#endif
	return code == CURLE_OUT_OF_MEMORY;
}

static void
describe_target(const Call *call, char *buf, size_t size)
{
	DtmAddress	address;
	const char *reason;

	if (dtm_address_parse(call->url, &address, &reason))
		dtm_address_target(&address, buf, size);
	else
		snprintf(buf, size, "the server");
}
