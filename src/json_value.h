/*
 * json_value.h: bytes from elsewhere, taken for JSON if they are.
 */
#ifndef DTM_JSON_VALUE_H
#define DTM_JSON_VALUE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"

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

/* The other way: JSON text in UTF-8, palloc'd, with its length. */
extern char *dtm_write_json(Jsonb *json, size_t *size);

#endif
