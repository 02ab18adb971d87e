/*
 * modes_simulator.c: random TCCs, messages and XAs in a hostile world.
 *
 *   modes_simulator [COUNT [SEED]]     TAP; -v as third argument tells the story
 *
 * The world is that of saga_simulator.c: a table that is written whenever it
 * likes, except that a status is durable before the calls that follow from it;
 * participants that refuse, stall, answer wrongly after having worked, or work
 * after having been given up; users who submit, abort, hurry and stop; and a
 * worker that dies. First comes chaos, then peace, in which all must end. Some
 * have a statement for their end: it is run by an executor, which outlives the
 * worker, and whose commit is at the mercy of the row.
 *
 * The rules are written down here a second time, from the contract.
 */
#include "modes_world.h"

static void
begin(World *w)
{
	static const DtmMode modes[] = {DTM_TCC, DTM_TCC, DTM_MSG, DTM_XA};

	w->mode = modes[draw(w) % 4];
	w->driven = w->mode == DTM_TCC && chance(w, 60);
	w->n = (int) (draw(w) % (MAX_N + 1));
	w->concurrent = w->mode != DTM_XA && chance(w, 40);
	w->local = chance(w, 30);
	w->now = 1000 * DTM_SECOND;
	w->status = DTM_PREPARED;
	w->deadline = w->now + (DtmTime) (draw(w) % 60) * DTM_SECOND;
	w->trans.retry_limit = chance(w, 30) ? 1 + (int) (draw(w) % 4) : 0;
	w->trans.retry_interval = (int64_t) (draw(w) % 20) * DTM_SECOND;

	if (w->mode == DTM_MSG)
	{
		w->can_ask = chance(w, 80);
		if (chance(w, 30))
			w->not_before = w->now + (DtmTime) (draw(w) % 90) * DTM_SECOND;
		if (chance(w, 30))
		{
			w->status = DTM_SUBMITTED;
			w->was_submitted = true;
			w->business = COMMITTED;
		}
	}
	for (int end = 0; end < 2; end++)
		w->endings.given[end] = chance(w, 50);
	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			w->place[i].empty[phase] = chance(w, 10);
			w->branch[i].address[phase] =
				w->place[i].empty[phase] ? "" : "http://there/";
		}
	}
}

static void
store_success(World *w, DtmOpRef ref)
{
	if (!w->local)
		return;
	w->exists[ref.branch][ref.phase] = true;
	w->row[ref.branch][ref.phase].status = DTM_OP_SUCCEED;
	w->row[ref.branch][ref.phase].attempts++;
}

/* The call arrives and does its work. */
static void
works(World *w, DtmOpRef ref)
{
	Place	   *p = &w->place[ref.branch];

	switch (ref.phase)
	{
		case DTM_TRY:
			p->effect[DTM_TRY] |= !p->closed;
			return;
		case DTM_FORWARD:
			CHECK(w, !p->effect[DTM_BACKWARD], "confirmed after cancelling", ref.branch);
			CHECK(w, !w->driven || p->effect[DTM_TRY] || p->empty[DTM_TRY],
				  "confirmed without a try", ref.branch);
			break;
		case DTM_BACKWARD:
			CHECK(w, !p->effect[DTM_FORWARD], "cancelled after confirming", ref.branch);
			p->effect[DTM_TRY] = false;
			p->closed = true;
			break;
	}
	p->effect[ref.phase] = true;
}

static void
late_call_arrives(World *w)
{
	int			i = (int) (draw(w) % (unsigned) w->nlate);

	works(w, w->late[i]);
	w->late[i] = w->late[--w->nlate];
}

/* The business's own barrier: who is asked before it has committed rolls back. */
static DtmAnswer
answer_check(World *w)
{
	if (!w->peace && chance(w, 40))
		return chance(w, 50) ? DTM_ANSWER_ONGOING : DTM_ANSWER_ERROR;
	if (w->business == OPEN)
		w->business = ROLLED_BACK;
	if (w->business == COMMITTED)
		return DTM_ANSWER_SUCCESS;
	w->check_refused = true;
	return DTM_ANSWER_FAILURE;
}

