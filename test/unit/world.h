/*
 * world.h: one transaction in memory, and events for it, for the tests of the
 * deciding files.
 */
#ifndef DTM_TEST_WORLD_H
#define DTM_TEST_WORLD_H

#include "decide.h"
#include "tap.h"

#define MAX_BRANCHES 8
#define SECONDS(n) ((n) * DTM_SECOND)

#define FORWARD(n) (&branches[n].op[DTM_FORWARD])
#define BACKWARD(n) (&branches[n].op[DTM_BACKWARD])
#define TRY(n) (&branches[n].op[DTM_TRY])

static DtmBranch branches[MAX_BRANCHES];
static DtmTrans trans;
static DtmOpRef start[DTM_MAX_START(MAX_BRANCHES)];
static DtmPlan plan = {.start = start};
static DtmTime now;

static inline void
fresh(DtmMode mode, int nbranches, DtmStatus status)
{
	memset(branches, 0, sizeof(branches));
	memset(&trans, 0, sizeof(trans));
	now = SECONDS(1000);
	trans.mode = mode;
	trans.status = trans.stored_status = status;
	trans.deadline = now + SECONDS(33);
	trans.retry_interval = SECONDS(10);
	trans.check.status = DTM_OP_PREPARED;
	trans.ending.status = DTM_OP_PREPARED;
	trans.nbranches = nbranches;
	trans.branches = branches;
	for (int i = 0; i < nbranches; i++)
	{
		for (int phase = 0; phase < DTM_PHASES; phase++)
		{
			branches[i].address[phase] = "http://there/";
			branches[i].op[phase].status = DTM_OP_PREPARED;
		}
	}
}

static inline void
decide(DtmEvent event)
{
	event.now = now;
	event.max_retry_interval = SECONDS(600);
	event.stuck_after = 4;
	dtm_decide(&trans, &event, &plan);
}

static inline void
loaded(void)
{
	decide((DtmEvent) {.kind = DTM_EVENT_LOADED});
}

/* Time goes on to when something is due. */
static inline void
timer(void)
{
	if (trans.due != DTM_NEVER && trans.due > now)
		now = trans.due;
	decide((DtmEvent) {.kind = DTM_EVENT_TIMER});
}

static inline void
command(DtmStatus status, bool hurry)
{
	decide((DtmEvent) {.kind = DTM_EVENT_COMMAND, .status = status, .hurry = hurry});
}

static inline void
result(DtmPhase phase, int branch, DtmAnswer answer)
{
	decide((DtmEvent) {.kind = DTM_EVENT_RESULT, .branch = branch, .phase = phase,
		.answer = answer});
}

static inline void
withdrawn(DtmPhase phase, int branch)
{
	decide((DtmEvent) {.kind = DTM_EVENT_WITHDRAWN, .branch = branch, .phase = phase});
}

/*
 * Does the plan start exactly these, in its order? f1 b2 t3: forward,
 * backward, try of a branch; q: the question of a back-check; e: the ending.
 */
static inline void
starts(const char *wanted, const char *name)
{
	char		got[200] = "";

	for (int i = 0; i < plan.nstart && i < 20; i++)
	{
		if (start[i].branch == DTM_WHOLE)
			strcat(got, "q");
		else if (start[i].branch == DTM_ENDING)
			strcat(got, "e");
		else
			sprintf(got + strlen(got), "%c%d", "fbt"[start[i].phase], start[i].branch + 1);
	}
	is_text(got, wanted, name);
}

#endif
