/*
 * call_request.h: what a call says, made when it leaves.
 */
#ifndef DTM_CALL_REQUEST_H
#define DTM_CALL_REQUEST_H

#include "call.h"

/*
 * Fill call->request, in the call's own memory. false: it cannot be made now,
 * error says why; with call->unmade, it never can: what its payload is to use of
 * another's result is not there. No transaction may be open.
 */
extern bool dtm_call_make_request(DtmCall *call, char error[DTM_MAX_ERROR]);

/* The same for call->statement, with a use of its server. */
extern bool dtm_call_make_statement(DtmCall *call, char error[DTM_MAX_ERROR]);

#endif