/* It commits, or fails, or finds the row locked; or commits, and dies unheard. */
static DtmAnswer
answer_ending(World *w)
{
	DtmAnswer	answer;

	if (!w->peace && chance(w, 25))
		return chance(w, 50) ? DTM_ANSWER_ONGOING : DTM_ANSWER_ERROR;
	answer = ending_commits(&w->endings, &w->endings.job, &w->status);
	return !w->peace && chance(w, 10) ? DTM_ANSWER_ERROR : answer;
}

static void
orphan_commits(World *w)
{
	int			i = (int) (draw(w) % (unsigned) w->endings.norphans);
	DtmStatus	before = w->status;

	(void) ending_commits(&w->endings, &w->endings.orphan[i], &w->status);
	w->endings.orphan[i] = w->endings.orphan[--w->endings.norphans];
	if (w->status != before)
		TELL(w, "an orphan commits %s", dtm_status_name(w->status));
}

static DtmAnswer
answer(World *w, DtmOpRef ref)
{
	Place	   *p;

	if (ref.branch == DTM_WHOLE)
		return answer_check(w);
	if (ref.branch == DTM_ENDING)
		return answer_ending(w);
	p = &w->place[ref.branch];
	if (w->peace || chance(w, 60))
	{
		works(w, ref);
		p->success[ref.phase] = true;
		store_success(w, ref);
		return DTM_ANSWER_SUCCESS;
	}
	if (chance(w, 25) && (ref.phase != DTM_TRY || !p->effect[DTM_TRY]))
		return DTM_ANSWER_FAILURE;
	if (chance(w, 25))
		return DTM_ANSWER_ONGOING;
	if (chance(w, 40) && !w->local)
		works(w, ref);
	else if (chance(w, 40) && !w->local && w->nlate < MAX_LATE)
		w->late[w->nlate++] = ref;
	return DTM_ANSWER_ERROR;
}

/* Is the op of another branch over, as far as order is concerned? */
static bool
is_over(const World *w, int i, DtmPhase phase)
{
	const Place *p = &w->place[i];

	return p->empty[phase] || p->success[phase] ||
		(phase == DTM_BACKWARD && w->driven && !p->called[DTM_TRY]);
}

static void
check_start(World *w, DtmOpRef ref)
{
	DtmStatus	status = w->trans.status;
	bool		last_first = w->mode == DTM_TCC;

	if (ref.branch == DTM_ENDING)
	{
		CHECK(w, ending_is_given(&w->endings, status), "ended without a statement", ref.branch);
		return;
	}
	if (ref.branch == DTM_WHOLE)
	{
		CHECK(w, w->mode == DTM_MSG && w->can_ask && status == DTM_PREPARED &&
			  w->now >= w->deadline, "asked without need", ref.branch);
		return;
	}
	CHECK(w, !w->place[ref.branch].empty[ref.phase], "called without an address", ref.branch);
	CHECK(w, w->branch[ref.branch].op[ref.phase].status == DTM_OP_PREPARED,
		  "called again after its end", ref.branch);
	CHECK(w, status == (ref.phase == DTM_TRY ? DTM_PREPARED :
						ref.phase == DTM_FORWARD ? DTM_SUBMITTED : DTM_ABORTING),
		  "called in the wrong status", ref.branch);
	CHECK(w, ref.phase != DTM_TRY || w->driven, "tried for the application", ref.branch);
	CHECK(w, w->mode != DTM_MSG || w->now >= w->not_before, "delivered too early", ref.branch);
	for (int i = 0; i < w->n; i++)
	{
		CHECK(w, ref.phase != DTM_BACKWARD || !w->branch[i].op[DTM_TRY].running,
			  "cancelled while a try runs", ref.branch);
		CHECK(w, ref.phase != DTM_FORWARD || !w->driven || w->place[i].empty[DTM_TRY] ||
			  w->place[i].success[DTM_TRY], "confirmed before all tries", ref.branch);
		if (!w->concurrent && ref.phase != DTM_TRY &&
			(last_first ? i > ref.branch : i < ref.branch))
			CHECK(w, is_over(w, i, ref.phase), "out of turn", ref.branch);
	}
}

