/*
 * identity.h: is this database the one whose transactions its tables hold?
 *
 * A restored, cloned or template-made copy has the same rows as its original.
 * If both called branches, everything would happen twice, so a copy is paused
 * until somebody says dtm.adopt().
 */
#ifndef DTM_IDENTITY_H
#define DTM_IDENTITY_H

#include "postgres.h"

/*
 * Does dtm.identity name this server and this database? Needs a transaction,
 * and rights to read the table (a worker's, or those of dtm_api_begin).
 */
extern bool dtm_is_adopted(void);

/* Make it so. */
extern void dtm_adopt_here(void);

#endif
