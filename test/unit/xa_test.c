/*
 * xa_test.c: the tables of doc/states.md for XA over HTTP, row by row.
 */
#include "world.h"

static void
commits(void)
{
	fresh(DTM_XA, 2, DTM_PREPARED);
	loaded();
	ok(plan.nstart == 0 && trans.due == trans.deadline, "prepared: its time runs");
	command(DTM_SUBMITTED, false);
	starts("f1", "submitted: committed from the first");
	is(trans.due, DTM_NEVER, "without a deadline");
	result(DTM_FORWARD, 0, DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_SUBMITTED && FORWARD(0)->status == DTM_OP_PREPARED, "a commit cannot be refused");
	is(trans.due, now + SECONDS(10), "it is said again");
	timer();
	starts("f1", "until it is understood");
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	starts("f2", "then to the next");
	result(DTM_FORWARD, 1, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_SUCCEED, "committed");
}

static void
rollbacks(void)
{
	fresh(DTM_XA, 2, DTM_PREPARED);
	loaded();
	command(DTM_ABORTING, false);
	starts("b1", "aborted: rolled back, from the first too");
	for (int i = 0; i < 4; i++)
	{
		result(DTM_BACKWARD, 0, i == 0 ? DTM_ANSWER_FAILURE : DTM_ANSWER_ERROR);
		timer();
	}
	ok(BACKWARD(0)->stuck && trans.status == DTM_ABORTING, "who does not understand is shown to people");
	result(DTM_BACKWARD, 0, DTM_ANSWER_SUCCESS);
	starts("b2", "then the next");
	result(DTM_BACKWARD, 1, DTM_ANSWER_SUCCESS);
	is(trans.status, DTM_FAILED, "failed");

	fresh(DTM_XA, 1, DTM_PREPARED);
	loaded();
	timer();
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_DEADLINE && plan.status_changed,
	   "no decision in time: rolled back");
	starts("b1", "everybody is told");
}

static void
reloads(void)
{
	fresh(DTM_XA, 2, DTM_ABORTING);
	loaded();
	starts("b1", "all are told, whoever had it before");

	fresh(DTM_XA, 2, DTM_SUBMITTED);
	FORWARD(0)->status = DTM_OP_SUCCEED;
	loaded();
	starts("f2", "who has understood is not told again");

	fresh(DTM_XA, 0, DTM_SUBMITTED);
	loaded();
	is(trans.status, DTM_SUCCEED, "nobody to tell: done");
	fresh(DTM_XA, 0, DTM_PREPARED);
	loaded();
	timer();
	is(trans.status, DTM_FAILED, "either way");
}

int
main(void)
{
	commits();
	rollbacks();
	reloads();
	return tap_done();
}
