/*
 * launcher.h: the process that keeps a worker running for every shard of every
 * database that has the extension.
 */
#ifndef DTM_LAUNCHER_H
#define DTM_LAUNCHER_H

#include "postgres.h"

/* The extension's version that this library serves; workers idle at others. */
#define DTM_SQL_VERSION "1.0"

/* From _PG_init, while libraries are preloaded. */
extern void dtm_launcher_register(void);

extern PGDLLEXPORT void dtm_launcher_main(Datum arg);
extern PGDLLEXPORT void dtm_probe_main(Datum arg);

#endif
