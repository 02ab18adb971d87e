/*
 * call_pg.c: calls of SQL functions on other PostgreSQL servers, many at once,
 * on one thread.
 *
 * A call is one statement on a connection of its own, in a transaction of its
 * own, with one answer (api_run_branch.c is the other side). A connection that
 * has served is made as new and kept for the next call of the same role.
 *
 *	 RESOLVING -> CONNECTING -> CALLING -> RESETTING -> IDLE
 *								   ^_______________________|
 *
 * What may break, and why repeating is right: until the answer is here, nobody
 * knows whether the other side has committed, so the call ends as "no answer"
 * and is repeated later; the barrier there makes the repeat harmless. Two
 * kinds of failure are repeated at once: an old connection that was found dead,
 * on a new one, and once; a serialization failure or a deadlock, a few times.
 *
 * It must never block: connections are closed, not cancelled (the statement's
 * own time limit ends it over there); names are looked up by others, and what
 * a server may make long while connecting is done by others. Nor may it
 * raise an error: libpq's frames and memory know nothing of that.
 */
#include "postgres.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "storage/ipc.h"

#include "call_pg_private.h"
#include "call_pg_resolve.h"
#include "poller.h"

#define READY_AT_ONCE	256
#define MAX_CONFLICTS	3		/* repeats at once */
#define US_PER_MS		INT64CONST(1000)

/* What the server may need beyond the time it was given, to say that it is over. */
#define GRACE			(500 * US_PER_MS)
#define RESET_TIME		(5000 * US_PER_MS)
#define IDLE_TIME		(180 * 1000 * US_PER_MS)

#define MESSAGES_ROOM	16384	/* of an answer, besides the result itself */
#define CONNECT_ROOM	65536	/* of all that comes until a session has begun */

/* Undo what a function can leave behind in a session; plans are kept. */
static const char reset_statement[] =
"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; "
"UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD SEQUENCES; "
"DISCARD TEMP";

static const char call_statement[] =
"SELECT dtm.run_branch($1, $2, $3, $4, $5, $6, $7, $8, $9)";

static bool give_connection(DtmPg *pg, Call *call, char error[DTM_MAX_ERROR]);
static void begin_connecting(DtmPg *pg, Conn *conn);
static void go_on_connecting(DtmPg *pg, Conn *conn);
static void start_step(DtmPg *pg, Conn *conn);
static void drive_steps(DtmPg *pg);
static void step_ended(DtmPg *pg, Conn *conn, PostgresPollingStatusType status);
static void end_process(int code, Datum arg);
static void send_call(DtmPg *pg, Conn *conn);
static void send_reset(DtmPg *pg, Conn *conn);
static void flush(DtmPg *pg, Conn *conn);
static void receive(DtmPg *pg, Conn *conn);
static bool too_much(DtmPg *pg, Conn *conn);
static int	waiting_bytes(const Conn *conn);
static bool read_some(Conn *conn);
static bool take_answers(Conn *conn, bool *complete);
static void statement_ended(DtmPg *pg, Conn *conn);
static void lost(DtmPg *pg, Conn *conn, const char *text);
static bool renew(DtmPg *pg, Conn *conn);
static void end_call(DtmPg *pg, Conn *conn, Call *call);
static void drive_socket(DtmPg *pg, const DtmReady *ready);
static void drive_names(DtmPg *pg);
static void drive_deadlines(DtmPg *pg);
static void deadline_passed(DtmPg *pg, Conn *conn);
static void trim_handed_out(DtmPg *pg);
static void ignore_notice(void *arg, const PGresult *notice);
static void note_notice(void *arg, const PGresult *notice);
static int64 now_us(void);

