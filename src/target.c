/*
 * target.c: who may be called right now.
 *
 * Every target is in exactly one of four places:
 *
 *   ready    calls are queued and one may start: a ring, taken in turn
 *   pausing  calls are queued, its circuit is open, no probe is under way: a
 *            heap by the end of the pause
 *   busy     nothing to start before a call ends: on no list
 *   idle     no calls at all, but it has failed lately: kept to remember that,
 *            oldest first, in a bounded number
 *
 * A target without calls that has not failed lately is forgotten at once. So
 * memory is bounded by the calls there are, however many hosts were named.
 *
 * It must never take time that grows with the number of targets, but where
 * the limits themselves are changed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

#define INITIAL_BUCKETS 64
#define MAX_IDLE 1024
#define CROWD		4			/* queued calls for each that may be under way */

typedef enum Place
{
	BUSY,
	READY,
	PAUSING,
	IDLE
} Place;

typedef struct DtmTarget
{
	struct DtmTarget *chain;	/* in its hash bucket */
	struct DtmTarget *prev;		/* in the ring or the idle list */
	struct DtmTarget *next;
	Place		place;
	size_t		heap_index;		/* while pausing */
	uint64_t	hash;

	DtmWaiting *first;			/* queued calls */
	DtmWaiting *last;
	int			queued;
	int			in_flight;

	int			unanswered;		/* calls in a row */
	bool		open;			/* the circuit is */
	DtmWaiting *probe;			/* the one call under way while it is open */
	DtmTime		pause;
	DtmTime		resume;			/* when the pause ends */
	DtmTime		last_failure;
	char		key[];
} DtmTarget;

typedef struct List
{
	DtmTarget  *first;
	DtmTarget  *last;
} List;

struct DtmTargets
{
	DtmTargetLimits limits;
	DtmTarget **buckets;
	size_t		nbuckets;		/* a power of two */
	size_t		ntargets;
	List		ready;
	List		idle;
	int			nidle;
	DtmTarget **heap;			/* has room for every target */
	size_t		heap_size;
	size_t		heap_room;
	int			in_flight;
	int			queued;
	int			open;
};

static DtmTarget *first_with_a_share(DtmTargets *targets);
static DtmTarget *find_target(DtmTargets *targets, const char *key,
							  uint64_t hash);
static DtmTarget *create_target(DtmTargets *targets, const char *key,
								uint64_t hash);
static bool make_heap_room(DtmTargets *targets);
static void grow_buckets(DtmTargets *targets);
static void free_target(DtmTargets *targets, DtmTarget *target);
static void wake_pausing(DtmTargets *targets, DtmTime now);
static void forget_old_idle(DtmTargets *targets, DtmTime now);
static void place_target(DtmTargets *targets, DtmTarget *target);
static Place right_place(const DtmTargets *targets, const DtmTarget *target);
static bool limit_reached(const DtmTargets *targets, const DtmTarget *target);
static void take_out(DtmTargets *targets, DtmTarget *target);
static void note_answered(DtmTargets *targets, DtmTarget *target);
static void note_unanswered(DtmTargets *targets, DtmTarget *target,
							bool was_probe, DtmTime now);
static void set_open(DtmTargets *targets, DtmTarget *target, bool open);
static void unqueue(DtmTargets *targets, DtmTarget *target, DtmWaiting *call);
static void list_append(List *list, DtmTarget *target);
static void list_remove(List *list, DtmTarget *target);
static void heap_insert(DtmTargets *targets, DtmTarget *target);
static void heap_remove(DtmTargets *targets, DtmTarget *target);
static size_t heap_up(DtmTargets *targets, size_t i);
static void heap_down(DtmTargets *targets, size_t i);
static void heap_set(DtmTargets *targets, size_t i, DtmTarget *target);
static uint64_t hash_key(const DtmTargets *targets, const char *key);

