/*
 * placeholder.c: {"$from": "01", "path": "$.flight.id"} in a payload: a part of
 * what an earlier branch has answered.
 *
 * An object with exactly these two keys, anywhere in a JSON payload, is replaced
 * by the first thing that the path finds in the result of that branch. What is
 * put in is not looked at again: a result cannot name others.
 *
 * Payloads are checked when they are stored, and filled in when they are sent.
 * The worker does that, for everybody: what may be in a payload, what is looked
 * at in results (result_path.c), and what comes out of both, is limited. A jsonb
 * of a few bytes may have a text of gigabytes, so texts are measured before they
 * are written.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "json_value.h"
#include "placeholder.h"
#include "result_path.h"

#define FROM_KEY	"$from"
#define PATH_KEY	"path"
#define MAX_VISITS	100000		/* of values, for one payload: some milliseconds */
#define SHOWN_PATH	700			/* bytes of it in an error, with room for the rest */
#define EXAMPLE		"{\"$from\": \"01\", \"path\": \"$.flight.id\"}"

/* One of them, as it stands in the payload. */
typedef struct Placeholder
{
	char	   *branch_id;
	char	   *path;
} Placeholder;

/* Finding them. */
typedef struct Search
{
	const char *place;
	int			found;
	int			accessors;
	List	   *branch_ids;
} Search;

/* Filling them in. */
typedef struct Filling
{
	const char *branch_id;
	const char *bytes;			/* the payload */
	size_t		size;
	DtmResult  *results;
	int			nresults;
	bool		or_null;
	bool		all_null;
	int			visits;			/* so many values may still be looked at */
	int64		room;			/* bytes that are left; below 0: too large */
	const char *missing;		/* the first that was not found; NULL: none */
	Jsonb	   *filled;
} Filling;

static void search(Search *s, JsonbContainer *container);
static bool is_placeholder(JsonbContainer *container, JsonbValue *from,
						   JsonbValue *path);
static void note_placeholder(Search *s, const JsonbValue *from,
							 const JsonbValue *path);
static void fill_in(void *filling);
static JsonbValue *fill(Filling *f, JsonbParseState **state,
						JsonbContainer *container);
static void push(Filling *f, JsonbParseState **state, JsonbIteratorToken token,
				 JsonbValue *value);
static Jsonb *replace(Filling *f, JsonbContainer *placeholder,
					  const JsonbValue *from, const JsonbValue *path);
static Jsonb *look_up(Filling *f, const JsonbValue *from,
					  const JsonbValue *path);
static Jsonb *make_null(void);
static void read_result(DtmResult *result);
static char *string_value(const JsonbValue *value);

bool
dtm_may_have_placeholders(const char *bytes, size_t size)
{
	static const char key[] = "\"" FROM_KEY "\"";

	return size > 0 && memmem(bytes, size, key, sizeof(key) - 1) != NULL;
}

List *
dtm_find_placeholders(const char *bytes, size_t size, const char *place)
{
	Search		s = {.place = place};
	Jsonb	   *json;
	const char *missing;

	if (!dtm_may_have_placeholders(bytes, size))
		return NIL;
	switch (dtm_read_json(bytes, size, &json))
	{
		case DTM_JSON_GOOD:
			break;
		case DTM_JSON_STRANGE:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s: \"" FROM_KEY "\" cannot stand in JSON that jsonb cannot hold",
							place),
					 errdetail("Type jsonb has no \\u0000, no enormous numbers, and limits how deep values are nested."),
					 errhint("Take these out, or call the key something else.")));
			break;
		case DTM_JSON_NONE:
			return NIL;
	}
	search(&s, &json->root);
	if (s.branch_ids != NIL && size > DTM_MAX_TEMPLATE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: a payload with placeholders must not be larger than %d bytes",
						place, DTM_MAX_TEMPLATE),
				 errhint("Send the large part in a step of its own.")));
	if (s.branch_ids != NIL &&
		dtm_json_text_size(&json->root) > DTM_MAX_FILLED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: a payload with placeholders must not be larger than %d bytes as jsonb writes it",
						place, DTM_MAX_FILLED),
				 errdetail("It would be " UINT64_FORMAT " bytes: all digits of a number are written, those of 1e1000 too.",
						   dtm_json_text_size(&json->root)),
				 errhint("Pass such numbers as strings, or send them in a step of its own.")));

	/* What undoes the step must be sent, if need be with nothing but nulls. */
	if (s.branch_ids != NIL &&
		dtm_fill_placeholders("", bytes, size, NULL, 0, true, &missing) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: the placeholders cannot be filled in", place),
				 errdetail_internal("%s", missing),
				 errhint("Nest values less deeply.")));
	return s.branch_ids;
}

