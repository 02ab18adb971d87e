/*
 * saga_simulator.c: random sagas in a hostile world, against the contract.
 *
 *   saga_simulator [COUNT [SEED]]     TAP; -v as third argument tells the story
 *
 * The world has a table that is written whenever it likes, except that a
 * status is durable before the calls that follow from it; participants that
 * refuse, stall, answer wrongly after having worked, or work after having been
 * given up; users who submit, abort, hurry and stop; and a worker that dies.
 * First comes chaos, then peace, in which every saga must come to its end. Some
 * have a statement for that (endings.h).
 *
 * The rules that are checked are written down here a second time, from the
 * contract and not from saga.c: if both are wrong they are not so alike.
 */
#include "saga_world.h"

static void
make_order(World *w)
{
	int			perm[MAX_STEPS];

	for (int i = 0; i < w->n; i++)
		perm[i] = i;
	for (int i = w->n - 1; i > 0; i--)
	{
		int			j = (int) (draw(w) % (unsigned) (i + 1));
		int			swap = perm[i];

		perm[i] = perm[j];
		perm[j] = swap;
	}

	for (int i = 0; i < w->n; i++)
	{
		DtmBranch  *b = &w->branch[perm[i]];

		b->predecessors = w->predecessors[perm[i]];
		for (int j = 0; j < i; j++)
		{
			if (!chance(w, 30))
				continue;
			b->predecessors[b->npredecessors++] = perm[j];
			w->step[perm[i]].before |= 1u << perm[j] | w->step[perm[j]].before;
		}
	}
}

static void
begin(World *w)
{
	int			kind = (int) (draw(w) % 3);

	w->n = (int) (draw(w) % (MAX_STEPS + 1));
	w->concurrent = kind > 0;
	w->now = 1000 * DTM_SECOND;
	w->timeout = chance(w, 30) ? (DtmTime) (draw(w) % 60) * DTM_SECOND : DTM_NEVER;
	w->deadline = DTM_NEVER;
	w->trans.retry_limit = chance(w, 30) ? 1 + (int) (draw(w) % 4) : 0;
	w->trans.retry_interval = (int64_t) (draw(w) % 20) * DTM_SECOND;

	for (int end = 0; end < 2; end++)
		w->endings.given[end] = chance(w, 50);
	for (int i = 0; i < w->n; i++)
	{
		w->branch[i].retry_limit = chance(w, 10) ? 1 + (int) (draw(w) % 3) : 0;
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			w->step[i].empty[phase] = chance(w, 15);
			w->branch[i].address[phase] =
				w->step[i].empty[phase] ? "" : "http://there/";
		}
		w->step[i].local = chance(w, 30);
		w->step[i].forgetful = chance(w, 15);
	}

	if (kind == 2)
		make_order(w);
	else if (kind == 0)
	{
		for (int i = 0; i < w->n; i++)
			w->step[i].before = (1u << i) - 1;
	}
	for (int i = 0; i < w->n; i++)
	{
		for (int j = 0; j < w->n; j++)
		{
			if (w->step[j].before & 1u << i)
				w->step[i].after |= 1u << j;
		}
	}

	w->status = chance(w, 30) ? DTM_PREPARED : DTM_SUBMITTED;
	if (w->timeout != DTM_NEVER && (w->status == DTM_SUBMITTED || chance(w, 50)))
		w->deadline = w->now + w->timeout;
}

/* An action arrives and does its work, or does not. */
static void
action_works(Step *s)
{
	if (!s->undone)
		s->effect = true;
}

static void
compensate_works(Step *s)
{
	s->effect = false;
	s->undone = true;
}

static void
late_action_arrives(World *w)
{
	int			i = (int) (draw(w) % (unsigned) w->nlate);

	TELL(w, "late action %d arrives", w->late[i] + 1);
	action_works(&w->step[w->late[i]]);
	w->late[i] = w->late[--w->nlate];
}

