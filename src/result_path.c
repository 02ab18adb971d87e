/*
 * result_path.c: the part of a result that a placeholder means.
 *
 * Paths are those of jsonpath, in lax mode, that only go down: keys, single
 * elements, all of them. PostgreSQL reads them; following them is done here,
 * because the worker does it for everybody: it ends with the first value that is
 * found, and is given up after so many visits, whatever the path and the result.
 *
 * Lax means: a key of an array is that of its elements, and an element of what
 * is no array is the thing itself.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonpath.h"
#include "utils/numeric.h"

#include "result_path.h"

#define MAX_ACCESSORS	1000	/* a limit for the stack; the real one is lower */

/* Where a search is. */
typedef struct Search
{
	const DtmPath *path;
	int		   *visits;
	JsonbValue *found;
} Search;

static bool read_accessor(JsonPathItem *item, DtmAccessor *accessor);
static bool read_subscript(JsonPathItem *item, DtmAccessor *accessor);
static void in_path(void *place);
static bool follow(Search *s, int done, const JsonbValue *value);
static bool follow_members(Search *s, int done, JsonbContainer *container);
static bool follow_key(Search *s, int done, JsonbContainer *container);

DtmPath
dtm_read_path(const char *text, const char *place)
{
	ErrorContextCallback callback;
	JsonPath   *parsed;
	JsonPathItem item;
	DtmPath		path = {0};
	bool		good;

	callback.callback = in_path;
	callback.arg = unconstify(char *, place);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	parsed = DatumGetJsonPathP(DirectFunctionCall1(jsonpath_in,
												   CStringGetDatum(text)));
	error_context_stack = callback.previous;

	jspInit(&item, parsed);
	good = (parsed->header & JSONPATH_LAX) != 0 && item.type == jpiRoot;
	while (good && jspHasNext(&item))
	{
		JsonPathItem next;

		(void) jspGetNext(&item, &next);
		item = next;
		if (path.naccessors % 16 == 0)
			path.accessors = path.accessors == NULL
				? palloc(16 * sizeof(DtmAccessor))
				: repalloc(path.accessors,
						   (path.naccessors + 16) * sizeof(DtmAccessor));
		good = path.naccessors < MAX_ACCESSORS &&
			read_accessor(&item, &path.accessors[path.naccessors++]);
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: path \"%s\" of a placeholder does more than go down",
						place, text),
				 errdetail("A placeholder's path has $, .key, .*, [0], [last] and [*]: no filters, methods, ranges, variables, arithmetic, .** or strict."),
				 errhint("Let the earlier branch answer what is needed, or the later one take the path \"$\" and look for it.")));
	return path;
}

static bool
read_accessor(JsonPathItem *item, DtmAccessor *accessor)
{
	memset(accessor, 0, sizeof(*accessor));
	switch (item->type)
	{
		case jpiKey:
			{
				int32		length;

				accessor->access = DTM_ACCESS_KEY;
				accessor->key = jspGetString(item, &length);
				accessor->key_length = length;
				return true;
			}
		case jpiAnyKey:
			accessor->access = DTM_ACCESS_ANY_KEY;
			return true;
		case jpiAnyArray:
			accessor->access = DTM_ACCESS_ALL;
			return true;
		case jpiIndexArray:
			return read_subscript(item, accessor);
		default:
			return false;
	}
}

/* [0] or [last]; no list, no range, nothing that has to be worked out. */
static bool
read_subscript(JsonPathItem *item, DtmAccessor *accessor)
{
	JsonPathItem from;
	JsonPathItem to;
	Datum		number;
	char	   *digits;

	if (item->content.array.nelems != 1 ||
		jspGetArraySubscript(item, &from, &to, 0) || jspHasNext(&from))
		return false;
	if (from.type == jpiLast)
	{
		accessor->access = DTM_ACCESS_LAST;
		return true;
	}
	if (from.type != jpiNumeric)
		return false;

	/* [-1] would find nothing: who writes it means [last]. Nor is 1.5 a place. */
	number = NumericGetDatum(jspGetNumeric(&from));
	digits = DatumGetCString(DirectFunctionCall1(numeric_out, number));
	if (strspn(digits, "0123456789") != strlen(digits))
		return false;
	accessor->access = DTM_ACCESS_INDEX;
	accessor->index = strlen(digits) > 9 ? -1 : atoi(digits);
	return true;
}

static void
in_path(void *place)
{
	errcontext("path of a placeholder in %s", (const char *) place);
}

bool
dtm_find_first(const DtmPath *path, Jsonb *json, int *visits,
			   JsonbValue *found)
{
	Search		s = {path, visits, found};
	JsonbValue	root;

	if (JB_ROOT_IS_SCALAR(json))
		(void) JsonbExtractScalar(&json->root, &root);
	else
	{
		root.type = jbvBinary;
		root.val.binary.data = &json->root;
		root.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
	return follow(&s, 0, &root);
}

/* From this value, where the first accessors have led, by the others. */
static bool
follow(Search *s, int done, const JsonbValue *value)
{
	const DtmAccessor *accessor = &s->path->accessors[done];
	JsonbContainer *container = value->type == jbvBinary
		? value->val.binary.data : NULL;
	bool		is_array = container != NULL && JsonContainerIsArray(container);
	bool		is_object = container != NULL && JsonContainerIsObject(container);

	if (--*s->visits < 0)
		return false;
	if (done == s->path->naccessors)
	{
		*s->found = *value;
		return true;
	}
	switch (accessor->access)
	{
		case DTM_ACCESS_KEY:
			return is_object ? follow_key(s, done, container)
				: is_array && follow_members(s, done, container);
		case DTM_ACCESS_ANY_KEY:
			return container != NULL && follow_members(s, done, container);
		case DTM_ACCESS_ALL:
			return is_array ? follow_members(s, done, container)
				: follow(s, done + 1, value);
		case DTM_ACCESS_INDEX:
		case DTM_ACCESS_LAST:
			{
				int			size = is_array ? (int) JsonContainerSize(container) : 1;
				int			index = accessor->access == DTM_ACCESS_LAST ? size - 1
					: accessor->index;

				if (index < 0 || index >= size)
					return false;
				return follow(s, done + 1, is_array
							  ? getIthJsonbValueFromContainer(container, index)
							  : value);
			}
	}
	return false;
}

/*
 * The values of an object, for .*; the elements of an array, for [*]; and for
 * keys of an array, those of its elements that are objects.
 */
static bool
follow_members(Search *s, int done, JsonbContainer *container)
{
	DtmAccess	access = s->path->accessors[done].access;
	bool		unwrap = JsonContainerIsArray(container) &&
		access != DTM_ACCESS_ALL;
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		found = false;

	(void) JsonbIteratorNext(&iterator, &value, true);
	while (!found && *s->visits >= 0 &&
		   (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM && token != WJB_VALUE)
			continue;
		if (!unwrap)
			found = follow(s, done + 1, &value);
		else if (--*s->visits >= 0 && value.type == jbvBinary &&
				 JsonContainerIsObject(value.val.binary.data))
			found = access == DTM_ACCESS_KEY
				? follow_key(s, done, value.val.binary.data)
				: follow_members(s, done, value.val.binary.data);
	}
	return found;
}

static bool
follow_key(Search *s, int done, JsonbContainer *container)
{
	const DtmAccessor *accessor = &s->path->accessors[done];
	JsonbValue	value;

	return getKeyJsonValueFromContainer(container, accessor->key,
										accessor->key_length, &value) != NULL &&
		follow(s, done + 1, &value);
}
