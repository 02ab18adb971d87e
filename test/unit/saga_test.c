/*
 * saga_test.c: the tables of doc/states.md, row by row.
 */
#include <stdlib.h>

#include "decide.h"
#include "tap.h"

#define MANY 1000

static DtmBranch branches[MANY];
static int32_t before[MANY][4];
static DtmTrans saga;
static DtmOpRef start[DTM_PHASES * MANY];
static DtmPlan plan = {.start = start};
static DtmTime now;

#define SECONDS(n) ((n) * DTM_SECOND)
#define ACTION(n) (&branches[n].op[DTM_FORWARD])
#define COMPENSATE(n) (&branches[n].op[DTM_BACKWARD])

static void
fresh(int nbranches, DtmStatus status)
{
	memset(branches, 0, sizeof(branches));
	memset(&saga, 0, sizeof(saga));
	now = SECONDS(1000);
	saga.mode = DTM_SAGA;
	saga.status = saga.stored_status = status;
	saga.deadline = DTM_NEVER;
	saga.retry_interval = SECONDS(10);
	saga.nbranches = nbranches;
	saga.branches = branches;
	for (int i = 0; i < nbranches; i++)
	{
		branches[i].address[DTM_FORWARD] = "http://there/";
		branches[i].address[DTM_BACKWARD] = "http://back/";
		branches[i].predecessors = before[i];
		ACTION(i)->status = COMPENSATE(i)->status = DTM_OP_PREPARED;
	}
}

static void
after(int step, int predecessor)
{
	before[step][branches[step].npredecessors++] = predecessor;
}

static void
decide(DtmEvent event)
{
	event.now = now;
	event.max_retry_interval = SECONDS(600);
	event.stuck_after = 4;
	dtm_decide(&saga, &event, &plan);
}

static void
loaded(void)
{
	decide((DtmEvent) {.kind = DTM_EVENT_LOADED});
}

static void
timer(void)
{
	decide((DtmEvent) {.kind = DTM_EVENT_TIMER});
}

static void
command(DtmStatus status, bool hurry)
{
	decide((DtmEvent) {.kind = DTM_EVENT_COMMAND, .status = status, .hurry = hurry});
}

static void
result(int branch, DtmPhase phase, DtmAnswer answer)
{
	decide((DtmEvent) {.kind = DTM_EVENT_RESULT, .branch = branch, .phase = phase,
		.answer = answer});
}

static void
action(int branch, DtmAnswer answer)
{
	result(branch, DTM_FORWARD, answer);
}

static void
compensate(int branch, DtmAnswer answer)
{
	result(branch, DTM_BACKWARD, answer);
}

/* Does the plan start exactly these, "a2" or "c1c3", in its order? */
static void
starts(const char *wanted, const char *name)
{
	char		got[200] = "";

	for (int i = 0; i < plan.nstart && i < 20; i++)
		sprintf(got + strlen(got), "%c%d", start[i].phase == DTM_FORWARD ? 'a' : 'c',
				start[i].branch + 1);
	is_text(got, wanted, name);
}

static void
sequence(void)
{
	fresh(3, DTM_SUBMITTED);
	loaded();
	starts("a1", "in sequence the first starts alone");
	ok(ACTION(0)->running && ACTION(0)->in_doubt && saga.running == 1, "running, in doubt");
	is(saga.due, DTM_NEVER, "only its end is awaited");
	timer();
	starts("", "a needless timer starts nothing");
	action(0, DTM_ANSWER_SUCCESS);
	starts("a2", "the next at once");
	ok(ACTION(0)->dirty && !ACTION(0)->in_doubt && ACTION(0)->attempts == 1, "the first is over");
	action(1, DTM_ANSWER_SUCCESS);
	action(2, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_SUCCEED, "all succeeded");
	ok(plan.status_changed && plan.cause == DTM_CAUSE_NONE, "which is a change without a cause");

	fresh(3, DTM_SUBMITTED);
	loaded();
	action(0, DTM_ANSWER_SUCCESS);
	action(1, DTM_ANSWER_FAILURE);
	is(saga.status, DTM_ABORTING, "a refusal turns back");
	ok(plan.status_changed && plan.cause == DTM_CAUSE_REFUSED && plan.cause_branch == 1, "and is the cause");
	starts("c2", "the refused step is undone too, and first");
	is(ACTION(1)->status, DTM_OP_FAILED, "its action failed");
	saga.stored_status = DTM_ABORTING;
	compensate(1, DTM_ANSWER_SUCCESS);
	starts("c1", "then the one before");
	ok(!plan.status_changed, "no new status yet");
	compensate(0, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_FAILED, "failed");
	ok(!COMPENSATE(2)->dirty && COMPENSATE(2)->attempts == 0, "what never ran is not undone");

	fresh(0, DTM_SUBMITTED);
	loaded();
	is(saga.status, DTM_SUCCEED, "no steps: done");
}

