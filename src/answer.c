/*
 * answer.c: what a status and a body mean.
 *
 * Pure. The body is whatever some server sent: any bytes, no terminator.
 */
#include <string.h>

#include "call_http.h"

static bool contains(const char *body, size_t size, const char *word);

/*
 * dtm_http_answer maps an HTTP answer to its meaning, in this order: not known
 * yet beats refused, and the words in the body count as much as the status,
 * because services written for dtm answer with either.
 */
DtmAnswer
dtm_http_answer(int status, const char *body, size_t size)
{
	if (status <= 0)
		return DTM_ANSWER_ERROR;
	if (status == 425 || contains(body, size, "ONGOING"))
		return DTM_ANSWER_ONGOING;
	if (status == 409 || contains(body, size, "FAILURE"))
		return DTM_ANSWER_FAILURE;
	if (status == 200)
		return DTM_ANSWER_SUCCESS;
	return DTM_ANSWER_ERROR;
}

static bool
contains(const char *body, size_t size, const char *word)
{
	size_t		length = strlen(word);

	while (size >= length)
	{
		const char *found = memchr(body, word[0], size - length + 1);

		if (found == NULL)
			return false;
		if (memcmp(found, word, length) == 0)
			return true;
		size -= (size_t) (found + 1 - body);
		body = found + 1;
	}
	return false;
}