static void
search(Search *s, JsonbContainer *container)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	path;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (is_placeholder(container, &value, &path))
	{
		note_placeholder(s, &value, &path);
		return;
	}
	iterator = JsonbIteratorInit(container);
	/* The container itself, then its members. */
	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvBinary)
			search(s, value.val.binary.data);
	}
}

static bool
is_placeholder(JsonbContainer *container, JsonbValue *from, JsonbValue *path)
{
	return JsonContainerIsObject(container) &&
		JsonContainerSize(container) == 2 &&
		getKeyJsonValueFromContainer(container, FROM_KEY, strlen(FROM_KEY),
									 from) != NULL &&
		getKeyJsonValueFromContainer(container, PATH_KEY, strlen(PATH_KEY),
									 path) != NULL;
}

static void
note_placeholder(Search *s, const JsonbValue *from, const JsonbValue *path)
{
	char	   *branch_id;
	ListCell   *cell;

	if (from->type != jbvString || path->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: \"" FROM_KEY "\" and \"" PATH_KEY "\" of a placeholder must be strings",
						s->place),
				 errhint("Write " EXAMPLE ".")));
	if (++s->found > DTM_MAX_PLACEHOLDERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: more than %d placeholders", s->place,
						DTM_MAX_PLACEHOLDERS),
				 errhint("Take larger parts of results: the path \"$\" finds all of one.")));
	s->accessors += dtm_read_path(string_value(path), s->place).naccessors;
	if (s->accessors > DTM_MAX_ACCESSORS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: the paths of its placeholders have more than %d accessors",
						s->place, DTM_MAX_ACCESSORS),
				 errhint("Take larger parts of results: the path \"$\" finds all of one.")));

	branch_id = string_value(from);
	foreach(cell, s->branch_ids)
	{
		if (strcmp(lfirst(cell), branch_id) == 0)
			return;
	}
	s->branch_ids = lappend(s->branch_ids, branch_id);
}

int
dtm_results_of_rows(MemoryContext context, DtmResult **results)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	int			n = (int) SPI_processed;

	*results = palloc0(Max(n, 1) * sizeof(DtmResult));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		DtmResult  *result = &(*results)[i];
		bool		isnull;
		Datum		value;

		value = SPI_getbinval(row, desc, 1, &isnull);
		result->branch_id = TextDatumGetCString(value);
		value = SPI_getbinval(row, desc, 2, &isnull);
		if (!isnull)
		{
			bytea	   *bytes = DatumGetByteaPCopy(value);

			result->bytes = VARDATA_ANY(bytes);
			result->size = VARSIZE_ANY_EXHDR(bytes);
		}
	}
	MemoryContextSwitchTo(before);
	return n;
}

Jsonb *
dtm_fill_placeholders(const char *branch_id, const char *bytes, size_t size,
					  DtmResult *results, int nresults, bool or_null,
					  const char **missing)
{
	Filling		f = {
		.branch_id = branch_id,
		.bytes = bytes,
		.size = size,
		.results = results,
		.nresults = nresults,
		.or_null = or_null
	};

	do
	{
		char		problem[DTM_MAX_PROBLEM];

		/* The second time, it is as large as it was when it was stored. */
		f.all_null = f.missing != NULL;
		f.missing = NULL;
		if (!dtm_try(fill_in, &f, problem))
			f.missing = psprintf("payload of branch %s cannot be filled in: %s",
								 branch_id, problem);
		else if (f.room < 0 && f.missing == NULL)
			f.missing = psprintf("payload of branch %s is too large when it is filled in: more than %d bytes",
								 branch_id, DTM_MAX_FILLED);
	} while (f.missing != NULL && or_null && !f.all_null);
	*missing = f.missing;
	return f.missing == NULL ? f.filled : NULL;
}

static void
fill_in(void *filling)
{
	Filling    *f = filling;
	char	   *utf8 = pnstrdup(f->bytes, f->size);
	char	   *text = pg_any_to_server(utf8, f->size, PG_UTF8);
	Jsonb	   *payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															 CStringGetDatum(text)));
	JsonbValue	from;
	JsonbValue	path;

	f->visits = MAX_VISITS;
	f->room = DTM_MAX_FILLED - (int64) dtm_json_text_size(&payload->root);
	if (is_placeholder(&payload->root, &from, &path))
		f->filled = replace(f, &payload->root, &from, &path);
	else
	{
		JsonbParseState *state = NULL;

		f->filled = JsonbValueToJsonb(fill(f, &state, &payload->root));
	}
}

