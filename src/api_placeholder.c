/*
 * api_placeholder.c: may the payloads of these steps use what others answer?
 *
 * Whoever is used must exist, keep its result, and have succeeded, for certain,
 * before the payload is sent: in sequence, any earlier step; in a concurrent
 * saga, one that the step waits for, if only through others. Where all run at
 * once there is none.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "api_common.h"
#include "api_placeholder.h"
#include "placeholder.h"

/* Steps in the order of their branches; checked are those from first on. */
typedef struct Checking
{
	DtmMode		mode;
	bool		concurrent;
	bool		alone;			/* errors do not number the step */
	DtmStep    *steps;
	int			nsteps;
	int			first;
} Checking;

static bool may_use_any(const DtmStep *steps, int nsteps);
static bool may_use(const DtmStep *step);
static void check_all(Checking *c);
static ArrayType *check_step(const Checking *c, int which, List *branch_ids,
							 const char *place);
static int	find_step(const Checking *c, const char *branch_id);
static bool is_named(const Checking *c, int i, const char *branch_id);
static bool *find_earlier(const Checking *c, int which);
static DtmStep *read_branches(const DtmPlace *place);

void
dtm_check_uses(DtmMode mode, bool concurrent, DtmStep *steps, int nsteps)
{
	Checking	c = {
		.mode = mode,
		.concurrent = concurrent,
		.steps = steps,
		.nsteps = nsteps
	};

	if (may_use_any(steps, nsteps))
		check_all(&c);
}

void
dtm_check_uses_in_place(const DtmPlace *place, DtmStep *steps, int nsteps)
{
	Checking	c = {
		.mode = place->found.mode,
		.concurrent = place->found.concurrent,
		.alone = true,
		.nsteps = place->branch + nsteps,
		.first = place->branch
	};

	if (!may_use_any(steps, nsteps))
		return;
	c.steps = palloc0(c.nsteps * sizeof(DtmStep));
	if (place->branch > 0)
		memcpy(c.steps, read_branches(place), place->branch * sizeof(DtmStep));
	memcpy(c.steps + place->branch, steps, nsteps * sizeof(DtmStep));
	check_all(&c);
	for (int i = 0; i < nsteps; i++)
		steps[i].uses = c.steps[place->branch + i].uses;
}

static bool
may_use_any(const DtmStep *steps, int nsteps)
{
	for (int i = 0; i < nsteps; i++)
	{
		if (may_use(&steps[i]))
			return true;
	}
	return false;
}

static bool
may_use(const DtmStep *step)
{
	return step->payload != NULL && !step->payload_is_data &&
		dtm_may_have_placeholders(VARDATA_ANY(step->payload),
								  VARSIZE_ANY_EXHDR(step->payload));
}

static void
check_all(Checking *c)
{
	for (int i = c->first; i < c->nsteps; i++)
	{
		DtmStep    *step = &c->steps[i];
		int			number = step->branch_id != NULL ? atoi(step->branch_id) : i + 1;
		char		place[64];
		List	   *branch_ids;

		CHECK_FOR_INTERRUPTS();
		if (!may_use(step))
			continue;
		strlcpy(place, dtm_place(c->alone ? 0 : number, "payload"), sizeof(place));
		branch_ids = dtm_find_placeholders(VARDATA_ANY(step->payload),
										   VARSIZE_ANY_EXHDR(step->payload),
										   place);
		if (branch_ids != NIL)
			step->uses = check_step(c, i, branch_ids, place);
	}
}