DtmPg *
dtm_pg_create(const DtmPgSettings *settings)
{
	DtmPg	   *pg = calloc(1, sizeof(DtmPg));

	if (pg == NULL)
		return NULL;
	dtm_pg_clear_environment();
	dlist_init(&pg->connections);
	dlist_init(&pg->free);
	dlist_init(&pg->waiting);
	dlist_init(&pg->finished);
	pg->next_deadline = PG_INT64_MAX;
	pg->poller = dtm_poller_open();
	if (pg->poller < 0 || !dtm_resolver_init() ||
		!dtm_poller_change(pg->poller, dtm_resolver_fd(), 0, DTM_POLL_IN) ||
		!dtm_steps_init() ||
		!dtm_poller_change(pg->poller, dtm_steps_fd(), 0, DTM_POLL_IN))
	{
		free(pg);
		return NULL;
	}
	on_proc_exit(end_process, (Datum) 0);
	dtm_pg_configure(pg, settings);
	return pg;
}

void
dtm_pg_configure(DtmPg *pg, const DtmPgSettings *settings)
{
	pg->settings = *settings;
}

int
dtm_pg_fd(const DtmPg *pg)
{
	return pg->poller;
}

long
dtm_pg_timeout(const DtmPg *pg)
{
	int64		left;

	if (!dlist_is_empty(unconstify(dlist_head *, &pg->finished)))
		return 0;
	if (pg->next_deadline == PG_INT64_MAX)
		return -1;
	left = pg->next_deadline - now_us();
	return left <= 0 ? 0 : (long) Min((left + US_PER_MS - 1) / US_PER_MS, INT_MAX);
}

bool
dtm_pg_start(DtmPg *pg, const DtmPgRequest *request, char error[DTM_MAX_ERROR])
{
	Call	   *call = calloc(1, sizeof(Call));

	trim_handed_out(pg);
	if (call == NULL)
	{
		snprintf(error, DTM_MAX_ERROR, "out of memory");
		return false;
	}
	call->request = *request;
	call->deadline = now_us() + request->timeout * US_PER_MS;
	call->result.tag = request->tag;
	if (give_connection(pg, call, error))
		return true;
	free(call);
	return false;
}

static bool
give_connection(DtmPg *pg, Call *call, char error[DTM_MAX_ERROR])
{
	DtmPgServer *server = call->request.server;
	Conn	   *conn = dtm_pg_take_free(pg, server);

	if (conn == NULL)
		conn = dtm_pg_open(pg, server, error);
	if (conn == NULL)
		return false;
	conn->call = call;
	call->conn = conn;
	switch (conn->state)
	{
		case IDLE:
			send_call(pg, conn);
			break;
		case RESETTING:
			/* The call goes out when that is done. */
			dtm_pg_set_deadline(pg, conn, Min(conn->deadline, call->deadline));
			break;
		default:
			dtm_pg_set_deadline(pg, conn,
						 Min(now_us() + pg->settings.connect_timeout * US_PER_MS,
							 call->deadline));
			begin_connecting(pg, conn);
	}
	return true;
}

static void
begin_connecting(DtmPg *pg, Conn *conn)
{
	char		error[DTM_MAX_ERROR] = "";

	switch (dtm_pg_connect(conn->call->request.server,
						   (long) (conn->deadline / (1000 * US_PER_MS)) + 1,
						   &conn->pg, error))
	{
		case CONNECT_LATER:
			return;				/* see drive_names */
		case CONNECT_FAILED:
			lost(pg, conn, error);
			return;
		case CONNECT_STARTED:
			break;
	}
	PQsetNoticeReceiver(conn->pg, ignore_notice, NULL);
	conn->state = CONNECTING;
	conn->born = pg->batch;
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		lost(pg, conn, "");
	else if (!dtm_pg_watch(pg, conn, DTM_POLL_OUT))
		lost(pg, conn, "out of memory or descriptors");
}

/* Something has come, or the way is free: it takes a thread to go on. */
static void
go_on_connecting(DtmPg *pg, Conn *conn)
{
	(void) dtm_pg_watch(pg, conn, 0);
	conn->received += waiting_bytes(conn);
	if (conn->received > CONNECT_ROOM)
		lost(pg, conn, "refused: the server says too much before a session begins");
	else
		start_step(pg, conn);
}