static void
concurrent(void)
{
	fresh(4, DTM_SUBMITTED);
	saga.concurrent = true;
	after(2, 0);
	after(2, 1);
	after(3, 2);
	loaded();
	starts("a1a2", "what waits for nobody");
	action(0, DTM_ANSWER_SUCCESS);
	starts("", "one predecessor is not all");
	action(1, DTM_ANSWER_SUCCESS);
	starts("a3", "now all");
	action(2, DTM_ANSWER_SUCCESS);
	starts("a4", "and the last");
	action(3, DTM_ANSWER_FAILURE);
	starts("c4", "back from the end");
	compensate(3, DTM_ANSWER_SUCCESS);
	starts("c3", "along the order");
	compensate(2, DTM_ANSWER_ERROR);
	starts("", "which an error holds up");
	now = saga.due;
	timer();
	starts("c3", "until it is tried again");
	compensate(2, DTM_ANSWER_SUCCESS);
	starts("c2c1", "then both at once");
	compensate(0, DTM_ANSWER_SUCCESS);
	compensate(1, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_FAILED, "failed");

	fresh(2, DTM_SUBMITTED);
	saga.concurrent = true;
	loaded();
	starts("a1a2", "both");
	action(0, DTM_ANSWER_FAILURE);
	ok(saga.status == DTM_ABORTING && plan.nstart == 0, "turned back, but one action still runs");
	is(saga.due, DTM_NEVER, "its end is awaited");
	action(1, DTM_ANSWER_ONGOING);
	starts("c2c1", "which, unclear as it is, sets the compensates free");
}

static void
no_address(void)
{
	fresh(3, DTM_SUBMITTED);
	branches[0].address[DTM_FORWARD] = "";
	branches[2].address[DTM_FORWARD] = "";
	branches[1].address[DTM_BACKWARD] = "";
	loaded();
	starts("a2", "nobody to call for the first");
	ok(ACTION(0)->status == DTM_OP_SUCCEED && ACTION(0)->attempts == 0, "it succeeded all the same");
	action(1, DTM_ANSWER_FAILURE);
	starts("c1", "nobody to undo the second, so the first");
	is(COMPENSATE(1)->status, DTM_OP_SUCCEED, "the second's succeeded");

	fresh(2, DTM_SUBMITTED);
	branches[1].address[DTM_FORWARD] = NULL;
	loaded();
	action(0, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_SUCCEED, "the last needs no call: done");
	is(ACTION(1)->status, DTM_OP_SUCCEED, "and is marked");
}

