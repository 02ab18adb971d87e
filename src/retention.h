/*
 * retention.h: old rows go.
 */
#ifndef DTM_RETENTION_H
#define DTM_RETENTION_H

#include "postgres.h"

#include "trans.h"

/* A small batch of each kind, in its own transaction; true: there is more. */
extern bool dtm_retention_step(DtmTime now);

#endif