static void
start_step(DtmPg *pg, Conn *conn)
{
	switch (dtm_step_start(conn->pg, conn->role, conn->generation, conn,
						   &conn->step))
	{
		case DTM_STEP_BEGUN:
			if (conn->is_waiting)
				dlist_delete(&conn->step_node);
			conn->is_waiting = false;
			break;
		case DTM_STEP_LATER:
			if (!conn->is_waiting)
				dlist_push_tail(&pg->waiting, &conn->step_node);
			conn->is_waiting = true;
			break;
		case DTM_STEP_FAILED:
			lost(pg, conn, "no thread could be started");
			break;
	}
}

/* Each that has ended makes room for one that waits. */
static void
drive_steps(DtmPg *pg)
{
	DtmStep    *step;
	dlist_mutable_iter iter;

	while ((step = dtm_step_taken()) != NULL)
	{
		Conn	   *conn = step->owner;

		if (conn == NULL)
			dtm_pg_end_step(step);
		else
		{
			conn->step = NULL;
			step_ended(pg, conn, step->status);
		}
		free(step);
	}
	dlist_foreach_modify(iter, &pg->waiting)
		start_step(pg, dlist_container(Conn, step_node, iter.cur));
}

static void
step_ended(DtmPg *pg, Conn *conn, PostgresPollingStatusType status)
{
	bool		watched = true;

	/* What this batch says of the socket is older. */
	conn->born = pg->batch;
	switch (status)
	{
		case PGRES_POLLING_READING:
			watched = dtm_pg_watch(pg, conn, DTM_POLL_IN);
			break;
		case PGRES_POLLING_WRITING:
			watched = dtm_pg_watch(pg, conn, DTM_POLL_OUT);
			break;
		case PGRES_POLLING_OK:
			/*
			 * A role must not borrow the identity of this server: not its
			 * place on the machine, not its files.
			 */
			if (!conn->call->request.server->trusted &&
				!PQconnectionUsedPassword(conn->pg))
				lost(pg, conn,
					 "refused: the server asks for no password, and so would let in whoever connects from this one; "
					 "change its pg_hba.conf to scram-sha-256");
			else if (PQsetnonblocking(conn->pg, 1) != 0)
				lost(pg, conn, "out of memory");
			else
			{
				PQsetNoticeReceiver(conn->pg, note_notice, conn);
				send_call(pg, conn);
			}
			return;
		default:
			lost(pg, conn, "");
			return;
	}
	if (!watched)
		lost(pg, conn, "out of memory or descriptors");
}

/*
 * A thread that is at work uses libraries that exit() would take down under it,
 * and the crash would be the whole server's. By now nothing else is left to do.
 */
static void
end_process(int code, Datum arg)
{
	if (dtm_steps_running() > 0)
		_exit(code);
}

static void
send_call(DtmPg *pg, Conn *conn)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	JSONBOID, INT4OID, TEXTOID, BOOLOID};
	const DtmPgRequest *request = &conn->call->request;
	const char *values[lengthof(types)];
	char		timeout[16];
	int64		left = (conn->call->deadline - now_us()) / US_PER_MS;

	snprintf(timeout, sizeof(timeout), "%d", (int) Max(Min(left, INT_MAX), 1));
	values[0] = request->trans_type;
	values[1] = request->gid;
	values[2] = request->branch_id;
	values[3] = request->op;
	values[4] = request->function;
	values[5] = request->payload;
	values[6] = timeout;
	values[7] = request->traceparent;
	values[8] = request->keep_result ? "t" : "f";

	conn->state = CALLING;
	conn->call->result.error[0] = '\0';
	conn->heard = false;
	conn->received = 0;
	dtm_pg_set_deadline(pg, conn, conn->call->deadline + GRACE);
	if (PQsendQueryParams(conn->pg, call_statement, lengthof(types), types,
						  values, NULL, NULL, 0) == 1)
		flush(pg, conn);
	else
		lost(pg, conn, "");
}

static void
send_reset(DtmPg *pg, Conn *conn)
{
	conn->state = RESETTING;
	conn->received = 0;
	dtm_pg_set_deadline(pg, conn, now_us() + RESET_TIME);
	dtm_pg_set_free(pg, conn, true);
	if (PQsendQuery(conn->pg, reset_statement) == 1)
		flush(pg, conn);
	else
		lost(pg, conn, "");
}