static void
store_success(World *w, int step, DtmPhase phase)
{
	Row		   *row = &w->row[step][phase];

	row->exists = true;
	row->status = DTM_OP_SUCCEED;
	row->attempts++;
}

static DtmAnswer
answer_action(World *w, int step)
{
	Step	   *s = &w->step[step];
	bool		had_effect = s->effect;

	if (w->peace || chance(w, 55))
	{
		if (had_effect && s->forgetful && !w->peace && chance(w, 50))
			return DTM_ANSWER_FAILURE;
		action_works(s);
		s->success[DTM_FORWARD] = true;
		if (s->local)
			store_success(w, step, DTM_FORWARD);
		return DTM_ANSWER_SUCCESS;
	}
	if (chance(w, 25) && !had_effect)
		return DTM_ANSWER_FAILURE;
	if (chance(w, 25))
		return DTM_ANSWER_ONGOING;
	if (chance(w, 40) && !s->local)
		action_works(s);
	else if (chance(w, 40) && !s->local && w->nlate < MAX_LATE)
		w->late[w->nlate++] = step;
	return DTM_ANSWER_ERROR;
}

static DtmAnswer
answer_compensate(World *w, int step)
{
	Step	   *s = &w->step[step];

	if (w->peace || chance(w, 60))
	{
		compensate_works(s);
		s->success[DTM_BACKWARD] = true;
		if (s->local)
			store_success(w, step, DTM_BACKWARD);
		return DTM_ANSWER_SUCCESS;
	}
	if (chance(w, 30))
		return DTM_ANSWER_ONGOING;
	if (chance(w, 50) && !s->local)
		compensate_works(s);
	return chance(w, 50) ? DTM_ANSWER_FAILURE : DTM_ANSWER_ERROR;
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

/* As the row says. */
static bool
is_unfinished(const World *w)
{
	return !dtm_status_is_final(w->status) || w->endings.due;
}

static void
check_start(World *w, DtmOpRef ref)
{
	Step	   *s;
	DtmStatus	status = w->trans.status;

	if (ref.branch == DTM_ENDING)
	{
		CHECK(w, ending_is_given(&w->endings, status), "ended without a statement", 0);
		return;
	}
	s = &w->step[ref.branch];
	CHECK(w, !s->empty[ref.phase], "called without an address", ref.branch);
	CHECK(w, w->branch[ref.branch].op[ref.phase].status == DTM_OP_PREPARED,
		  "called again after its end", ref.branch);
	if (ref.phase == DTM_FORWARD)
	{
		CHECK(w, status == DTM_SUBMITTED, "action started when not submitted", ref.branch);
		for (int i = 0; i < w->n; i++)
		{
			CHECK(w, !(s->before & 1u << i) || w->step[i].empty[DTM_FORWARD] ||
				  w->step[i].success[DTM_FORWARD],
				  "action started before its predecessor's success", ref.branch);
		}
		return;
	}

	CHECK(w, status == DTM_ABORTING, "compensate started when not aborting", ref.branch);
	for (int i = 0; i < w->n; i++)
	{
		const Step *t = &w->step[i];

		CHECK(w, !w->branch[i].op[DTM_FORWARD].running,
			  "compensate started while an action runs", ref.branch);
		if (!(s->after & 1u << i))
			continue;
		CHECK(w, t->empty[DTM_BACKWARD] || t->success[DTM_BACKWARD] ||
			  !t->called[DTM_FORWARD],
			  "compensate started before a later step's", ref.branch);
	}
}

static void
check_plan(World *w, const DtmPlan *plan, DtmStatus before)
{
	const DtmTrans *t = &w->trans;
	int			running = t->ending.running;

	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			const DtmOp *op = &t->branches[i].op[phase];
			int32_t		limit = t->branches[i].retry_limit > 0 ?
				t->branches[i].retry_limit : t->retry_limit;

			running += op->running;
			if (phase == DTM_FORWARD && limit > 0)
				CHECK(w, op->failed_attempts <= limit, "more attempts than the limit", i);
			CHECK(w, !op->running || op->in_doubt, "running and not in doubt", i);
			CHECK(w, op->status != DTM_OP_SUCCEED || !(op->running || op->in_doubt),
				  "running or in doubt after success", i);
			CHECK(w, phase == DTM_FORWARD || op->status != DTM_OP_FAILED,
				  "a compensate failed for good", i);
		}
	}
	CHECK(w, running == t->running, "the running count is wrong", running);
	CHECK(w, t->concurrent || running - t->ending.running <= 1 || dtm_status_is_final(t->status),
		  "two at once in sequence", running);
	CHECK(w, plan->nstart == 0 || !dtm_status_is_final(t->status) ||
		  (plan->nstart == 1 && plan->start[0].branch == DTM_ENDING), "start after the end", 0);
	CHECK(w, plan->status_changed == (t->status != before), "status_changed is wrong", 0);

	if (dtm_is_over(t) || (dtm_status_is_final(t->status) && !dtm_ending_is_pending(t)))
		CHECK(w, t->due == DTM_NEVER, "due after the end", 0);
	else if (dtm_status_is_final(t->status))
		CHECK(w, dtm_is_to_be_written(t) || running > 0 || t->due < DTM_NEVER, "its ending would hang", 0);
	else
	{
		CHECK(w, t->due > w->now, "due has not moved on", 0);
		CHECK(w, t->status != DTM_SUBMITTED || t->due <= t->deadline, "the deadline would be missed", 0);
		CHECK(w, t->status == DTM_PREPARED || running > 0 || t->due < DTM_NEVER ||
			  (t->status == DTM_ABORTING && dtm_is_to_be_written(t)), "it would hang", 0);
	}

	if (plan->status_changed && t->status == DTM_ABORTING)
	{
		const DtmOp *op;

		CHECK(w, plan->cause != DTM_CAUSE_NONE, "turned back without a cause", 0);
		if (plan->cause == DTM_CAUSE_DEADLINE)
			CHECK(w, t->deadline <= w->now, "turned back before the deadline", 0);
		else
		{
			op = &t->branches[plan->cause_branch].op[DTM_FORWARD];
			if (plan->cause == DTM_CAUSE_REFUSED)
				CHECK(w, op->status == DTM_OP_FAILED, "nobody refused", plan->cause_branch);
			else
				CHECK(w, op->failed_attempts > 0 && !op->running, "no limit reached", plan->cause_branch);
		}
	}
	if (plan->status_changed && t->status == DTM_SUCCEED)
		CHECK(w, before == DTM_SUBMITTED && running == t->ending.running, "succeeded out of nowhere", 0);
	if (plan->status_changed && t->status == DTM_FAILED)
		CHECK(w, running == t->ending.running, "failed while something runs", 0);
}

