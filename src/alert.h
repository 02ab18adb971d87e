/*
 * alert.h: telling people of calls that fail again and again.
 */
#ifndef DTM_ALERT_H
#define DTM_ALERT_H

#include "trans.h"

/* The op has failed once more: is it time to tell? */
extern void dtm_alert_note(const DtmTrans *trans, int branch, DtmPhase phase,
						   DtmTime now);

/* Tell what was noted. No transaction may be open. */
extern void dtm_alerts_give(void);

#endif
