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

/* Let go of what is due later than the horizon, as soon as it is written. */
extern void dtm_carry_shed(void);

/* Write what must be written by now, commit, and go on with what waited. */
extern void dtm_carry_write(DtmTime now);
extern DtmTime dtm_carry_next_write(void);	/* DTM_NEVER: nothing to write */

/* Ids whose rows must be read again. */
extern int	dtm_carry_rereads(int64 *ids, int max);

/* Forget everything: calls are stopped, the tables know the rest. */
extern void dtm_carry_drop_all(void);

#endif
