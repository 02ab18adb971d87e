/*
 * call.h: from an address to a transport, with every call under its target's
 * limits and circuit. The worker's only way to reach anybody.
 */
#ifndef DTM_CALL_H
#define DTM_CALL_H

#include "postgres.h"

#include "lib/ilist.h"

#include "address.h"
#include "call_http.h"
#include "call_pg.h"
#include "target.h"
#include "trans.h"

/* A post of our own has ended; NULL: it was taken. */
typedef void (*DtmPostEnded) (const char *error);

/* One call, from being queued until its result is handed over. */
typedef struct DtmCall
{
	DtmWaiting	waiting;		/* first: the target gives this back */
	DtmTrans   *trans;			/* NULL: nobody wants the result any more, or
								 * it is a post */
	DtmPostEnded posted;		/* of a post; else NULL */
	int			branch;			/* or DTM_WHOLE, DTM_ENDING */
	DtmPhase	phase;
	DtmTransport transport;
	int64		timeout;		/* ms */
	bool		unmade;			/* it cannot be made: not now, nor later */
	MemoryContext context;		/* holds this and the request */
	DtmHttpRequest request;		/* HTTP; and every branch's payload */
	DtmPgRequest statement;		/* REMOTE */
	bool		overtaken;		/* it need not be made: the row has changed */
	int64		forgotten_id;	/* a workflow's, which left memory meanwhile; 0 */
	int			executor;		/* SQL: the slot; -1: none yet */
	DtmTime		give_up_at;		/* SQL: when waiting for one is an error; 0 */
	bool		ending_waits;	/* call_ending.c: it has no executor yet */
	dlist_node	ending_node;
	dlist_node	node;			/* SQL: among those with an executor; or, of a
								 * workflow, among those that were forgotten */
} DtmCall;

/* Of the client of a workflow, which is called to go on? Not of a post. */
static inline bool
dtm_call_is_resume(const DtmCall *call)
{
	return call->branch == DTM_WHOLE && call->trans->mode == DTM_WORKFLOW;
}

/* How a call ended. What is pointed to is gone when its taker returns. */
typedef struct DtmCallEnd
{
	DtmAnswer	answer;
	bool		answered;		/* the other side said something, whatever */
	bool		unmade;			/* nobody was called: there is nothing to say */
	bool		recorded;		/* the op's row says so already (an executor
								 * wrote it, and the result with it) */
	const char *error;			/* NULL: none */
	const char *result;			/* of a success: what the branch said; NULL */
	size_t		result_size;
} DtmCallEnd;

typedef void (*DtmCallEnded) (DtmTrans *trans, int branch, DtmPhase phase,
							  const DtmCallEnd *end);

/*
 * A call was not made, and will not be unless it is started again. why is NULL
 * when its row is not any more as we know it.
 */
typedef void (*DtmCallReturned) (DtmTrans *trans, int branch, DtmPhase phase,
								 const char *why);

extern void dtm_calls_init(DtmCallEnded ended, DtmCallReturned returned);
extern void dtm_calls_configure(void);	/* after a reload of the settings */

/* Queue the call of one op. Its end comes through the callback, always. */
extern void dtm_call_start(DtmTrans *trans, int branch, DtmPhase phase);

/*
 * Send a JSON text, once, on behalf of no transaction. It is queued like the
 * calls of branches, but never with them.
 */
extern void dtm_call_post(const char *url, const char *json,
						  DtmPostEnded ended);

/* Take back a call that is only queued; false: it is under way. */
extern bool dtm_call_withdraw(DtmTrans *trans, int branch, DtmPhase phase);

/*
 * Could it as well wait in the table? It is queued at a server that does not
 * answer at present, or behind more calls than that one can soon take.
 */
extern bool dtm_call_can_wait(DtmTrans *trans, int branch, DtmPhase phase);

/* Somebody says "now": a queued call does not wait for a pause to end. */
extern void dtm_call_hurry(DtmTrans *trans, int branch, DtmPhase phase);

/* The clock was set back. */
extern void dtm_calls_clock_set_back(DtmTime now);

/* The transaction leaves memory: its calls' results no longer matter. */
extern void dtm_calls_forget(DtmTrans *trans);
extern void dtm_calls_forget_branches(DtmTrans *trans); /* all but its ending's */

/* Start what may start, move what can move, hand over results. */
extern void dtm_calls_drive(DtmTime now);

/* Two descriptors that are readable when there is something to drive. */
extern int	dtm_calls_fd(void);
extern int	dtm_calls_remote_fd(void);
extern long dtm_calls_timeout(DtmTime now); /* ms; -1: none */
extern int	dtm_calls_in_flight(void);
extern int	dtm_calls_queued(void);
extern int	dtm_calls_open_circuits(void);

#endif
