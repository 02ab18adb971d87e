/*
 * ending_test.c: the table of doc/states.md for endings, row by row.
 */
#include "world.h"

#define ENDED(answer) result(DTM_FORWARD, DTM_ENDING, answer)

static DtmOp *const ending = &trans.ending;

static void
with_both(DtmMode mode, int nbranches, DtmStatus status)
{
	fresh(mode, nbranches, status);
	trans.on_success = trans.on_failure = true;
}

/* A message of one branch, whose action has succeeded. */
static void
delivered(void)
{
	with_both(DTM_MSG, 1, DTM_SUBMITTED);
	loaded();
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
}

/* As the worker does when the status has been written. */
static void
written(void)
{
	trans.stored_status = trans.status;
	decide((DtmEvent) {.kind = DTM_EVENT_TIMER});
}

static void
in_one_commit(void)
{
	delivered();
	is(trans.status, DTM_SUCCEED, "it has succeeded");
	starts("e", "its statement is run");
	ok(dtm_ending_comes_first(&trans) && !dtm_is_to_be_written(&trans) && !dtm_is_over(&trans),
	   "which writes the status: the worker does not");
	ok(trans.running == 1 && trans.due == DTM_NEVER && trans.ending_for == DTM_SUCCEED, "its end is awaited");
	timer();
	starts("", "once");
	ENDED(DTM_ANSWER_SUCCESS);
	ok(dtm_is_over(&trans) && trans.stored_status == DTM_SUCCEED, "success: all is done and durable");
	ok(trans.running == 0 && !ending->dirty && trans.due == DTM_NEVER, "nothing is left to be written");

	with_both(DTM_MSG, 0, DTM_SUBMITTED);
	trans.on_success = false;
	loaded();
	ok(trans.status == DTM_SUCCEED && plan.nstart == 0 && dtm_is_to_be_written(&trans),
	   "no statement for this end: the worker writes it");
	with_both(DTM_MSG, 0, DTM_PREPARED);
	trans.on_failure = false;
	trans.deadline = now;
	loaded();
	ok(trans.status == DTM_FAILED && plan.nstart == 0 && dtm_is_to_be_written(&trans), "nor for the other");
	with_both(DTM_MSG, 0, DTM_PREPARED);
	trans.on_success = false;
	trans.deadline = now;
	loaded();
	ok(trans.status == DTM_FAILED && plan.status_changed && plan.cause == DTM_CAUSE_DEADLINE,
	   "a message that fails");
	starts("e", "prepared, and nobody was called: at once");
}

static void
tried_in_vain(void)
{
	delivered();
	ENDED(DTM_ANSWER_ERROR);
	ok(dtm_is_to_be_written(&trans) && plan.nstart == 0, "an error: the worker writes the status alone");
	ok(ending->dirty && ending->attempts == 1 && ending->due == now + SECONDS(10), "and when it is tried again");
	timer();
	starts("", "before that is written it is not");
	written();
	ok(trans.due == ending->due && plan.nstart == 0, "then it waits for its time");
	ok(!dtm_is_over(&trans) && !dtm_is_to_be_written(&trans), "it is not over");
	timer();
	starts("e", "and is tried again");
	ENDED(DTM_ANSWER_FAILURE);
	is(trans.due, now + SECONDS(20), "FAILURE is an error");
	command(DTM_SUCCEED, true);
	starts("e", "hurried");
	ENDED(DTM_ANSWER_ERROR);
	timer();
	ENDED(DTM_ANSWER_ERROR);
	ok(ending->stuck && trans.due == now + SECONDS(600), "often: it is stuck, and goes on at the largest interval");
	timer();
	starts("e", "for ever");
	ENDED(DTM_ANSWER_SUCCESS);
	ok(dtm_is_over(&trans) && !ending->stuck && ending->attempts == 5, "until it succeeds");

	delivered();
	trans.retry_limit = 1;
	ENDED(DTM_ANSWER_ERROR);
	ok(!ending->stuck && trans.status == DTM_SUCCEED, "the limit of its branches is not its own");
	is(ending->due, now + SECONDS(10), "it is tried again as soon as without one");
	written();
	for (int i = 0; i < 3; i++)
	{
		timer();
		ENDED(DTM_ANSWER_ERROR);
	}
	ok(ending->stuck, "it is stuck as late as without one");
}

static void
row_is_held(void)
{
	delivered();
	ENDED(DTM_ANSWER_ONGOING);
	ok(!dtm_is_to_be_written(&trans) && ending->attempts == 0 && !ending->dirty, "the row was held: nothing has happened");
	is(trans.due, now + 100 * DTM_MS, "soon again");
	timer();
	starts("e", "in one commit, still");
	ENDED(DTM_ANSWER_ONGOING);
	is(trans.due, now + 200 * DTM_MS, "less and less often");
	timer();
	command(DTM_SUBMITTED, false);
	starts("", "no news");
	ENDED(DTM_ANSWER_SUCCESS);
	ok(dtm_is_over(&trans) && trans.ending_held == 0, "done");

	delivered();
	withdrawn(DTM_FORWARD, DTM_ENDING);
	ok(trans.running == 0 && trans.due == now + SECONDS(10) && !dtm_is_to_be_written(&trans),
	   "only queued and taken back: later, and in one commit");
	timer();
	starts("e", "it is run after all");
}

