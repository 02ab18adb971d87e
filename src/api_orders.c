/*
 * api_orders.c: the argument "orders" of a saga: which step waits for which.
 *
 * It is a JSON object: step -> array of the steps it waits for, as in
 * {"3": [1, 2]}. Steps are numbers from 1, or branch ids: "03" is 3.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "api_common.h"
#include "api_step.h"
#include "decide.h"

/*
 * Every event of a rollback follows all edges of the graph. More than any
 * person has thought of are a mistake, and would cost the worker seconds.
 */
#define MAX_EDGES	100000		/* of a saga begun at once */
#define MAX_AFTER	10000		/* of a branch that is registered by itself */

static ArrayType *read_predecessors(JsonbValue *list, int step, int nsteps);
static void check_number(const char *argument, int64 n, int64 limit);
static int	step_number(const JsonbValue *value, int nsteps);
static int	step_of_text(const char *digits, int len, int nsteps);
static void check_order(const DtmStep *steps, int nsteps);

void
dtm_read_orders(Jsonb *orders, DtmStep *steps, int nsteps)
{
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbValue	value;
	int64		nedges = 0;

	if (!JB_ROOT_IS_OBJECT(orders))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("orders: must be a JSON object"),
				 errhint("{\"3\": [1, 2]} lets step 3 wait for steps 1 and 2.")));

	iterator = JsonbIteratorInit(&orders->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		int			step = step_number(&key, nsteps);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type != jbvBinary ||
			!JsonContainerIsArray(value.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("orders: what step %d waits for must be an array",
							step),
					 errhint("{\"3\": [1, 2]} lets step 3 wait for steps 1 and 2.")));
		if (steps[step - 1].predecessors != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("orders: step %d is named twice", step),
					 errhint("Put all that it waits for into one array.")));
		nedges += JsonContainerSize(value.val.binary.data);
		check_number("orders", nedges, MAX_EDGES);
		steps[step - 1].predecessors = read_predecessors(&value, step, nsteps);
	}
	check_order(steps, nsteps);
}

ArrayType *
dtm_read_after(ArrayType *after, int branch)
{
	Datum	   *members;
	bool	   *nulls;
	int			n;

	deconstruct_array(after, INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &members, &nulls, &n);
	if (n == 0)
		return NULL;
	check_number("after", n, MAX_AFTER);
	for (int i = 0; i < n; i++)
	{
		int			number = nulls[i] ? 0 : DatumGetInt32(members[i]);

		/* Only what came before can be named, so no circle can arise. */
		if (number < 1 || number > branch)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("after: there is no earlier branch %d", number),
					 errdetail("%d branches are registered so far.", branch),
					 errhint("Branches are numbered from 1, in the order of their registration.")));
		members[i] = Int32GetDatum(number - 1);
	}
	return construct_array(members, n, INT4OID, sizeof(int32), true,
						   TYPALIGN_INT);
}

static ArrayType *
read_predecessors(JsonbValue *list, int step, int nsteps)
{
	int			n = JsonContainerSize(list->val.binary.data);
	Datum	   *members;

	if (n == 0)
		return NULL;
	members = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *member = getIthJsonbValueFromContainer(list->val.binary.data, i);
		int			other = step_number(member, nsteps);

		if (other == step)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("orders: step %d waits for itself", step),
					 errhint("Name the other steps that must succeed before it.")));
		members[i] = Int32GetDatum(other - 1);
	}
	return construct_array(members, n, INT4OID, sizeof(int32), true,
						   TYPALIGN_INT);
}

static void
check_number(const char *argument, int64 n, int64 limit)
{
	if (n > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: steps wait for more than " INT64_FORMAT " others",
						argument, limit),
				 errhint("Put a step without address, dtm.step(''), between many that wait for the same many.")));
}

static int
step_number(const JsonbValue *value, int nsteps)
{
	if (value->type == jbvString)
		return step_of_text(value->val.string.val, value->val.string.len, nsteps);
	if (value->type == jbvNumeric)
	{
		char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out,
																 NumericGetDatum(value->val.numeric)));

		return step_of_text(digits, strlen(digits), nsteps);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("orders: a step must be a number or a branch id"),
			 errhint("{\"3\": [1, 2]} lets step 3 wait for steps 1 and 2.")));
}

static int
step_of_text(const char *digits, int len, int nsteps)
{
	int			number = 0;
	bool		good = len > 0 && len <= 9;

	for (int i = 0; good && i < len; i++)
	{
		good = digits[i] >= '0' && digits[i] <= '9';
		number = number * 10 + (digits[i] - '0');
	}
	if (!good || number < 1 || number > nsteps)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("orders: there is no step \"%.*s\"", len, digits),
				 errdetail("Steps are numbered from 1 to %d.", nsteps),
				 errhint("{\"3\": [1, 2]} lets step 3 wait for steps 1 and 2.")));
	return number;
}

static void
check_order(const DtmStep *steps, int nsteps)
{
	DtmBranch  *branches = palloc0(nsteps * sizeof(DtmBranch));
	int			culprit = 0;

	for (int i = 0; i < nsteps; i++)
	{
		ArrayType  *waits_for = steps[i].predecessors;

		if (waits_for == NULL)
			continue;
		branches[i].npredecessors = ARR_DIMS(waits_for)[0];
		branches[i].predecessors = (int32 *) ARR_DATA_PTR(waits_for);
	}
	if (!dtm_order_is_acyclic(nsteps, branches, &culprit))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("orders: step %d waits, through others, for itself",
						culprit + 1),
				 errhint("Take one of the steps out of the circle.")));
	pfree(branches);
}
