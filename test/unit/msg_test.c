/*
 * msg_test.c: the tables of doc/states.md for messages, row by row.
 */
#include "world.h"

#define CHECK(answer) result(DTM_FORWARD, DTM_WHOLE, answer)

static void
prepared(int nbranches)
{
	fresh(DTM_MSG, nbranches, DTM_PREPARED);
	trans.query_prepared = "http://who/";
}

static void
delivery(void)
{
	fresh(DTM_MSG, 2, DTM_SUBMITTED);
	trans.deadline = now;
	loaded();
	starts("f1", "submitted: the first, whatever the deadline was");
	is(trans.due, DTM_NEVER, "there is none any more");
	result(DTM_FORWARD, 0, DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_SUBMITTED && FORWARD(0)->status == DTM_OP_PREPARED, "an action cannot refuse");
	is(trans.due, now + SECONDS(10), "it is called again");
	timer();
	starts("f1", "in sequence: before the next");
	result(DTM_FORWARD, 0, DTM_ANSWER_ONGOING);
	is(trans.due, now + SECONDS(10), "ONGOING: the interval");
	timer();
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	starts("f2", "then the next");
	result(DTM_FORWARD, 1, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUCCEED, "delivered");

	fresh(DTM_MSG, 3, DTM_SUBMITTED);
	trans.concurrent = true;
	branches[1].address[DTM_FORWARD] = "";
	loaded();
	starts("f1f3", "concurrent: at once, but for nobody");
	result(DTM_FORWARD, 2, DTM_ANSWER_SUCCESS);
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUCCEED, "delivered");

	fresh(DTM_MSG, 1, DTM_SUBMITTED);
	trans.retry_limit = 2;
	loaded();
	result(DTM_FORWARD, 0, DTM_ANSWER_ERROR);
	timer();
	result(DTM_FORWARD, 0, DTM_ANSWER_ERROR);
	ok(FORWARD(0)->stuck && trans.status == DTM_SUBMITTED, "a limit makes it stuck, and nothing else");

	fresh(DTM_MSG, 1, DTM_SUBMITTED);
	trans.not_before = now + SECONDS(60);
	loaded();
	ok(plan.nstart == 0 && trans.due == trans.not_before, "a delay");
	command(DTM_SUBMITTED, true);
	ok(plan.nstart == 0, "which nobody can hurry");
	timer();
	starts("f1", "ends in time");
	command(DTM_FAILED, false);
	is(trans.status, DTM_FAILED, "stopped by force");
}

static void
back_check(void)
{
	prepared(1);
	loaded();
	ok(plan.nstart == 0 && trans.due == trans.deadline, "prepared: its time runs");
	command(DTM_SUBMITTED, false);
	starts("f1", "submitted in time");

	prepared(1);
	loaded();
	timer();
	starts("q", "not submitted in time: it is asked");
	ok(trans.running == 1 && trans.due == DTM_NEVER, "and the answer awaited");
	timer();
	starts("", "once");
	CHECK(DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_SUBMITTED && plan.status_changed, "success: submitted");
	starts("f1", "and delivered");
	ok(trans.check.dirty && trans.check.attempts == 1, "the answer is noted");

	prepared(1);
	loaded();
	timer();
	CHECK(DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_FAILED && plan.cause == DTM_CAUSE_REFUSED && plan.cause_branch == DTM_WHOLE,
	   "FAILURE: failed, and by whom");
	is(trans.running, 0, "nothing runs");

	prepared(1);
	loaded();
	timer();
	CHECK(DTM_ANSWER_ONGOING);
	is(trans.due, now + SECONDS(10), "ONGOING: again after the interval");
	timer();
	starts("q", "asked again");
	CHECK(DTM_ANSWER_ERROR);
	is(trans.due, now + SECONDS(10), "no answer: the backoff");
	timer();
	CHECK(DTM_ANSWER_ERROR);
	is(trans.due, now + SECONDS(20), "which grows");
	command(DTM_PREPARED, true);
	starts("q", "unless hurried");
	withdrawn(DTM_FORWARD, DTM_WHOLE);
	ok(trans.running == 0 && trans.due == now + SECONDS(10), "only queued and taken back: later");
	timer();
	starts("q", "it is asked after all");
	CHECK(DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUBMITTED, "for ever, until there is an answer");

	prepared(1);
	trans.query_prepared = "";
	loaded();
	timer();
	ok(trans.status == DTM_FAILED && plan.cause == DTM_CAUSE_DEADLINE && plan.nstart == 0,
	   "nobody to ask: failed, and nothing delivered");

	prepared(1);
	loaded();
	timer();
	command(DTM_SUBMITTED, false);
	starts("f1", "submitted while it is asked: delivered");
	CHECK(DTM_ANSWER_FAILURE);
	is(trans.status, DTM_SUBMITTED, "whatever the answer is");
}

static void
reloads(void)
{
	prepared(1);
	trans.deadline = now;
	trans.check.status = DTM_OP_SUCCEED;
	loaded();
	ok(trans.status == DTM_SUBMITTED && plan.nstart == 1, "an answer whose decision was lost");

	prepared(1);
	trans.deadline = now;
	trans.check.status = DTM_OP_FAILED;
	loaded();
	is(trans.status, DTM_FAILED, "of either kind");

	prepared(1);
	trans.deadline = now;
	trans.check.due = now + SECONDS(5);
	loaded();
	ok(plan.nstart == 0 && trans.due == now + SECONDS(5), "or a question that waits");

	prepared(0);
	trans.deadline = now;
	trans.check.status = DTM_OP_SUCCEED;
	loaded();
	is(trans.status, DTM_SUCCEED, "nothing to deliver: done");
}

int
main(void)
{
	delivery();
	back_check();
	reloads();
	return tap_done();
}
