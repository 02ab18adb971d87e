/*
 * address.c: what an address says, and whether it may be called.
 *
 * Pure: no I/O, no allocation. Addresses are hostile input, and the client
 * that will call them reads them too: whatever two parsers could read in two
 * ways is refused here, rather than read in one of them.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"

#define MAX_HOST 253

static bool characters_are_plain(const char *address, const char **reason);
static bool parse_http(const char *rest, DtmAddress *out, const char **reason);
static bool parse_host(const char *host, size_t length, const char **reason);
static bool parse_ipv6(const char *host, size_t length, const char **reason);
static bool parse_port(const char *digits, size_t length, int *port,
					   const char **reason);
static bool parse_sql(const char *function, DtmAddress *out,
					  const char **reason);
static bool parse_remote(const char *rest, DtmAddress *out,
						 const char **reason);
static bool parse_function(const char *function, const char **reason);
static size_t identifier_length(const char *text);
static void server_name(const DtmAddress *addr, char *buf, size_t size);
static bool path_is_under(const DtmAddress *addr, const DtmAddress *prefix);
static bool path_climbs(const char *path, size_t length);
static const char *after_scheme(const char *address, const char *scheme);
static bool same_host(const DtmAddress *a, const DtmAddress *b);
static bool ipv4_allowed(uint32_t ip);
static bool ipv6_allowed(const unsigned char *ip);
static bool embedded_allowed(const unsigned char *ip);
static bool is_letter(char c);
static bool is_digit(char c);
static bool is_hex_digit(char c);
static char lower(char c);

bool
dtm_address_parse(const char *address, DtmAddress *out, const char **reason)
{
	const char *rest;

	memset(out, 0, sizeof(*out));
	out->transport = DTM_CALL_UNKNOWN;
	*reason = NULL;

	if (address[0] == '\0')
	{
		out->transport = DTM_CALL_NOBODY;
		return true;
	}
	if (!characters_are_plain(address, reason))
		return false;

	if ((rest = after_scheme(address, "https://")) != NULL)
	{
		out->tls = true;
		out->port = 443;
		return parse_http(rest, out, reason);
	}
	if ((rest = after_scheme(address, "http://")) != NULL)
	{
		out->port = 80;
		return parse_http(rest, out, reason);
	}
	if ((rest = after_scheme(address, "sql:")) != NULL)
		return parse_sql(rest, out, reason);

	*reason = "it must begin with http://, https:// or sql:";
	return false;
}

bool
dtm_address_allowed(const char *address, const char *prefix)
{
	DtmAddress	addr;
	DtmAddress	under;
	const char *reason;

	if (!dtm_address_parse(address, &addr, &reason) ||
		!dtm_prefix_is_valid(prefix, &reason))
		return false;
	if (strcmp(prefix, "*") == 0)
		return true;
	if (addr.transport != DTM_CALL_HTTP ||
		!dtm_address_parse(prefix, &under, &reason))
		return false;

	return addr.tls == under.tls &&
		addr.port == under.port &&
		same_host(&addr, &under) &&
		path_is_under(&addr, &under);
}

bool
dtm_prefix_is_valid(const char *prefix, const char **reason)
{
	DtmAddress	addr;

	*reason = NULL;
	if (strcmp(prefix, "*") == 0)
		return true;
	if (!dtm_address_parse(prefix, &addr, reason))
		return false;
	if (addr.transport != DTM_CALL_HTTP)
	{
		*reason = "it must be * or begin with http:// or https://";
		return false;
	}
	if (addr.has_query)
	{
		*reason = "it must not have a query";
		return false;
	}
	if (path_climbs(addr.path, addr.path_len))
	{
		*reason = "its path must not contain \"..\"";
		return false;
	}
	return true;
}

bool
dtm_socket_allowed(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
	{
		struct sockaddr_in in;

		memcpy(&in, addr, sizeof(in));
		return ipv4_allowed(ntohl(in.sin_addr.s_addr));
	}
	if (addr->sa_family == AF_INET6)
	{
		struct sockaddr_in6 in6;

		memcpy(&in6, addr, sizeof(in6));
		return ipv6_allowed(in6.sin6_addr.s6_addr);
	}
	return false;
}

/* Brackets around an IPv6 address, so that no two servers share a key. */
void
dtm_address_target(const DtmAddress *addr, char *buf, size_t size)
{
	bool		ipv6;
	int			length;

	if (size == 0)
		return;
	if (addr->transport == DTM_CALL_REMOTE)
	{
		server_name(addr, buf, size);
		return;
	}
	if (addr->transport != DTM_CALL_HTTP)
	{
		snprintf(buf, size, "%s", addr->transport == DTM_CALL_SQL ? "sql" : "");
		return;
	}

	ipv6 = memchr(addr->host, ':', addr->host_len) != NULL;
	length = snprintf(buf, size, ipv6 ? "[%.*s]:%d" : "%.*s:%d",
					  (int) addr->host_len, addr->host, addr->port);
	for (int i = 0; i < length && (size_t) i < size; i++)
		buf[i] = lower(buf[i]);
}

