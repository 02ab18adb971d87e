/*
 * call.c: from an address to a transport, with every call under its target's
 * limits and circuit.
 *
 * A call is queued at its target; it becomes a request only when the target
 * lets it start, so a long queue costs little. No transaction may be open when
 * calls are driven: a large payload is read, in a short one, when it is sent.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempts.h"
#include "call.h"
#include "call_ending.h"
#include "call_forgotten.h"
#include "call_request.h"
#include "debug_point.h"
#include "encoding.h"
#include "executor.h"
#include "settings.h"

/* How long to leave executors alone after none could be had. */
#define EXECUTOR_PAUSE (20 * DTM_MS)

/* A busy target must not keep the worker from the rest of its work. */
#define MAX_STARTS_AT_ONCE 512

static MemoryContext calls_context;
static DtmCallEnded call_ended;
static DtmCallReturned call_returned;
static DtmHttp *http;
static DtmTargets *http_targets;
static DtmTargets *sql_targets;
static DtmPg *remote;
static DtmTargets *remote_targets;
static dlist_head with_executor = DLIST_STATIC_INIT(with_executor);
static DtmTime executors_from;	/* none is asked for before */
static bool starts_left;		/* calls that could start wait for the next round */
static bool turn_is_over[DTM_CALL_UNKNOWN + 1]; /* in this round */

static DtmTargets *targets_of(const DtmCall *call);
static void forget_call(DtmTrans *trans, int branch, DtmPhase phase);
static void drive_http(DtmTime now);
static void start_http(DtmCall *call, DtmTime now);
static void end_post(DtmCall *call, const char *error, bool answered,
					 DtmTime now);
static void drive_remote(DtmTime now);
static void start_remote(DtmCall *call, DtmTime now);
static void drive_sql(DtmTime now);
static void start_sql(DtmCall *call, DtmTime now);
static void give_up_ending(DtmCall *call, DtmTime now);
static void give_up(DtmCall *call, const char *error, DtmTime now);
static void end_call(DtmCall *call, DtmTargets *targets,
					 const DtmCallEnd *end, DtmTime now);
static void end_unsent(DtmCall *call, DtmTargets *targets, const char *error,
					   DtmTime now);
static void fail_limited(DtmCall *call, DtmTargets *targets,
						 const char *error, DtmTime now);
static bool is_limited(const DtmCall *call);
static void return_call(DtmCall *call, DtmTargets *targets, const char *why);
static void free_call(DtmCall *call);

