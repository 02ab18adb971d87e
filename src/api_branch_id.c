/*
 * api_branch_id.c: ids of branches that may have branches of their own.
 *
 * An id is pairs of digits: 01, 02, ...; a participant that calls others under
 * branch 02 registers these as 0201, 0202, ... Participants written for dtm's
 * SDKs know their ids before they register: these are taken as they are.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "api_branch_id.h"
#include "api_placeholder.h"

/* As many as fit comfortably into the barrier table, with depth to spare. */
#define MAX_BRANCH_ID	64

static bool name_branch(const DtmPlace *place, DtmStep *step,
						const char *parent, const char *wanted);
static void take_wanted(const char *wanted);
static char *next_child(const DtmPlace *place, const char *parent);
static bool is_registered(const DtmPlace *place, const DtmStep *step,
						  const char *branch_id);
static bool same_bytes(const void *a, const void *b);

text *
dtm_add_branch(FunctionCallInfo fcinfo, int n, const DtmPlace *place,
			   const DtmStepKind *kind, DtmStep *step)
{
	const char *parent = PG_ARGISNULL(n) ? "" :
		text_to_cstring(PG_GETARG_TEXT_PP(n));
	const char *wanted = PG_ARGISNULL(n + 1) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(n + 1));

	if (name_branch(place, step, parent, wanted))
	{
		dtm_check_step(place->found.owner, kind, step, 0);
		dtm_check_uses_in_place(place, step, 1);
		dtm_fill_place(place, step, 1);
	}
	return cstring_to_text(step->branch_id);
}

/* false: that very branch is registered already, and nothing is left to do. */
static bool
name_branch(const DtmPlace *place, DtmStep *step, const char *parent,
			const char *wanted)
{
	if (wanted == NULL)
	{
		step->branch_id = next_child(place, parent);
		return true;
	}
	if (parent[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parent and branch_id cannot both be given"),
				 errhint("An id says whose it is: 0201 is a branch of 02.")));
	take_wanted(wanted);
	step->branch_id = wanted;
	return !is_registered(place, step, wanted);
}

static void
take_wanted(const char *wanted)
{
	int			length = strlen(wanted);

	if (length == 0 || length % 2 != 0 || length > MAX_BRANCH_ID ||
		strspn(wanted, "0123456789") != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("branch_id: \"%s\" is no id of a branch", wanted),
				 errhint("It is 1 to %d pairs of digits, like 01, or 0201 below 02.",
						 MAX_BRANCH_ID / 2)));
}

static char *
next_child(const DtmPlace *place, const char *parent)
{
	Datum		values[2] = {
		Int64GetDatum(place->found.id), CStringGetTextDatum(parent)
	};
	char	   *last;
	bool		exists;
	bool		isnull;
	int			number = 1;

	(void) dtm_api_lookup_latest(DTM_PLAN_CHILDREN, values);
	last = dtm_api_text(1);
	exists = DatumGetBool(dtm_api_value(2, &isnull));
	if (parent[0] != '\0' && (isnull || !exists))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parent: there is no branch \"%s\"", parent),
				 errhint("Pass what the registration of that branch returned.")));
	if (last != NULL)
		number = atoi(last + strlen(parent)) + 1;
	if (number > 99 || strlen(parent) + 2 > MAX_BRANCH_ID)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 parent[0] == '\0' ?
				 errmsg("no more branches can be added") :
				 errmsg("no more branches can be added below \"%s\"", parent),
				 errdetail("There are up to 99, each with up to 99 of its own, in up to %d levels.",
						   MAX_BRANCH_ID / 2),
				 errhint("Spread them over several global transactions.")));
	return psprintf("%s%02d", parent, number);
}

/* The same branch, as a repeat has it; another one of that id is an error. */
static bool
is_registered(const DtmPlace *place, const DtmStep *step, const char *branch_id)
{
	Datum		values[2] = {
		Int64GetDatum(place->found.id), CStringGetTextDatum(branch_id)
	};
	Datum		column[4];
	bool		isnull[4];

	if (dtm_api_lookup_latest(DTM_PLAN_BRANCH, values) == 0)
		return false;
	column[3] = dtm_api_value(4, &isnull[3]);
	for (int i = 0; i < 3; i++)
	{
		column[i] = dtm_api_value(i + 1, &isnull[i]);
		column[i] = isnull[i] ? (Datum) 0 :
			PointerGetDatum(PG_DETOAST_DATUM(column[i]));
	}
	if (!same_bytes(DatumGetPointer(column[0]), step->address[DTM_FORWARD]) ||
		!same_bytes(DatumGetPointer(column[1]), step->address[DTM_BACKWARD]) ||
		!same_bytes(DatumGetPointer(column[2]), step->payload))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("branch_id \"%s\" is in use", branch_id),
				 errdetail("It was registered with other addresses or another payload."),
				 errhint("Leave branch_id out to get the next one.")));
	if (DatumGetBool(column[3]) != step->keep_result)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("branch_id \"%s\" is in use", branch_id),
				 step->keep_result ?
				 errdetail("It was registered without keep_result.") :
				 errdetail("It was registered with keep_result."),
				 errhint("Repeat it as it was, or leave branch_id out to get the next one.")));
	return true;
}

static bool
same_bytes(const void *a, const void *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}
