/*
 * call_pg_server.h: a foreign server as a role may use it.
 */
#ifndef DTM_CALL_PG_SERVER_H
#define DTM_CALL_PG_SERVER_H

#include "postgres.h"

#include "trans.h"

/* What it takes to connect. The values have passwords among them. */
typedef struct DtmPgServer
{
	Oid			server;
	Oid			role;
	char	   *name;
	bool		trusted;		/* the role is a superuser: no password is needed */
	uint64		generation;		/* another one when anything here has changed */
	int			noptions;
	char	  **names;
	char	  **values;
	int			rotation;		/* which of its addresses comes first */
	int			users;			/* it is freed when there are none */
	MemoryContext context;
} DtmPgServer;

/*
 * Registration: an error, beginning with place, unless the role may have
 * functions on that server called. server: the address's, as written.
 */
extern void dtm_pg_check_server(Oid role, const char *server, const char *place);

/*
 * Worker: the same at a call. No transaction may be open. NULL: not now, error
 * says why and what to do. Otherwise the caller is one more user of it, until
 * dtm_pg_release_server.
 */
extern DtmPgServer *dtm_pg_use_server(Oid role, const char *server,
									  char error[DTM_MAX_ERROR]);
extern void dtm_pg_release_server(DtmPgServer *server);

#endif
