/*
 * call_pg_connect.c: what libpq is told, to connect without blocking.
 *
 * libpq looks host names up itself, and blocks. So each host name becomes its
 * addresses, one entry of host and hostaddr for each, before libpq hears of it:
 * the name serves the certificate's check, the address the connection. Unix
 * sockets and numeric addresses need no lookup.
 *
 * Nothing comes from the environment of whoever has started the server: those
 * variables are taken out of it, in this process. Kerberos, whose library asks
 * over the network and blocks, is not begun.
 */
#include "postgres.h"

#include <pqexpbuffer.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "call_pg_private.h"
#include "call_pg_resolve.h"

#define MAX_OPTIONS		80
#define MAX_HOSTS		32		/* with all their addresses */
#define OWN_OPTIONS		16		/* room for what is added here */
#define NO_FILE			"/dev/null/none"	/* there can be none of that name */

/* The lists that libpq takes, one entry for each address. */
typedef struct Hosts
{
	PQExpBufferData host;
	PQExpBufferData hostaddr;
	PQExpBufferData port;
	int			count;
	long		deadline;		/* for names, in seconds */
} Hosts;

/* One element of such a list. */
typedef struct Piece
{
	const char *text;
	size_t		length;
} Piece;

static bool check_files(const DtmPgServer *server, char error[DTM_MAX_ERROR]);
static int	add_own_options(const DtmPgServer *server, const Hosts *hosts,
							char *settings, const char **names,
							const char **values);
static bool is_own_option(const char *name, bool own_certificate);
static bool known_to_libpq(const char *name);
static const char *value_of(const DtmPgServer *server, const char *name);
static ConnectStep expand_hosts(const DtmPgServer *server, Hosts *hosts,
								char error[DTM_MAX_ERROR]);
static ConnectStep add_host(Hosts *hosts, Piece host, Piece hostaddr,
							Piece port, const DtmPgServer *server,
							char error[DTM_MAX_ERROR]);
static void add_entry(Hosts *hosts, const char *host, const char *hostaddr,
					  Piece port);
static void rotate(Hosts *hosts, int by);
static int	split(const char *list, Piece *pieces, int max);
static void append_list(PQExpBuffer list, int nth, const char *text,
						size_t length);

void
dtm_pg_clear_environment(void)
{
	static const char *const others[] = {"PGREQUIRESSL", "PGSERVICEFILE",
		"PGSYSCONFDIR", "PGTZ", "PGDATESTYLE", "PGGEQO"
	};
	PQconninfoOption *options = PQconninfoParse("", NULL);

	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
	{
		if (o->envvar != NULL)
			unsetenv(o->envvar);
	}
	PQconninfoFree(options);
	for (int i = 0; i < lengthof(others); i++)
		unsetenv(others[i]);
	/*
	 * A server may ask for Kerberos all the same. Then there is no realm, and
	 * nothing of this server's to be lent.
	 */
	setenv("KRB5_CONFIG", "/dev/null", 1);
	setenv("KRB5CCNAME", "MEMORY:dtm", 1);
	setenv("KRB5_CLIENT_KTNAME", NO_FILE, 1);
}

ConnectStep
dtm_pg_connect(DtmPgServer *server, long deadline, PGconn **conn,
			   char error[DTM_MAX_ERROR])
{
	const char *names[MAX_OPTIONS];
	const char *values[MAX_OPTIONS];
	int			n = 0;
	Hosts		hosts = {.deadline = deadline};
	ConnectStep step;
	bool		own_certificate = server->trusted ||
		value_of(server, "sslcert")[0] != '\0';
	size_t		room = strlen(value_of(server, "options")) + 64;
	char	   *settings;

	if (!check_files(server, error))
		return CONNECT_FAILED;
	settings = malloc(room);
	if (settings == NULL)
	{
		snprintf(error, DTM_MAX_ERROR, "out of memory");
		return CONNECT_FAILED;
	}
	/* Notices would be read, counted, and thrown away. */
	snprintf(settings, room, "%s -c client_min_messages=warning",
			 value_of(server, "options"));

	initPQExpBuffer(&hosts.host);
	initPQExpBuffer(&hosts.hostaddr);
	initPQExpBuffer(&hosts.port);
	step = expand_hosts(server, &hosts, error);
	if (step == CONNECT_STARTED)
	{
		rotate(&hosts, server->rotation);
		for (int i = 0; i < server->noptions && n < MAX_OPTIONS - OWN_OPTIONS; i++)
		{
			const char *name = server->names[i];

			if (is_own_option(name, own_certificate) || !known_to_libpq(name))
				continue;
			names[n] = name;
			values[n++] = server->values[i];
		}
		n += add_own_options(server, &hosts, settings, names + n, values + n);
		names[n] = NULL;
		values[n] = NULL;

		*conn = NULL;
		if (!PQExpBufferDataBroken(hosts.host) &&
			!PQExpBufferDataBroken(hosts.hostaddr) &&
			!PQExpBufferDataBroken(hosts.port))
			*conn = PQconnectStartParams(names, values, 0);
		if (*conn == NULL)
		{
			snprintf(error, DTM_MAX_ERROR, "out of memory");
			step = CONNECT_FAILED;
		}
	}
	termPQExpBuffer(&hosts.host);
	termPQExpBuffer(&hosts.hostaddr);
	termPQExpBuffer(&hosts.port);
	free(settings);
	return step;
}