static void
flush(DtmPg *pg, Conn *conn)
{
	int			left = PQflush(conn->pg);

	if (left < 0)
		lost(pg, conn, "");
	else if (!dtm_pg_watch(pg, conn, left > 0 ? DTM_POLL_IN | DTM_POLL_OUT : DTM_POLL_IN))
		lost(pg, conn, "out of memory or descriptors");
}

/* Something has come, or the end. */
static void
receive(DtmPg *pg, Conn *conn)
{
	bool		alive;
	bool		complete = false;

	if (too_much(pg, conn))
		return;
	alive = read_some(conn);
	if (!take_answers(conn, &complete))
		lost(pg, conn, "not the answer of a PostgreSQL server to a call");
	else if (conn->state == IDLE)
	{
		if (!alive || PQstatus(conn->pg) != CONNECTION_OK)
			dtm_pg_close(pg, conn);
	}
	else if (complete)
		statement_ended(pg, conn);
	else if (!alive)
		lost(pg, conn, "");
	else if (conn->received > pg->settings.max_answer + MESSAGES_ROOM)
		lost(pg, conn, "the answer is larger than dtm.max_response_size");
}

/*
 * libpq makes room for as much as a message says it has, and reads while there
 * is something. So what is clearly too much is not read. To a session that
 * waits for nothing there is hardly anything to be said.
 */
static bool
too_much(DtmPg *pg, Conn *conn)
{
	size_t		all = conn->received + waiting_bytes(conn);

	if (conn->state == IDLE && all > MESSAGES_ROOM)
		dtm_pg_close(pg, conn);
	else if (conn->state != IDLE &&
			 all > 2 * (pg->settings.max_answer + MESSAGES_ROOM))
		lost(pg, conn, "the answer is larger than dtm.max_response_size");
	else
		return false;
	return true;
}

static int
waiting_bytes(const Conn *conn)
{
	int			waiting = 0;

	if (ioctl(PQsocket(conn->pg), FIONREAD, &waiting) != 0)
		return 0;
	return waiting;
}

/* libpq keeps all that comes: so it is counted, as closely as can be. */
static bool
read_some(Conn *conn)
{
	int			waiting = waiting_bytes(conn);

	if (waiting > 0)
	{
		conn->heard = true;
		conn->received += waiting;
	}
	return PQconsumeInput(conn->pg) == 1;
}

/*
 * take_answers keeps the first answer of the statement. false: what came is no
 * answer to a statement at all.
 */
static bool
take_answers(Conn *conn, bool *complete)
{
	PGnotify   *notify;

	while (!PQisBusy(conn->pg))
	{
		PGresult   *answer = PQgetResult(conn->pg);
		ExecStatusType status;

		if (answer == NULL)
		{
			*complete = true;
			break;
		}
		status = PQresultStatus(answer);
		if (conn->answer == NULL || status == PGRES_FATAL_ERROR)
		{
			PQclear(conn->answer);
			conn->answer = answer;
		}
		else
			PQclear(answer);
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
			status != PGRES_FATAL_ERROR)
			return false;
	}
	while ((notify = PQnotifies(conn->pg)) != NULL)
		PQfreemem(notify);
	return true;
}

