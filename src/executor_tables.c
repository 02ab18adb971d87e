/*
 * executor_tables.c: an executor's own statements on dtm's tables.
 *
 * No role may write those, and the executor is the role: each such statement is
 * lifted above it, alone, and nothing that a user wrote ever runs meanwhile.
 * Everything in it is qualified: the role's search_path is in force.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"

#include "executor_tables.h"

static void plan_statement(DtmStatement *statement);

void
dtm_executor_on_tables(DtmStatement *statement, Datum *values,
					   const char *nulls, int expected, bool as_it_is_now)
{
	int			level = NewGUCNestLevel();
	Oid			user;
	int			context;
	int			rc;

	/* After an error the end of the transaction puts both back. */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   context | SECURITY_LOCAL_USERID_CHANGE);

	/* The plan lives long: made while a table was small, it must not scan it. */
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (statement->plan == NULL)
		plan_statement(statement);
	rc = SPI_execute_plan(statement->plan, values, nulls, as_it_is_now, 0);
	if (rc != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("a statement of dtm failed: %s",
						SPI_result_code_string(rc))));

	AtEOXact_GUC(true, level);
	SetUserIdAndSecContext(user, context);
}

static void
plan_statement(DtmStatement *statement)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, statement->nargs,
										  statement->types,
										  CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not prepare a statement of dtm: %s",
						SPI_result_code_string(SPI_result))));
	statement->plan = plan;
}
