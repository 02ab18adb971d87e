/*
 * api_placeholder.h: may the payloads of these steps use what others answer?
 */
#ifndef DTM_API_PLACEHOLDER_H
#define DTM_API_PLACEHOLDER_H

#include "postgres.h"

#include "api_start.h"
#include "api_step.h"

/*
 * Check the placeholders in the steps of a transaction that is begun in one
 * call, and note in each step which others it uses.
 */
extern void dtm_check_uses(DtmMode mode, bool concurrent, DtmStep *steps,
						   int nsteps);

/* The same for steps that are added, in their place behind earlier ones. */
extern void dtm_check_uses_in_place(const DtmPlace *place, DtmStep *steps,
									int nsteps);

#endif
