/*
 * lifecycle.h: statements that concern the processes of dtm.
 */
#ifndef DTM_LIFECYCLE_H
#define DTM_LIFECYCLE_H

#include "postgres.h"

/* Hooks and callbacks, once, from _PG_init. */
extern void dtm_lifecycle_install(void);

/*
 * Send a signal (0: none) to every process of dtm that is connected to the
 * database, but for ourselves. Returns how many there are.
 */
extern int	dtm_signal_processes(Oid database, int signal);

#endif