static bool
characters_are_plain(const char *address, const char **reason)
{
	for (const char *p = address; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c < ' ' || c == 0x7f)
			*reason = "it contains a control character";
		else if (c == ' ')
			*reason = "it contains a space";
		else if (c == '\\')
			*reason = "it contains a backslash";
		else
			continue;
		return false;
	}
	return true;
}

static bool
parse_http(const char *rest, DtmAddress *out, const char **reason)
{
	size_t		authority = strcspn(rest, "/?#");
	size_t		host_len;
	const char *after_host;

	if (strchr(rest, '#') != NULL)
	{
		*reason = "it contains a fragment (#)";
		return false;
	}
	if (memchr(rest, '@', authority) != NULL)
	{
		*reason = "it contains a user name";
		return false;
	}

	if (rest[0] == '[')
	{
		const char *close = memchr(rest, ']', authority);

		if (close == NULL)
		{
			*reason = "the bracket before the host is not closed";
			return false;
		}
		out->host = rest + 1;
		host_len = (size_t) (close - out->host);
		after_host = close + 1;
		if (!parse_ipv6(out->host, host_len, reason))
			return false;
	}
	else
	{
		const char *colon = memchr(rest, ':', authority);

		out->host = rest;
		host_len = colon != NULL ? (size_t) (colon - rest) : authority;
		after_host = rest + host_len;
		if (!parse_host(out->host, host_len, reason))
			return false;
	}
	out->host_len = host_len;

	if (after_host < rest + authority)
	{
		if (*after_host != ':')
		{
			*reason = "something stands between the host and the path";
			return false;
		}
		after_host++;
		if (!parse_port(after_host, (size_t) (rest + authority - after_host),
						&out->port, reason))
			return false;
	}

	out->path = rest + authority;
	out->path_len = strcspn(out->path, "?");
	out->has_query = out->path[out->path_len] == '?';
	out->transport = DTM_CALL_HTTP;
	return true;
}

/*
 * A percent sign, in particular, has no place in a host: the client would
 * decode it, and call another host than the one that was compared.
 */
static bool
parse_host(const char *host, size_t length, const char **reason)
{
	if (length == 0)
	{
		*reason = "the host is empty";
		return false;
	}
	if (length > MAX_HOST)
	{
		*reason = "the host is too long";
		return false;
	}
	for (size_t i = 0; i < length; i++)
	{
		char		c = host[i];

		if (!is_letter(c) && !is_digit(c) && c != '-' && c != '.' && c != '_')
		{
			*reason = "the host contains a character that no host name has";
			return false;
		}
	}
	if (host[0] == '.')
	{
		*reason = "the host begins with a dot";
		return false;
	}
	return true;
}

static bool
parse_ipv6(const char *host, size_t length, const char **reason)
{
	char		text[INET6_ADDRSTRLEN];
	struct in6_addr ip;

	if (length > 0 && length < sizeof(text))
	{
		memcpy(text, host, length);
		text[length] = '\0';
		if (inet_pton(AF_INET6, text, &ip) == 1)
			return true;
	}
	*reason = "what stands in brackets is not an IPv6 address";
	return false;
}

static bool
parse_port(const char *digits, size_t length, int *port, const char **reason)
{
	int			value = 0;

	if (length == 0)
	{
		*reason = "the port is empty";
		return false;
	}
	for (size_t i = 0; i < length; i++)
	{
		if (!is_digit(digits[i]))
		{
			*reason = "the port is not a number";
			return false;
		}
		if (value <= 65535)
			value = value * 10 + (digits[i] - '0');
	}
	if (value < 1 || value > 65535)
	{
		*reason = "the port is not between 1 and 65535";
		return false;
	}
	*port = value;
	return true;
}

