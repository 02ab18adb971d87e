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
#include "utils/resowner.h"

#include "encoding.h"
#include "json_value.h"

bool
dtm_try_input(PGFunction input, const char *bytes, size_t size, Datum *value)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool good = false;

	if (size >= MaxAllocSize || memchr(bytes, '\0', size) != NULL)
		return false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		char	   *utf8 = pnstrdup(bytes, size);
		char	   *text = pg_any_to_server(utf8, size, PG_UTF8);

		*value = DirectFunctionCall1(input, CStringGetDatum(text));
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
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return good;
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

/* What UTF-8 lacks, if that can be, is a question mark: nothing fails here. */
char *
dtm_write_json(Jsonb *json, size_t *size)
{
	char	   *text = JsonbToCString(NULL, &json->root, VARSIZE(json));
	char	   *utf8 = unconstify(char *, dtm_to_utf8(text));

	*size = strlen(utf8);
	return utf8;
}
