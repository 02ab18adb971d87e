/*
 * target_test.c: turns, limits and circuits.
 */
#include <stdlib.h>

#include "target.h"
#include "tap.h"

#define SOME 64

static DtmTargets *targets;
static DtmWaiting calls[SOME];
static DtmTime now = 1000 * DTM_SECOND;

static void
fresh(int in_flight, int per_target, int trip_after)
{
	DtmTargetLimits limits = {in_flight, per_target, trip_after,
	DTM_SECOND, 60 * DTM_SECOND};

	if (targets != NULL)
		dtm_targets_destroy(targets);
	targets = dtm_targets_create();
	dtm_targets_limit(targets, &limits);
	memset(calls, 0, sizeof(calls));
}

static void
queue(int call, const char *key)
{
	if (!dtm_target_enqueue(targets, key, &calls[call]))
		ok(false, "enqueue");
}

/* -1: none */
static int
next(void)
{
	DtmWaiting *call = dtm_targets_next(targets, now);

	return call != NULL ? (int) (call - calls) : -1;
}

static void
ended(int call, bool answered)
{
	dtm_target_ended(targets, &calls[call], answered, now);
}

static void
turns(void)
{
	fresh(100, 2, 3);
	is(next(), -1, "nothing is queued");
	queue(0, "a:80");
	queue(1, "a:80");
	queue(2, "a:80");
	queue(3, "b:80");
	is(dtm_targets_queued(targets), 4, "four queued");
	is(next(), 0, "the first of a");
	is(next(), 3, "then it is b's turn");
	is(next(), 1, "then a's again");
	is(next(), -1, "two at once is a's limit");
	is(dtm_targets_in_flight(targets), 3, "three in flight");
	ended(1, true);
	is(next(), 2, "room again");
	ended(0, true);
	ended(2, true);
	ended(3, true);
	is(dtm_targets_in_flight(targets), 0, "none in flight");
	ok(calls[0].target == NULL && !calls[0].in_flight, "a call that ended is free");

	fresh(1, 5, 3);
	queue(0, "a:80");
	queue(1, "b:80");
	is(next(), 0, "the limit of all");
	is(next(), -1, "holds b back");
	ended(0, true);
	is(next(), 1, "and lets it go");
}

static void
circuits(void)
{
	fresh(100, 10, 3);
	for (int i = 0; i < 8; i++)
		queue(i, "dead:80");
	for (int i = 0; i < 4; i++)
		(void) next();
	ended(0, false);
	ended(1, false);
	is(dtm_targets_open_circuits(targets), 0, "two failures are not three");
	ended(2, false);
	is(dtm_targets_open_circuits(targets), 1, "three are");
	is(next(), -1, "nobody calls it now");
	is(dtm_targets_wake(targets), now + DTM_SECOND, "until the pause is over");
	now += DTM_SECOND / 2;
	ended(3, false);
	is(dtm_targets_wake(targets), now + DTM_SECOND / 2, "an earlier call's end changes nothing");

	queue(20, "alive:80");
	is(next(), 20, "others are not delayed");
	ended(20, true);

	now += DTM_SECOND / 2;
	is(next(), 4, "one probe");
	is(next(), -1, "only one");
	is(dtm_targets_wake(targets), DTM_NEVER, "its end is awaited, not a time");
	ended(4, false);
	is(dtm_targets_wake(targets), now + 2 * DTM_SECOND, "the pause doubles");
	for (int i = 0; i < 10; i++)
	{
		queue(21 + i, "dead:80");
		now = dtm_targets_wake(targets);
		ended(next(), false);
	}
	is(dtm_targets_wake(targets), now + 60 * DTM_SECOND, "up to its limit");

	now += 60 * DTM_SECOND;
	{
		int			probe = next();

		dtm_target_forget(targets, &calls[probe]);
		ok(next() >= 0, "a probe that is forgotten is followed by another");
	}
	for (int i = 0; i < SOME; i++)
	{
		if (calls[i].in_flight)
			ended(i, true);
	}
	is(dtm_targets_open_circuits(targets), 0, "an answer closes it");
	queue(40, "dead:80");
	queue(41, "dead:80");
	ok(next() >= 0 && next() >= 0, "and all may go");

	fresh(100, 10, 1);
	queue(0, "dead:80");
	queue(1, "dead:80");
	(void) next();
	(void) next();
	ended(0, false);
	is(dtm_targets_open_circuits(targets), 1, "open, with a call under way");
	ended(1, true);
	is(dtm_targets_open_circuits(targets), 0, "whose answer closes it");

	fresh(100, 10, 0);
	for (int i = 0; i < 20; i++)
	{
		queue(i, "dead:80");
		(void) next();
		ended(i, false);
	}
	is(dtm_targets_open_circuits(targets), 0, "no circuits when they are off");

	fresh(1, 10, 1);
	queue(0, "dead:80");
	queue(1, "dead:80");
	queue(2, "alive:80");
	(void) next();
	ended(0, false);
	is(next(), 2, "the limit of all is used up");
	now += 5 * DTM_SECOND;
	is(next(), -1, "so nothing starts");
	is(dtm_targets_wake(targets), DTM_NEVER, "and nobody waits for a pause that is over");
	ended(2, true);
	is(next(), 1, "then the probe");
}

