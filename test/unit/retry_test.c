/*
 * retry_test.c: delays between attempts, and the names of things.
 */
#include "decide.h"
#include "tap.h"

int
main(void)
{
	const int64_t interval = 10 * DTM_SECOND;
	const int64_t ceiling = 600 * DTM_SECOND;
	int64_t		most;

	is(dtm_retry_delay(interval, 1, ceiling, 0), 10 * DTM_SECOND, "the first is the interval");
	is(dtm_retry_delay(interval, 2, ceiling, 0), 20 * DTM_SECOND, "the second is twice that");
	is(dtm_retry_delay(interval, 6, ceiling, 0), 320 * DTM_SECOND, "and so on");
	is(dtm_retry_delay(interval, 7, ceiling, 0), ceiling, "up to the ceiling");
	is(dtm_retry_delay(interval, 8, ceiling, 0), ceiling, "and not beyond");
	is(dtm_retry_delay(interval, INT_MAX, ceiling, 0), ceiling, "however often");
	is(dtm_retry_delay(interval, 0, ceiling, 0), interval, "no streak is no shorter");
	is(dtm_retry_delay(interval, -5, ceiling, 0), interval, "nor is nonsense");
	is(dtm_retry_delay(2 * ceiling, 1, ceiling, 0), ceiling, "the ceiling binds the interval too");
	is(dtm_retry_delay(0, 1, ceiling, 0), DTM_MS, "no busy loop");
	is(dtm_retry_delay(-7, 3, ceiling, 0), 4 * DTM_MS, "nor for a negative interval");
	is(dtm_retry_delay(interval, 1, 0, 0), DTM_MS, "nor for a ceiling of nothing");

	most = dtm_retry_delay(interval, 1, ceiling, UINT32_MAX);
	ok(most > interval + interval / 11 && most <= interval + interval / 10,
	   "jitter adds up to a tenth");
	most = dtm_retry_delay(interval, 9, ceiling, UINT32_MAX);
	ok(most > ceiling && most <= ceiling + ceiling / 10, "on top of the ceiling as well");
	ok(dtm_retry_delay(INT64_MAX, 60, INT64_MAX, UINT32_MAX) > 0, "the largest numbers");
	ok(dtm_retry_delay(INT64_MAX / 2 + 1, 2, INT64_MAX, UINT32_MAX) > 0, "doubling does not overflow");

	is_text(dtm_mode_name(DTM_SAGA), "saga", "mode saga");
	is_text(dtm_mode_name(DTM_TCC), "tcc", "mode tcc");
	is_text(dtm_mode_name(DTM_XA), "xa", "mode xa");
	is_text(dtm_mode_name(DTM_MSG), "msg", "mode msg");
	is_text(dtm_mode_name(DTM_WORKFLOW), "workflow", "mode workflow");
	is_text(dtm_status_name(DTM_PREPARED), "prepared", "status prepared");
	is_text(dtm_status_name(DTM_SUBMITTED), "submitted", "status submitted");
	is_text(dtm_status_name(DTM_ABORTING), "aborting", "status aborting");
	is_text(dtm_status_name(DTM_SUCCEED), "succeed", "status succeed");
	is_text(dtm_status_name(DTM_FAILED), "failed", "status failed");
	is_text(dtm_op_status_name(DTM_OP_PREPARED), "prepared", "op prepared");
	is_text(dtm_op_status_name(DTM_OP_SUCCEED), "succeed", "op succeed");
	is_text(dtm_op_status_name(DTM_OP_FAILED), "failed", "op failed");
	is_text(dtm_op_name(DTM_SAGA, DTM_FORWARD), "action", "op action");
	is_text(dtm_op_name(DTM_SAGA, DTM_BACKWARD), "compensate", "op compensate");
	is_text(dtm_op_name(DTM_TCC, DTM_FORWARD), "confirm", "op confirm");
	is_text(dtm_op_name(DTM_TCC, DTM_BACKWARD), "cancel", "op cancel");
	is_text(dtm_op_name(DTM_XA, DTM_FORWARD), "commit", "op commit");
	is_text(dtm_op_name(DTM_XA, DTM_BACKWARD), "rollback", "op rollback");
	return tap_done();
}