static JsonbValue *
fill(Filling *f, JsonbParseState **state, JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbValue *whole = NULL;
	JsonbIteratorToken token;
	JsonbValue	value;

	check_stack_depth();
	/* The container itself, then its members. */
	token = JsonbIteratorNext(&iterator, &value, true);
	whole = pushJsonbValue(state, token,
						   token == WJB_BEGIN_ARRAY && value.val.array.rawScalar
						   ? &value : NULL);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			(void) pushJsonbValue(state, token, &value);
		else if (token == WJB_VALUE || token == WJB_ELEM)
			push(f, state, token, &value);
		else
			whole = pushJsonbValue(state, token, NULL);
	}
	return whole;
}

/* A member of an object or an array. */
static void
push(Filling *f, JsonbParseState **state, JsonbIteratorToken token,
	 JsonbValue *value)
{
	JsonbValue	from;
	JsonbValue	path;
	JsonbValue	found;
	Jsonb	   *json;

	if (value->type != jbvBinary)
	{
		(void) pushJsonbValue(state, token, value);
		return;
	}
	if (!is_placeholder(value->val.binary.data, &from, &path))
	{
		(void) fill(f, state, value->val.binary.data);
		return;
	}
	json = replace(f, value->val.binary.data, &from, &path);
	if (JB_ROOT_IS_SCALAR(json))
	{
		(void) JsonbExtractScalar(&json->root, &found);
		(void) pushJsonbValue(state, token, &found);
	}
	else
	{
		found.type = jbvBinary;
		found.val.binary.data = &json->root;
		found.val.binary.len = VARSIZE(json) - VARHDRSZ;
		(void) pushJsonbValue(state, token, &found);
	}
}

/*
 * What a placeholder stands for, unless there is no room for it. Once there was
 * none, nothing is copied any more.
 */
static Jsonb *
replace(Filling *f, JsonbContainer *placeholder, const JsonbValue *from,
		const JsonbValue *path)
{
	Jsonb	   *json;

	if (f->all_null || f->room < 0)
		return make_null();
	json = look_up(f, from, path);
	f->room += (int64) dtm_json_text_size(placeholder);
	f->room -= (int64) dtm_json_text_size(&json->root);
	return f->room < 0 ? make_null() : json;
}

/* null if there is nothing. */
static Jsonb *
look_up(Filling *f, const JsonbValue *from, const JsonbValue *path)
{
	char	   *branch_id = string_value(from);
	char	   *path_text = string_value(path);
	int			shown = pg_mbcliplen(path_text, strlen(path_text), SHOWN_PATH);
	DtmResult  *result = NULL;
	JsonbValue	found;

	for (int i = 0; i < f->nresults; i++)
	{
		if (strcmp(f->results[i].branch_id, branch_id) == 0)
			result = &f->results[i];
	}
	if (result != NULL)
	{
		read_result(result);
		if (result->json != NULL)
		{
			DtmPath		read = dtm_read_path(path_text, "payload");

			if (dtm_find_first(&read, result->json, &f->visits, &found))
				return JsonbValueToJsonb(&found);
		}
	}

	if (!f->or_null && f->missing == NULL)
	{
		if (result == NULL || result->bytes == NULL)
			f->missing = psprintf("payload of branch %s: %.*s finds nothing: branch %s has no result",
								  f->branch_id, shown, path_text, branch_id);
		else if (result->json == NULL)
			f->missing = psprintf("payload of branch %s: %.*s finds nothing: the result of branch %s is no JSON",
								  f->branch_id, shown, path_text, branch_id);
		else if (f->visits < 0)
			f->missing = psprintf("payload of branch %s: %.*s finds nothing in the first %d values that are looked at for all its placeholders",
								  f->branch_id, shown, path_text, MAX_VISITS);
		else
			f->missing = psprintf("payload of branch %s: %.*s finds nothing in the result of branch %s",
								  f->branch_id, shown, path_text, branch_id);
	}
	return make_null();
}

static Jsonb *
make_null(void)
{
	JsonbValue	null = {.type = jbvNull};

	return JsonbValueToJsonb(&null);
}

/* Once, however many placeholders draw from it. */
static void
read_result(DtmResult *result)
{
	if (result->was_read || result->bytes == NULL)
		return;
	result->was_read = true;
	if (dtm_read_json(result->bytes, result->size,
					  &result->json) == DTM_JSON_NONE)
		result->json = dtm_read_json_string(result->bytes, result->size);
}

static char *
string_value(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}