static void
check_plan(World *w, const DtmPlan *plan, DtmStatus before)
{
	const DtmTrans *t = &w->trans;
	int			running = t->check.running + t->ending.running;

	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			const DtmOp *op = &t->branches[i].op[phase];

			running += op->running;
			CHECK(w, !op->running || op->in_doubt, "running and not in doubt", i);
			CHECK(w, op->status != DTM_OP_FAILED || phase == DTM_TRY, "failed for good", i);
		}
	}
	CHECK(w, running == t->running, "the running count is wrong", running);
	CHECK(w, plan->status_changed == (t->status != before), "status_changed is wrong", 0);
	if (dtm_status_is_final(t->status))
	{
		if (dtm_is_over(t) || !dtm_ending_is_pending(t))
			CHECK(w, plan->nstart == 0 && t->due == DTM_NEVER, "something after the end", 0);
		else
			CHECK(w, dtm_is_to_be_written(t) || running > 0 || t->due < DTM_NEVER, "its ending would hang", 0);
		return;
	}
	CHECK(w, t->due > w->now, "due has not moved on", 0);
	CHECK(w, running > 0 || t->due < DTM_NEVER ||
		  (t->status == DTM_ABORTING && dtm_is_to_be_written(t)), "it would hang", 0);
	if (t->status == DTM_PREPARED && w->now < w->deadline)
		CHECK(w, t->due <= w->deadline, "the deadline would be missed", 0);
	if (plan->status_changed && t->status != DTM_SUBMITTED)
		CHECK(w, plan->cause != DTM_CAUSE_NONE, "turned back without a cause", 0);
	if (plan->cause == DTM_CAUSE_DEADLINE)
		CHECK(w, w->now >= w->deadline, "turned back before the deadline", 0);
}

static void drop_branches(World *w);

static void
decide(World *w, DtmEvent *event)
{
	DtmOpRef	start[MAX_CALLS];
	DtmPlan		plan = {.start = start};
	DtmTrans   *t = &w->trans;
	DtmStatus	before = t->status;

	event->now = w->now;
	event->random = draw(w);
	event->max_retry_interval = 60 * DTM_SECOND;
	event->stuck_after = 5;
	if (event->kind == DTM_EVENT_COMMAND && event->status != t->stored_status)
		before = event->status;
	dtm_decide(t, event, &plan);
	check_plan(w, &plan, before);
	if (plan.status_changed)
		TELL(w, "decided %s (cause %d)", dtm_status_name(t->status), plan.cause);
	for (int i = 0; i < plan.nstart; i++)
	{
		check_start(w, plan.start[i]);
		CHECK(w, w->nqueued < MAX_CALLS, "an op was started twice", plan.start[i].branch);
		w->waits[w->nqueued] = dtm_is_to_be_written(t);
		w->queued[w->nqueued++] = plan.start[i];
	}
	if (dtm_status_is_final(t->status))
		drop_branches(w);
	if (dtm_is_over(t))
		w->alive = false;
}

/* Nothing more of them is called. */
static void
drop_branches(World *w)
{
	int			kept = 0;

	for (int i = 0; i < w->nqueued; i++)
	{
		if (w->queued[i].branch == DTM_ENDING)
		{
			w->waits[kept] = w->waits[i];
			w->queued[kept++] = w->queued[i];
		}
	}
	w->nqueued = kept;
}

static DtmOpRef
take_queued(World *w, int i)
{
	DtmOpRef	ref = w->queued[i];

	w->nqueued--;
	w->queued[i] = w->queued[w->nqueued];
	w->waits[i] = w->waits[w->nqueued];
	return ref;
}

/* As the row says. */
static bool
is_unfinished(const World *w)
{
	return !dtm_status_is_final(w->status) || w->endings.due;
}

static void
load_op(World *w, DtmOp *op, int row, int phase)
{
	memset(op, 0, sizeof(*op));
	op->status = DTM_OP_PREPARED;
	if (!w->exists[row][phase])
		return;
	*op = w->row[row][phase];
	op->running = op->dirty = false;
	op->in_doubt = op->attempts > 0 && op->status == DTM_OP_PREPARED;
}