static bool
parse_sql(const char *function, DtmAddress *out, const char **reason)
{
	if (function[0] == '/')
		return parse_remote(function, out, reason);
	if (!parse_function(function, reason))
		return false;
	out->transport = DTM_CALL_SQL;
	out->function = function;
	return true;
}

/* "//server/schema.function" */
static bool
parse_remote(const char *rest, DtmAddress *out, const char **reason)
{
	const char *server = rest + 2;
	size_t		length;

	if (rest[1] != '/')
	{
		*reason = "a function on another server is written sql://server/schema.function";
		return false;
	}
	length = identifier_length(server);
	if (length == 0 || server[length] != '/')
	{
		*reason = "after sql:// must follow the name of a foreign server, in double quotes unless it consists of letters, digits and _, and a slash";
		return false;
	}
	if (!parse_function(server + length + 1, reason))
		return false;
	out->transport = DTM_CALL_REMOTE;
	out->server = server;
	out->server_len = length;
	out->function = server + length + 1;
	return true;
}

/* Exactly schema.function: without the schema, whose would be called? */
static bool
parse_function(const char *function, const char **reason)
{
	size_t		schema = identifier_length(function);
	size_t		name;

	if (schema == 0 || function[schema] != '.')
	{
		*reason = "a SQL function must be written as schema.function";
		return false;
	}
	name = identifier_length(function + schema + 1);
	if (name == 0 || function[schema + 1 + name] != '\0')
	{
		*reason = "a SQL function must be written as schema.function, without arguments";
		return false;
	}
	return true;
}

/* Without its quotes, or in lower case as SQL takes it; cut to the buffer. */
static void
server_name(const DtmAddress *addr, char *buf, size_t size)
{
	bool		quoted = addr->server[0] == '"';
	size_t		end = quoted ? addr->server_len - 1 : addr->server_len;
	size_t		n = 0;

	for (size_t i = quoted ? 1 : 0; i < end && n + 1 < size; i++)
	{
		char		c = addr->server[i];

		if (quoted && c == '"')
			i++;				/* written twice, meant once */
		buf[n++] = quoted ? c : lower(c);
	}
	buf[n] = '\0';
}

/* Length of the SQL identifier, quoted or not, that text begins with; 0: none */
static size_t
identifier_length(const char *text)
{
	size_t		i = 0;

	if (text[0] == '"')
	{
		for (i = 1; text[i] != '\0'; i++)
		{
			if (text[i] != '"')
				continue;
			if (text[i + 1] != '"')
				return i > 1 ? i + 1 : 0;
			i++;
		}
		return 0;
	}

	while (is_letter(text[i]) || text[i] == '_' || (text[i] & 0x80) != 0 ||
		   (i > 0 && (is_digit(text[i]) || text[i] == '$')))
		i++;
	return i;
}

/*
 * path_is_under compares byte by byte: other spellings of the same path are
 * refused. Below a path, nothing that could climb out of it is let through,
 * whichever of the servers on the way should decode it.
 */
static bool
path_is_under(const DtmAddress *addr, const DtmAddress *prefix)
{
	size_t		length = prefix->path_len;

	if (length == 0 || (length == 1 && prefix->path[0] == '/'))
		return true;
	if (addr->path_len < length ||
		memcmp(addr->path, prefix->path, length) != 0 ||
		path_climbs(addr->path, addr->path_len))
		return false;
	return addr->path_len == length ||
		prefix->path[length - 1] == '/' ||
		addr->path[length] == '/';
}

/*
 * path_climbs finds a segment "..", with its dots or the slashes around it
 * percent-encoded or not, and with or without ";parameters".
 */
static bool
path_climbs(const char *path, size_t length)
{
	size_t		i = 0;
	int			dots = 0;
	bool		other = false;

	for (;;)
	{
		char		c = i < length ? path[i] : '/';
		size_t		width = 1;

		if (c == '%' && i + 2 < length &&
			is_hex_digit(path[i + 1]) && is_hex_digit(path[i + 2]))
		{
			char		high = path[i + 1];
			char		low = lower(path[i + 2]);

			if (high == '2' && low == 'e')
				c = '.';
			else if (high == '2' && low == 'f')
				c = '/';
			else if (high == '3' && low == 'b')
				c = ';';
			else if (high == '5' && low == 'c')
				c = '/';
			width = 3;
		}

		if (c == '/' || c == ';')
		{
			if (dots == 2 && !other)
				return true;
			dots = 0;
			/* What follows a semicolon is not the beginning of a segment. */
			other = (c == ';');
		}
		else if (c == '.')
			dots++;
		else
			other = true;

		if (i >= length)
			return false;
		i += width;
	}
}