/* What says nothing about a server leaves its circuit as it was. */
static void
unsent(void)
{
	fresh(100, 10, 3);
	for (int i = 0; i < 20; i++)
		queue(i, "fine:80");
	for (int i = 0; i < 10; i++)
		dtm_target_forget(targets, &calls[next()]);
	is(dtm_targets_open_circuits(targets), 0, "ten calls that could not be sent open nothing");
	ended(next(), false);
	ended(next(), false);
	dtm_target_forget(targets, &calls[next()]);
	is(dtm_targets_open_circuits(targets), 0, "and do not count among those without an answer");
	ended(next(), false);
	is(dtm_targets_open_circuits(targets), 1, "nor do they excuse them");

	/* The probe could not be sent: the next one goes at once. */
	now += DTM_SECOND;
	dtm_target_forget(targets, &calls[next()]);
	is(dtm_targets_open_circuits(targets), 1, "it closes nothing");
	is(dtm_targets_wake(targets), DTM_NEVER, "nor lengthens the pause");
	ended(next(), false);
	is(dtm_targets_wake(targets), now + 2 * DTM_SECOND, "which the second probe has doubled, once");
}

/* An hour back. Pauses are instants of the clock, and would last an hour more. */
static void
clock_set_back(void)
{
	DtmTime		before;

	fresh(100, 10, 1);
	now += 7200 * DTM_SECOND;
	for (int i = 0; i < 4; i++)
		queue(i, "one:80");
	ended(next(), false);
	now += DTM_SECOND;
	ended(next(), false);
	for (int i = 4; i < 8; i++)
		queue(i, "two:80");
	ended(next(), false);
	before = now;
	is(dtm_targets_wake(targets), now + DTM_SECOND, "two do not answer: one pauses for two seconds, the other for one");

	now -= 3600 * DTM_SECOND;
	dtm_targets_clock_set_back(targets, now);
	is(dtm_targets_wake(targets), now + DTM_SECOND, "set back: a pause begins anew");
	is(next(), -1, "and is kept");
	now += DTM_SECOND;
	is(next(), 5, "the shorter one ends first");
	is(next(), -1, "the longer one does not");
	now += DTM_SECOND;
	is(next(), 2, "but in its turn");
	ok(now < before, "all that long before the clock says again what it said");

	dtm_targets_clock_set_back(targets, now);
	is(next(), -1, "what is being probed is awaited");

	/* What would end sooner than a pause from now ends when it would have. */
	fresh(100, 10, 1);
	queue(0, "one:80");
	queue(1, "one:80");
	ended(next(), false);
	now += DTM_SECOND / 2;
	dtm_targets_clock_set_back(targets, now);
	is(dtm_targets_wake(targets), now + DTM_SECOND / 2, "no pause gets longer");
}