static void
check_end(World *w)
{
	const char *wrong;

	while (w->nlate > 0)
		late_action_arrives(w);
	while (w->endings.norphans > 0)
		orphan_commits(w);
	wrong = ending_is_wrong(&w->endings, w->status);
	CHECK(w, wrong == NULL, wrong, 0);

	for (int i = 0; i < w->n; i++)
	{
		Step	   *s = &w->step[i];

		if (w->status == DTM_SUCCEED)
		{
			CHECK(w, s->empty[DTM_FORWARD] || s->success[DTM_FORWARD], "succeeded without a step", i);
			CHECK(w, s->empty[DTM_FORWARD] || s->effect, "succeeded without an effect", i);
			CHECK(w, !s->called[DTM_BACKWARD], "succeeded and compensated", i);
		}
		else if (!w->forced && !s->empty[DTM_BACKWARD])
		{
			CHECK(w, !s->effect, "failed, and an effect remains", i);
			CHECK(w, !s->called[DTM_FORWARD] || s->success[DTM_BACKWARD],
				  "failed, and a step was not compensated", i);
		}
		if (!w->crashed_once && !s->called[DTM_FORWARD] && !s->empty[DTM_FORWARD])
			CHECK(w, !s->called[DTM_BACKWARD], "compensated what never ran", i);
	}
}

