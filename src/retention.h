/*
 * retention.h: old rows go.
 */
#ifndef DTM_RETENTION_H
#define DTM_RETENTION_H

#include "postgres.h"

#include "trans.h"

/* One small batch, in a transaction of its own; true: there is more to do. */
extern bool dtm_retention_step(DtmTime now);

#endif
