/*
 * tcc_test.c: the tables of doc/states.md for TCC, row by row.
 */
#include "world.h"

static void
driven(int nbranches)
{
	fresh(DTM_TCC, nbranches, DTM_PREPARED);
	trans.driven = true;
}

static void
tries(void)
{
	driven(3);
	loaded();
	starts("t1t2t3", "all tries at once");
	is(trans.due, trans.deadline, "until the deadline");
	result(DTM_TRY, 1, DTM_ANSWER_SUCCESS);
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_PREPARED && plan.nstart == 0, "two of three are not all");
	result(DTM_TRY, 2, DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_SUBMITTED && plan.status_changed && plan.cause == DTM_CAUSE_NONE,
	   "all succeeded: submitted");
	starts("f3", "confirmed from the last");
	is(trans.due, DTM_NEVER, "without a deadline");
	trans.stored_status = DTM_SUBMITTED;
	result(DTM_FORWARD, 2, DTM_ANSWER_SUCCESS);
	starts("f2", "one by one");
	ok(!plan.status_changed, "no new status");
	result(DTM_FORWARD, 1, DTM_ANSWER_SUCCESS);
	starts("f1", "to the first");
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUCCEED, "all confirmed");

	driven(3);
	loaded();
	result(DTM_TRY, 1, DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_REFUSED && plan.cause_branch == 1,
	   "one refusal cancels");
	starts("", "but not while tries run");
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	withdrawn(DTM_TRY, 2);
	starts("b2", "what was only queued is no reason to wait, nor to cancel");
	trans.stored_status = DTM_ABORTING;
	result(DTM_BACKWARD, 1, DTM_ANSWER_FAILURE);
	is(BACKWARD(1)->status, DTM_OP_PREPARED, "a cancel cannot refuse");
	is(trans.due, now + SECONDS(10), "it is tried again");
	timer();
	starts("b2", "before those that come after it");
	result(DTM_BACKWARD, 1, DTM_ANSWER_SUCCESS);
	starts("b1", "in reverse");
	result(DTM_BACKWARD, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_FAILED, "all cancelled");

	driven(2);
	trans.concurrent = true;
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	result(DTM_TRY, 1, DTM_ANSWER_SUCCESS);
	starts("f2f1", "concurrent: confirmed at once");
	driven(2);
	trans.concurrent = true;
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_ERROR);
	result(DTM_TRY, 1, DTM_ANSWER_FAILURE);
	starts("b2b1", "or cancelled, the unclear one too");

	driven(0);
	loaded();
	is(trans.status, DTM_SUCCEED, "no branches: done");
}

static void
retries(void)
{
	driven(2);
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	result(DTM_TRY, 1, DTM_ANSWER_ERROR);
	is(trans.due, now + SECONDS(10), "an error is tried again");
	timer();
	starts("t2", "after the interval");
	result(DTM_TRY, 1, DTM_ANSWER_ONGOING);
	is(trans.due, now + SECONDS(10), "and so is what is not known yet");
	timer();
	result(DTM_TRY, 1, DTM_ANSWER_ERROR);
	timer();
	starts("t2", "as long as there is time");
	timer();
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_DEADLINE, "the deadline");
	is(trans.due, DTM_NEVER, "awaits the try");
	result(DTM_TRY, 1, DTM_ANSWER_SUCCESS);
	starts("b2", "whose late success is cancelled");

	driven(1);
	loaded();
	now = trans.deadline;
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUBMITTED, "success in the last instant is success");

	driven(1);
	trans.retry_limit = 1;
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_ERROR);
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_RETRY_LIMIT, "a try has its limit");
	starts("b1", "which cancels");
	result(DTM_BACKWARD, 0, DTM_ANSWER_ERROR);
	ok(BACKWARD(0)->stuck && trans.status == DTM_ABORTING, "a cancel does not: it is stuck, not given up");

	fresh(DTM_TCC, 1, DTM_SUBMITTED);
	trans.deadline = now;
	loaded();
	starts("f1", "once submitted there is no deadline");
	for (int i = 0; i < 4; i++)
	{
		result(DTM_FORWARD, 0, i == 2 ? DTM_ANSWER_FAILURE : DTM_ANSWER_ERROR);
		timer();
	}
	ok(trans.status == DTM_SUBMITTED && FORWARD(0)->stuck, "a confirm must succeed: stuck");
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUCCEED, "in the end it does");
}

