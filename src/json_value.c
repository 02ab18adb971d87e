/*
 * json_value.c: bytes from elsewhere, taken for JSON if they are.
 *
 * They are hostile: of any length, cut anywhere, nested as deep as they like.
 * There is no version-independent way to ask an input function without an error,
 * so it is asked inside a subtransaction, and the error is forgotten.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "encoding.h"
#include "json_value.h"

/* An input function, and what it is given. */
typedef struct Input
{
	PGFunction	function;
	const char *bytes;
	size_t		size;
	Datum		value;
} Input;

static bool is_of_data(const ErrorData *error);
static void call_input(void *input);
static uint64 scalar_text_size(const JsonbValue *value);
static uint64 string_text_size(const char *string, int length);
static uint64 number_text_size(Numeric number);

bool
dtm_try(void (*work) (void *arg), void *arg, char problem[DTM_MAX_PROBLEM])
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool good = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
		good = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (!is_of_data(error))
			ReThrowError(error);
		if (problem != NULL)
		{
			const char *message = error->message ? error->message : "no message";
			int			length = pg_mbcliplen(message, strlen(message),
											  DTM_MAX_PROBLEM - 1);

			memcpy(problem, message, length);
			problem[length] = '\0';
		}
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return good;
}

static bool
is_of_data(const ErrorData *error)
{
	static const char too_large[] = "invalid memory alloc request size";
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		return true;
	/* It has no code of its own, and is not translated. */
	return error->sqlerrcode == ERRCODE_INTERNAL_ERROR &&
		error->message != NULL &&
		strncmp(error->message, too_large, strlen(too_large)) == 0;
}

bool
dtm_try_input(PGFunction input, const char *bytes, size_t size, Datum *value)
{
	Input		given = {.function = input, .bytes = bytes, .size = size};

	if (size >= MaxAllocSize || memchr(bytes, '\0', size) != NULL ||
		!dtm_try(call_input, &given, NULL))
		return false;
	*value = given.value;
	return true;
}

static void
call_input(void *input)
{
	Input	   *given = input;
	char	   *utf8 = pnstrdup(given->bytes, given->size);
	char	   *text = pg_any_to_server(utf8, given->size, PG_UTF8);

	given->value = DirectFunctionCall1(given->function, CStringGetDatum(text));
}

DtmJsonKind
dtm_read_json(const char *bytes, size_t size, Jsonb **value)
{
	Datum		datum;

	if (dtm_try_input(jsonb_in, bytes, size, &datum))
	{
		*value = DatumGetJsonbP(datum);
		return DTM_JSON_GOOD;
	}
	*value = NULL;
	return dtm_try_input(json_in, bytes, size, &datum)
		? DTM_JSON_STRANGE : DTM_JSON_NONE;
}

Jsonb *
dtm_read_json_string(const char *bytes, size_t size)
{
	JsonbValue	string;
	Datum		value;
	text	   *text_value;

	if (!dtm_try_input(textin, bytes, size, &value))
		return NULL;
	text_value = DatumGetTextPP(value);
	string.type = jbvString;
	string.val.string.val = VARDATA_ANY(text_value);
	string.val.string.len = VARSIZE_ANY_EXHDR(text_value);
	return JsonbValueToJsonb(&string);
}

/* Counted is what JsonbToCString writes. */
uint64
dtm_json_text_size(JsonbContainer *json)
{
	JsonbIterator *iterator = JsonbIteratorInit(json);
	JsonbIteratorToken token;
	JsonbValue	value;
	uint64		size = 0;
	bool		is_first = true;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		/* ", " stands between members, ": " between a key and its value. */
		if (!is_first && (token == WJB_KEY || token == WJB_ELEM ||
						  token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT))
			size += 2;
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				size += value.val.array.rawScalar ? 0 : 2;
				is_first = true;
				break;
			case WJB_BEGIN_OBJECT:
				size += 2;
				is_first = true;
				break;
			case WJB_END_ARRAY:
			case WJB_END_OBJECT:
				is_first = false;
				break;
			case WJB_KEY:
				size += scalar_text_size(&value) + 2;
				is_first = true;
				break;
			default:
				size += scalar_text_size(&value);
				is_first = false;
				break;
		}
	}
	return size;
}

static uint64
scalar_text_size(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return string_text_size(value->val.string.val,
									value->val.string.len);
		case jbvNumeric:
			return number_text_size(value->val.numeric);
		case jbvBool:
			return value->val.boolean ? strlen("true") : strlen("false");
		default:
			return strlen("null");
	}
}

static uint64
string_text_size(const char *string, int length)
{
	uint64		size = 2 + length;

	for (int i = 0; i < length; i++)
	{
		unsigned char c = string[i];

		if (c == '"' || c == '\\')
			size += 1;
		else if (c < ' ')
			size += strchr("\b\f\n\r\t", c) != NULL ? 1 : 5;
	}
	return size;
}

/*
 * From its header: PostgreSQL has no other way to ask without writing it. It is
 * as it stands on disk, and has been the same since 9.1: numeric.c explains it.
 */
static uint64
number_text_size(Numeric number)
{
	const char *data = VARDATA_ANY(number);
	Size		left = VARSIZE_ANY_EXHDR(number);
	uint16		header;
	int16		weight;
	int			scale;
	bool		negative;
	uint64		size = 1;

	memcpy(&header, data, sizeof(header));
	data += sizeof(header);
	left -= sizeof(header);
	if ((header & 0xC000) == 0xC000)
		return strlen("-Infinity");
	if ((header & 0x8000) != 0)
	{
		negative = (header & 0x2000) != 0;
		scale = (header & 0x1F80) >> 7;
		weight = header & 0x003F;
		if ((header & 0x0040) != 0)
			weight -= 0x0040;
	}
	else
	{
		negative = (header & 0x4000) != 0;
		scale = header & 0x3FFF;
		memcpy(&weight, data, sizeof(weight));
		data += sizeof(weight);
		left -= sizeof(weight);
	}

	/* Four decimal digits for each of its own, and of the first what it has. */
	if (weight >= 0 && left > 0)
	{
		int16		first;

		memcpy(&first, data, sizeof(first));
		size = 4 * (uint64) weight +
			(first >= 1000 ? 4 : first >= 100 ? 3 : first >= 10 ? 2 : 1);
	}
	return size + (negative ? 1 : 0) + (scale > 0 ? 1 + scale : 0);
}

/* What UTF-8 lacks, if that can be, is a question mark: nothing fails here. */
char *
dtm_write_json(Jsonb *json, size_t *size)
{
	char	   *text = JsonbToCString(NULL, &json->root, VARSIZE(json));
	char	   *utf8 = unconstify(char *, dtm_to_utf8(text));

	*size = strlen(utf8);
	return utf8;
}