static void
load(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_LOADED};
	DtmTrans   *t = &w->trans;

	w->alive = true;
	w->news = w->hurried = false;
	t->mode = w->mode;
	t->status = t->stored_status = w->status;
	t->driven = w->driven;
	t->concurrent = w->concurrent;
	t->resumed = w->crashed_once;
	t->deadline = w->deadline;
	t->not_before = w->not_before;
	t->query_prepared = w->can_ask ? "http://who/" : "";
	t->nbranches = w->n;
	t->branches = w->branch;
	t->running = 0;
	load_op(w, &t->check, MAX_N, DTM_FORWARD);
	ending_is_loaded(&w->endings, t);
	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			load_op(w, &w->branch[i].op[phase], i, phase);
	}
	TELL(w, "loaded as %s%s", dtm_status_name(t->status), t->resumed ? ", resumed" : "");
	decide(w, &event);
}

/* Everything in memory is gone; what was under way may yet arrive. */
static void
forget(World *w)
{
	for (int i = 0; i < w->nflying; i++)
	{
		DtmOpRef	ref = w->flying[i];

		if (ref.branch == DTM_ENDING)
			ending_is_orphaned(&w->endings);
		else if (ref.branch == DTM_WHOLE || chance(w, 50))
			(void) answer(w, ref);
		else if (!w->local && w->nlate < MAX_LATE)
			w->late[w->nlate++] = ref;
	}
	w->nflying = w->nqueued = 0;
	w->alive = false;
}

static bool
call_begins(World *w)
{
	DtmOpRef	ref;
	Place	   *p;

	if (w->nqueued == 0 || dtm_is_to_be_written(&w->trans))
		return false;
	ref = take_queued(w, (int) (draw(w) % (unsigned) w->nqueued));
	w->flying[w->nflying++] = ref;
	TELL(w, "call %s %d", dtm_op_name(w->mode, ref.phase), ref.branch + 1);
	if (ref.branch == DTM_ENDING)
	{
		w->endings.job = (Job) {w->trans.stored_status, w->trans.ending_for};
		return true;
	}
	if (ref.branch == DTM_WHOLE)
		return true;
	p = &w->place[ref.branch];
	p->called[ref.phase] = true;
	CHECK(w, ref.phase != DTM_FORWARD || (w->was_submitted && !w->was_aborting),
		  "called before the submit was durable", ref.branch);
	CHECK(w, ref.phase != DTM_BACKWARD || (w->was_aborting && !w->was_submitted),
		  "called before aborting was durable", ref.branch);
	return true;
}

static bool
call_ends(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_RESULT};
	DtmOpRef	ref;
	int			i;

	if (w->nflying == 0)
		return false;
	i = (int) (draw(w) % (unsigned) w->nflying);
	ref = w->flying[i];
	w->flying[i] = w->flying[--w->nflying];
	event.branch = ref.branch;
	event.phase = ref.phase;
	event.answer = answer(w, ref);
	TELL(w, "%s %d ends: %d", dtm_op_name(w->mode, ref.phase), ref.branch + 1, event.answer);
	/* The row was not as the executor had been told: it is read again. */
	if (ref.branch == DTM_ENDING && event.answer == DTM_ANSWER_ONGOING)
		w->news = true;
	decide(w, &event);
	return true;
}

static bool
call_is_withdrawn(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_WITHDRAWN};
	DtmOpRef	ref;
	int			i;

	if (w->nqueued == 0)
		return false;
	i = (int) (draw(w) % (unsigned) w->nqueued);
	if (w->waits[i])
		return false;
	ref = take_queued(w, i);
	event.branch = ref.branch;
	event.phase = ref.phase;
	decide(w, &event);
	return true;
}

static bool
row_is_written(World *w, DtmOp *op, int row, int phase, bool always)
{
	if (!op->dirty || (!always && chance(w, 40)))
		return false;
	if (!w->exists[row][phase] || w->row[row][phase].status != DTM_OP_SUCCEED)
		w->row[row][phase] = *op;
	w->exists[row][phase] = true;
	op->dirty = false;
	return true;
}