static void drop_steps(World *w);

static void
decide(World *w, DtmEvent *event)
{
	DtmOpRef	start[MAX_CALLS];
	DtmPlan		plan = {.start = start};
	DtmStatus	before;

	event->now = w->now;
	event->random = draw(w);
	event->max_retry_interval = 60 * DTM_SECOND;
	event->stuck_after = 5;

	before = w->trans.status;
	if (event->kind == DTM_EVENT_COMMAND && event->status != w->trans.stored_status)
		before = event->status;
	dtm_decide(&w->trans, event, &plan);
	check_plan(w, &plan, before);

	if (plan.status_changed)
		TELL(w, "decided %s (cause %d, step %d)", dtm_status_name(w->trans.status),
			 plan.cause, plan.cause_branch + 1);
	for (int i = 0; i < plan.nstart; i++)
	{
		check_start(w, plan.start[i]);
		CHECK(w, w->nqueued < MAX_CALLS, "an op was started twice", plan.start[i].branch);
		w->queued[w->nqueued++] = plan.start[i];
	}
	if (dtm_status_is_final(w->trans.status))
		drop_steps(w);
	if (dtm_is_over(&w->trans))
		w->alive = false;
}

/* Nothing more of them is called. */
static void
drop_steps(World *w)
{
	int			kept = 0;

	for (int i = 0; i < w->nqueued; i++)
	{
		if (w->queued[i].branch == DTM_ENDING)
			w->queued[kept++] = w->queued[i];
	}
	w->nqueued = kept;
}

static void
load(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_LOADED};
	DtmTrans   *t = &w->trans;

	w->alive = true;
	w->news = false;
	t->mode = DTM_SAGA;
	t->status = w->status;
	t->stored_status = w->status;
	t->concurrent = w->concurrent;
	t->resumed = w->crashed_once;
	t->deadline = w->deadline;
	t->nbranches = w->n;
	t->branches = w->branch;
	t->running = 0;
	ending_is_loaded(&w->endings, t);
	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			const Row  *row = &w->row[i][phase];
			DtmOp	   *op = &w->branch[i].op[phase];

			memset(op, 0, sizeof(*op));
			op->status = DTM_OP_PREPARED;
			if (!row->exists)
				continue;
			op->status = row->status;
			op->stuck = row->stuck;
			op->attempts = row->attempts;
			op->failed_attempts = row->failed_attempts;
			op->streak = row->streak;
			op->due = row->due;
		}
	}
	TELL(w, "loaded as %s%s", dtm_status_name(t->status), t->resumed ? ", resumed" : "");
	decide(w, &event);
}

/* Everything in memory is gone; what was under way may yet arrive. */
static void
crash(World *w)
{
	TELL(w, "CRASH");
	for (int i = 0; i < w->nflying; i++)
	{
		DtmOpRef	ref = w->flying[i];

		if (ref.branch == DTM_ENDING)
			ending_is_orphaned(&w->endings);
		else if (ref.phase == DTM_BACKWARD)
			(void) answer_compensate(w, ref.branch);
		else if (chance(w, 50))
			(void) answer_action(w, ref.branch);
		else if (!w->step[ref.branch].local && w->nlate < MAX_LATE)
			w->late[w->nlate++] = ref.branch;
	}
	w->nflying = 0;
	w->nqueued = 0;
	w->alive = false;
	w->crashed_once = true;
}

