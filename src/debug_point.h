/*
 * debug_point.h: named places where a test can let a process die.
 *
 * Compiled in with make DTM_DEBUG=1 only. The setting dtm.debug_point, say
 * 'worker-before-commit:postmaster:7', kills the victim (self, worker, executor,
 * backend, postmaster) by SIGKILL the first time that any process passes the
 * point. The victim pause is the process itself, stopped by SIGSTOP until a test
 * sends SIGCONT. The last part is a token: a file of that name in the data
 * directory remembers, over the restart, that it has happened.
 */
#ifndef DTM_DEBUG_POINT_H
#define DTM_DEBUG_POINT_H

#ifdef DTM_DEBUG
extern void dtm_debug_point(const char *name);
extern void dtm_define_debug_settings(void);
#define DTM_POINT(name) dtm_debug_point(name)
#else
#define DTM_POINT(name) ((void) 0)
#endif

#endif