static bool
rows_are_written(World *w, bool all)
{
	bool		any = row_is_written(w, &w->trans.check, MAX_N, DTM_FORWARD, all) |
		ending_is_written(&w->endings, &w->trans.ending);

	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
			any |= row_is_written(w, &w->branch[i].op[phase], i, phase, all);
	}
	return any;
}

/* As the worker does it: what is only prepared is read anew. */
static void
tell_worker(World *w)
{
	DtmTrans   *t = &w->trans;
	DtmEvent	event = {.kind = DTM_EVENT_COMMAND, .status = w->status, .hurry = w->hurried,
	.ended = dtm_status_is_final(w->status) && !w->endings.due};

	TELL(w, "the worker hears of %s", dtm_status_name(w->status));
	if (t->stored_status == DTM_PREPARED && !w->driven && chance(w, 90))
	{
		forget(w);
		if (is_unfinished(w))
			load(w);
		return;
	}
	if (event.status != t->stored_status && event.status != t->status)
	{
		for (int i = w->nqueued - 1; i >= 0; i--)
		{
			if (w->waits[i] || w->queued[i].branch == DTM_ENDING)
			{
				DtmOpRef	ref = take_queued(w, i);

				dtm_take_back(t, ref.branch, ref.phase);
			}
		}
	}
	w->news = w->hurried = false;
	t->deadline = w->deadline;
	decide(w, &event);
	CHECK(w, t->stored_status == w->status, "the row's status was not taken over", 0);
}

static bool
status_is_written(World *w)
{
	DtmTrans   *t = &w->trans;

	if (!dtm_is_to_be_written(t))
		return false;
	/* In the same commit, whether the row is still ours or not. */
	(void) ending_is_written(&w->endings, &t->ending);
	if (w->status != t->stored_status)
	{
		tell_worker(w);
		return true;
	}
	w->status = t->stored_status = t->status;
	ending_falls_due(&w->endings, w->status);
	w->was_aborting |= w->status == DTM_ABORTING;
	w->was_submitted |= w->status == DTM_SUBMITTED;
	memset(w->waits, 0, sizeof(w->waits));
	TELL(w, "durable: %s", dtm_status_name(w->status));
	if (dtm_is_over(t))
		w->alive = false;
	else if (t->running == 0 && t->due == DTM_NEVER)
		decide(w, &(DtmEvent) {.kind = DTM_EVENT_TIMER});
	return true;
}

static bool
timer_rings(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_TIMER};

	if (w->trans.due == DTM_NEVER)
		return false;
	if (w->trans.due > w->now)
		w->now = w->trans.due;
	decide(w, &event);
	return true;
}

static bool
is_evicted(World *w)
{
	if (w->nqueued > 0 || w->nflying > 0 || w->news || dtm_is_to_be_written(&w->trans))
		return false;
	(void) rows_are_written(w, true);
	w->alive = false;
	return true;
}

static void
user_acts(World *w)
{
	int			what = (int) (draw(w) % 100);

	w->news = true;
	if (dtm_status_is_final(w->status))
	{
		w->hurried = true;
		return;
	}
	if (what >= 98)
	{
		w->status = DTM_FAILED;
		w->forced = true;
	}
	else if (w->status == DTM_PREPARED && w->driven && what < 30)
		w->status = DTM_ABORTING;
	else if (w->status == DTM_PREPARED && !w->driven && what < 30 && w->business != ROLLED_BACK)
	{
		w->status = DTM_SUBMITTED;
		w->business = COMMITTED;
	}
	else if (w->status == DTM_PREPARED && !w->driven && what < 50 && w->business != COMMITTED)
	{
		w->status = w->mode == DTM_MSG ? DTM_FAILED : DTM_ABORTING;
		w->user_ended = true;
		w->business = ROLLED_BACK;
	}
	else if (w->status == DTM_PREPARED && w->mode == DTM_TCC && !w->driven && w->n > 0)
	{
		/* The application tries, whenever it likes. */
		int			i = (int) (draw(w) % (unsigned) w->n);

		w->place[i].effect[DTM_TRY] |= !w->place[i].closed;
	}
	else if (w->mode == DTM_MSG && w->business == OPEN && what < 70)
		w->business = COMMITTED;	/* and the submit is lost */
	else
		w->hurried = true;
	w->was_aborting |= w->status == DTM_ABORTING;
	w->was_submitted |= w->status == DTM_SUBMITTED;
	ending_falls_due(&w->endings, w->status);
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
		w->now += (DtmTime) (draw(w) % (3 * DTM_SECOND));
		if (w->nlate > 0 && chance(w, 5))
			late_call_arrives(w);
		if (w->endings.norphans > 0 && chance(w, 5))
			orphan_commits(w);
		if (what < 2)
		{
			TELL(w, "CRASH");
			forget(w);
			w->crashed_once = true;
			return;
		}
		if (what < 6)
		{
			user_acts(w);
			return;
		}
		if (what < 9 && call_is_withdrawn(w))
			return;
		if (what < 12 && is_evicted(w))
			return;
	}

	if (w->news && (w->peace || what < 30))
		tell_worker(w);
	else if (w->trans.due <= w->now && (w->peace || what < 50))
		timer_rings(w);
	else if (what < 55 && call_begins(w))
		return;
	else if (what < 75 && call_ends(w))
		return;
	else if (what < 85 && status_is_written(w))
		return;
	else if (what < 95 && rows_are_written(w, w->peace))
		return;
	else if (w->nqueued == 0 && w->nflying == 0)
		timer_rings(w);
}

