/*
 * placeholder.h: {"$from": "01", "path": "$.flight.id"} in a payload: a part of
 * what an earlier branch has answered.
 */
#ifndef DTM_PLACEHOLDER_H
#define DTM_PLACEHOLDER_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What one payload may hold: the worker fills them in for everybody. */
#define DTM_MAX_PLACEHOLDERS		64
#define DTM_MAX_ACCESSORS			256 /* of all their paths together */
#define DTM_MAX_TEMPLATE			(1024 * 1024)	/* bytes of the payload */
#define DTM_MAX_FILLED				(4 * 1024 * 1024)	/* as jsonb writes it */

/* No payload without these bytes has any: a search, before it is parsed. */
extern bool dtm_may_have_placeholders(const char *bytes, size_t size);

/*
 * The branch ids (char *) that placeholders name, each once; NIL: there is no
 * placeholder. An error when one is not as it must be; it begins with place.
 */
extern List *dtm_find_placeholders(const char *bytes, size_t size,
								   const char *place);

/* A result that they may draw from. */
typedef struct DtmResult
{
	const char *branch_id;
	const char *bytes;			/* NULL: it has none */
	size_t		size;
	bool		was_read;		/* json says what the bytes are */
	Jsonb	   *json;			/* NULL: no JSON, nor any text */
} DtmResult;

/* Of the branch $2 of the transaction $1. Everything in it is qualified. */
#define DTM_SELECT_RESULTS \
	"SELECT s.branch_id, o.result FROM dtm.branch AS b" \
	" CROSS JOIN LATERAL pg_catalog.unnest(b.uses) AS u (branch)" \
	" JOIN dtm.branch AS s ON s.id OPERATOR(pg_catalog.=) b.id" \
	" AND s.branch OPERATOR(pg_catalog.=) u.branch" \
	" LEFT JOIN dtm.op AS o ON o.id OPERATOR(pg_catalog.=) b.id" \
	" AND o.branch OPERATOR(pg_catalog.=) u.branch" \
	" AND o.phase OPERATOR(pg_catalog.=) 0" \
	" AND o.status OPERATOR(pg_catalog.=) 'S'::pg_catalog.\"char\"" \
	" WHERE b.id OPERATOR(pg_catalog.=) $1 AND b.branch OPERATOR(pg_catalog.=) $2"

/* What that has found, in SPI_tuptable, copied; returns how many. */
extern int	dtm_results_of_rows(MemoryContext context, DtmResult **results);

/*
 * The payload of a branch, filled in. What is not found becomes null, or, unless
 * or_null, is told in *missing, and NULL is returned. The same goes for all its
 * placeholders, if with what is found it would be too large, or no jsonb.
 */
extern Jsonb *dtm_fill_placeholders(const char *branch_id,
									const char *bytes, size_t size,
									DtmResult *results, int nresults,
									bool or_null, const char **missing);

#endif