DtmTargets *
dtm_targets_create(void)
{
	DtmTargets *targets = calloc(1, sizeof(*targets));

	if (targets == NULL)
		return NULL;
	targets->nbuckets = INITIAL_BUCKETS;
	targets->buckets = calloc(targets->nbuckets, sizeof(*targets->buckets));
	if (targets->buckets == NULL)
	{
		free(targets);
		return NULL;
	}
	targets->limits.in_flight = 1;
	targets->limits.per_target = 1;
	return targets;
}

/* Calls that are still queued or in flight are the caller's, as before. */
void
dtm_targets_destroy(DtmTargets *targets)
{
	for (size_t i = 0; i < targets->nbuckets; i++)
	{
		DtmTarget  *target = targets->buckets[i];

		while (target != NULL)
		{
			DtmTarget  *next = target->chain;

			free(target);
			target = next;
		}
	}
	free(targets->buckets);
	free(targets->heap);
	free(targets);
}

void
dtm_targets_limit(DtmTargets *targets, const DtmTargetLimits *limits)
{
	bool		no_circuits = (limits->trip_after <= 0);

	targets->limits = *limits;
	for (size_t i = 0; i < targets->nbuckets; i++)
	{
		DtmTarget  *next;

		for (DtmTarget *target = targets->buckets[i]; target != NULL;
			 target = next)
		{
			next = target->chain;
			if (no_circuits)
				note_answered(targets, target);
			place_target(targets, target);	/* may free it */
		}
	}
}

bool
dtm_target_enqueue(DtmTargets *targets, const char *key, DtmWaiting *call)
{
	uint64_t	hash = hash_key(targets, key);
	DtmTarget  *target = find_target(targets, key, hash);

	if (target == NULL)
		target = create_target(targets, key, hash);
	if (target == NULL)
		return false;

	call->target = target;
	call->in_flight = false;
	call->next = NULL;
	call->prev = target->last;
	if (target->last != NULL)
		target->last->next = call;
	else
		target->first = call;
	target->last = call;
	target->queued++;
	targets->queued++;

	place_target(targets, target);
	return true;
}

DtmWaiting *
dtm_targets_next(DtmTargets *targets, DtmTime now)
{
	DtmTarget  *target;
	DtmWaiting *call;

	/*
	 * Before looking at the limit: a pause that is over must not stand in
	 * dtm_targets_wake any more, or whoever sleeps until then never sleeps.
	 */
	wake_pausing(targets, now);
	forget_old_idle(targets, now);

	if (targets->in_flight >= targets->limits.in_flight)
		return NULL;
	target = first_with_a_share(targets);
	if (target == NULL)
		return NULL;

	call = target->first;
	unqueue(targets, target, call);
	call->in_flight = true;
	target->in_flight++;
	targets->in_flight++;
	if (target->open)
		target->probe = call;

	/* To the end of the ring, if it may stay there. */
	take_out(targets, target);
	place_target(targets, target);
	return call;
}

/*
 * A target may have as many calls under way as there are places left, so that
 * a few that hang never take them all (dynamic thresholds, after Choudhury and
 * Hahne). Whoever has none under way may always begin. Those passed over have
 * one at least, so there are not many.
 */
static DtmTarget *
first_with_a_share(DtmTargets *targets)
{
	int			places = targets->limits.in_flight - targets->in_flight;

	for (int passed = 0; passed <= targets->in_flight; passed++)
	{
		DtmTarget  *target = targets->ready.first;

		if (target == NULL || target->in_flight == 0 ||
			target->in_flight < places)
			return target;
		list_remove(&targets->ready, target);
		list_append(&targets->ready, target);
	}
	return NULL;
}

void
dtm_target_ended(DtmTargets *targets, DtmWaiting *call, bool answered,
				 DtmTime now)
{
	DtmTarget  *target = call->target;

	if (target == NULL)
		return;
	if (call->in_flight)
	{
		bool		was_probe = (target->probe == call);

		if (was_probe)
			target->probe = NULL;
		if (answered)
			note_answered(targets, target);
		else
			note_unanswered(targets, target, was_probe, now);
	}
	dtm_target_forget(targets, call);
}