static void
check_end(World *w)
{
	bool		undone = w->status == DTM_FAILED && !w->forced && w->mode != DTM_MSG;

	const char *wrong;

	while (w->nlate > 0)
		late_call_arrives(w);
	while (w->endings.norphans > 0)
		orphan_commits(w);
	wrong = ending_is_wrong(&w->endings, w->status);
	CHECK(w, wrong == NULL, wrong, 0);
	for (int i = 0; i < w->n; i++)
	{
		Place	   *p = &w->place[i];

		if (w->status == DTM_SUCCEED)
		{
			CHECK(w, p->empty[DTM_FORWARD] || (p->success[DTM_FORWARD] && p->effect[DTM_FORWARD]),
				  "succeeded without a branch", i);
			CHECK(w, !p->called[DTM_BACKWARD], "succeeded and cancelled", i);
		}
		else if (undone && !p->empty[DTM_BACKWARD])
		{
			CHECK(w, !p->effect[DTM_TRY], "failed, and a try remains", i);
			CHECK(w, p->success[DTM_BACKWARD] || (w->driven && !p->called[DTM_TRY]),
				  "failed, and a branch was not told", i);
		}
		if (w->driven && !w->crashed_once && !p->called[DTM_TRY] && !p->empty[DTM_TRY])
			CHECK(w, !p->called[DTM_BACKWARD], "cancelled what never ran", i);
		if (w->status == DTM_FAILED && !w->was_submitted)
			CHECK(w, !p->called[DTM_FORWARD], "called forward without a submit", i);
	}
	if (w->mode != DTM_MSG || w->forced)
		return;
	if (w->status == DTM_SUCCEED)
		CHECK(w, w->business == COMMITTED, "delivered what was rolled back", 0);
	else
		CHECK(w, w->user_ended || (w->can_ask ? w->check_refused : !w->was_submitted),
			  "dropped on a guess", 0);
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
	TELL(w, "%s, %d branches%s%s", dtm_mode_name(w->mode), w->n,
		 w->concurrent ? ", concurrent" : "", w->driven ? ", driven" : "");

	for (int moves = 0; is_unfinished(w); moves++)
	{
		w->peace = (moves > CHAOS);
		CHECK(w, moves < CHAOS + PEACE, "it never ends", 0);
		one_move(w);
	}
	if (w->alive && w->news)
		tell_worker(w);
	w->peace = true;
	while (w->alive && call_ends(w))
		;
	check_end(w);
}

int
main(int argc, char **argv)
{
	uint64_t	count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
	uint64_t	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	for (uint64_t i = 0; i < count; i++)
		run(seed + i, argc > 3);
	printf("ok 1 - %llu random TCCs, messages and XAs from seed %llu keep the contract\n1..1\n",
		   (unsigned long long) count, (unsigned long long) seed);
	return 0;
}
