/*
 * workflow_simulator.c: random workflows in a hostile world.
 *
 *   workflow_simulator [COUNT [SEED]]     TAP; -v as third argument tells the story
 *
 * The world has a row with its lock (every move that touches it is one
 * transaction), a worker that dies and hears of changes late, and clients: begun
 * by users or by our calls, they do steps, here in the row's own database and
 * elsewhere behind a barrier, fall asleep, wake up, die. First comes chaos, then
 * peace, in which all must end.
 *
 * The rules are written down here a second time, from the contract: nobody is
 * called who has told of himself lately, our calls do not overlap, a step in the
 * database happens once whoever runs, and what is recorded has happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attempts.h"

#define MAX_STEPS 5
#define MAX_CLIENTS 8
#define CHAOS 300
#define PEACE 3000
#define NOBODY (-1)

typedef struct Client
{
	bool		alive;
	bool		prepared;
	bool		from_call;		/* it answers a call of ours */
	int			run;
	int			step;			/* the next one */
	bool		done;			/* elsewhere, and not yet recorded */
} Client;

typedef struct World
{
	uint64_t	random;
	uint64_t	seed;
	bool		verbose;
	bool		peace;
	DtmTime		now;
	DtmTime		patience;		/* timeout_to_fail */
	bool		can_resume;
	int			nsteps;
	bool		local[MAX_STEPS];

	/* the tables, and what has happened */
	DtmStatus	status;
	DtmTime		deadline;
	int			run;
	bool		recorded[MAX_STEPS];
	int			happened[MAX_STEPS];	/* local: how often */
	DtmOp		row;
	bool		exists;
	bool		news;
	bool		hurried;
	DtmTime		hurried_at;
	bool		was_finished;

	Client		client[MAX_CLIENTS];

	/* the worker */
	bool		alive;
	DtmTrans	trans;
	bool		queued;
	bool		flying;
	int			called;			/* the client that answers; NOBODY: lost */
} World;

static void
fail(World *w, const char *what)
{
	printf("not ok 1 - seed %llu: %s\n1..1\n", (unsigned long long) w->seed, what);
	fflush(stdout);
	exit(1);
}

#define CHECK(w, condition, what) \
	do { if (!(condition)) fail(w, what); } while (0)

#define TELL(w, ...) \
	do { if ((w)->verbose) { printf("# %lld ", (long long) (w)->now); \
		printf(__VA_ARGS__); printf("\n"); } } while (0)

static uint32_t
draw(World *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t) (w->random >> 16);
}

static bool
chance(World *w, int percent)
{
	return (int) (draw(w) % 100) < percent;
}

static void
begin(World *w)
{
	w->nsteps = (int) (draw(w) % (MAX_STEPS + 1));
	for (int i = 0; i < w->nsteps; i++)
		w->local[i] = chance(w, 50);
	w->now = 1000 * DTM_SECOND;
	w->patience = (1 + (DtmTime) (draw(w) % 30)) * DTM_SECOND;
	w->can_resume = chance(w, 90);
	w->status = DTM_PREPARED;
	w->deadline = w->now + w->patience;
	w->run = 1;
	w->trans.retry_limit = chance(w, 30) ? 1 + (int) (draw(w) % 4) : 0;
	w->trans.retry_interval = (int64_t) (draw(w) % 20) * DTM_SECOND;
	w->client[0] = (Client) {.alive = true, .prepared = true, .run = 1};
}

static void
check_plan(World *w, const DtmPlan *plan, DtmStatus before)
{
	const DtmTrans *t = &w->trans;

	CHECK(w, !plan->status_changed && t->status == before, "we have decided over a workflow");
	CHECK(w, t->running == (t->check.running ? 1 : 0), "the running count is wrong");
	if (dtm_status_is_final(t->status))
	{
		CHECK(w, plan->nstart == 0 && t->due == DTM_NEVER, "something after the end");
		return;
	}
	CHECK(w, t->check.status == DTM_OP_PREPARED, "an answer has ended it");
	CHECK(w, t->due > w->now, "due has not moved on");
	CHECK(w, t->check.running || !w->can_resume || t->due < DTM_NEVER, "it would hang");
	CHECK(w, w->can_resume || plan->nstart == 0, "called without an address");
	if (plan->nstart == 0)
		return;
	CHECK(w, plan->nstart == 1 && plan->start[0].branch == DTM_WHOLE, "what is called?");
	CHECK(w, t->deadline <= w->now, "called before its time is over, as far as we knew");
	CHECK(w, !w->queued && !w->flying, "called while a call is under way");
	w->queued = true;
}