/* libpq opens them, and would wait for the other end of a pipe. */
static bool
check_files(const DtmPgServer *server, char error[DTM_MAX_ERROR])
{
	static const char *const files[] = {"sslrootcert", "sslcrl", "sslcrldir",
	"sslcert", "sslkey", "passfile"};

	for (int i = 0; i < lengthof(files); i++)
	{
		const char *path = value_of(server, files[i]);
		bool		is_dir = strcmp(files[i], "sslcrldir") == 0;
		struct stat found;

		/* Of one that is missing libpq has its own to say. */
		if (path[0] == '\0' || stat(path, &found) != 0)
			continue;
		if (is_dir ? S_ISDIR(found.st_mode) : S_ISREG(found.st_mode))
			continue;
		snprintf(error, DTM_MAX_ERROR,
				 "foreign server \"%s\": %s is no %s", server->name,
				 files[i], is_dir ? "directory" : "regular file");
		return false;
	}
	return true;
}

/* What is not the server's to say, or is said otherwise. Returns how many. */
static int
add_own_options(const DtmPgServer *server, const Hosts *hosts, char *settings,
				const char **names, const char **values)
{
	int			n = 0;

	names[n] = "host";
	values[n++] = hosts->host.data;
	names[n] = "hostaddr";
	values[n++] = hosts->hostaddr.data;
	names[n] = "port";
	values[n++] = hosts->port.data;
	names[n] = "options";
	values[n++] = settings;
	names[n] = "fallback_application_name";
	values[n++] = "dtm";
	names[n] = "client_encoding";
	values[n++] = "UTF8";
	names[n] = "gssencmode";
	values[n++] = "disable";
	if (known_to_libpq("require_auth") &&
		value_of(server, "require_auth")[0] == '\0')
	{
		names[n] = "require_auth";
		values[n++] = server->trusted ? "!gss,!sspi"
			: "password,md5,scram-sha-256";
	}
	/* Without a certificate of its own, libpq would send this server's. */
	if (!server->trusted && value_of(server, "sslcert")[0] == '\0')
	{
		if (known_to_libpq("sslcertmode"))
		{
			names[n] = "sslcertmode";
			values[n++] = "disable";
		}
		names[n] = "sslcert";
		values[n++] = NO_FILE;
		names[n] = "sslkey";
		values[n++] = NO_FILE;
	}
	Assert(n < OWN_OPTIONS);
	return n;
}

static bool
is_own_option(const char *name, bool own_certificate)
{
	return strcmp(name, "host") == 0 || strcmp(name, "hostaddr") == 0 ||
		strcmp(name, "port") == 0 || strcmp(name, "options") == 0 ||
		(!own_certificate && (strcmp(name, "sslcertmode") == 0 ||
							  strcmp(name, "sslcert") == 0 ||
							  strcmp(name, "sslkey") == 0));
}

/* Later versions have more options than earlier ones. */
static bool
known_to_libpq(const char *name)
{
	static PQconninfoOption *options;

	if (options == NULL)
		options = PQconninfoParse("", NULL);
	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
	{
		if (strcmp(o->keyword, name) == 0)
			return true;
	}
	return false;
}

static const char *
value_of(const DtmPgServer *server, const char *name)
{
	for (int i = 0; i < server->noptions; i++)
	{
		if (strcmp(server->names[i], name) == 0)
			return server->values[i];
	}
	return "";
}

static ConnectStep
expand_hosts(const DtmPgServer *server, Hosts *hosts, char error[DTM_MAX_ERROR])
{
	Piece		host[MAX_HOSTS];
	Piece		hostaddr[MAX_HOSTS];
	Piece		port[MAX_HOSTS];
	int			nhosts = split(value_of(server, "host"), host, MAX_HOSTS);
	int			nhostaddrs = split(value_of(server, "hostaddr"), hostaddr, MAX_HOSTS);
	int			nports = split(value_of(server, "port"), port, MAX_HOSTS);
	int			n = Max(Max(nhosts, nhostaddrs), 1);
	Piece		none = {"", 0};
	ConnectStep step = CONNECT_STARTED;

	if (nhosts < 0 || nhostaddrs < 0 || nports < 0 ||
		(nhosts > 0 && nhostaddrs > 0 && nhosts != nhostaddrs) ||
		(nports > 1 && nports != n))
	{
		snprintf(error, DTM_MAX_ERROR,
				 "foreign server \"%s\": host, hostaddr and port have different numbers of entries, or more than %d",
				 server->name, MAX_HOSTS);
		return CONNECT_FAILED;
	}
	/* All lookups begin before any is waited for. */
	for (int i = 0; i < n; i++)
	{
		ConnectStep one = add_host(hosts, i < nhosts ? host[i] : none,
								   i < nhostaddrs ? hostaddr[i] : none,
								   nports == 0 ? none : nports == 1 ? port[0] : port[i],
								   server, error);

		if (one == CONNECT_LATER)
			step = CONNECT_LATER;
	}
	/* Of several hosts, one that has an address suffices. */
	if (step == CONNECT_STARTED && hosts->count == 0)
		step = CONNECT_FAILED;
	return step;
}

