/*
 * result_path.h: the part of a result that a placeholder means.
 */
#ifndef DTM_RESULT_PATH_H
#define DTM_RESULT_PATH_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef enum DtmAccess
{
	DTM_ACCESS_KEY,				/* .key */
	DTM_ACCESS_ANY_KEY,			/* .* */
	DTM_ACCESS_INDEX,			/* [0] */
	DTM_ACCESS_LAST,			/* [last] */
	DTM_ACCESS_ALL				/* [*] */
} DtmAccess;

typedef struct DtmAccessor
{
	DtmAccess	access;
	char	   *key;			/* KEY: not ended by a zero byte */
	int			key_length;
	int32		index;			/* INDEX: -1: larger than any array */
} DtmAccessor;

typedef struct DtmPath
{
	int			naccessors;
	DtmAccessor *accessors;
} DtmPath;

/* An error when it is not such a path; it begins with, or names, place. */
extern DtmPath dtm_read_path(const char *text, const char *place);

/*
 * The first value that it finds; false: none. *visits counts down with every
 * value that is looked at; below zero, the search was given up.
 */
extern bool dtm_find_first(const DtmPath *path, Jsonb *json, int *visits,
						   JsonbValue *found);

#endif
