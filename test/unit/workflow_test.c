/*
 * workflow_test.c: the tables of doc/states.md for workflows, row by row.
 */
#include "world.h"

#define RESUME(answer) result(DTM_FORWARD, DTM_WHOLE, answer)

static void
prepared(void)
{
	fresh(DTM_WORKFLOW, 0, DTM_PREPARED);
	trans.query_prepared = "http://client/";
	loaded();
}

/* Its client, silent until the deadline, is being called. */
static void
resumed(void)
{
	prepared();
	timer();
}

/* A sign of life: the row has a later deadline now. */
static void
hears(void)
{
	trans.deadline = now + SECONDS(33);
	command(DTM_PREPARED, false);
}

static void
silence(void)
{
	prepared();
	ok(plan.nstart == 0 && trans.due == trans.deadline, "prepared: its client has time");
	now += SECONDS(20);
	hears();
	ok(plan.nstart == 0 && trans.due == now + SECONDS(33), "a sign of life: more time");
	now += SECONDS(32);
	timer();
	starts("q", "it falls silent: it is resumed");
	ok(trans.running == 1 && trans.due == DTM_NEVER, "and the answer awaited");
	timer();
	starts("", "once");
	hears();
	starts("", "not while our call is under way, whatever is heard");
	now = trans.deadline;
	decide((DtmEvent) {.kind = DTM_EVENT_TIMER});
	starts("", "nor when it has been silent again, meanwhile");
	ok(trans.status == DTM_PREPARED && !plan.status_changed, "no time ends it");

	prepared();
	trans.query_prepared = "";
	timer();
	ok(plan.nstart == 0 && trans.due == DTM_NEVER && trans.status == DTM_PREPARED,
	   "nobody to resume it: it waits");
	hears();
	is(trans.due, trans.deadline, "for a sign of life");
}

static void
answers(void)
{
	resumed();
	RESUME(DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_PREPARED && trans.check.status == DTM_OP_PREPARED, "an answer ends nothing");
	is(trans.due, now + SECONDS(10), "it is called again after the interval");
	ok(trans.check.attempts == 1 && trans.check.failed_attempts == 0 && trans.check.dirty, "which is noted");
	timer();
	starts("q", "again");
	RESUME(DTM_ANSWER_ONGOING);
	is(trans.due, now + SECONDS(10), "ONGOING: the same");
	timer();
	RESUME(DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_PREPARED && trans.check.failed_attempts == 1, "FAILURE: an error like others");
	is(trans.due, now + SECONDS(10), "the backoff");
	timer();
	RESUME(DTM_ANSWER_ERROR);
	is(trans.due, now + SECONDS(20), "which grows");
	command(DTM_PREPARED, true);
	starts("q", "unless hurried");
	RESUME(DTM_ANSWER_ERROR);
	ok(!trans.check.stuck, "not stuck yet");
	timer();
	RESUME(DTM_ANSWER_ERROR);
	ok(trans.check.stuck && trans.status == DTM_PREPARED, "stuck after so many, and nothing else");
	is(trans.due, now + SECONDS(600), "called at the largest interval");
	timer();
	RESUME(DTM_ANSWER_SUCCESS);
	ok(!trans.check.stuck && trans.check.streak == 0, "an answer takes the flag away");
	timer();
	RESUME(DTM_ANSWER_ERROR);
	ok(!trans.check.stuck && trans.check.failed_attempts == 1, "and what failed before it counts no more");
	is(trans.due, now + SECONDS(10), "nor for the backoff");

	prepared();
	trans.retry_limit = 2;
	timer();
	RESUME(DTM_ANSWER_ERROR);
	timer();
	RESUME(DTM_ANSWER_ERROR);
	ok(trans.check.stuck && trans.status == DTM_PREPARED, "a limit makes it stuck, and nothing else");

	resumed();
	hears();
	RESUME(DTM_ANSWER_ERROR);
	is(trans.due, trans.deadline, "no answer in time, and heard of meanwhile: its time comes first");
	trans.retry_interval = SECONDS(60);
	timer();
	hears();
	RESUME(DTM_ANSWER_SUCCESS);
	is(trans.due, trans.deadline, "an answer before it has ended: its time");
	timer();
	ok(plan.nstart == 0 && trans.due == trans.check.due, "and the interval");

	resumed();
	withdrawn(DTM_FORWARD, DTM_WHOLE);
	ok(trans.running == 0 && trans.due == now + SECONDS(10) && trans.check.attempts == 0,
	   "only queued and taken back: later");
}

/* Its client has begun a new run by itself. */
static void
is_back(void)
{
	trans.deadline = now + SECONDS(33);
	decide((DtmEvent) {.kind = DTM_EVENT_COMMAND, .status = DTM_PREPARED,
		.hurry = true, .client_is_back = true});
}

static void
comes_back(void)
{
	resumed();
	for (int i = 1; i < 4; i++)
	{
		RESUME(DTM_ANSWER_ERROR);
		timer();
	}
	RESUME(DTM_ANSWER_ERROR);
	ok(trans.check.stuck, "its client is away for long: stuck");
	command(DTM_PREPARED, true);
	ok(trans.check.stuck && trans.check.failed_attempts == 4, "retry_now is no sign of it");
	RESUME(DTM_ANSWER_ERROR);
	trans.check.dirty = false;
	is_back();
	ok(!trans.check.stuck && trans.check.streak == 0 && trans.check.failed_attempts == 0,
	   "it is back by itself: not stuck");
	ok(trans.check.dirty, "which people shall see");
	ok(trans.check.attempts == 5 && trans.due == trans.deadline, "and it has its time");
	timer();
	starts("q", "the next silence");
	RESUME(DTM_ANSWER_ERROR);
	is(trans.due, now + SECONDS(10), "begins with the first interval");

	resumed();
	is_back();
	ok(!trans.check.dirty && trans.check.running, "nothing had failed: nothing to write");
	RESUME(DTM_ANSWER_ERROR);
	ok(trans.check.failed_attempts == 1, "the call under way counts when it ends");
}

static void
ends(void)
{
	prepared();
	command(DTM_SUCCEED, false);
	ok(trans.status == DTM_SUCCEED && plan.nstart == 0 && trans.due == DTM_NEVER, "finished: succeed");
	timer();
	starts("", "nobody is called");

	resumed();
	command(DTM_FAILED, false);
	is(trans.status, DTM_FAILED, "finished, or stopped by force, while it is called: failed");
	RESUME(DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_FAILED && trans.running == 0 && plan.nstart == 0, "whatever the answer is");
}

static void
reloads(void)
{
	prepared();
	trans.deadline = now;
	trans.check.due = now + SECONDS(5);
	loaded();
	ok(plan.nstart == 0 && trans.due == now + SECONDS(5), "read back: the backoff goes on");

	prepared();
	trans.check.due = now + SECONDS(5);
	loaded();
	ok(plan.nstart == 0 && trans.due == trans.deadline, "and so does its time");

	is_text(dtm_op_name(DTM_WORKFLOW, DTM_FORWARD), "action", "op action");
	is_text(dtm_op_name(DTM_WORKFLOW, DTM_BACKWARD), "rollback", "op rollback");
	is_text(dtm_op_name(DTM_WORKFLOW, DTM_TRY), "commit", "op commit");
}

int
main(void)
{
	silence();
	answers();
	comes_back();
	ends();
	reloads();
	return tap_done();
}
