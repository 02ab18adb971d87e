/*
 * dtm.c: the library is loaded. Settings, shared memory, hooks, launcher.
 *
 * Loaded by shared_preload_libraries everything is there. Loaded by a session
 * alone (somebody called a function without preloading), SQL works and stores,
 * and says what is missing; nothing is hooked into shared memory.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "debug_point.h"
#include "launcher.h"
#include "lifecycle.h"
#include "pending.h"
#include "settings.h"
#include "shmem.h"

#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "dtm",.version = "1.0");
#else
PG_MODULE_MAGIC;
#endif

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	dtm_define_settings();
	dtm_pending_install();
	dtm_lifecycle_install();

	if (!process_shared_preload_libraries_in_progress)
		return;

	dtm_shmem_install();
	dtm_launcher_register();
}