/* What follows the scheme, in whichever case it is written; NULL: another. */
static const char *
after_scheme(const char *address, const char *scheme)
{
	for (; *scheme != '\0'; scheme++, address++)
	{
		if (lower(*address) != *scheme)
			return NULL;
	}
	return address;
}

static bool
same_host(const DtmAddress *a, const DtmAddress *b)
{
	if (a->host_len != b->host_len)
		return false;
	for (size_t i = 0; i < a->host_len; i++)
	{
		if (lower(a->host[i]) != lower(b->host[i]))
			return false;
	}
	return true;
}

static bool
ipv4_allowed(uint32_t ip)
{
	static const struct
	{
		uint32_t	net;
		int			bits;
	}			refused[] = {
		{0x00000000, 8},		/* 0.0.0.0/8: "this host" */
		{0xa9fe0000, 16},		/* 169.254.0.0/16: link-local, metadata */
		{0xe0000000, 4},		/* 224.0.0.0/4: multicast */
		{0xffffffff, 32},		/* 255.255.255.255: broadcast */
		{0x646464c8, 32},		/* 100.100.100.200: metadata, Alibaba */
		{0xa83f8110, 32},		/* 168.63.129.16: the host agent, Azure */
		{0xc00000c0, 32},		/* 192.0.0.192: metadata, Oracle */
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		uint32_t	mask = UINT32_MAX << (32 - refused[i].bits);

		if ((ip & mask) == refused[i].net)
			return false;
	}
	return true;
}

static bool
ipv6_allowed(const unsigned char *ip)
{
	static const unsigned char unspecified[16] = {0};
	static const unsigned char metadata[][16] = {
		/* fd00:ec2::254, Amazon */
		{0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54},
		/* fd20:ce::254, Google */
		{0xfd, 0x20, 0x00, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54},
		/* fd00:42::42, Scaleway */
		{0xfd, 0x00, 0x00, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x42},
	};

	if (memcmp(ip, unspecified, 16) == 0)
		return false;
	if (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)	/* fe80::/10 link-local */
		return false;
	if (ip[0] == 0xff)			/* multicast */
		return false;
	for (size_t i = 0; i < sizeof(metadata) / sizeof(metadata[0]); i++)
	{
		if (memcmp(ip, metadata[i], 16) == 0)
			return false;
	}
	return embedded_allowed(ip);
}

/* IPv4 in the clothes of IPv6: what counts is where the packets end up. */
static bool
embedded_allowed(const unsigned char *ip)
{
	static const unsigned char zero[16] = {0};
	static const unsigned char loopback[16] = {[15] = 1};
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const unsigned char translated[12] = {[8] = 0xff, [9] = 0xff};
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	static const unsigned char local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0, 1};
	static const unsigned char teredo[4] = {0x20, 0x01, 0, 0};
	static const unsigned char isatap[4] = {0, 0, 0x5e, 0xfe};
	uint32_t	last = (uint32_t) ip[12] << 24 | (uint32_t) ip[13] << 16 |
		(uint32_t) ip[14] << 8 | ip[15];

	if (memcmp(ip, loopback, 16) == 0)
		return true;
	if (memcmp(ip, zero, 12) == 0 ||
		memcmp(ip, mapped, 12) == 0 ||
		memcmp(ip, translated, 12) == 0 ||
		memcmp(ip, nat64, 12) == 0 ||
		memcmp(ip, local_nat64, 6) == 0)
		return ipv4_allowed(last);
	if (memcmp(ip, teredo, 4) == 0)
		return ipv4_allowed(~last);
	if ((ip[8] & 0xfd) == 0 && memcmp(ip + 9, isatap + 1, 3) == 0)
		return ipv4_allowed(last);
	if (ip[0] == 0x20 && ip[1] == 0x02) /* 6to4 */
		return ipv4_allowed((uint32_t) ip[2] << 24 | (uint32_t) ip[3] << 16 |
							(uint32_t) ip[4] << 8 | ip[5]);
	return true;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex_digit(char c)
{
	return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c + ('a' - 'A')) : c;
}