static void
retries(void)
{
	fresh(1, DTM_SUBMITTED);
	loaded();
	action(0, DTM_ANSWER_ERROR);
	is(saga.due, now + SECONDS(10), "again after the interval");
	ok(ACTION(0)->dirty && ACTION(0)->in_doubt && ACTION(0)->last_attempt == now, "noted");
	timer();
	starts("", "not earlier");
	now = saga.due;
	timer();
	starts("a1", "but then");
	action(0, DTM_ANSWER_ERROR);
	is(saga.due, now + SECONDS(20), "twice as late");
	now = saga.due;
	timer();
	action(0, DTM_ANSWER_ONGOING);
	is(saga.due, now + SECONDS(10), "ONGOING: the interval");
	is(ACTION(0)->failed_attempts, 2, "and no failure");
	now = saga.due;
	timer();
	action(0, DTM_ANSWER_ERROR);
	is(saga.due, now + SECONDS(10), "the doubling begins anew");
	ok(!ACTION(0)->stuck, "three failures");
	now = saga.due;
	timer();
	action(0, DTM_ANSWER_ERROR);
	ok(ACTION(0)->stuck, "four are stuck");
	is(saga.due, now + SECONDS(600), "the largest interval");
	command(DTM_SUBMITTED, true);
	starts("a1", "unless somebody hurries it");
	action(0, DTM_ANSWER_SUCCESS);
	ok(saga.status == DTM_SUCCEED && !ACTION(0)->stuck, "success takes the flag away");

	fresh(2, DTM_SUBMITTED);
	saga.retry_limit = 2;
	branches[1].retry_limit = 1;
	loaded();
	action(0, DTM_ANSWER_ERROR);
	now = saga.due;
	timer();
	action(0, DTM_ANSWER_ONGOING);
	is(saga.status, DTM_SUBMITTED, "ONGOING does not count against the limit");
	now = saga.due;
	timer();
	action(0, DTM_ANSWER_ERROR);
	ok(saga.status == DTM_ABORTING && plan.cause == DTM_CAUSE_RETRY_LIMIT && plan.cause_branch == 0, "the limit");
	ok(!ACTION(0)->stuck, "of an action sticks nothing");
	starts("c1", "and all is undone");
	compensate(0, DTM_ANSWER_FAILURE);
	is(COMPENSATE(0)->status, DTM_OP_PREPARED, "a compensate cannot refuse");
	is(saga.due, now + SECONDS(10), "it is tried again");
	now = saga.due;
	timer();
	compensate(0, DTM_ANSWER_ERROR);
	ok(COMPENSATE(0)->stuck && saga.status == DTM_ABORTING, "past the limit it is stuck, not given up");

	fresh(1, DTM_SUBMITTED);
	branches[0].retry_limit = 1;
	loaded();
	action(0, DTM_ANSWER_ERROR);
	is(saga.status, DTM_ABORTING, "a branch's own limit");
}

static void
deadlines(void)
{
	fresh(2, DTM_SUBMITTED);
	saga.deadline = now + SECONDS(5);
	loaded();
	is(saga.due, saga.deadline, "the deadline is a timer");
	now = saga.deadline;
	timer();
	ok(saga.status == DTM_ABORTING && plan.cause == DTM_CAUSE_DEADLINE, "it turns back at once");
	ok(plan.nstart == 0 && saga.due == DTM_NEVER, "and awaits the action");
	action(0, DTM_ANSWER_SUCCESS);
	starts("c1", "whose late success is undone");

	fresh(1, DTM_SUBMITTED);
	saga.deadline = now + SECONDS(5);
	loaded();
	now = saga.deadline;
	action(0, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_SUCCEED, "done in the last instant is done");

	fresh(1, DTM_SUBMITTED);
	saga.deadline = now + SECONDS(5);
	loaded();
	now = saga.deadline;
	action(0, DTM_ANSWER_FAILURE);
	is(plan.cause, DTM_CAUSE_REFUSED, "a refusal is the better reason");

	fresh(1, DTM_SUBMITTED);
	saga.deadline = now;
	loaded();
	ok(saga.status == DTM_FAILED && plan.nstart == 0 && plan.cause == DTM_CAUSE_DEADLINE,
	   "too late from the start: failed, and nobody was called");

	fresh(1, DTM_PREPARED);
	saga.deadline = now + SECONDS(5);
	loaded();
	ok(plan.nstart == 0 && saga.due == saga.deadline, "prepared: nothing but the deadline");
	now = saga.due;
	timer();
	ok(saga.status == DTM_FAILED && plan.cause == DTM_CAUSE_DEADLINE, "never submitted: failed");
}