void
dtm_target_forget(DtmTargets *targets, DtmWaiting *call)
{
	DtmTarget  *target = call->target;

	if (target == NULL)
		return;
	if (call->in_flight)
	{
		if (target->probe == call)
			target->probe = NULL;
		target->in_flight--;
		targets->in_flight--;
	}
	else
		unqueue(targets, target, call);
	call->target = NULL;
	call->in_flight = false;
	place_target(targets, target);
}

bool
dtm_target_is_open(const DtmWaiting *call)
{
	return call->target != NULL && call->target->open;
}

bool
dtm_target_is_crowded(const DtmTargets *targets, const DtmWaiting *call)
{
	return call->target != NULL &&
		call->target->queued / CROWD > targets->limits.per_target;
}

DtmWaiting *
dtm_target_queue(const DtmWaiting *call)
{
	return call->target != NULL ? call->target->first : NULL;
}

void
dtm_target_hurry(DtmTargets *targets, const DtmWaiting *call)
{
	DtmTarget  *target = call->target;

	if (target == NULL || target->resume == 0)
		return;
	take_out(targets, target);
	target->resume = 0;
	place_target(targets, target);
}

/* Those without queued calls are not in the heap, and learn it when they are. */
void
dtm_targets_clock_set_back(DtmTargets *targets, DtmTime now)
{
	for (size_t i = 0; i < targets->nbuckets; i++)
	{
		for (DtmTarget *target = targets->buckets[i]; target != NULL;
			 target = target->chain)
		{
			bool		in_heap = target->place == PAUSING;

			if (target->last_failure > now)
				target->last_failure = now;
			if (target->resume <= now + target->pause)
				continue;
			if (in_heap)
				heap_remove(targets, target);
			target->resume = now + target->pause;
			if (in_heap)
				heap_insert(targets, target);
		}
	}
}

DtmTime
dtm_targets_wake(DtmTargets *targets)
{
	return targets->heap_size > 0 ? targets->heap[0]->resume : DTM_NEVER;
}

int
dtm_targets_in_flight(const DtmTargets *targets)
{
	return targets->in_flight;
}

int
dtm_targets_queued(const DtmTargets *targets)
{
	return targets->queued;
}

int
dtm_targets_open_circuits(const DtmTargets *targets)
{
	return targets->open;
}

static DtmTarget *
find_target(DtmTargets *targets, const char *key, uint64_t hash)
{
	DtmTarget  *target = targets->buckets[hash & (targets->nbuckets - 1)];

	while (target != NULL &&
		   (target->hash != hash || strcmp(target->key, key) != 0))
		target = target->chain;
	return target;
}

static DtmTarget *
create_target(DtmTargets *targets, const char *key, uint64_t hash)
{
	size_t		size = strlen(key) + 1;
	DtmTarget  *target;
	DtmTarget **bucket;

	/* Now, since a call that ends must never lack memory. */
	if (!make_heap_room(targets))
		return NULL;
	target = calloc(1, sizeof(*target) + size);
	if (target == NULL)
		return NULL;
	memcpy(target->key, key, size);
	target->hash = hash;
	target->place = BUSY;

	grow_buckets(targets);
	bucket = &targets->buckets[hash & (targets->nbuckets - 1)];
	target->chain = *bucket;
	*bucket = target;
	targets->ntargets++;
	return target;
}

static bool
make_heap_room(DtmTargets *targets)
{
	size_t		room = targets->heap_room;
	DtmTarget **heap;

	if (targets->ntargets < room)
		return true;
	room = room > 0 ? room * 2 : INITIAL_BUCKETS;
	heap = realloc(targets->heap, room * sizeof(*heap));
	if (heap == NULL)
		return false;
	targets->heap = heap;
	targets->heap_room = room;
	return true;
}

