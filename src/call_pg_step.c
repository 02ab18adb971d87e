/*
 * call_pg_step.c: steps of libpq's connecting, each on a thread of its own.
 *
 * PQconnectPoll waits for no network, but the other side can keep it busy: a
 * password that is to be hashed as many times as the server likes, a Kerberos
 * library that asks others. Nothing can interrupt that. So the event loop waits
 * for the socket, and what there is to do then is done by a thread, which knows
 * nothing of the server: it has its own memory, blocks all signals, and ends by
 * writing the address of its step into a pipe.
 *
 * A connection that gives up leaves its PGconn to the step; whoever takes the
 * step finishes it.
 *
 * Threads are limited in number, and so are those of one role: the servers that
 * a role has chosen keep nobody else from connecting. A server that is merely
 * silent costs no thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "call_pg_step.h"

#define MAX_THREADS		32
#define MAX_OF_ROLE		8

static int	pipe_fds[2] = {-1, -1};
static DtmStep *running[MAX_THREADS];
static int	nrunning;

static int	free_place(unsigned int role, uint64_t generation);
static void *do_step(void *arg);

bool
dtm_steps_init(void)
{
	if (pipe_fds[0] >= 0)
		return true;
	if (pipe(pipe_fds) != 0)
		return false;
	for (int i = 0; i < 2; i++)
		(void) fcntl(pipe_fds[i], F_SETFD, FD_CLOEXEC);
	/* The threads' end blocks: what they have to say fits. */
	(void) fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	return true;
}

int
dtm_steps_fd(void)
{
	return pipe_fds[0];
}

int
dtm_steps_running(void)
{
	return nrunning;
}

DtmStepStart
dtm_step_start(PGconn *pg, unsigned int role, uint64_t generation,
			   void *owner, DtmStep **result)
{
	int			place = free_place(role, generation);
	pthread_attr_t attributes;
	pthread_t	thread;
	sigset_t	all;
	sigset_t	before;
	DtmStep    *step;
	int			rc;

	if (place < 0)
		return DTM_STEP_LATER;
	step = calloc(1, sizeof(DtmStep));
	if (step == NULL)
		return DTM_STEP_FAILED;
	step->pg = pg;
	step->role = role;
	step->generation = generation;
	step->owner = owner;

	/* It inherits the mask: signals are for the server's own thread. */
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attributes, do_step, step);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (rc != 0)
	{
		free(step);
		return DTM_STEP_FAILED;
	}
	running[place] = step;
	nrunning++;
	*result = step;
	return DTM_STEP_BEGUN;
}

DtmStep *
dtm_step_taken(void)
{
	DtmStep    *step;

	if (read(pipe_fds[0], &step, sizeof(step)) != sizeof(step))
		return NULL;
	for (int i = 0; i < MAX_THREADS; i++)
	{
		if (running[i] == step)
			running[i] = NULL;
	}
	nrunning--;
	return step;
}

/*
 * -1: there is none for this role now, or what the same server has asked for
 * before is still being done, though nobody waits for it.
 */
static int
free_place(unsigned int role, uint64_t generation)
{
	int			place = -1;
	int			of_role = 0;

	for (int i = 0; i < MAX_THREADS; i++)
	{
		if (running[i] == NULL)
			place = i;
		else if (running[i]->owner == NULL &&
				 running[i]->generation == generation)
			return -1;
		else if (running[i]->role == role)
			of_role++;
	}
	return of_role < MAX_OF_ROLE ? place : -1;
}

static void *
do_step(void *arg)
{
	DtmStep    *step = arg;

	step->status = PQconnectPoll(step->pg);
	/* A pointer is written whole or not at all. */
	while (write(pipe_fds[1], &step, sizeof(step)) < 0 && errno == EINTR)
		 /* again */ ;
	return NULL;
}
