/*
 * worker.h: the process that carries transactions out.
 */
#ifndef DTM_WORKER_H
#define DTM_WORKER_H

#include "postgres.h"

/* What the launcher says through bgw_extra. */
typedef struct DtmWorkerArgs
{
	Oid			database;
	int32		shard;
} DtmWorkerArgs;

extern PGDLLEXPORT void dtm_worker_main(Datum arg);

#endif
