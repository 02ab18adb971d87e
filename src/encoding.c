/*
 * encoding.c: between this database's encoding and UTF-8.
 *
 * The server's own functions for this need a transaction, as they look the
 * conversion up each time, and give up at the first character that the other
 * side lacks. Calls are made and end without one, and an error's text that is
 * lost because of one character helps nobody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "encoding.h"

static FmgrInfo to_utf8;
static FmgrInfo from_utf8;

static bool needs_conversion(const char *text);
static void find_conversions(void);
static void find_conversion(int from, int to, FmgrInfo *conversion);
static char *convert(FmgrInfo *conversion, int from, int to, const char *text);

const char *
dtm_to_utf8(const char *text)
{
	if (!needs_conversion(text))
		return text;
	return convert(&to_utf8, GetDatabaseEncoding(), PG_UTF8, text);
}

void
dtm_from_utf8(char *dst, size_t size, const char *text)
{
	char	   *converted = NULL;
	int			len;

	if (needs_conversion(text))
		text = converted = convert(&from_utf8, PG_UTF8, GetDatabaseEncoding(),
								   text);
	len = strlen(text);
	if (len >= size)
		len = pg_mbcliplen(text, len, size - 1);
	memcpy(dst, text, len);
	dst[len] = '\0';
	if (converted != NULL)
		pfree(converted);
}

/* A database in SQL_ASCII does not know what its bytes mean; nor do we. */
static bool
needs_conversion(const char *text)
{
	if (GetDatabaseEncoding() == PG_UTF8 ||
		GetDatabaseEncoding() == PG_SQL_ASCII)
		return false;
	for (; *text != '\0'; text++)
	{
		if (IS_HIGHBIT_SET(*text))
		{
			find_conversions();
			return true;
		}
	}
	return false;
}

/* Once: a database keeps its encoding. */
static void
find_conversions(void)
{
	static bool found = false;
	MemoryContext before = CurrentMemoryContext;
	bool		inside = IsTransactionState();

	if (found)
		return;
	if (!inside)
		StartTransactionCommand();
	find_conversion(GetDatabaseEncoding(), PG_UTF8, &to_utf8);
	find_conversion(PG_UTF8, GetDatabaseEncoding(), &from_utf8);
	if (!inside)
		CommitTransactionCommand();
	MemoryContextSwitchTo(before);
	found = true;
}

static void
find_conversion(int from, int to, FmgrInfo *conversion)
{
	Oid			function = FindDefaultConversionProc(from, to);

	if (OidIsValid(function))
		fmgr_info_cxt(function, conversion, TopMemoryContext);
}

static char *
convert(FmgrInfo *conversion, int from, int to, const char *text)
{
	int			len = strlen(text);
	char	   *result = palloc((Size) len * MAX_CONVERSION_GROWTH + 1);
	char	   *next = result;

	while (len > 0)
	{
		int			done = 0;

		if (OidIsValid(conversion->fn_oid))
			done = DatumGetInt32(FunctionCall6(conversion,
											   Int32GetDatum(from),
											   Int32GetDatum(to),
											   CStringGetDatum(text),
											   CStringGetDatum(next),
											   Int32GetDatum(len),
											   BoolGetDatum(true)));
		else
		{
			while (done < len && !IS_HIGHBIT_SET(text[done]))
				done++;
			memcpy(next, text, done);
			next[done] = '\0';
		}
		next += strlen(next);
		text += done;
		len -= done;
		if (len > 0)
		{
			int			bad = Min(pg_encoding_mblen(from, text), len);

			*next++ = '?';
			text += bad;
			len -= bad;
		}
	}
	*next = '\0';
	return result;
}
