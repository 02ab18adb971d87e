/*
 * retry.c: how long to wait before the next attempt.
 *
 * Pure arithmetic. The jitter only ever adds: no attempt comes earlier than
 * the interval that a user asked for.
 */
#include "decide.h"

/* Intervals are exact to the millisecond; less would be a busy loop. */
#define SHORTEST_DELAY DTM_MS

static int64_t add_jitter(int64_t delay, uint32_t random);

/*
 * dtm_retry_delay returns the microseconds until the next attempt, when the
 * last streak attempts have failed: the interval, doubled for each failure
 * after the first, at most the ceiling, plus up to a tenth of it so that those
 * who failed together do not come back together.
 */
int64_t
dtm_retry_delay(int64_t interval, int streak, int64_t ceiling, uint32_t random)
{
	int64_t		delay = interval;

	if (ceiling < SHORTEST_DELAY)
		ceiling = SHORTEST_DELAY;
	if (delay < SHORTEST_DELAY)
		delay = SHORTEST_DELAY;

	for (int n = 1; n < streak && delay < ceiling; n++)
	{
		if (delay > ceiling / 2)
			delay = ceiling;
		else
			delay *= 2;
	}
	if (delay > ceiling)
		delay = ceiling;

	return add_jitter(delay, random);
}

/* The product is taken in two halves: it must not overflow for any delay. */
static int64_t
add_jitter(int64_t delay, uint32_t random)
{
	int64_t		span = delay / 10;
	int64_t		share = random >> 16;
	int64_t		jitter = (span >> 16) * share + (((span & 0xffff) * share) >> 16);

	if (delay > INT64_MAX - jitter)
		return delay;
	return delay + jitter;
}
