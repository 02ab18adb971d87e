/*
 * gid.c: ids of global transactions, and what a given one may look like.
 *
 * A new one is 26 characters of Crockford's base 32: 48 bits of milliseconds,
 * so that neighbours in time are neighbours in the index, and 80 random bits,
 * so that no two servers ever make the same. Safe in URLs and file names.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api_common.h"

#define GID_LENGTH 26

PG_FUNCTION_INFO_V1(dtm_new_gid);

Datum
dtm_new_gid(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(dtm_make_gid());
}

text *
dtm_make_gid(void)
{
	static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
	uint64		milliseconds = (uint64) (GetCurrentTimestamp() / 1000);
	unsigned char random[10];
	uint64		high;
	uint64		low;
	text	   *gid = (text *) palloc(VARHDRSZ + GID_LENGTH);
	char	   *out = VARDATA(gid);

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not get random bytes for a gid"),
				 errhint("Pass a gid of your own.")));

	/* 48 + 16 bits, then the other 64. */
	high = (milliseconds << 16) | ((uint64) random[0] << 8) | random[1];
	memcpy(&low, random + 2, sizeof(low));

	for (int i = GID_LENGTH - 1; i >= 0; i--)
	{
		out[i] = digits[low & 31];
		low = (low >> 5) | (high << 59);
		high >>= 5;
	}
	SET_VARSIZE(gid, VARHDRSZ + GID_LENGTH);
	return gid;
}

void
dtm_check_gid(const text *gid)
{
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(gid);
	int			size = VARSIZE_ANY_EXHDR(gid);

	if (size == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("gid: must not be empty"),
				 errhint("Leave the gid out, or use dtm.new_gid(), to get a new one.")));
	if (size > DTM_MAX_GID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("gid: has %d bytes, the limit is %d", size, DTM_MAX_GID),
				 errhint("Use an id of your own object, like order-42.")));
	for (int i = 0; i < size; i++)
	{
		if (bytes[i] < ' ' || bytes[i] == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("gid: must not contain control characters"),
					 errdetail("Byte %d is 0x%02x.", i + 1, bytes[i]),
					 errhint("A gid may contain any letters, digits, spaces and signs.")));
	}
}