static bool
call_begins(World *w)
{
	int			i;
	DtmOpRef	ref;

	if (w->nqueued == 0 || dtm_is_to_be_written(&w->trans))
		return false;
	i = (int) (draw(w) % (unsigned) w->nqueued);
	ref = w->queued[i];
	w->queued[i] = w->queued[--w->nqueued];
	if (ref.branch == DTM_ENDING)
	{
		TELL(w, "ending");
		w->endings.job = (Job) {w->trans.stored_status, w->trans.ending_for};
		w->flying[w->nflying++] = ref;
		return true;
	}

	TELL(w, "call %s %d", dtm_op_name(DTM_SAGA, ref.phase), ref.branch + 1);
	CHECK(w, ref.phase == DTM_FORWARD || w->was_aborting,
		  "compensate called before aborting was durable", ref.branch);
	CHECK(w, w->status != DTM_PREPARED, "called before the submit", ref.branch);
	w->step[ref.branch].called[ref.phase] = true;
	w->flying[w->nflying++] = ref;
	return true;
}

static bool
call_ends(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_RESULT};
	int			i;

	if (w->nflying == 0)
		return false;
	i = (int) (draw(w) % (unsigned) w->nflying);
	event.branch = w->flying[i].branch;
	event.phase = w->flying[i].phase;
	w->flying[i] = w->flying[--w->nflying];
	event.answer = event.branch == DTM_ENDING ? answer_ending(w) :
		event.phase == DTM_FORWARD ?
		answer_action(w, event.branch) : answer_compensate(w, event.branch);
	TELL(w, "%s %d ends: %d", dtm_op_name(DTM_SAGA, event.phase), event.branch + 1, event.answer);
	/* The row was not as the executor had been told: it is read again. */
	if (event.branch == DTM_ENDING && event.answer == DTM_ANSWER_ONGOING)
		w->news = true;
	decide(w, &event);
	if (event.answer == DTM_ANSWER_FAILURE && event.phase == DTM_FORWARD)
		CHECK(w, w->trans.status != DTM_SUBMITTED, "went on after a refusal", event.branch);
	return true;
}

static bool
call_is_withdrawn(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_WITHDRAWN};
	int			i;

	if (w->nqueued == 0)
		return false;
	i = (int) (draw(w) % (unsigned) w->nqueued);
	event.branch = w->queued[i].branch;
	event.phase = w->queued[i].phase;
	w->queued[i] = w->queued[--w->nqueued];
	TELL(w, "%s %d withdrawn", dtm_op_name(DTM_SAGA, event.phase), event.branch + 1);
	decide(w, &event);
	return true;
}

/* Some of the rows, in no order: nobody promised more. */
static bool
rows_are_written(World *w, bool all)
{
	bool		any = ending_is_written(&w->endings, &w->trans.ending);

	for (int i = 0; i < w->n; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			DtmOp	   *op = &w->branch[i].op[phase];
			Row		   *row = &w->row[i][phase];

			if (!op->dirty || (!all && chance(w, 40)))
				continue;
			CHECK(w, phase == DTM_FORWARD || w->trans.status != DTM_SUCCEED,
				  "a compensate's row after success", i);
			row->exists = true;
			row->status = op->status;
			row->stuck = op->stuck;
			row->attempts = op->attempts;
			row->failed_attempts = op->failed_attempts;
			row->streak = op->streak;
			row->due = op->due;
			op->dirty = false;
			any = true;
		}
	}
	return any;
}