static void
decide(World *w, DtmEvent *event)
{
	DtmOpRef	start[DTM_MAX_START(0)];
	DtmPlan		plan = {.start = start};
	DtmStatus	before = event->kind == DTM_EVENT_COMMAND ? event->status
		: w->trans.status;

	event->now = w->now;
	event->random = draw(w);
	event->max_retry_interval = 60 * DTM_SECOND;
	event->stuck_after = 5;
	event->branch = DTM_WHOLE;
	event->phase = DTM_FORWARD;
	dtm_decide(&w->trans, event, &plan);
	check_plan(w, &plan, before);
	/* Its end: the worker lets go of it, and of its call. */
	if (dtm_status_is_final(w->trans.status))
		w->alive = w->queued = w->flying = false;
}

static void
load(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_LOADED};
	DtmTrans   *t = &w->trans;

	w->news = w->hurried = false;
	if (dtm_status_is_final(w->status))
		return;
	w->alive = true;
	t->mode = DTM_WORKFLOW;
	t->status = t->stored_status = w->status;
	t->deadline = w->deadline;
	t->query_prepared = w->can_resume ? "http://client/" : "";
	t->running = 0;
	memset(&t->check, 0, sizeof(t->check));
	t->check.status = DTM_OP_PREPARED;
	if (w->exists)
	{
		t->check = w->row;
		t->check.running = t->check.dirty = false;
		if (t->check.last_attempt < w->hurried_at)
			t->check.due = 0;
		if (w->deadline > w->hurried_at && t->check.last_attempt < w->hurried_at)
			dtm_forget_failures(&t->check);
	}
	TELL(w, "loaded");
	decide(w, &event);
}

static void
crash(World *w)
{
	TELL(w, "CRASH");
	w->alive = w->queued = w->flying = false;
}

/* The worker hears of it: merged, never taken up anew. */
static void
tell_worker(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_COMMAND, .status = w->status, .hurry = w->hurried,
		.client_is_back = w->hurried && w->deadline > w->hurried_at};

	w->news = w->hurried = false;
	w->trans.deadline = w->deadline;
	decide(w, &event);
	CHECK(w, !event.client_is_back || !w->trans.check.stuck, "stuck, and its client is back");
}

/* Each of the following is one transaction on the row. */
static void
prepare(World *w, Client *c)
{
	if (w->status != DTM_PREPARED)
	{
		c->alive = false;
		return;
	}
	c->prepared = true;
	c->done = false;
	c->run = ++w->run;
	c->step = 0;
	while (c->step < w->nsteps && w->recorded[c->step])
		c->step++;
	w->deadline = w->now + w->patience;
	w->hurried_at = w->now;
	w->news = w->hurried = true;
	TELL(w, "run %d goes on with step %d", c->run, c->step + 1);
}

static void
record(World *w, Client *c)
{
	if (w->status != DTM_PREPARED || c->run != w->run)
	{
		TELL(w, "run %d is refused", c->run);
		c->alive = false;
		return;
	}
	CHECK(w, !w->recorded[c->step], "the youngest run does what is recorded");
	if (w->local[c->step])
		w->happened[c->step]++;
	w->recorded[c->step] = true;
	CHECK(w, w->happened[c->step] > 0, "recorded, and has not happened");
	w->deadline = w->now + w->patience;
	w->news = true;
	TELL(w, "run %d has recorded step %d", c->run, c->step + 1);
	c->step++;
	c->done = false;
}

static void
finish(World *w, Client *c)
{
	c->alive = false;
	if (w->status != DTM_PREPARED || c->run != w->run)
		return;
	w->status = chance(w, 80) ? DTM_SUCCEED : DTM_FAILED;
	w->was_finished = true;
	w->news = true;
	TELL(w, "run %d has finished", c->run);
}

static void
client_moves(World *w, Client *c)
{
	if (!c->prepared)
		prepare(w, c);
	else if (c->step == w->nsteps)
		finish(w, c);
	else if (w->local[c->step] || c->done)
		record(w, c);
	else
	{
		/* Elsewhere: nobody asks which run it is, but a barrier stands there. */
		w->happened[c->step] = 1;
		c->done = true;
	}
}

static int
new_client(World *w, bool from_call)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		if (!w->client[i].alive)
		{
			w->client[i] = (Client) {.alive = true, .from_call = from_call};
			return i;
		}
	}
	return NOBODY;
}

static bool
some_client_moves(World *w)
{
	int			first = (int) (draw(w) % MAX_CLIENTS);

	for (int n = 0; n < MAX_CLIENTS; n++)
	{
		Client	   *c = &w->client[(first + n) % MAX_CLIENTS];

		if (!c->alive)
			continue;
		if (!w->peace && chance(w, 10))
			c->alive = false;
		else
			client_moves(w, c);
		return true;
	}
	return false;
}