static void
application(void)
{
	fresh(DTM_TCC, 2, DTM_PREPARED);
	loaded();
	ok(plan.nstart == 0 && trans.due == trans.deadline, "tries of the application: only its time is watched");
	command(DTM_SUBMITTED, false);
	starts("f2", "submitted: confirmed");
	ok(!plan.status_changed, "the row says so already");

	fresh(DTM_TCC, 2, DTM_PREPARED);
	loaded();
	command(DTM_ABORTING, false);
	starts("b2", "aborted: cancelled");
	result(DTM_BACKWARD, 1, DTM_ANSWER_SUCCESS);
	starts("b1", "everything that is registered");

	fresh(DTM_TCC, 2, DTM_PREPARED);
	loaded();
	timer();
	ok(trans.status == DTM_ABORTING && plan.status_changed && plan.cause == DTM_CAUSE_DEADLINE, "never submitted: aborting");
	starts("b2", "cancelled");
	result(DTM_BACKWARD, 1, DTM_ANSWER_SUCCESS);
	result(DTM_BACKWARD, 0, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_FAILED, "failed");

	fresh(DTM_TCC, 0, DTM_PREPARED);
	loaded();
	timer();
	is(trans.status, DTM_FAILED, "nothing registered: failed at once");

	fresh(DTM_TCC, 3, DTM_SUBMITTED);
	branches[1].address[DTM_FORWARD] = "";
	branches[2].address[DTM_FORWARD] = NULL;
	loaded();
	starts("f1", "who has no address needs no confirm");
	is(FORWARD(2)->status, DTM_OP_SUCCEED, "and is marked");
}

static void
commands(void)
{
	driven(2);
	loaded();
	command(DTM_ABORTING, false);
	ok(trans.status == DTM_ABORTING && plan.nstart == 0, "aborted while tries run");
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	result(DTM_TRY, 1, DTM_ANSWER_SUCCESS);
	starts("b2", "they are awaited, then cancelled");

	/* The decision to submit is not durable, and a user is faster. */
	driven(2);
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	result(DTM_TRY, 1, DTM_ANSWER_SUCCESS);
	starts("f2", "decided, the confirm waits");
	dtm_take_back(&trans, 1, DTM_FORWARD);
	ok(trans.running == 0 && !FORWARD(1)->in_doubt, "taken back");
	command(DTM_ABORTING, false);
	ok(trans.status == DTM_ABORTING && !FORWARD(1)->running, "aborted after all");
	starts("b2", "cancelled");

	driven(2);
	loaded();
	command(DTM_FAILED, false);
	ok(trans.status == DTM_FAILED && trans.due == DTM_NEVER, "stopped by force");
	result(DTM_TRY, 0, DTM_ANSWER_SUCCESS);
	ok(plan.nstart == 0 && TRY(0)->attempts == 0, "later results do nothing");

	driven(1);
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_ERROR);
	command(DTM_PREPARED, true);
	starts("t1", "hurried");
}

static void
reloads(void)
{
	driven(2);
	trans.resumed = true;
	TRY(0)->status = DTM_OP_SUCCEED;
	loaded();
	ok(trans.resumed, "tries may have been called while it was prepared");
	starts("t2", "goes on with those that have not answered");
	result(DTM_TRY, 1, DTM_ANSWER_FAILURE);
	starts("b2", "both are cancelled");

	driven(2);
	trans.status = trans.stored_status = DTM_ABORTING;
	loaded();
	is(trans.status, DTM_FAILED, "aborted before any try");

	driven(2);
	trans.status = trans.stored_status = DTM_ABORTING;
	trans.resumed = true;
	loaded();
	starts("b2", "unless an earlier worker may have called");

	driven(2);
	TRY(0)->status = DTM_OP_SUCCEED;
	TRY(1)->status = DTM_OP_FAILED;
	loaded();
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_REFUSED, "a refusal whose decision was lost");

	driven(2);
	TRY(0)->status = TRY(1)->status = DTM_OP_SUCCEED;
	trans.deadline = now;
	loaded();
	is(trans.status, DTM_SUBMITTED, "or a success");

	fresh(DTM_TCC, 2, DTM_SUBMITTED);
	FORWARD(1)->status = DTM_OP_SUCCEED;
	loaded();
	starts("f1", "a confirm is not repeated without need");
}

int
main(void)
{
	tries();
	retries();
	application();
	commands();
	reloads();
	return tap_done();
}