static void
commands(void)
{
	fresh(2, DTM_PREPARED);
	saga.resumed = true;
	loaded();
	ok(plan.nstart == 0 && saga.due == DTM_NEVER && !saga.resumed, "prepared: nobody can have been called");
	command(DTM_SUBMITTED, false);
	starts("a1", "submitted");
	ok(!plan.status_changed && saga.stored_status == DTM_SUBMITTED, "the row says so already");
	command(DTM_ABORTING, false);
	ok(saga.status == DTM_ABORTING && plan.nstart == 0 && !plan.status_changed, "aborted, the action runs");
	action(0, DTM_ANSWER_SUCCESS);
	starts("c1", "then it is undone");
	command(DTM_FAILED, false);
	ok(saga.status == DTM_FAILED && saga.due == DTM_NEVER, "stopped by force");
	compensate(0, DTM_ANSWER_ERROR);
	ok(plan.nstart == 0 && saga.running == 0 && COMPENSATE(0)->attempts == 0, "later results only free memory");

	fresh(1, DTM_SUBMITTED);
	loaded();
	action(0, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_SUCCEED, "decided, but not written");
	command(DTM_ABORTING, false);
	is(saga.status, DTM_ABORTING, "a user was faster: the row wins");
	starts("c1", "and all is undone");

	fresh(1, DTM_SUBMITTED);
	loaded();
	action(0, DTM_ANSWER_FAILURE);
	command(DTM_SUBMITTED, true);
	is(saga.status, DTM_ABORTING, "an unchanged row does not undo a decision");

	fresh(1, DTM_SUBMITTED);
	loaded();
	command(DTM_ABORTING, false);
	decide((DtmEvent) {.kind = DTM_EVENT_WITHDRAWN, .branch = 0, .phase = DTM_FORWARD});
	ok(saga.status == DTM_FAILED && saga.running == 0, "a call taken back needs no undoing");

	fresh(1, DTM_SUBMITTED);
	loaded();
	decide((DtmEvent) {.kind = DTM_EVENT_WITHDRAWN, .branch = 0, .phase = DTM_FORWARD});
	ok(saga.status == DTM_SUBMITTED && saga.due == now + SECONDS(10), "or it is made later");
}

static void
reloads(void)
{
	fresh(3, DTM_SUBMITTED);
	saga.resumed = true;
	ACTION(0)->status = DTM_OP_SUCCEED;
	loaded();
	starts("a2", "goes on where its rows end");
	action(1, DTM_ANSWER_FAILURE);
	starts("c3", "an earlier life may have come further");

	fresh(2, DTM_SUBMITTED);
	ACTION(0)->status = DTM_OP_FAILED;
	ACTION(0)->attempts = 1;
	loaded();
	ok(saga.status == DTM_ABORTING && plan.cause == DTM_CAUSE_REFUSED, "a refusal whose decision was lost");
	starts("c1", "is carried out");

	fresh(1, DTM_SUBMITTED);
	saga.retry_limit = 3;
	ACTION(0)->attempts = ACTION(0)->failed_attempts = 3;
	loaded();
	is(plan.cause, DTM_CAUSE_RETRY_LIMIT, "a limit that was reached before");

	fresh(2, DTM_ABORTING);
	ACTION(0)->attempts = 1;
	COMPENSATE(0)->attempts = 1;
	COMPENSATE(0)->due = now + SECONDS(3);
	loaded();
	ok(plan.nstart == 0 && saga.due == now + SECONDS(3), "a compensate that waits");

	fresh(2, DTM_ABORTING);
	loaded();
	ok(saga.status == DTM_FAILED && plan.status_changed, "aborted before anything ran");

	fresh(2, DTM_SUBMITTED);
	loaded();
	action(1, DTM_ANSWER_FAILURE);
	ok(saga.status == DTM_SUBMITTED && saga.running == 1, "a result that nobody asked for is ignored");
}

static void
large(void)
{
	bool		good = true;

	fresh(MANY, DTM_SUBMITTED);
	saga.concurrent = true;
	for (int i = 0; i + 1 < MANY; i++)
	{
		after(i, i + 1);
		branches[i].address[DTM_FORWARD] = branches[i].address[DTM_BACKWARD] = "";
	}
	loaded();
	is(plan.nstart, 1, "a thousand steps against the grain: one can start");
	action(MANY - 1, DTM_ANSWER_SUCCESS);
	is(saga.status, DTM_SUCCEED, "the rest needs no calls");

	fresh(MANY, DTM_SUBMITTED);
	saga.concurrent = true;
	loaded();
	is(plan.nstart, MANY, "a thousand at once");
	for (int i = 0; i < MANY; i++)
		action(i, i == 500 ? DTM_ANSWER_FAILURE : DTM_ANSWER_SUCCESS);
	is(plan.nstart, MANY, "and all back");
	for (int i = 0; i < MANY; i++)
	{
		good = good && saga.status == DTM_ABORTING;
		compensate(i, DTM_ANSWER_SUCCESS);
	}
	ok(good && saga.status == DTM_FAILED, "failed at the last");
}

int
main(void)
{
	sequence();
	concurrent();
	no_address();
	retries();
	deadlines();
	commands();
	reloads();
	large();
	return tap_done();
}
