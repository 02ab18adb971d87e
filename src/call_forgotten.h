/*
 * call_forgotten.h: resumes under way whose workflow has left memory.
 */
#ifndef DTM_CALL_FORGOTTEN_H
#define DTM_CALL_FORGOTTEN_H

#include "call.h"

/* It is under way, and its transaction, still there, is about to be forgotten. */
extern void dtm_forgotten_note(DtmCall *call);

/* It has ended: whatever call this is. */
extern void dtm_forgotten_ended(DtmCall *call);

/* Would this be a second call at once of the client of a workflow? */
extern bool dtm_forgotten_is_under_way(const DtmCall *call);

#endif