/* Returns the indexes of those that it uses. */
static ArrayType *
check_step(const Checking *c, int which, List *branch_ids, const char *place)
{
	bool	   *earlier;
	Datum	   *uses = palloc(list_length(branch_ids) * sizeof(Datum));
	int			nuses = 0;
	ListCell   *cell;

	if (c->mode == DTM_TCC)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s: a step of a tcc cannot use another's result", place),
				 c->alone ?
				 errdetail("The answers of the tries are the application's.") :
				 errdetail("All tries run at once."),
				 c->alone ?
				 errhint("Put the value itself into the payload.") :
				 errhint("Let the application call the tries, with dtm.tcc_begin, or start a saga.")));
	if (c->mode == DTM_MSG && c->concurrent)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s: a step of a concurrent message cannot use another's result",
						place),
				 errdetail("All actions run at once."),
				 errhint("Leave out concurrent => true: the steps then run one after the other.")));

	earlier = find_earlier(c, which);
	foreach(cell, branch_ids)
	{
		const char *branch_id = lfirst(cell);
		int			used = find_step(c, branch_id);

		if (used < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: there is no branch \"%s\" to take a result from",
							place, branch_id),
					 errhint("Branches are named \"01\", \"02\", ..., in the order of the steps.")));
		if (!earlier[used])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: the result of branch \"%s\" is not there yet",
							place, branch_id),
					 c->concurrent ?
					 errdetail("The step does not wait for that branch.") :
					 errdetail("That branch does not run before this one."),
					 c->concurrent ?
					 errhint("Name what it waits for: orders => '{\"2\": [1]}', or after => ARRAY[1].") :
					 errhint("Use the results of earlier steps.")));
		if (!c->steps[used].keep_result)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: branch \"%s\" does not keep its result",
							place, branch_id),
					 errhint("Make that step with keep_result => true.")));
		if (VARSIZE_ANY_EXHDR(c->steps[used].address[DTM_FORWARD]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: branch \"%s\" has no action that could answer",
							place, branch_id),
					 errhint("Give that step an address.")));
		uses[nuses++] = Int32GetDatum(used);
	}
	pfree(earlier);
	return construct_array(uses, nuses, INT4OID, sizeof(int32), true,
						   TYPALIGN_INT);
}

/* Most are where their number says. */
static int
find_step(const Checking *c, const char *branch_id)
{
	int			guess = atoi(branch_id) - 1;

	if (guess >= 0 && guess < c->nsteps && is_named(c, guess, branch_id))
		return guess;
	for (int i = 0; i < c->nsteps; i++)
	{
		if (is_named(c, i, branch_id))
			return i;
	}
	return -1;
}

static bool
is_named(const Checking *c, int i, const char *branch_id)
{
	char		number[16];

	if (c->steps[i].branch_id != NULL)
		return strcmp(c->steps[i].branch_id, branch_id) == 0;
	snprintf(number, sizeof(number), "%02d", i + 1);
	return strcmp(number, branch_id) == 0;
}

/* Those that have succeeded when this one is called: true in an array of all. */
static bool *
find_earlier(const Checking *c, int which)
{
	bool	   *earlier = palloc0(c->nsteps * sizeof(bool));
	int		   *todo;
	int			ntodo = 0;

	if (!c->concurrent)
	{
		memset(earlier, true, which * sizeof(bool));
		return earlier;
	}
	todo = palloc(c->nsteps * sizeof(int));
	todo[ntodo++] = which;
	while (ntodo > 0)
	{
		ArrayType  *waits_for = c->steps[todo[--ntodo]].predecessors;
		int			n = waits_for == NULL ? 0 : ARR_DIMS(waits_for)[0];
		const int32 *members = n == 0 ? NULL
			: (const int32 *) ARR_DATA_PTR(waits_for);

		for (int i = 0; i < n; i++)
		{
			if (!earlier[members[i]])
			{
				earlier[members[i]] = true;
				todo[ntodo++] = members[i];
			}
		}
	}
	pfree(todo);
	return earlier;
}

/* The branches that are there, as far as it matters here. */
static DtmStep *
read_branches(const DtmPlace *place)
{
	Datum		values[1] = {Int64GetDatum(place->found.id)};
	DtmStep    *steps = palloc0(place->branch * sizeof(DtmStep));
	uint64		n = dtm_api_lookup_latest(DTM_PLAN_BRANCHES, values);
	TupleDesc	desc = SPI_tuptable->tupdesc;

	if (n != place->branch)
		elog(ERROR, "%d branches are " UINT64_FORMAT, place->branch, n);
	for (int i = 0; i < place->branch; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Datum		predecessors;

		steps[i].branch_id = SPI_getvalue(row, desc, 1);
		steps[i].address[DTM_FORWARD] =
			DatumGetTextPCopy(SPI_getbinval(row, desc, 2, &isnull));
		predecessors = SPI_getbinval(row, desc, 3, &isnull);
		if (!isnull)
			steps[i].predecessors = DatumGetArrayTypePCopy(predecessors);
		steps[i].keep_result = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return steps;
}