static void
limits(void)
{
	DtmTargetLimits wider = {100, 3, 0, DTM_SECOND, DTM_SECOND};

	fresh(100, 1, 1);
	for (int i = 0; i < 3; i++)
		queue(i, "a:80");
	for (int i = 3; i < 5; i++)
		queue(i, "dead:80");
	is(next(), 0, "one of a");
	is(next(), 3, "one of dead");
	ended(3, false);
	is(next(), -1, "no more");
	dtm_targets_limit(targets, &wider);
	is(dtm_targets_open_circuits(targets), 0, "circuits switched off are closed");
	ok(next() >= 0 && next() >= 0 && next() >= 0, "wider limits count at once");
	is(next(), -1, "and are limits");

	fresh(100, 1, 1);
	queue(0, "a:80");
	queue(1, "a:80");
	queue(2, "a:80");
	dtm_target_forget(targets, &calls[1]);
	is(next(), 0, "the first");
	dtm_target_forget(targets, &calls[0]);
	is(next(), 2, "the one in the middle was forgotten");
	dtm_target_forget(targets, &calls[2]);
	dtm_target_forget(targets, &calls[2]);
	is(dtm_targets_queued(targets) + dtm_targets_in_flight(targets), 0, "twice does no harm");
}

/* Hostile: a million names, each dead. */
static void
many(void)
{
	fresh(100, 1, 1);
	for (int i = 0; i < 1000000; i++)
	{
		char		key[32];

		snprintf(key, sizeof(key), "host%d:80", i);
		queue(0, key);
		if (next() != 0)
		{
			ok(false, "each is called once");
			return;
		}
		ended(0, false);
	}
	ok(dtm_targets_open_circuits(targets) <= 2000, "a million dead hosts are not all kept");
	now += 1000 * DTM_SECOND;
	for (int i = 0; i < 2000; i++)
		(void) next();
	is(dtm_targets_open_circuits(targets), 0, "and forgotten when nobody calls them");
}

/* Random moves; what may start is counted a second time, in the dullest way. */
static void
random_moves(void)
{
	enum
	{
		KEYS = 5
	};
	int			key_of[SOME];
	int			flying[KEYS] = {0};
	int			queued = 0;
	bool		good = true;
	unsigned	r = 12345;

	fresh(9, 3, 2);
	for (int move = 0; move < 200000 && good; move++)
	{
		int			i;

		r = r * 1103515245 + 12345;
		i = (int) (r >> 16) % SOME;
		now += (r >> 8) % (DTM_SECOND / 10);
		if (calls[i].target == NULL)
		{
			char		key[8];

			key_of[i] = (int) (r >> 24) % KEYS;
			snprintf(key, sizeof(key), "k%d", key_of[i]);
			queue(i, key);
			queued++;
		}
		else if ((r >> 28) == 0)
		{
			if (calls[i].in_flight)
				flying[key_of[i]]--;
			else
				queued--;
			dtm_target_forget(targets, &calls[i]);
		}
		else if (calls[i].in_flight)
		{
			flying[key_of[i]]--;
			ended(i, key_of[i] != 0 && (r >> 24) % 4 != 0);
		}
		else
		{
			int			n = next();

			if (n >= 0)
			{
				good = calls[n].in_flight && ++flying[key_of[n]] <= 3;
				queued--;
			}
			else
				good = dtm_targets_in_flight(targets) == 9 || dtm_targets_wake(targets) > now;
		}
		good = good && dtm_targets_queued(targets) == queued &&
			dtm_targets_in_flight(targets) ==
			flying[0] + flying[1] + flying[2] + flying[3] + flying[4];
	}
	ok(good, "the counts stay right");

	/* Afterwards all answer: every call must get through. */
	for (int round = 0; round < 1000; round++)
	{
		int			n;

		for (int i = 0; i < SOME; i++)
		{
			if (calls[i].in_flight)
				ended(i, true);
		}
		while ((n = next()) >= 0)
			;
		now += 10 * DTM_SECOND;
	}
	is(dtm_targets_queued(targets) + dtm_targets_in_flight(targets), 0, "no call is lost");
}

int
main(void)
{
	turns();
	circuits();
	unsent();
	clock_set_back();
	limits();
	many();
	random_moves();
	dtm_targets_destroy(targets);
	return tap_done();
}
