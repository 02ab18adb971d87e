/*
 * json_value.h: bytes from elsewhere, taken for JSON if they are.
 */
#ifndef DTM_JSON_VALUE_H
#define DTM_JSON_VALUE_H

#include "postgres.h"

#include "fmgr.h"
#include "trans.h"
#include "utils/jsonb.h"

/*
 * Do what may fail because of the data that it is given: a data exception, a
 * limit of PostgreSQL, a single allocation that is too large. false: it has
 * failed so, problem says how, and what it has done to the database is undone.
 * Other errors are raised. Inside a transaction only, and never in parallel mode.
 */
#define DTM_MAX_PROBLEM		512		/* shorter than DTM_MAX_ERROR: some words fit */

extern bool dtm_try(void (*work) (void *arg), void *arg,
					char problem[DTM_MAX_PROBLEM]);

/*
 * Give the bytes, a text in UTF-8, to a type's input function. false: they are
 * no text in this database's encoding, or not of that type. Inside a transaction
 * only, and never in parallel mode.
 */
extern bool dtm_try_input(PGFunction input, const char *bytes, size_t size,
						  Datum *value);

typedef enum DtmJsonKind
{
	DTM_JSON_GOOD,				/* value is set */
	DTM_JSON_STRANGE,			/* JSON that jsonb cannot hold: \u0000, enormous
								 * numbers, or too deep */
	DTM_JSON_NONE				/* anything else */
} DtmJsonKind;

extern DtmJsonKind dtm_read_json(const char *bytes, size_t size,
								 Jsonb **value);

/* A text in UTF-8 as a JSON string; NULL: it is no text. */
extern Jsonb *dtm_read_json_string(const char *bytes, size_t size);

/*
 * How long the text of this is, in the database's encoding: it is not written,
 * as a number of a few bytes, 1e131071, may have so many digits.
 */
extern uint64 dtm_json_text_size(JsonbContainer *json);

/*
 * The other way: JSON text in UTF-8, palloc'd, with its length. Whoever did not
 * make the value looks at dtm_json_text_size first.
 */
extern char *dtm_write_json(Jsonb *json, size_t *size);

#endif