static void
statement_ended(DtmPg *pg, Conn *conn)
{
	PGresult   *answer = conn->answer;
	Call	   *call = conn->call;
	bool		usable = PQstatus(conn->pg) == CONNECTION_OK &&
		PQtransactionStatus(conn->pg) == PQTRANS_IDLE;

	/* What libpq has to say itself has no code. */
	if (answer == NULL ||
		(PQresultStatus(answer) == PGRES_FATAL_ERROR &&
		 PQresultErrorField(answer, PG_DIAG_SQLSTATE) == NULL))
	{
		lost(pg, conn, "");
		return;
	}
	if (conn->state == RESETTING)
	{
		bool		done = usable && PQresultStatus(answer) != PGRES_FATAL_ERROR;

		PQclear(answer);
		conn->answer = NULL;
		if (!done)
			lost(pg, conn, "");
		else if (call != NULL)
			send_call(pg, conn);
		else
		{
			conn->state = IDLE;
			conn->received = 0;
			dtm_pg_set_deadline(pg, conn, now_us() + IDLE_TIME);
		}
		return;
	}

	/* An old connection that ended before it had heard of the call. */
	if (dtm_pg_is_fatal(answer) && renew(pg, conn))
		return;
	if (usable && dtm_pg_is_conflict(answer) &&
		++call->conflicts <= MAX_CONFLICTS && now_us() < call->deadline)
	{
		PQclear(answer);
		conn->answer = NULL;
		send_call(pg, conn);
		return;
	}

	dtm_pg_fill_result(answer, &call->result);
	call->answer = answer;
	conn->answer = NULL;
	conn->used = true;
	end_call(pg, conn, call);
	if (usable)
		send_reset(pg, conn);
	else
		dtm_pg_close(pg, conn);
}

/* The connection is gone, or of no use; text says why, or else libpq does. */
static void
lost(DtmPg *pg, Conn *conn, const char *text)
{
	Call	   *call = conn->call;

	if (call != NULL)
	{
		bool		untouched = conn->state == RESETTING ||
			(conn->state == CALLING && !conn->heard);

		if (untouched && text[0] == '\0' && renew(pg, conn))
			return;
		if (conn->answer != NULL && PQresultErrorField(conn->answer, PG_DIAG_SQLSTATE) != NULL)
		{
			dtm_pg_fill_result(conn->answer, &call->result);
			call->result.answered = false;
		}
		else
			dtm_pg_fill_error(text, text[0] == '\0' ? conn->pg : NULL,
							  &call->result);
		end_call(pg, conn, call);
	}
	dtm_pg_close(pg, conn);
}

/*
 * A connection that has served before may have died of age, of an idle limit or
 * of a restart. Its call goes to a new one, once; whatever the old one may have
 * done, the barrier knows it.
 */
static bool
renew(DtmPg *pg, Conn *conn)
{
	Call	   *call = conn->call;
	char		error[DTM_MAX_ERROR];

	if (!conn->used || call->renewed || now_us() >= call->deadline)
		return false;
	call->renewed = true;
	conn->call = NULL;
	call->conn = NULL;
	dtm_pg_close(pg, conn);
	/* The others of that age are dead as well, or will show that they are not. */
	if (!give_connection(pg, call, error))
	{
		dtm_pg_fill_error(error, NULL, &call->result);
		dlist_push_tail(&pg->finished, &call->node);
	}
	return true;
}

static void
end_call(DtmPg *pg, Conn *conn, Call *call)
{
	conn->call = NULL;
	call->conn = NULL;
	dlist_push_tail(&pg->finished, &call->node);
}

void
dtm_pg_drive(DtmPg *pg)
{
	DtmReady	ready[READY_AT_ONCE];
	int			n;

	trim_handed_out(pg);
	do
	{
		pg->batch++;
		n = dtm_poller_ready(pg->poller, ready, READY_AT_ONCE);
		for (int i = 0; i < n; i++)
		{
			if (ready[i].fd == dtm_resolver_fd())
				drive_names(pg);
			else if (ready[i].fd == dtm_steps_fd())
				drive_steps(pg);
			else
				drive_socket(pg, &ready[i]);
		}
	} while (n == READY_AT_ONCE);
	drive_deadlines(pg);
}

static void
drive_socket(DtmPg *pg, const DtmReady *ready)
{
	Conn	   *conn = ready->fd < pg->max_fd ? pg->by_fd[ready->fd] : NULL;

	/*
	 * It may have been closed a moment ago, because of another event, and its
	 * number be that of a new one.
	 */
	if (conn == NULL || conn->born == pg->batch)
		return;
	if (conn->state == CONNECTING)
		go_on_connecting(pg, conn);
	else if ((ready->events & DTM_POLL_OUT) && !(ready->events & DTM_POLL_IN))
		flush(pg, conn);
	else
	{
		/* What is still to be sent may wait for what is to be read. */
		receive(pg, conn);
		conn = ready->fd < pg->max_fd ? pg->by_fd[ready->fd] : NULL;
		if (conn != NULL && (conn->wanted & DTM_POLL_OUT) &&
			conn->state != CONNECTING)
			flush(pg, conn);
	}
}

