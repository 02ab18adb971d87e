/*
 * saga_order.c: may the steps of a concurrent saga run in the order asked for?
 *
 * Hostile input: thousands of steps, any indexes. Depth first along the
 * predecessors, with a stack of its own, so that no graph overflows ours.
 */
#include <stdlib.h>

#include "decide.h"

typedef enum Mark
{
	UNSEEN,						/* calloc's zero */
	ON_PATH,
	FINISHED
} Mark;

typedef struct Visit
{
	int			branch;
	int			next;			/* index of the next predecessor to look at */
} Visit;

static bool walk(int root, int nbranches, const DtmBranch *branches,
				 unsigned char *marks, Visit *path, int *culprit);

bool
dtm_order_is_acyclic(int nbranches, const DtmBranch *branches, int *culprit)
{
	unsigned char *marks;
	Visit	   *path;
	bool		usable = true;

	*culprit = -1;
	if (nbranches <= 0)
		return true;

	marks = calloc((size_t) nbranches, sizeof(*marks));
	path = malloc((size_t) nbranches * sizeof(*path));
	if (marks == NULL || path == NULL)
		usable = false;

	for (int i = 0; usable && i < nbranches; i++)
	{
		if (marks[i] == UNSEEN)
			usable = walk(i, nbranches, branches, marks, path, culprit);
	}

	free(marks);
	free(path);
	return usable;
}

/* A path visits no branch twice, so it is never longer than nbranches. */
static bool
walk(int root, int nbranches, const DtmBranch *branches,
	 unsigned char *marks, Visit *path, int *culprit)
{
	int			depth = 0;

	path[0].branch = root;
	path[0].next = 0;
	marks[root] = ON_PATH;

	while (depth >= 0)
	{
		Visit	   *here = &path[depth];
		const DtmBranch *branch = &branches[here->branch];
		int32_t		predecessor;

		if (here->next >= branch->npredecessors)
		{
			marks[here->branch] = FINISHED;
			depth--;
			continue;
		}

		predecessor = branch->predecessors[here->next++];
		if (predecessor < 0 || predecessor >= nbranches)
		{
			*culprit = here->branch;
			return false;
		}
		if (marks[predecessor] == ON_PATH)
		{
			*culprit = predecessor;
			return false;
		}
		if (marks[predecessor] == UNSEEN)
		{
			depth++;
			path[depth].branch = predecessor;
			path[depth].next = 0;
			marks[predecessor] = ON_PATH;
		}
	}
	return true;
}
