/*
 * trans.h: a global transaction in memory, and the words everything shares.
 *
 * Plain C only: the deciding files, their unit tests and the fuzzer include
 * this without a PostgreSQL server in sight.
 */
#ifndef DTM_TRANS_H
#define DTM_TRANS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Microseconds, on the scale of TimestampTz. */
typedef int64_t DtmTime;

#define DTM_NEVER		INT64_MAX
#define DTM_MS			INT64_C(1000)
#define DTM_SECOND		INT64_C(1000000)

#define DTM_MAX_GID		128		/* bytes */
#define DTM_MAX_ERROR	1024	/* bytes of an error text that are kept */

/* The values below are what the tables hold, in columns of type "char". */
typedef enum DtmMode
{
	DTM_SAGA = 's',
	DTM_TCC = 't',
	DTM_XA = 'x',
	DTM_MSG = 'm',
	DTM_WORKFLOW = 'w'
} DtmMode;

typedef enum DtmStatus
{
	DTM_PREPARED = 'p',
	DTM_SUBMITTED = 's',
	DTM_ABORTING = 'a',
	DTM_SUCCEED = 'S',
	DTM_FAILED = 'F'
} DtmStatus;

typedef enum DtmOpStatus
{
	DTM_OP_PREPARED = 'p',
	DTM_OP_SUCCEED = 'S',
	DTM_OP_FAILED = 'F'
} DtmOpStatus;

/*
 * A branch has one op that goes forward and one that goes back; with tcc, also
 * one that comes before either. What a workflow has done is recorded as action,
 * rollback or commit, of which we call none.
 */
typedef enum DtmPhase
{
	DTM_FORWARD = 0,			/* action, confirm, commit */
	DTM_BACKWARD = 1,			/* compensate, cancel, rollback */
	DTM_TRY = 2					/* or, of a workflow, commit: see names.c */
} DtmPhase;

#define DTM_PHASES 3

/*
 * The branch index of an op that belongs to the transaction as a whole: the
 * back-check of a message, the resuming of a workflow. Its phase is
 * DTM_FORWARD.
 */
#define DTM_WHOLE (-1)

/*
 * The one of its ending: the statement on_success or on_failure. Its phase is
 * DTM_FORWARD too.
 */
#define DTM_ENDING (-2)

/* What a branch's answer means, whatever the transport. */
typedef enum DtmAnswer
{
	DTM_ANSWER_SUCCESS,
	DTM_ANSWER_FAILURE,			/* "I refuse, and nothing happened here" */
	DTM_ANSWER_ONGOING,			/* "not known yet, ask again" */
	DTM_ANSWER_ERROR			/* anything else, or no answer: retried */
} DtmAnswer;

typedef struct DtmOp
{
	DtmOpStatus status;
	bool		running;		/* a call is queued or under way */
	bool		in_doubt;		/* a call may have reached the branch */
	bool		stuck;			/* flagged for people; still retried */
	bool		dirty;			/* differs from its row */
	bool		unmade;			/* its last call ended without being made */
	int32_t		attempts;		/* calls that ended, all of them */
	int32_t		failed_attempts;	/* those that count against retry_limit */
	int32_t		streak;			/* failed in a row: drives the doubling */
	DtmTime		due;			/* earliest next call */
	DtmTime		last_attempt;	/* 0: never */
	char	   *last_error;		/* NULL: none */
	char	   *result;			/* what it answered, until its row has it */
	size_t		result_size;
	void	   *call;			/* the worker's own; deciding never looks */
} DtmOp;

typedef struct DtmBranch
{
	char	   *branch_id;		/* "01", "02", ... */
	char	   *address[DTM_PHASES];	/* "" is success without a call */
	DtmOp		op[DTM_PHASES];
	int			npredecessors;	/* concurrent saga: indexes into branches */
	int32_t    *predecessors;
	bool		held;			/* scratch of the deciding function */
	int64_t		request_timeout;	/* ms; 0: the transaction's */
	int32_t		retry_limit;	/* 0: the transaction's */
	bool		keep_result;
	bool		uses_results;	/* its payload is filled in when it is called */
	char	   *headers;		/* "Name: value" strings, each ended by a zero
								 * byte, an empty one at the end; NULL: none.
								 * Of a secret only its name: see secret.h */
	char	   *payload;		/* NULL: empty, or read when called */
	size_t		payload_size;
} DtmBranch;

typedef struct DtmTrans
{
	int64_t		id;
	DtmMode		mode;
	DtmStatus	status;			/* as decided */
	DtmStatus	stored_status;	/* as the row says, to our knowledge */
	char	   *gid;
	uint32_t	owner;			/* role oid */
	bool		concurrent;
	bool		resumed;		/* an earlier worker may have called branches
								 * without leaving a trace */
	bool		driven;			/* tcc: we call the tries, not the application */
	DtmTime		deadline;		/* timeout_to_fail, DTM_NEVER: none. workflow:
								 * when its silence has lasted too long */
	DtmTime		not_before;		/* msg: delay; 0: none */
	int64_t		request_timeout;	/* ms */
	int64_t		retry_interval; /* µs */
	int32_t		retry_limit;	/* 0: none */
	char	   *headers;		/* branch_headers, in the same form */
	char	   *traceparent;	/* NULL: none */
	bool		on_success;		/* it has a statement for this end ... */
	bool		on_failure;		/* ... or for that one; see ending.c */
	char	   *reason;			/* why it was rolled back; NULL: it was not */
	char	   *workflow;		/* its name; NULL: it is none */
	char	   *query_prepared; /* msg: whom to ask; workflow: who resumes it;
								 * NULL or "": nobody */
	DtmOp		check;			/* asking it. See dtm_op_of */
	DtmOp		ending;			/* running the statement of its final status */
	DtmStatus	ending_for;		/* which one it was last started for */
	int32_t		ending_held;	/* so often in a row its row was not free */
	int			nbranches;
	DtmBranch  *branches;
	int			running;		/* ops with a call queued or under way */
	DtmTime		due;			/* when it must be looked at again */
	void	   *keeper;			/* the worker's own part; deciding never looks */
} DtmTrans;

/* The op of a branch, or, for DTM_WHOLE and DTM_ENDING, of the transaction. */
static inline DtmOp *
dtm_op_of(DtmTrans *trans, int branch, DtmPhase phase)
{
	return branch == DTM_WHOLE ? &trans->check
		: branch == DTM_ENDING ? &trans->ending
		: &trans->branches[branch].op[phase];
}

/* Whom it calls; NULL or "": nobody. Not of an ending, which has none. */
static inline const char *
dtm_address_of(const DtmTrans *trans, int branch, DtmPhase phase)
{
	return branch == DTM_WHOLE ? trans->query_prepared
		: branch == DTM_ENDING ? NULL
		: trans->branches[branch].address[phase];
}

/* How it is named to whom it calls. */
static inline const char *
dtm_branch_id_of(const DtmTrans *trans, int branch)
{
	return branch < 0 ? "00" : trans->branches[branch].branch_id;
}

#endif
