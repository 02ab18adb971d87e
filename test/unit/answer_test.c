/*
 * answer_test.c: the table "how a branch answers", over HTTP.
 */
#include "call_http.h"
#include "tap.h"

static DtmAnswer
answer(int status, const char *body)
{
	return dtm_http_answer(status, body, strlen(body));
}

int
main(void)
{
	static const int errors[] = {100, 201, 204, 301, 302, 304, 400, 401, 404,
	408, 429, 500, 502, 503, 504};
	char		long_body[4096];

	is(answer(200, ""), DTM_ANSWER_SUCCESS, "200 is success");
	is(answer(200, "{\"dtm_result\":\"SUCCESS\"}"), DTM_ANSWER_SUCCESS, "200 with a body");
	is(answer(409, ""), DTM_ANSWER_FAILURE, "409 is a refusal");
	is(answer(425, ""), DTM_ANSWER_ONGOING, "425 is ongoing");
	is(answer(200, "{\"dtm_result\":\"FAILURE\"}"), DTM_ANSWER_FAILURE, "FAILURE beats 200");
	is(answer(500, "FAILURE"), DTM_ANSWER_FAILURE, "FAILURE beats 500");
	is(answer(200, "ONGOING"), DTM_ANSWER_ONGOING, "ONGOING beats 200");
	is(answer(409, "ONGOING"), DTM_ANSWER_ONGOING, "ONGOING beats 409");
	is(answer(425, "FAILURE"), DTM_ANSWER_ONGOING, "425 beats FAILURE");
	is(answer(200, "FAILURE ONGOING"), DTM_ANSWER_ONGOING, "ONGOING beats FAILURE");
	is(answer(503, "ONGOING"), DTM_ANSWER_ONGOING, "ONGOING beats 503");
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		is(answer(errors[i], "fine"), DTM_ANSWER_ERROR, "any other status is an error");
	is(answer(0, "FAILURE"), DTM_ANSWER_ERROR, "no answer refuses nothing");

	is(answer(200, "failure"), DTM_ANSWER_SUCCESS, "the words are in capitals");
	is(answer(200, "FAILUR"), DTM_ANSWER_SUCCESS, "a cut word is none");
	is(dtm_http_answer(200, "FAILURE", 6), DTM_ANSWER_SUCCESS, "no byte behind the end is read");
	is(answer(200, "FFAILURE"), DTM_ANSWER_FAILURE, "a false start");
	is(answer(200, "FAILUFAILURE"), DTM_ANSWER_FAILURE, "a longer false start");
	is(dtm_http_answer(200, "a\0FAILURE", 9), DTM_ANSWER_FAILURE, "zero bytes do not hide it");
	is(dtm_http_answer(200, NULL, 0), DTM_ANSWER_SUCCESS, "no body at all");

	memset(long_body, 'F', sizeof(long_body));
	is(dtm_http_answer(200, long_body, sizeof(long_body)), DTM_ANSWER_SUCCESS, "many beginnings");
	memcpy(long_body + sizeof(long_body) - 7, "FAILURE", 7);
	is(dtm_http_answer(200, long_body, sizeof(long_body)), DTM_ANSWER_FAILURE, "at the very end");
	return tap_done();
}
