/*
 * executor_tables.h: an executor's own statements on dtm's tables.
 *
 * Only executor*.c include it.
 */
#ifndef DTM_EXECUTOR_TABLES_H
#define DTM_EXECUTOR_TABLES_H

#include "postgres.h"

#include "store_plan.h"

/*
 * Run it with the rights that it needs, whoever the executor is. as_it_is_now:
 * with the active snapshot, whatever the isolation level. Complains when the
 * result is not of the kind expected.
 */
extern void dtm_executor_on_tables(DtmStatement *statement, Datum *values,
								   const char *nulls, int expected,
								   bool as_it_is_now);

#endif