/* The call leaves: the row is looked at once more. */
static bool
call_begins(World *w)
{
	if (!w->queued)
		return false;
	w->queued = false;
	if (w->status != DTM_PREPARED || w->deadline > w->now || (!w->peace && chance(w, 10)))
	{
		DtmEvent	event = {.kind = DTM_EVENT_WITHDRAWN};

		decide(w, &event);
		return true;
	}
	CHECK(w, !w->flying, "two calls of ours at once");
	CHECK(w, w->now >= w->deadline, "called although it has told of itself");
	w->flying = true;
	w->called = w->peace || chance(w, 80) ? new_client(w, true) : NOBODY;
	TELL(w, "called");
	return true;
}

/* An honest answer comes from a client that has ended; or it is given up. */
static bool
call_ends(World *w)
{
	static const DtmAnswer answers[] = {
		DTM_ANSWER_SUCCESS, DTM_ANSWER_ONGOING, DTM_ANSWER_FAILURE, DTM_ANSWER_ERROR
	};
	DtmEvent	event = {.kind = DTM_EVENT_RESULT};
	bool		ended;

	if (!w->flying)
		return false;
	ended = w->called == NOBODY || !w->client[w->called].alive ||
		!w->client[w->called].from_call;
	if (w->peace && !ended)
		return false;
	event.answer = ended ? answers[draw(w) % 4] : DTM_ANSWER_ERROR;
	w->flying = false;
	TELL(w, "the call ends: %d", event.answer);
	decide(w, &event);
	return true;
}

static bool
row_is_written(World *w)
{
	if (!w->trans.check.dirty)
		return false;
	w->row = w->trans.check;
	w->exists = true;
	w->trans.check.dirty = false;
	return true;
}

static void
timer_rings(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_TIMER};

	if (w->trans.due == DTM_NEVER)
		return;
	if (w->trans.due > w->now)
		w->now = w->trans.due;
	decide(w, &event);
}

static void
user_acts(World *w)
{
	int			what = (int) (draw(w) % 100);

	if (w->status != DTM_PREPARED)
		return;
	if (what < 2)
		w->status = DTM_FAILED;
	else if (what < 50)
	{
		/* retry_now */
		w->hurried = true;
		w->hurried_at = w->now;
		if (w->deadline > w->now)
			w->deadline = w->now;
	}
	else
	{
		int			i = new_client(w, false);

		if (i != NOBODY)
			prepare(w, &w->client[i]);
	}
	w->news = true;
}

static void
one_move(World *w)
{
	int			what = (int) (draw(w) % 100);

	if (!w->alive)
	{
		load(w);
		return;
	}
	if (!w->peace)
	{
		w->now += (DtmTime) (draw(w) % (2 * DTM_SECOND));
		if (what < 3)
		{
			crash(w);
			return;
		}
		if (what < 6)
		{
			user_acts(w);
			return;
		}
	}
	if (w->news && (w->peace || what < 25))
		tell_worker(w);
	else if (what < 50 && some_client_moves(w))
		return;
	else if (what < 65 && call_begins(w))
		return;
	else if (what < 80 && call_ends(w))
		return;
	else if (what < 90 && row_is_written(w))
		return;
	else if (w->trans.due <= w->now)
		timer_rings(w);
	else if (w->peace && !w->can_resume && !some_client_moves(w))
	{
		int			i = new_client(w, false);

		CHECK(w, i != NOBODY, "no client is left");
	}
	else if (!w->queued && !w->flying && (what > 97 || w->peace))
		timer_rings(w);
}

static void
run(uint64_t seed, bool verbose)
{
	static World world;
	World	   *w = &world;

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	w->verbose = verbose;
	begin(w);
	for (int moves = 0; !dtm_status_is_final(w->status); moves++)
	{
		w->peace = (moves > CHAOS);
		CHECK(w, moves < CHAOS + PEACE, "it never ends");
		one_move(w);
	}
	if (w->alive)
		tell_worker(w);
	for (int n = 0; n < 10 * MAX_CLIENTS * MAX_STEPS; n++)
		(void) some_client_moves(w);	/* those who wake up now */
	for (int i = 0; i < w->nsteps; i++)
	{
		CHECK(w, w->happened[i] <= 1, "a step in the database happened twice");
		CHECK(w, !w->was_finished || w->recorded[i], "finished, and not done");
		CHECK(w, !w->recorded[i] || w->happened[i] == 1, "recorded, and has not happened");
	}
}

int
main(int argc, char **argv)
{
	uint64_t	count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
	uint64_t	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	for (uint64_t i = 0; i < count; i++)
		run(seed + i, argc > 3);
	printf("ok 1 - %llu random workflows from seed %llu keep the contract\n1..1\n",
		   (unsigned long long) count, (unsigned long long) seed);
	return 0;
}
