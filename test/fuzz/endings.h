/*
 * endings.h: statements for the end of a transaction, as the simulators run
 * them: what an executor does to the row, and when.
 *
 * The executor commits the statement's effect, the status and that nothing is
 * due, all at once; but only if the row is as the end was decided from. It may
 * come to that long after its worker has died.
 */
#ifndef DTM_FUZZ_ENDINGS_H
#define DTM_FUZZ_ENDINGS_H

#include "decide.h"

#define MAX_JOBS 16

typedef struct Job
{
	DtmStatus	from;
	DtmStatus	to;
} Job;

typedef struct Endings
{
	bool		given[2];		/* on_failure, on_success */
	int			effects[2];		/* how often each has taken effect */
	bool		due;			/* of the row: one is to be run */
	DtmOp		row;			/* of dtm.op */
	bool		exists;
	Job			job;			/* of the worker that is alive */
	Job			orphan[MAX_JOBS];	/* of those that have died */
	int			norphans;
} Endings;

static inline bool
ending_is_given(const Endings *e, DtmStatus status)
{
	return dtm_status_is_final(status) && e->given[status == DTM_SUCCEED];
}

/* A user, or the worker alone, has made the status of the row final. */
static inline void
ending_falls_due(Endings *e, DtmStatus status)
{
	e->due = ending_is_given(e, status);
}

/* The executor comes to its commit. What it answers, if anybody listens. */
static inline DtmAnswer
ending_commits(Endings *e, const Job *job, DtmStatus *status)
{
	if (*status == job->to && !e->due)
		return DTM_ANSWER_SUCCESS;
	if (*status != job->to && *status != job->from)
		return DTM_ANSWER_ONGOING;
	*status = job->to;
	e->due = false;
	e->effects[job->to == DTM_SUCCEED]++;
	e->exists = true;
	e->row.status = DTM_OP_SUCCEED;
	e->row.attempts++;
	return DTM_ANSWER_SUCCESS;
}

/* Its worker is gone, and forgets it; it is not. */
static inline void
ending_is_orphaned(Endings *e)
{
	if (e->norphans < MAX_JOBS)
		e->orphan[e->norphans++] = e->job;
}

static inline void
ending_is_loaded(const Endings *e, DtmTrans *t)
{
	if (e->exists)
		t->ending = e->row;
	else
	{
		t->ending = (DtmOp) {0};
		t->ending.status = DTM_OP_PREPARED;
	}
	t->ending.running = false;
	t->ending.dirty = false;
	if (dtm_status_is_final(t->status) && !e->due)
		t->ending.status = DTM_OP_SUCCEED;
	if (!dtm_status_is_final(t->status))
		t->ending.due = 0;
	t->on_failure = e->given[0];
	t->on_success = e->given[1];
}

/* Its row, as any op's: one that has succeeded is left alone. */
static inline bool
ending_is_written(Endings *e, DtmOp *op)
{
	if (!op->dirty)
		return false;
	if (!e->exists || e->row.status != DTM_OP_SUCCEED)
		e->row = *op;
	e->exists = true;
	op->dirty = false;
	return true;
}

/* For the end that it has come to: once. For the other: never. */
static inline const char *
ending_is_wrong(const Endings *e, DtmStatus status)
{
	bool		success = status == DTM_SUCCEED;

	if (e->effects[!success] != 0)
		return "the wrong statement took effect";
	if (e->effects[success] != (e->given[success] ? 1 : 0))
		return e->effects[success] == 0 ? "no statement took effect" : "a statement took effect twice";
	return NULL;
}

#endif
