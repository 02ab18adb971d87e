/*
 * api_msg.h: messages, for those who are not called as SQL functions.
 */
#ifndef DTM_API_MSG_H
#define DTM_API_MSG_H

#include "api_start.h"

/*
 * Between dtm_api_begin and dtm_api_end: start a message. kind is NULL when whom
 * the steps call is checked already.
 */
extern void dtm_send(const DtmApi *api, const DtmStart *start,
					 const DtmStepKind *kind, const DtmStep *steps,
					 int nsteps);

#endif