void
dtm_calls_init(DtmCallEnded ended, DtmCallReturned returned)
{
	call_ended = ended;
	call_returned = returned;
	calls_context = AllocSetContextCreate(TopMemoryContext, "dtm calls",
										  ALLOCSET_DEFAULT_SIZES);
	if (!dtm_http_global_init())
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not initialize libcurl")));
	http_targets = dtm_targets_create();
	sql_targets = dtm_targets_create();
	remote_targets = dtm_targets_create();
	if (http_targets == NULL || sql_targets == NULL || remote_targets == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	dtm_calls_configure();
}

void
dtm_calls_configure(void)
{
	DtmHttpSettings settings = {
		.max_connections = dtm_max_in_flight + 16,
		.max_per_host = dtm_max_in_flight_per_host,
		.max_response = (size_t) dtm_max_response_size * 1024,
		.connect_timeout = dtm_connect_timeout,
		.ca_file = dtm_ca_file
	};
	DtmTargetLimits limits = {
		.in_flight = dtm_max_in_flight,
		.per_target = dtm_max_in_flight_per_host,
		.trip_after = dtm_circuit_failures,
		.first_pause = DTM_SECOND,
		.longest_pause = 30 * DTM_SECOND
	};
	DtmTargetLimits sql_limits = {
		.in_flight = dtm_max_executors,
		.per_target = dtm_executors_per_role,
		.trip_after = INT_MAX,
		.first_pause = DTM_SECOND,
		.longest_pause = DTM_SECOND
	};

	DtmPgSettings remote_settings = {
		.max_connections = dtm_max_in_flight,
		.max_answer = (size_t) dtm_max_response_size * 1024,
		.connect_timeout = dtm_connect_timeout
	};
	DtmTargetLimits remote_limits = limits;

	remote_limits.per_target = dtm_remote_connections;
	if (remote == NULL)
		remote = dtm_pg_create(&remote_settings);
	else
		dtm_pg_configure(remote, &remote_settings);
	if (remote == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not set up calls of other PostgreSQL servers")));
	if (http == NULL)
		http = dtm_http_create(&settings);
	else
		dtm_http_configure(http, &settings);
	if (http == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not set up HTTP calls")));
	dtm_targets_limit(http_targets, &limits);
	dtm_targets_limit(sql_targets, &sql_limits);
	dtm_targets_limit(remote_targets, &remote_limits);
}

void
dtm_call_start(DtmTrans *trans, int branch, DtmPhase phase)
{
	const char *written = dtm_address_of(trans, branch, phase);
	MemoryContext context = AllocSetContextCreate(calls_context, "dtm call",
												  ALLOCSET_SMALL_SIZES);
	DtmCall    *call = MemoryContextAllocZero(context, sizeof(DtmCall));
	DtmAddress	address;
	const char *reason;
	char		key[300];
	int			length;
	bool		queued;

	call->context = context;
	call->trans = trans;
	call->branch = branch;
	call->phase = phase;
	call->executor = -1;
	call->timeout = trans->request_timeout;
	if (branch >= 0 && trans->branches[branch].request_timeout > 0)
		call->timeout = trans->branches[branch].request_timeout;
	dtm_op_of(trans, branch, phase)->call = call;

	/* Checked when it was registered; a row may still say anything. */
	if (branch == DTM_ENDING)
		address.transport = DTM_CALL_SQL;
	else if (!dtm_address_parse(written, &address, &reason))
		address.transport = DTM_CALL_UNKNOWN;
	/* An executor runs branches, and endings. */
	if (branch == DTM_WHOLE && address.transport != DTM_CALL_HTTP)
		address.transport = DTM_CALL_UNKNOWN;
	call->transport = address.transport;

	switch (address.transport)
	{
		case DTM_CALL_SQL:
			snprintf(key, sizeof(key), "role %u", trans->owner);
			queued = dtm_target_enqueue(sql_targets, key, &call->waiting);
			break;
		case DTM_CALL_REMOTE:
			/* Connections belong to a role: so do limits and circuits. */
			length = snprintf(key, sizeof(key), "%u ", trans->owner);
			dtm_address_target(&address, key + length, sizeof(key) - length);
			queued = dtm_target_enqueue(remote_targets, key, &call->waiting);
			break;
		case DTM_CALL_HTTP:
			dtm_address_target(&address, key, sizeof(key));
			queued = dtm_target_enqueue(http_targets, key, &call->waiting);
			break;
		default:
			/* Let it fail through the ordinary path, so that it is retried. */
			queued = dtm_target_enqueue(http_targets, "nowhere", &call->waiting);
			break;
	}
	/* Whose turn in this round is over would otherwise wait for the next event. */
	if (turn_is_over[call->transport])
		starts_left = true;
	if (!queued)
	{
		free_call(call);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	if (branch == DTM_ENDING)
		dtm_ending_waits(call, GetCurrentTimestamp());
}

void
dtm_call_post(const char *url, const char *json, DtmPostEnded ended)
{
	static const char *const headers[] = {"Content-Type: application/json"};
	MemoryContext context = AllocSetContextCreate(calls_context, "dtm post",
												  ALLOCSET_SMALL_SIZES);
	DtmCall    *call = MemoryContextAllocZero(context, sizeof(DtmCall));
	DtmAddress	address;
	const char *reason;
	char		server[300];
	char		key[310];

	call->context = context;
	call->posted = ended;
	call->executor = -1;
	call->transport = DTM_CALL_HTTP;
	call->request.url = MemoryContextStrdup(context, url);
	call->request.headers = headers;
	call->request.nheaders = lengthof(headers);
	call->request.body = MemoryContextStrdup(context, json);
	call->request.body_size = strlen(json);
	call->request.post = true;
	call->request.timeout = dtm_default_request_timeout;
	call->request.tag = call;

	if (!dtm_address_parse(url, &address, &reason) ||
		address.transport != DTM_CALL_HTTP)
	{
		ended("not an address that can be called");
		free_call(call);
		return;
	}
	dtm_address_target(&address, server, sizeof(server));
	snprintf(key, sizeof(key), "post %s", server);
	if (!dtm_target_enqueue(http_targets, key, &call->waiting))
	{
		ended("out of memory");
		free_call(call);
		return;
	}
	starts_left = true;
}

static void
end_post(DtmCall *call, const char *error, bool answered, DtmTime now)
{
	dtm_target_ended(http_targets, &call->waiting, answered, now);
	call->posted(error);
	free_call(call);
}

bool
dtm_call_withdraw(DtmTrans *trans, int branch, DtmPhase phase)
{
	DtmCall    *call = dtm_op_of(trans, branch, phase)->call;

	if (call == NULL || call->waiting.in_flight)
		return false;
	dtm_target_forget(targets_of(call), &call->waiting);
	free_call(call);
	return true;
}

bool
dtm_call_can_wait(DtmTrans *trans, int branch, DtmPhase phase)
{
	const DtmCall *call = dtm_op_of(trans, branch, phase)->call;

	return call != NULL && !call->waiting.in_flight &&
		(dtm_target_is_open(&call->waiting) ||
		 dtm_target_is_crowded(targets_of(call), &call->waiting));
}

void
dtm_call_hurry(DtmTrans *trans, int branch, DtmPhase phase)
{
	const DtmCall *call = dtm_op_of(trans, branch, phase)->call;

	if (call != NULL && !call->waiting.in_flight)
		dtm_target_hurry(targets_of(call), &call->waiting);
}

void
dtm_calls_clock_set_back(DtmTime now)
{
	executors_from = 0;
	dtm_endings_clock_set_back(now);
	dtm_targets_clock_set_back(http_targets, now);
	dtm_targets_clock_set_back(remote_targets, now);
}

static DtmTargets *
targets_of(const DtmCall *call)
{
	switch (call->transport)
	{
		case DTM_CALL_SQL:
			return sql_targets;
		case DTM_CALL_REMOTE:
			return remote_targets;
		default:
			return http_targets;
	}
}

void
dtm_calls_forget(DtmTrans *trans)
{
	dtm_calls_forget_branches(trans);
	forget_call(trans, DTM_ENDING, DTM_FORWARD);
}

void
dtm_calls_forget_branches(DtmTrans *trans)
{
	forget_call(trans, DTM_WHOLE, DTM_FORWARD);
	for (int branch = 0; branch < trans->nbranches; branch++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			forget_call(trans, branch, phase);
	}
}

static void
forget_call(DtmTrans *trans, int branch, DtmPhase phase)
{
	DtmOp	   *op = dtm_op_of(trans, branch, phase);
	DtmCall    *call = op->call;

	if (call != NULL && !dtm_call_withdraw(trans, branch, phase))
	{
		/* It ends by itself, and then nobody is told. */
		dtm_forgotten_note(call);
		call->trans = NULL;
		op->call = NULL;
	}
}

void
dtm_calls_drive(DtmTime now)
{
	starts_left = false;
	memset(turn_is_over, false, sizeof(turn_is_over));
	drive_sql(now);
	turn_is_over[DTM_CALL_SQL] = true;
	drive_http(now);
	turn_is_over[DTM_CALL_HTTP] = true;
	drive_remote(now);
	turn_is_over[DTM_CALL_REMOTE] = true;
}

/*
 * What ends lets others start: the next step of the same saga, or whoever waited
 * for its place. They leave in the same round.
 */
static void
drive_http(DtmTime now)
{
	int			started = 0;
	bool		progress;

	do
	{
		DtmWaiting *next;
		DtmHttpResult result;

		progress = false;
		while (started < MAX_STARTS_AT_ONCE &&
			   (next = dtm_targets_next(http_targets, now)) != NULL)
		{
			start_http((DtmCall *) next, now);
			started++;
			progress = true;
		}

		dtm_http_drive(http);
		while (dtm_http_result(http, &result))
		{
			DtmCall    *call = result.tag;
			char		error[DTM_MAX_ERROR];
			DtmCallEnd	end = {0};

			dtm_from_utf8(error, sizeof(error), result.error);
			if (call->posted != NULL)
			{
				bool		taken = result.http_status / 100 == 2;

				end_post(call, taken ? NULL : error, result.answered, now);
				continue;
			}
			end.answer = result.answer;
			end.answered = result.answered;
			end.error = error[0] == '\0' ? NULL : error;
			end.result = result.body;
			end.result_size = result.body_size;
			end_call(call, http_targets, &end, now);
			progress = true;
		}
	} while (progress && started < MAX_STARTS_AT_ONCE);
	starts_left |= started >= MAX_STARTS_AT_ONCE;
}

static void
start_http(DtmCall *call, DtmTime now)
{
	char		error[DTM_MAX_ERROR];
	bool		started = false;

	if (dtm_forgotten_is_under_way(call))
	{
		return_call(call, http_targets, "an earlier call has not ended yet");
		return;
	}
	if (call->transport != DTM_CALL_HTTP)
		snprintf(error, sizeof(error), "not an address that can be called");
	else
		started = (call->posted != NULL || dtm_call_make_request(call, error)) &&
			dtm_http_start(http, &call->request, error);
	if (call->posted != NULL)
	{
		if (!started)
			end_post(call, error, false, now);
		return;
	}
	if (call->overtaken)
	{
		return_call(call, http_targets, NULL);
		return;
	}
	DTM_POINT(call->branch == DTM_WHOLE ? "worker-check-sent"
			  : call->phase == DTM_TRY ? "worker-try-sent"
			  : call->phase == DTM_FORWARD ? "worker-action-sent"
			  : "worker-compensate-sent");

	if (!started)
		end_unsent(call, http_targets, error, now);
}

static void
drive_remote(DtmTime now)
{
	int			started = 0;
	bool		progress;

	do
	{
		DtmWaiting *next;
		DtmPgResult result;

		progress = false;
		while (started < MAX_STARTS_AT_ONCE &&
			   (next = dtm_targets_next(remote_targets, now)) != NULL)
		{
			start_remote((DtmCall *) next, now);
			started++;
			progress = true;
		}

		dtm_pg_drive(remote);
		while (dtm_pg_result(remote, &result))
		{
			DtmCall    *call = result.tag;
			char		error[DTM_MAX_ERROR];
			DtmCallEnd	end = {0};

			dtm_from_utf8(error, sizeof(error), result.error);
			end.answer = result.answer;
			end.answered = result.answered;
			end.error = error[0] == '\0' ? NULL : error;
			end.result = result.result;
			end.result_size = result.result_size;
			dtm_pg_release_server(call->statement.server);
			end_call(call, remote_targets, &end, now);
			progress = true;
		}
	} while (progress && started < MAX_STARTS_AT_ONCE);
	starts_left |= started >= MAX_STARTS_AT_ONCE;
}

static void
start_remote(DtmCall *call, DtmTime now)
{
	char		error[DTM_MAX_ERROR];
	bool		made = dtm_call_make_statement(call, error);

	if (made && dtm_pg_start(remote, &call->statement, error))
	{
		DTM_POINT(call->phase == DTM_TRY ? "worker-try-sent"
				  : call->phase == DTM_FORWARD ? "worker-action-sent"
				  : "worker-compensate-sent");
		return;
	}
	if (made)
		dtm_pg_release_server(call->statement.server);
	end_unsent(call, remote_targets, error, now);
}

static void
drive_sql(DtmTime now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &with_executor)
	{
		DtmCall    *call = dlist_container(DtmCall, node, iter.cur);
		DtmExecutorResult result;
		DtmCallEnd	end = {.answered = true};

		if (!dtm_executor_result(call->executor, &result))
			continue;
		dlist_delete(&call->node);
		executors_from = 0;
		end.answer = result.answer;
		end.unmade = result.unmade;
		end.recorded = result.recorded;
		end.error = result.error[0] == '\0' ? NULL : result.error;
		end_call(call, sql_targets, &end, now);
	}

	dtm_endings_give_up(now, give_up_ending);
	while (now >= executors_from)
	{
		DtmWaiting *next = dtm_targets_next(sql_targets, now);

		if (next == NULL)
			break;
		start_sql((DtmCall *) next, now);
	}
}

static void
start_sql(DtmCall *call, DtmTime now)
{
	DtmExecutorJob job = {
		.id = call->trans->id,
		.branch = call->branch,
		.phase = call->phase,
		.timeout_ms = call->timeout
	};
	char		error[DTM_MAX_ERROR] = "";
	char		key[32];

	if (call->branch == DTM_ENDING)
		dtm_describe_ending(call->trans, &job);
	call->executor = dtm_executor_start(call->trans->owner, &job, error);
	if (call->executor >= 0)
	{
		dtm_ending_waits_no_more(call);
		dlist_push_tail(&with_executor, &call->node);
		DTM_POINT("worker-job-given");
		return;
	}

	/* None is free: when it has waited as long as it may run, people shall see. */
	if (call->give_up_at == 0)
		call->give_up_at = now + call->timeout * DTM_MS;
	if (now >= call->give_up_at)
	{
		give_up(call, error, now);
		return;
	}
	executors_from = now + EXECUTOR_PAUSE;
	snprintf(key, sizeof(key), "role %u", call->trans->owner);
	dtm_target_forget(sql_targets, &call->waiting);
	if (!dtm_target_enqueue(sql_targets, key, &call->waiting))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/*
 * No executor can be had. A branch can wait; but a statement must not keep a
 * status open: that it could not be run is a failed attempt.
 */
static void
give_up(DtmCall *call, const char *error, DtmTime now)
{
	DtmCallEnd	end = {.answer = DTM_ANSWER_ERROR, .error = error};

	if (call->branch != DTM_ENDING)
		return_call(call, sql_targets, error);
	else
	{
		dtm_target_forget(sql_targets, &call->waiting);
		end_call(call, sql_targets, &end, now);
	}
}

static void
give_up_ending(DtmCall *call, DtmTime now)
{
	char		error[DTM_MAX_ERROR];

	snprintf(error, sizeof(error), "no executor was free within " INT64_FORMAT " ms",
			 call->timeout);
	give_up(call, error, now);
}

static void
end_call(DtmCall *call, DtmTargets *targets, const DtmCallEnd *end,
		 DtmTime now)
{
	DtmTrans   *trans = call->trans;
	int			branch = call->branch;
	DtmPhase	phase = call->phase;

	/* Before it ends, as its target may be gone after. */
	if (!end->answered && call->waiting.in_flight && end->error != NULL)
		fail_limited(call, targets, end->error, now);
	dtm_target_ended(targets, &call->waiting, end->answered, now);
	if (trans == NULL)
	{
		free_call(call);
		return;
	}
	dtm_op_of(trans, branch, phase)->call = NULL;
	call->trans = NULL;
	call_ended(trans, branch, phase, end);
	free_call(call);
}

/* Nothing was sent: that says nothing about the other side. */
static void
end_unsent(DtmCall *call, DtmTargets *targets, const char *error, DtmTime now)
{
	DtmCallEnd	end = {.answer = DTM_ANSWER_ERROR,.error = error};

	/* Who may refuse does so; who may not is asked again, and seen. */
	if (call->unmade)
	{
		end.answer = DTM_ANSWER_FAILURE;
		end.unmade = true;
	}
	dtm_target_forget(targets, &call->waiting);
	end_call(call, targets, &end, now);
}

/*
 * A server that does not answer is asked by one call at a time. For calls with
 * a limit of attempts each of those counts: else a saga that may fail would
 * have to wait until its own turn comes, again and again.
 */
static void
fail_limited(DtmCall *call, DtmTargets *targets, const char *error,
			 DtmTime now)
{
	typedef struct Op
	{
		DtmTrans   *trans;
		int			branch;
		DtmPhase	phase;
	} Op;
	DtmCallEnd	end = {.answer = DTM_ANSWER_ERROR, .error = error};
	Op		   *ops;
	int			nops = 0;
	int			i = 0;

	if (!dtm_target_is_open(&call->waiting))
		return;

	/*
	 * What follows from the end of one may take others back: remember the ops,
	 * which stay in memory meanwhile, rather than the calls, which may not.
	 */
	for (DtmWaiting *waiting = dtm_target_queue(&call->waiting);
		 waiting != NULL; waiting = waiting->next)
		nops += is_limited((DtmCall *) waiting);
	if (nops == 0)
		return;
	ops = MemoryContextAllocHuge(calls_context, nops * sizeof(Op));
	for (DtmWaiting *waiting = dtm_target_queue(&call->waiting);
		 waiting != NULL; waiting = waiting->next)
	{
		DtmCall    *other = (DtmCall *) waiting;

		if (!is_limited(other))
			continue;
		ops[i].trans = other->trans;
		ops[i].branch = other->branch;
		ops[i].phase = other->phase;
		i++;
	}
	for (i = 0; i < nops; i++)
	{
		DtmCall    *other = dtm_op_of(ops[i].trans, ops[i].branch,
									  ops[i].phase)->call;

		if (other == NULL || other->waiting.target != call->waiting.target)
			continue;
		dtm_target_forget(targets, &other->waiting);
		end_call(other, targets, &end, now);
	}
	pfree(ops);
}

static bool
is_limited(const DtmCall *call)
{
	return !call->waiting.in_flight &&
		dtm_call_has_limit(call->trans, call->branch, call->phase);
}

/* It was not made: its transaction may ask for it again. */
static void
return_call(DtmCall *call, DtmTargets *targets, const char *why)
{
	DtmTrans   *trans = call->trans;
	int			branch = call->branch;
	DtmPhase	phase = call->phase;

	dtm_target_forget(targets, &call->waiting);
	if (trans != NULL)
	{
		dtm_op_of(trans, branch, phase)->call = NULL;
		call->trans = NULL;
		call_returned(trans, branch, phase, why);
	}
	free_call(call);
}

static void
free_call(DtmCall *call)
{
	dtm_forgotten_ended(call);
	dtm_ending_waits_no_more(call);
	if (call->trans != NULL)
		dtm_op_of(call->trans, call->branch, call->phase)->call = NULL;
	MemoryContextDelete(call->context);
}

int
dtm_calls_fd(void)
{
	return dtm_http_fd(http);
}

int
dtm_calls_remote_fd(void)
{
	return dtm_pg_fd(remote);
}

long
dtm_calls_timeout(DtmTime now)
{
	long		timeout = dtm_http_timeout(http);
	long		remote_timeout = dtm_pg_timeout(remote);
	DtmTime		wake = Min(dtm_targets_wake(http_targets),
						   dtm_targets_wake(remote_targets));

	wake = Min(wake, dtm_endings_wake());
	if (starts_left)
		return 0;
	if (remote_timeout >= 0)
		timeout = timeout < 0 ? remote_timeout : Min(timeout, remote_timeout);
	if (dtm_targets_queued(sql_targets) > 0 && executors_from > now)
		wake = Min(wake, executors_from);
	if (wake != DTM_NEVER)
	{
		long		ms = wake <= now ? 0 : (long) ((wake - now + DTM_MS - 1) / DTM_MS);

		timeout = timeout < 0 ? ms : Min(timeout, ms);
	}
	return timeout;
}

int
dtm_calls_in_flight(void)
{
	return dtm_targets_in_flight(http_targets) +
		dtm_targets_in_flight(sql_targets) +
		dtm_targets_in_flight(remote_targets);
}

int
dtm_calls_queued(void)
{
	return dtm_targets_queued(http_targets) + dtm_targets_queued(sql_targets) +
		dtm_targets_queued(remote_targets);
}

int
dtm_calls_open_circuits(void)
{
	return dtm_targets_open_circuits(http_targets) +
		dtm_targets_open_circuits(remote_targets);
}