static void
turning_back_first(void)
{
	with_both(DTM_SAGA, 1, DTM_SUBMITTED);
	branches[0].address[DTM_BACKWARD] = "";
	loaded();
	result(DTM_FORWARD, 0, DTM_ANSWER_FAILURE);
	ok(trans.status == DTM_ABORTING && plan.cause == DTM_CAUSE_REFUSED && plan.nstart == 0,
	   "a saga with nothing to undo: turning back is durable first");
	ok(dtm_is_to_be_written(&trans) && trans.due == DTM_NEVER, "it waits for that");
	timer();
	ok(trans.status == DTM_ABORTING && plan.nstart == 0, "whatever happens");
	written();
	is(trans.status, DTM_FAILED, "then it has failed");
	starts("e", "and its statement is run");

	with_both(DTM_TCC, 1, DTM_PREPARED);
	trans.driven = true;
	branches[0].address[DTM_BACKWARD] = "";
	loaded();
	result(DTM_TRY, 0, DTM_ANSWER_FAILURE);
	is(trans.status, DTM_ABORTING, "a tcc whose tries are ours");
	written();
	starts("e", "the same");

	with_both(DTM_TCC, 0, DTM_PREPARED);
	trans.deadline = now;
	loaded();
	ok(trans.status == DTM_FAILED && trans.stored_status == DTM_PREPARED, "the application's: nobody was called by us");
	starts("e", "at once");

	with_both(DTM_SAGA, 1, DTM_SUBMITTED);
	trans.on_failure = false;
	branches[0].address[DTM_BACKWARD] = "";
	loaded();
	result(DTM_FORWARD, 0, DTM_ANSWER_FAILURE);
	is(trans.status, DTM_FAILED, "without a statement: in one write, as ever");
}

static void
users(void)
{
	delivered();
	command(DTM_FAILED, false);
	ok(trans.status == DTM_FAILED && plan.nstart == 0 && trans.running == 1,
	   "stopped by force while the other statement runs: its end is awaited");
	ENDED(DTM_ANSWER_ERROR);
	ok(ending->attempts == 0 && !ending->dirty, "which does not count");
	starts("e", "then the right one is run");
	ok(trans.ending_for == DTM_FAILED && !dtm_is_to_be_written(&trans), "for the status that the row has");
	ENDED(DTM_ANSWER_SUCCESS);
	ok(dtm_is_over(&trans), "done");

	with_both(DTM_SAGA, 1, DTM_SUBMITTED);
	loaded();
	result(DTM_FORWARD, 0, DTM_ANSWER_SUCCESS);
	starts("e", "a saga");
	ENDED(DTM_ANSWER_ERROR);
	command(DTM_ABORTING, false);
	starts("b1", "aborted before its success was written: it is undone");
	ok(ending->attempts == 0 && ending->last_error == NULL, "what was tried for the other end is forgotten");
	result(DTM_BACKWARD, 0, DTM_ANSWER_SUCCESS);
	ok(trans.status == DTM_FAILED && dtm_ending_comes_first(&trans), "in one commit with the right one");

	with_both(DTM_MSG, 2, DTM_SUBMITTED);
	trans.concurrent = true;
	loaded();
	is(trans.running, 2, "two under way");
	command(DTM_FAILED, false);
	is(trans.running, 1, "stopped by force: only the statement is awaited");
	starts("e", "it is run");
	result(DTM_FORWARD, 1, DTM_ANSWER_SUCCESS);
	ok(trans.running == 1 && FORWARD(1)->status == DTM_OP_PREPARED, "nobody listens to the others");
	ENDED(DTM_ANSWER_SUCCESS);
	ok(dtm_is_over(&trans), "done");

	delivered();
	decide((DtmEvent) {.kind = DTM_EVENT_COMMAND, .status = DTM_SUCCEED, .ended = true});
	ok(dtm_is_over(&trans), "the row says that it has been done");
	delivered();
	ENDED(DTM_ANSWER_ERROR);
	written();
	decide((DtmEvent) {.kind = DTM_EVENT_COMMAND, .status = DTM_SUCCEED, .ended = true});
	ok(dtm_is_over(&trans), "or that it was given up");
}

static void
reloads(void)
{
	with_both(DTM_SAGA, 1, DTM_FAILED);
	loaded();
	starts("e", "ended by a user: its statement is due");
	is(trans.running, 1, "and nothing else");

	with_both(DTM_SAGA, 1, DTM_SUCCEED);
	ending->attempts = ending->failed_attempts = 3;
	ending->due = now + SECONDS(5);
	loaded();
	ok(plan.nstart == 0 && trans.due == now + SECONDS(5), "tried in vain, and not due yet");
	timer();
	starts("e", "when it is due");

	with_both(DTM_SAGA, 1, DTM_SUCCEED);
	ending->status = DTM_OP_SUCCEED;
	loaded();
	ok(plan.nstart == 0 && dtm_is_over(&trans), "done before");

	with_both(DTM_SAGA, 0, DTM_SUBMITTED);
	ending->attempts = ending->failed_attempts = 1;
	loaded();
	ok(trans.status == DTM_SUCCEED && dtm_ending_comes_first(&trans),
	   "what was tried for an end that was never written does not count");
}

int
main(void)
{
	in_one_commit();
	tried_in_vain();
	row_is_held();
	turning_back_first();
	users();
	reloads();
	return tap_done();
}
