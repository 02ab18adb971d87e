/*
 * secret.h: headers whose value is a secret, named and not told.
 *
 * A header's value may be {"secret": "pay-token"}, or with something before it
 * {"secret": "pay-token", "prefix": "Bearer "}. Only that reference is stored
 * with a transaction, shown and compared. The value is in dtm.secret, and is
 * read for each call: nothing keeps it longer than the call.
 */
#ifndef DTM_SECRET_H
#define DTM_SECRET_H

#include "postgres.h"

#include "utils/jsonb.h"

/*
 * In memory (DtmTrans, DtmBranch) such a header is "Name: prefix", this, and
 * the secret's name. No header's value holds a control character.
 */
#define DTM_SECRET_FOLLOWS '\001'

typedef struct DtmSecretRef
{
	const char *name;			/* neither is terminated */
	int			name_len;
	const char *prefix;
	int			prefix_len;
} DtmSecretRef;

/* Is the value a reference, and nothing besides? */
extern bool dtm_secret_ref(const JsonbValue *value, DtmSecretRef *ref);

/*
 * An error unless every secret that the headers name is there, and the
 * role's. Between dtm_api_begin and dtm_api_end. headers may be NULL.
 */
extern void dtm_check_secrets(Oid role, Jsonb *headers, const char *place);

#endif
