/*
 * call_pg_result.c: what an answer of a server means.
 *
 * The other side may be any server, and say anything: texts are cut, and made
 * one line of valid UTF-8.
 */
#include "postgres.h"

#include "call_pg_private.h"
#include "clean_text.h"

static bool is_state(const PGresult *answer, const char *state);
static bool is_unavailable(const PGresult *answer);
static bool dtm_is_missing(const PGresult *answer);

void
dtm_pg_fill_result(const PGresult *answer, DtmPgResult *result)
{
	const char *state = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY);
	char		text[DTM_MAX_ERROR];

	result->answered = true;
	if (PQresultStatus(answer) == PGRES_TUPLES_OK &&
		PQntuples(answer) == 1 && PQnfields(answer) == 1)
	{
		result->answer = DTM_ANSWER_SUCCESS;
		if (!PQgetisnull(answer, 0, 0))
		{
			result->result = PQgetvalue(answer, 0, 0);
			result->result_size = PQgetlength(answer, 0, 0);
		}
		return;
	}

	result->answer = DTM_ANSWER_ERROR;
	if (state == NULL)
	{
		snprintf(result->error, sizeof(result->error),
				 "not an answer of a PostgreSQL server: %s",
				 PQresStatus(PQresultStatus(answer)));
		return;
	}
	if (message == NULL)
		message = "no message";
	if (strcmp(state, "DT409") == 0 || strcmp(state, "DT425") == 0)
	{
		result->answer = state[2] == '4' && state[3] == '0'
			? DTM_ANSWER_FAILURE : DTM_ANSWER_ONGOING;
		dtm_clean_text(result->error, sizeof(result->error), message,
					   strlen(message));
		return;
	}
	result->answered = !is_unavailable(answer);
	snprintf(text, sizeof(text), "%.5s: %s%s", state, message,
			 dtm_is_missing(answer)
			 ? "; on that server: CREATE EXTENSION dtm; SELECT dtm.grant_usage(...) to the role of the user mapping"
			 : "");
	dtm_clean_text(result->error, sizeof(result->error), text, strlen(text));
}

/* What api_run_branch.c has to say besides its answer. */
void
dtm_pg_fill_note(const PGresult *notice, DtmPgResult *result)
{
	const char *message = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

	if (is_state(notice, "DT413") && message != NULL)
		dtm_clean_text(result->error, sizeof(result->error), message,
					   strlen(message));
}

void
dtm_pg_fill_error(const char *text, const PGconn *conn, DtmPgResult *result)
{
	char		all[DTM_MAX_ERROR];
	const char *message = conn != NULL ? PQerrorMessage(conn) : "";

	result->answer = DTM_ANSWER_ERROR;
	result->answered = false;
	if (text[0] == '\0' && message[0] == '\0')
		snprintf(all, sizeof(all), "the connection was lost");
	else if (text[0] == '\0')
		snprintf(all, sizeof(all), "%s", message);
	else if (message[0] == '\0')
		snprintf(all, sizeof(all), "%s", text);
	else
		snprintf(all, sizeof(all), "%s: %s", text, message);
	dtm_clean_text(result->error, sizeof(result->error), all, strlen(all));
}

bool
dtm_pg_is_fatal(const PGresult *answer)
{
	const char *severity = PQresultErrorField(answer,
											  PG_DIAG_SEVERITY_NONLOCALIZED);

	return severity != NULL &&
		(strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

bool
dtm_pg_is_conflict(const PGresult *answer)
{
	return is_state(answer, "40001") || is_state(answer, "40P01");
}

static bool
is_state(const PGresult *answer, const char *state)
{
	const char *has = PQresultErrorField(answer, PG_DIAG_SQLSTATE);

	return has != NULL && strcmp(has, state) == 0;
}

/* It says that it is not there: shut down, starting up, out of connections. */
static bool
is_unavailable(const PGresult *answer)
{
	return dtm_pg_is_fatal(answer) || is_state(answer, "57P01") ||
		is_state(answer, "57P02") || is_state(answer, "57P03") ||
		is_state(answer, "53300");
}

/*
 * Was it our own statement that failed, rather than the function? What fails
 * inside dtm.run_branch has a context.
 */
static bool
dtm_is_missing(const PGresult *answer)
{
	return PQresultErrorField(answer, PG_DIAG_CONTEXT) == NULL &&
		(is_state(answer, "3F000") || is_state(answer, "42883") ||
		 is_state(answer, "42501"));
}