static void
tell_worker(World *w)
{
	DtmEvent	event = {.kind = DTM_EVENT_COMMAND, .status = w->status,
	.hurry = w->hurried,.ended = dtm_status_is_final(w->status) && !w->endings.due};
	DtmTrans   *t = &w->trans;

	TELL(w, "the worker hears of %s%s", dtm_status_name(w->status), w->hurried ? ", hurry" : "");
	w->news = false;
	w->hurried = false;
	/* A statement that is only queued, for an end that it does not come to. */
	for (int i = w->nqueued - 1; i >= 0 && event.status != t->stored_status; i--)
	{
		if (w->queued[i].branch == DTM_ENDING && event.status != t->status)
		{
			w->queued[i] = w->queued[--w->nqueued];
			dtm_take_back(t, DTM_ENDING, DTM_FORWARD);
		}
	}
	w->trans.deadline = w->deadline;
	decide(w, &event);
	CHECK(w, w->trans.stored_status == w->status, "the row's status was not taken over", 0);
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
	w->status = t->status;
	t->stored_status = t->status;
	ending_falls_due(&w->endings, w->status);
	if (w->status == DTM_ABORTING)
		w->was_aborting = true;
	if (w->status == DTM_SUCCEED)
	{
		for (int i = 0; i < w->n; i++)
			CHECK(w, w->branch[i].op[DTM_FORWARD].status == DTM_OP_SUCCEED, "succeeded without all", i);
	}
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
	TELL(w, "timer");
	decide(w, &event);
	return true;
}

/* All written, nothing under way: memory may be needed for others. */
static bool
is_evicted(World *w)
{
	if (w->nqueued > 0 || w->nflying > 0 || w->news ||
		dtm_is_to_be_written(&w->trans))
		return false;
	(void) rows_are_written(w, true);
	TELL(w, "evicted");
	w->alive = false;
	return true;
}

static void
user_acts(World *w)
{
	int			what = (int) (draw(w) % 100);
	DtmStatus	before = w->status;

	if (w->status == DTM_PREPARED && what < 60)
	{
		w->status = DTM_SUBMITTED;
		if (w->timeout != DTM_NEVER)
			w->deadline = w->now + w->timeout;
		TELL(w, "user submits");
	}
	else if (w->status == DTM_PREPARED && what < 70)
	{
		w->status = DTM_FAILED;
		TELL(w, "user aborts before submit");
	}
	else if (w->status == DTM_SUBMITTED && what < 15)
	{
		w->status = DTM_ABORTING;
		w->was_aborting = true;
		TELL(w, "user aborts");
	}
	else if (what >= 97 && !dtm_status_is_final(w->status))
	{
		w->status = DTM_FAILED;
		w->forced = true;
		TELL(w, "user stops by force");
	}
	else
		w->hurried = true;
	w->news = true;
	if (dtm_status_is_final(w->status) && before != w->status)
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
			late_action_arrives(w);
		if (w->endings.norphans > 0 && chance(w, 5))
			orphan_commits(w);
		if (what < 2)
		{
			crash(w);
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
	else if (w->status == DTM_PREPARED)
		user_acts(w);

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
run(uint64_t seed, bool verbose)
{
	static World world;
	World	   *w = &world;
	int			moves = 0;

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	w->verbose = verbose;
	begin(w);
	TELL(w, "%d steps%s", w->n, w->concurrent ? ", concurrent" : "");

	while (is_unfinished(w) || w->alive)
	{
		w->peace = (moves > CHAOS);
		CHECK(w, moves < CHAOS + PEACE, "it never ends", 0);
		if (!is_unfinished(w))
			w->news = true;
		one_move(w);
		moves++;
	}

	/* The results that come too late must change nothing but the count. */
	w->peace = true;
	while (w->alive && call_ends(w))
		;
	if (w->alive && w->nqueued == 0)
	{
		int			running = w->trans.ending.running;

		for (int i = 0; i < w->n; i++)
			running += w->branch[i].op[0].running + w->branch[i].op[1].running;
		CHECK(w, running == w->trans.running, "the running count is wrong at the end", running);
	}
	check_end(w);
}

int
main(int argc, char **argv)
{
	uint64_t	count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
	uint64_t	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	for (uint64_t i = 0; i < count; i++)
		run(seed + i, argc > 3);
	printf("ok 1 - %llu random sagas from seed %llu keep the contract\n1..1\n",
		   (unsigned long long) count, (unsigned long long) seed);
	return 0;
}
