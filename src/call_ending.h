/*
 * call_ending.h: calls of endings, before an executor has them.
 */
#ifndef DTM_CALL_ENDING_H
#define DTM_CALL_ENDING_H

#include "call.h"
#include "executor.h"

/* The call of an ending is queued: from now on its time runs. */
extern void dtm_ending_waits(DtmCall *call, DtmTime now);

/* It has an executor, or is gone: whatever call this is. */
extern void dtm_ending_waits_no_more(DtmCall *call);

/* Give up those whose time is over, and when to look again. */
extern void dtm_endings_give_up(DtmTime now,
								void (*give_up) (DtmCall *call, DtmTime now));
extern DtmTime dtm_endings_wake(void);
extern void dtm_endings_clock_set_back(DtmTime now);

/* What makes an end durable, and under which condition. */
extern void dtm_describe_ending(const DtmTrans *trans, DtmExecutorJob *job);

#endif