static ConnectStep
add_host(Hosts *hosts, Piece host, Piece hostaddr, Piece port,
		 const DtmPgServer *server, char error[DTM_MAX_ERROR])
{
	char		name[1024];
	char		address[256];
	const DtmAddresses *found;

	if (host.length >= sizeof(name) || hostaddr.length >= sizeof(address))
	{
		snprintf(error, DTM_MAX_ERROR, "foreign server \"%s\": the host is too long",
				 server->name);
		return CONNECT_FAILED;
	}
	memcpy(name, host.text, host.length);
	name[host.length] = '\0';
	memcpy(address, hostaddr.text, hostaddr.length);
	address[hostaddr.length] = '\0';

	if (address[0] == '\0' &&
		(name[0] == '\0' || name[0] == '/' || name[0] == '@'))
	{
		/* A unix socket: the default, or this one. */
		add_entry(hosts, name, "", port);
		return CONNECT_STARTED;
	}
	if (address[0] == '\0')
	{
		switch (dtm_resolve(name, server->role, hosts->deadline, &found))
		{
			case DTM_NAME_PENDING:
				return CONNECT_LATER;
			case DTM_NAME_FAILED:
				snprintf(error, DTM_MAX_ERROR, "cannot resolve the name of %s: %s",
						 name, found->error);
				return CONNECT_FAILED;
			case DTM_NAME_KNOWN:
				break;
		}
	}
	else if (dtm_resolve_numeric(address, &found) != DTM_NAME_KNOWN)
	{
		snprintf(error, DTM_MAX_ERROR, "hostaddr \"%s\" is no numeric address",
				 address);
		return CONNECT_FAILED;
	}

	for (int i = 0; i < found->count; i++)
	{
		if (!dtm_numeric_allowed(found->address[i]))
			snprintf(error, DTM_MAX_ERROR,
					 "refused: %s is a link-local or metadata address",
					 found->address[i]);
		else
			add_entry(hosts, name, found->address[i], port);
	}
	return CONNECT_STARTED;
}

static void
add_entry(Hosts *hosts, const char *host, const char *hostaddr, Piece port)
{
	if (hosts->count >= MAX_HOSTS)
		return;
	append_list(&hosts->host, hosts->count, host, strlen(host));
	append_list(&hosts->hostaddr, hosts->count, hostaddr, strlen(hostaddr));
	append_list(&hosts->port, hosts->count, port.text, port.length);
	hosts->count++;
}

/*
 * One that does not answer takes all the time there is: after that, the next
 * attempt begins with the one behind it.
 */
static void
rotate(Hosts *hosts, int by)
{
	PQExpBuffer lists[] = {&hosts->host, &hosts->hostaddr, &hosts->port};

	if (hosts->count < 2)
		return;
	for (int i = 0; i < lengthof(lists); i++)
	{
		Piece		pieces[MAX_HOSTS];
		PQExpBufferData turned;

		initPQExpBuffer(&turned);
		(void) split(lists[i]->data, pieces, MAX_HOSTS);
		for (int j = 0; j < hosts->count; j++)
		{
			Piece	   *piece = &pieces[(j + by) % hosts->count];

			append_list(&turned, j, piece->text, piece->length);
		}
		termPQExpBuffer(lists[i]);
		*lists[i] = turned;
	}
}

/* The elements of a list, by commas; 0 of an empty one; -1: too many. */
static int
split(const char *list, Piece *pieces, int max)
{
	int			n = 0;

	if (list[0] == '\0')
		return 0;
	for (;;)
	{
		if (n >= max)
			return -1;
		pieces[n].text = list;
		pieces[n].length = strcspn(list, ",");
		list += pieces[n].length;
		n++;
		if (*list == '\0')
			return n;
		list++;
	}
}

static void
append_list(PQExpBuffer list, int nth, const char *text, size_t length)
{
	if (nth > 0)
		appendPQExpBufferChar(list, ',');
	appendBinaryPQExpBuffer(list, text, length);
}
