/*
 * carry.h: carrying out what deciding has decided.
 */
#ifndef DTM_CARRY_H
#define DTM_CARRY_H

#include "postgres.h"

#include "shmem.h"
#include "store.h"

/* resumed_below: transactions up to this id may have been worked on before. */
extern void dtm_carry_init(DtmShard *shard);
extern void dtm_carry_resume(int64 resumed_below);

/* Take up what was read; the loaded's memory belongs to us from here. */
extern void dtm_carry_take(const DtmLoaded *loaded, DtmTime now);

/* Everything whose time has come. */
extern void dtm_carry_timers(DtmTime now);
extern DtmTime dtm_carry_next_timer(void);

/*
 * Transactions that are due later than this need not stay in memory. Whoever
 * moves it on reads those that come nearer.
 */
extern void dtm_carry_set_horizon(DtmTime horizon);
extern DtmTime dtm_carry_horizon(void);

/*
 * Let go of what is due later than the horizon, as soon as it is written; and
 * also of what may as well wait in the table, until about so much is in use.
 */
extern void dtm_carry_shed_idle(DtmTime now);
extern void dtm_carry_shed(DtmTime now, Size goal);

/* Write what must be written by now, commit, and go on with what waited. */
extern void dtm_carry_write(DtmTime now);
extern DtmTime dtm_carry_next_write(void);	/* DTM_NEVER: nothing to write */

/* Ids whose rows must be read again. */
extern int	dtm_carry_rereads(int64 *ids, int max);

/* Those of this range that we hold: news of them may have been lost. */
extern void dtm_carry_doubt(int64 min, int64 max);

/* The clock was set back: nothing of ours waits for the old time. */
extern void dtm_carry_clock_set_back(DtmTime now);

/* Forget everything: calls are stopped, the tables know the rest. */
extern void dtm_carry_drop_all(void);

#endif