/* Somebody's name is known, or will never be. */
static void
drive_names(DtmPg *pg)
{
	dlist_mutable_iter iter;

	if (!dtm_resolver_drive())
		return;
	dlist_foreach_modify(iter, &pg->connections)
	{
		Conn	   *conn = dlist_container(Conn, node, iter.cur);

		if (conn->state == RESOLVING)
			begin_connecting(pg, conn);
	}
}

static void
drive_deadlines(DtmPg *pg)
{
	int64		now = now_us();
	bool		again = now >= pg->next_deadline;

	/* Each that has passed ends its connection, and perhaps others: look anew. */
	while (again)
	{
		dlist_iter	iter;

		again = false;
		pg->next_deadline = PG_INT64_MAX;
		dlist_foreach(iter, &pg->connections)
		{
			Conn	   *conn = dlist_container(Conn, node, iter.cur);

			if (conn->deadline <= now)
			{
				deadline_passed(pg, conn);
				again = true;
				break;
			}
			pg->next_deadline = Min(pg->next_deadline, conn->deadline);
		}
	}
}

static void
deadline_passed(DtmPg *pg, Conn *conn)
{
	char		text[512];

	switch (conn->state)
	{
		case RESOLVING:
			snprintf(text, sizeof(text),
					 "the host names of foreign server \"%s\" were not resolved in time",
					 conn->call->request.server->name);
			break;
		case CONNECTING:
			conn->call->request.server->rotation++;
			if (conn->step != NULL || conn->is_waiting)
				snprintf(text, sizeof(text),
						 "no connection to foreign server \"%s\" within " INT64_FORMAT " ms: what it, or others of this role, ask for takes too long to answer",
						 conn->call->request.server->name,
						 Min(pg->settings.connect_timeout, conn->call->request.timeout));
			else
				snprintf(text, sizeof(text),
						 "no connection to foreign server \"%s\" (%s, port %s) within " INT64_FORMAT " ms",
						 conn->call->request.server->name, PQhost(conn->pg),
						 PQport(conn->pg),
						 Min(pg->settings.connect_timeout, conn->call->request.timeout));
			break;
		case CALLING:
			snprintf(text, sizeof(text), "no answer within " INT64_FORMAT " ms",
					 conn->call->request.timeout);
			break;
		default:
			text[0] = '\0';
			if (conn->call != NULL && now_us() >= conn->call->deadline)
				snprintf(text, sizeof(text), "no answer within " INT64_FORMAT " ms",
						 conn->call->request.timeout);
	}
	lost(pg, conn, text);
}

bool
dtm_pg_result(DtmPg *pg, DtmPgResult *result)
{
	Call	   *call;

	trim_handed_out(pg);
	if (dlist_is_empty(&pg->finished))
		return false;
	call = dlist_container(Call, node, dlist_pop_head_node(&pg->finished));
	pg->handed_out = call;
	*result = call->result;
	return true;
}

/* The caller is back, so it has done with the last result. */
static void
trim_handed_out(DtmPg *pg)
{
	if (pg->handed_out == NULL)
		return;
	PQclear(pg->handed_out->answer);
	free(pg->handed_out);
	pg->handed_out = NULL;
}

/* Which may be on another thread. */
static void
ignore_notice(void *arg, const PGresult *notice)
{
}

/* One is for us: of a result that is not kept. All others are the function's. */
static void
note_notice(void *arg, const PGresult *notice)
{
	Conn	   *conn = arg;

	if (conn->state == CALLING && conn->call != NULL)
		dtm_pg_fill_note(notice, &conn->call->result);
}

static int64
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
