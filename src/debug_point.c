/*
 * debug_point.c: die, or stand still, at a named place, for the crash tests.
 *
 * Nothing of this is in an ordinary build. A point is passed in all kinds of
 * places (COMMIT callbacks among them), so this never raises an error, never
 * allocates and never waits.
 */
#include "postgres.h"

#ifdef DTM_DEBUG

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/guc.h"

#include "compat.h"
#include "debug_point.h"
#include "executor_slot.h"
#include "shmem.h"

#define MAX_PART 64

/* "point:victim" or "point:victim:token" */
typedef struct Order
{
	char		point[MAX_PART];
	char		victim[MAX_PART];
	char		token[MAX_PART];	/* "": every time */
} Order;

static char *debug_point_setting = "";

static bool check_setting(char **newval, void **extra, GucSource source);
static bool parse_order(const char *text, Order *order);
static bool next_part(const char **text, char part[MAX_PART]);
static bool is_victim(const char *name);
static pid_t find_victim(const char *name);
static pid_t find_worker(void);
static pid_t find_backend(void);
static bool is_ours(Oid database);
static bool take_token(const char *token);

void
dtm_define_debug_settings(void)
{
	DefineCustomStringVariable("dtm.debug_point",
							   "Where which process dies: point:victim[:token].",
							   "Victims are self, worker, executor, backend and postmaster; "
							   "pause stops the process itself until it gets SIGCONT. "
							   "With a token it happens once in the life of the data directory.",
							   &debug_point_setting, "", PGC_SIGHUP,
							   GUC_NOT_IN_SAMPLE,
							   check_setting, NULL, NULL);
}

void
dtm_debug_point(const char *name)
{
	size_t		length = strlen(name);
	const char *setting = debug_point_setting;
	Order		order;
	pid_t		victim;

	if (setting == NULL || strncmp(setting, name, length) != 0 ||
		setting[length] != ':' || !parse_order(setting, &order))
		return;

	/* Only a shot that hits counts. */
	victim = find_victim(order.victim);
	if (victim == 0 || (order.token[0] && !take_token(order.token)))
		return;
	kill(victim, strcmp(order.victim, "pause") == 0 ? SIGSTOP : SIGKILL);
}

static bool
check_setting(char **newval, void **extra, GucSource source)
{
	Order		order;

	if ((*newval)[0] == '\0')
		return true;
	if (parse_order(*newval, &order))
		return true;
	GUC_check_errdetail("It must read point:victim or point:victim:token, "
						"with a victim out of self, pause, worker, executor, backend and postmaster.");
	return false;
}

static bool
parse_order(const char *text, Order *order)
{
	memset(order, 0, sizeof(*order));
	return next_part(&text, order->point) && *text++ == ':' &&
		next_part(&text, order->victim) && is_victim(order->victim) &&
		(*text == '\0' ||
		 (*text++ == ':' && next_part(&text, order->token) && *text == '\0'));
}

/* A part becomes part of a file's name: letters, digits, '-' and '_'. */
static bool
next_part(const char **text, char part[MAX_PART])
{
	int			length = 0;

	while (isalnum((unsigned char) (*text)[length]) ||
		   (*text)[length] == '-' || (*text)[length] == '_')
		length++;
	if (length == 0 || length >= MAX_PART)
		return false;
	memcpy(part, *text, length);
	part[length] = '\0';
	*text += length;
	return true;
}

static bool
is_victim(const char *name)
{
	return strcmp(name, "self") == 0 || strcmp(name, "pause") == 0 ||
		strcmp(name, "worker") == 0 ||
		strcmp(name, "executor") == 0 || strcmp(name, "backend") == 0 ||
		strcmp(name, "postmaster") == 0;
}

static pid_t
find_victim(const char *name)
{
	if (strcmp(name, "self") == 0 || strcmp(name, "pause") == 0)
		return MyProcPid;
	if (strcmp(name, "worker") == 0)
		return find_worker();
	if (strcmp(name, "executor") == 0)
		return dtm_executor_some_pid(MyDatabaseId);
	if (strcmp(name, "backend") == 0)
		return find_backend();
	return PostmasterPid;
}

static pid_t
find_worker(void)
{
	for (int i = 0; i < dtm_shard_count(); i++)
	{
		DtmShard   *shard = dtm_shard_at(i);

		if (is_ours(shard->database) && shard->pid != 0)
			return shard->pid;
	}
	return 0;
}

/* Some client of this database; itself, if this is one. */
static pid_t
find_backend(void)
{
	if (dtm_is_client(MyProc))
		return MyProcPid;
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];

		if (proc->pid != 0 && OidIsValid(proc->databaseId) &&
			is_ours(proc->databaseId) && dtm_is_client(proc))
			return proc->pid;
	}
	return 0;
}

/* The launcher is in no database: any victim will do. */
static bool
is_ours(Oid database)
{
	return database == MyDatabaseId || !OidIsValid(MyDatabaseId);
}

static bool
take_token(const char *token)
{
	char		path[MAX_PART + 16];
	int			fd;

	snprintf(path, sizeof(path), "dtm_point.%s", token);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

#endif
