/*
 * store_plan.h: what store_load.c and store_write.c share: plans and arrays.
 */
#ifndef DTM_STORE_PLAN_H
#define DTM_STORE_PLAN_H

#include "postgres.h"

#include "executor/spi.h"

/* A statement that is planned once in a process's life. */
typedef struct DtmStatement
{
	const char *sql;
	int			nargs;
	Oid			types[12];
	int			options;		/* of SPI_prepare_cursor. Generic where the best plan
								 * does not depend on the values: replanning for
								 * each small batch cost a third of a worker */
	SPIPlanPtr	plan;
} DtmStatement;

/* Run it; complains when the result is not of the kind expected. */
extern void dtm_statement_run(DtmStatement *statement, Datum *values,
							  const char *nulls, int expected);
extern void dtm_statement_run_some(DtmStatement *statement, Datum *values,
								   const char *nulls, int expected,
								   long max_rows);

extern Datum dtm_int8_array(const int64 *values, int n);
extern Datum dtm_array(const Datum *values, const bool *nulls, int n, Oid type);

#endif