/* Failing to grow is no failure: the chains get longer. */
static void
grow_buckets(DtmTargets *targets)
{
	size_t		nbuckets = targets->nbuckets * 2;
	DtmTarget **buckets;

	if (targets->ntargets < targets->nbuckets)
		return;
	buckets = calloc(nbuckets, sizeof(*buckets));
	if (buckets == NULL)
		return;

	for (size_t i = 0; i < targets->nbuckets; i++)
	{
		DtmTarget  *target = targets->buckets[i];

		while (target != NULL)
		{
			DtmTarget  *next = target->chain;
			DtmTarget **bucket = &buckets[target->hash & (nbuckets - 1)];

			target->chain = *bucket;
			*bucket = target;
			target = next;
		}
	}
	free(targets->buckets);
	targets->buckets = buckets;
	targets->nbuckets = nbuckets;
}

static void
free_target(DtmTargets *targets, DtmTarget *target)
{
	DtmTarget **link = &targets->buckets[target->hash & (targets->nbuckets - 1)];

	take_out(targets, target);
	set_open(targets, target, false);
	while (*link != target)
		link = &(*link)->chain;
	*link = target->chain;
	targets->ntargets--;
	free(target);
}

/* Targets whose pause is over may be probed. */
static void
wake_pausing(DtmTargets *targets, DtmTime now)
{
	while (targets->heap_size > 0 && targets->heap[0]->resume <= now)
	{
		DtmTarget  *target = targets->heap[0];

		target->resume = 0;
		place_target(targets, target);
	}
}

/* Nobody has called it for long: whether it is still dead, nobody knows. */
static void
forget_old_idle(DtmTargets *targets, DtmTime now)
{
	DtmTarget  *oldest = targets->idle.first;

	if (oldest == NULL || targets->limits.longest_pause >= DTM_NEVER / 4)
		return;
	if (now - oldest->last_failure > 2 * targets->limits.longest_pause)
		free_target(targets, oldest);
}

/*
 * place_target puts a target where it belongs now, which may be nowhere: the
 * caller must not look at it afterwards.
 */
static void
place_target(DtmTargets *targets, DtmTarget *target)
{
	Place		place = right_place(targets, target);

	if (place == IDLE && target->unanswered == 0)
	{
		free_target(targets, target);
		return;
	}
	if (place == target->place)
		return;

	take_out(targets, target);
	target->place = place;
	switch (place)
	{
		case READY:
			list_append(&targets->ready, target);
			break;
		case PAUSING:
			heap_insert(targets, target);
			break;
		case IDLE:
			list_append(&targets->idle, target);
			if (++targets->nidle > MAX_IDLE)
				free_target(targets, targets->idle.first);
			break;
		case BUSY:
			break;
	}
}

static Place
right_place(const DtmTargets *targets, const DtmTarget *target)
{
	if (target->queued == 0)
		return target->in_flight > 0 ? BUSY : IDLE;
	if (limit_reached(targets, target))
		return BUSY;
	if (!target->open)
		return READY;
	if (target->probe != NULL)
		return BUSY;
	return target->resume == 0 ? READY : PAUSING;
}

static bool
limit_reached(const DtmTargets *targets, const DtmTarget *target)
{
	return target->in_flight >= targets->limits.per_target;
}

static void
take_out(DtmTargets *targets, DtmTarget *target)
{
	switch (target->place)
	{
		case READY:
			list_remove(&targets->ready, target);
			break;
		case PAUSING:
			heap_remove(targets, target);
			break;
		case IDLE:
			list_remove(&targets->idle, target);
			targets->nidle--;
			break;
		case BUSY:
			break;
	}
	target->place = BUSY;
}

static void
note_answered(DtmTargets *targets, DtmTarget *target)
{
	target->unanswered = 0;
	target->pause = 0;
	target->resume = 0;
	target->probe = NULL;
	set_open(targets, target, false);
}

