/*
 * saga_order_test.c: order graphs, usable and not.
 */
#include <stdlib.h>

#include "decide.h"
#include "tap.h"

#define MANY 20000

static DtmBranch *
steps(int n)
{
	return calloc((size_t) n, sizeof(DtmBranch));
}

static void
wait_for(DtmBranch *branches, int step, int before)
{
	DtmBranch  *b = &branches[step];

	b->predecessors = realloc(b->predecessors,
							  sizeof(int32_t) * (size_t) (b->npredecessors + 1));
	b->predecessors[b->npredecessors++] = before;
}

static void
discard(DtmBranch *branches, int n)
{
	for (int i = 0; i < n; i++)
		free(branches[i].predecessors);
	free(branches);
}

int
main(void)
{
	DtmBranch  *b;
	int			culprit;

	ok(dtm_order_is_acyclic(0, NULL, &culprit), "no steps");

	b = steps(4);
	ok(dtm_order_is_acyclic(4, b, &culprit), "no order");
	wait_for(b, 1, 0);
	wait_for(b, 2, 0);
	wait_for(b, 3, 1);
	wait_for(b, 3, 2);
	wait_for(b, 3, 2);
	ok(dtm_order_is_acyclic(4, b, &culprit), "a diamond, one side named twice");
	wait_for(b, 0, 3);
	ok(!dtm_order_is_acyclic(4, b, &culprit), "closed to a ring");
	ok(culprit >= 0 && culprit < 4, "the culprit is a step");
	discard(b, 4);

	b = steps(5);
	wait_for(b, 0, 1);
	wait_for(b, 1, 2);
	wait_for(b, 2, 3);
	wait_for(b, 3, 2);
	ok(!dtm_order_is_acyclic(5, b, &culprit), "a ring behind others");
	ok(culprit == 2 || culprit == 3, "the culprit is in the ring");
	discard(b, 5);

	b = steps(2);
	wait_for(b, 1, 1);
	ok(!dtm_order_is_acyclic(2, b, &culprit), "a step that waits for itself");
	is(culprit, 1, "and its number");
	discard(b, 2);

	b = steps(2);
	wait_for(b, 1, 2);
	ok(!dtm_order_is_acyclic(2, b, &culprit), "a step that does not exist");
	is(culprit, 1, "who waits for it");
	b[1].predecessors[0] = -1;
	ok(!dtm_order_is_acyclic(2, b, &culprit), "a negative one");
	discard(b, 2);

	b = steps(MANY);
	for (int i = 0; i + 1 < MANY; i++)
		wait_for(b, i, i + 1);
	ok(dtm_order_is_acyclic(MANY, b, &culprit), "a very long chain");
	wait_for(b, MANY - 1, 0);
	ok(!dtm_order_is_acyclic(MANY, b, &culprit), "a very long ring");
	discard(b, MANY);

	b = steps(1000);
	for (int i = 0; i < 1000; i++)
	{
		for (int j = 0; j < i; j++)
			wait_for(b, i, j);
	}
	ok(dtm_order_is_acyclic(1000, b, &culprit), "all wait for all before");
	discard(b, 1000);
	return tap_done();
}
