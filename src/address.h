/*
 * address.h: what an address says, and whether it may be called.
 *
 * Pure: no I/O, no allocation. An address is hostile input.
 */
#ifndef DTM_ADDRESS_H
#define DTM_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct sockaddr;

typedef enum DtmTransport
{
	DTM_CALL_NOBODY,			/* '' */
	DTM_CALL_HTTP,				/* http:// https:// */
	DTM_CALL_SQL,				/* sql:schema.function */
	DTM_CALL_REMOTE,			/* sql://server/schema.function */
	DTM_CALL_UNKNOWN
} DtmTransport;

/* Pieces point into the address; none is terminated. */
typedef struct DtmAddress
{
	DtmTransport transport;
	bool		tls;
	const char *host;			/* HTTP: without brackets */
	size_t		host_len;
	int			port;			/* explicit, or the scheme's */
	const char *path;			/* from the first '/', up to '?'; may be empty */
	size_t		path_len;
	bool		has_query;
	const char *function;		/* SQL: "schema.function", as written */
	const char *server;			/* REMOTE: the foreign server, as written */
	size_t		server_len;
} DtmAddress;

/*
 * Parse an address. On failure returns false and a reason, a sentence fragment
 * fit for an error's detail ("the port is not a number"). Refused: user names
 * in URLs, fragments, control characters, spaces, empty hosts, bad ports.
 */
extern bool dtm_address_parse(const char *address, DtmAddress *out,
							  const char **reason);

/*
 * Is the HTTP address under the allowed prefix? Scheme, host (letter case
 * aside) and port are equal, and the path starts with the prefix's path at a
 * segment's boundary, with dot segments ("..", "%2e%2e") never reaching out.
 * A prefix may be "*" (everything), or "http://host", "http://host:81/a/".
 */
extern bool dtm_address_allowed(const char *address, const char *prefix);

/* Is this a well-formed prefix? */
extern bool dtm_prefix_is_valid(const char *prefix, const char **reason);

/*
 * May a socket be opened to this address? Link-local, cloud metadata,
 * unspecified, multicast and broadcast addresses never, in IPv4, in IPv6 and
 * in IPv4 dressed up as IPv6.
 */
extern bool dtm_socket_allowed(const struct sockaddr *addr);

/*
 * "host:port", the key under which calls to one server are limited. Of a
 * foreign server its name, the same for every way to write it.
 */
extern void dtm_address_target(const DtmAddress *addr, char *buf, size_t size);

#endif