/*
 * note_unanswered opens the circuit after enough of them, and lengthens the
 * pause after a probe. Calls that were already under way when it opened end
 * here too: they say nothing new, and must not double the pause each.
 */
static void
note_unanswered(DtmTargets *targets, DtmTarget *target, bool was_probe,
				DtmTime now)
{
	const DtmTargetLimits *limits = &targets->limits;

	target->last_failure = now;
	if (target->unanswered < INT_MAX)
		target->unanswered++;
	if (limits->trip_after <= 0 || target->unanswered < limits->trip_after)
		return;

	if (!target->open)
		target->pause = limits->first_pause;
	else if (was_probe)
		target->pause = target->pause > limits->longest_pause / 2 ?
			limits->longest_pause : target->pause * 2;
	else
		return;

	if (target->pause > limits->longest_pause)
		target->pause = limits->longest_pause;
	if (target->pause < DTM_MS)
		target->pause = DTM_MS;
	/* It may stand among the pausing, by the old time. */
	take_out(targets, target);
	target->resume = now + target->pause;
	set_open(targets, target, true);
}

static void
set_open(DtmTargets *targets, DtmTarget *target, bool open)
{
	if (target->open != open)
		targets->open += open ? 1 : -1;
	target->open = open;
}

static void
unqueue(DtmTargets *targets, DtmTarget *target, DtmWaiting *call)
{
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		target->first = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	else
		target->last = call->prev;
	call->prev = NULL;
	call->next = NULL;
	target->queued--;
	targets->queued--;
}

static void
list_append(List *list, DtmTarget *target)
{
	target->next = NULL;
	target->prev = list->last;
	if (list->last != NULL)
		list->last->next = target;
	else
		list->first = target;
	list->last = target;
}

static void
list_remove(List *list, DtmTarget *target)
{
	if (target->prev != NULL)
		target->prev->next = target->next;
	else
		list->first = target->next;
	if (target->next != NULL)
		target->next->prev = target->prev;
	else
		list->last = target->prev;
	target->prev = NULL;
	target->next = NULL;
}

static void
heap_insert(DtmTargets *targets, DtmTarget *target)
{
	heap_set(targets, targets->heap_size, target);
	targets->heap_size++;
	heap_up(targets, target->heap_index);
}

static void
heap_remove(DtmTargets *targets, DtmTarget *target)
{
	size_t		hole = target->heap_index;
	DtmTarget  *last = targets->heap[--targets->heap_size];

	if (last == target)
		return;
	heap_set(targets, hole, last);
	heap_down(targets, heap_up(targets, hole));
}

static size_t
heap_up(DtmTargets *targets, size_t i)
{
	DtmTarget  *target = targets->heap[i];

	while (i > 0)
	{
		size_t		parent = (i - 1) / 2;

		if (targets->heap[parent]->resume <= target->resume)
			break;
		heap_set(targets, i, targets->heap[parent]);
		i = parent;
	}
	heap_set(targets, i, target);
	return i;
}

static void
heap_down(DtmTargets *targets, size_t i)
{
	DtmTarget  *target = targets->heap[i];

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= targets->heap_size)
			break;
		if (child + 1 < targets->heap_size &&
			targets->heap[child + 1]->resume < targets->heap[child]->resume)
			child++;
		if (target->resume <= targets->heap[child]->resume)
			break;
		heap_set(targets, i, targets->heap[child]);
		i = child;
	}
	heap_set(targets, i, target);
}

static void
heap_set(DtmTargets *targets, size_t i, DtmTarget *target)
{
	targets->heap[i] = target;
	target->heap_index = i;
}

/*
 * FNV-1a, begun at an address of this process, so that nobody outside can
 * choose host names that share a bucket.
 */
static uint64_t
hash_key(const DtmTargets *targets, const char *key)
{
	uint64_t	hash = UINT64_C(0xcbf29ce484222325) ^ (uint64_t) (uintptr_t) targets;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char) *key) * UINT64_C(0x100000001b3);
	return hash ^ (hash >> 32);
}
