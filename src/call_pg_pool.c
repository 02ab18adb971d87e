/*
 * call_pg_pool.c: connections: opened, watched, kept for the next call, closed.
 *
 * Each belongs to one role and one server as the catalogs said when it was made,
 * and serves one call at a time. Those without a call are free: the most recently
 * used first, so that what is not needed grows old and is closed.
 */
#include "postgres.h"

#include <stdlib.h>

#include "storage/fd.h"

#include "call_pg_private.h"
#include "poller.h"

static bool close_one_free(DtmPg *pg);

/*
 * Of the same role and server; one that was made from what the catalogs said
 * before they changed is closed.
 */
Conn *
dtm_pg_take_free(DtmPg *pg, const DtmPgServer *server)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &pg->free)
	{
		Conn	   *conn = dlist_container(Conn, idle_node, iter.cur);

		if (conn->role != server->role || conn->server != server->server)
			continue;
		if (conn->generation != server->generation)
		{
			dtm_pg_close(pg, conn);
			continue;
		}
		dtm_pg_set_free(pg, conn, false);
		return conn;
	}
	return NULL;
}

Conn *
dtm_pg_open(DtmPg *pg, DtmPgServer *server, char error[DTM_MAX_ERROR])
{
	Conn	   *conn;

	while (pg->nconnections >= pg->settings.max_connections &&
		   close_one_free(pg))
		 /* until there is room */ ;

	/* The server's own files share the descriptors of this process. */
	while (!AcquireExternalFD())
	{
		if (close_one_free(pg))
			continue;
		snprintf(error, DTM_MAX_ERROR,
				 "%d connections are open, and there are descriptors for no more: raise max_files_per_process",
				 pg->nconnections);
		return NULL;
	}
	conn = calloc(1, sizeof(Conn));
	if (conn == NULL)
	{
		ReleaseExternalFD();
		snprintf(error, DTM_MAX_ERROR, "out of memory");
		return NULL;
	}
	conn->fd = -1;
	conn->state = RESOLVING;
	conn->role = server->role;
	conn->server = server->server;
	conn->generation = server->generation;
	dlist_push_tail(&pg->connections, &conn->node);
	pg->nconnections++;
	return conn;
}

/* The one that has not been used for the longest time. */
static bool
close_one_free(DtmPg *pg)
{
	if (dlist_is_empty(&pg->free))
		return false;
	dtm_pg_close(pg, dlist_tail_element(Conn, idle_node, &pg->free));
	return true;
}

void
dtm_pg_close(DtmPg *pg, Conn *conn)
{
	Assert(conn->call == NULL);
	dtm_pg_set_free(pg, conn, false);
	(void) dtm_pg_watch(pg, conn, 0);
	PQclear(conn->answer);
	if (conn->is_waiting)
		dlist_delete(&conn->step_node);
	if (conn->step != NULL)
		conn->step->owner = NULL;	/* the rest when that ends */
	else
	{
		PQfinish(conn->pg);
		ReleaseExternalFD();
	}
	dlist_delete(&conn->node);
	pg->nconnections--;
	free(conn);
}

void
dtm_pg_end_step(DtmStep *step)
{
	PQfinish(step->pg);
	ReleaseExternalFD();
}

/*
 * libpq may have closed its socket and opened another, perhaps with the same
 * number: the poller is told again at every change of what is wanted. While
 * connecting that is at every step.
 */
bool
dtm_pg_watch(DtmPg *pg, Conn *conn, int wanted)
{
	int			fd = conn->pg != NULL && wanted != 0 ? PQsocket(conn->pg) : -1;
	bool		same = fd == conn->fd;

	if (same && conn->state != CONNECTING && conn->wanted == wanted)
		return true;
	if (!same && conn->fd >= 0)
	{
		/* If it is closed, its number may be another's by now. */
		if (pg->by_fd[conn->fd] == conn)
		{
			pg->by_fd[conn->fd] = NULL;
			(void) dtm_poller_change(pg->poller, conn->fd, conn->wanted, 0);
		}
		conn->fd = -1;
	}
	conn->wanted = wanted;
	if (fd < 0)
		return wanted == 0;

	if (fd >= pg->max_fd)
	{
		int			room = fd + 64;
		Conn	  **by_fd = realloc(pg->by_fd, room * sizeof(Conn *));

		if (by_fd == NULL)
			return false;
		memset(by_fd + pg->max_fd, 0, (room - pg->max_fd) * sizeof(Conn *));
		pg->by_fd = by_fd;
		pg->max_fd = room;
	}
	conn->fd = fd;
	pg->by_fd[fd] = conn;
	return dtm_poller_change(pg->poller, fd, 0, wanted);
}

void
dtm_pg_set_deadline(DtmPg *pg, Conn *conn, int64 deadline)
{
	conn->deadline = deadline;
	pg->next_deadline = Min(pg->next_deadline, deadline);
}

void
dtm_pg_set_free(DtmPg *pg, Conn *conn, bool is_free)
{
	if (conn->is_free == is_free)
		return;
	if (is_free)
		dlist_push_head(&pg->free, &conn->idle_node);
	else
		dlist_delete(&conn->idle_node);
	conn->is_free = is_free;
}
