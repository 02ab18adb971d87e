/*
 * address_test.c: what an address says, and whether it may be called.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "address.h"
#include "tap.h"

static void
parsed(void)
{
	static const struct
	{
		const char *address;
		bool		tls;
		const char *target;
		const char *path;
		bool		query;
	}			good[] = {
		{"http://stock/deduct", false, "stock:80", "/deduct", false},
		{"https://stock/deduct", true, "stock:443", "/deduct", false},
		{"HTTP://Stock.Example:8080", false, "stock.example:8080", "", false},
		{"http://stock?a=1", false, "stock:80", "", true},
		{"http://stock/?a=/b?c@d:e", false, "stock:80", "/", true},
		{"http://10.0.0.1:1/a%20b", false, "10.0.0.1:1", "/a%20b", false},
		{"http://[::1]:81/x", false, "[::1]:81", "/x", false},
		{"https://[FE80::1]", true, "[fe80::1]:443", "", false},
		{"http://my_service.ns:65535/", false, "my_service.ns:65535", "/", false},
		{"http://h/@user:pass", false, "h:80", "/@user:pass", false},
		{"http://h/\xc3\xa4", false, "h:80", "/\xc3\xa4", false},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		DtmAddress	a;
		const char *reason;
		char		target[300];
		char		path[300];

		if (!ok(dtm_address_parse(good[i].address, &a, &reason), good[i].address))
			continue;
		is(a.transport, DTM_CALL_HTTP, "  over HTTP");
		is(a.tls, good[i].tls, "  with or without TLS");
		dtm_address_target(&a, target, sizeof(target));
		is_text(target, good[i].target, "  target");
		snprintf(path, sizeof(path), "%.*s", (int) a.path_len, a.path);
		is_text(path, good[i].path, "  path");
		is(a.has_query, good[i].query, "  query");
	}
}

static void
refused(void)
{
	static const char *bad[] = {
		"h", "ftp://h/", "http:", "http:/h", "http://", "http:///path", "http://?q",
		"http://user@h/", "http://user:pw@h/", "http://h@evil/", "http://h#f",
		"http://h/#f", "http://h /", "http://h/a b", "http://h/\r\nX: y", "http://h/\t",
		"http://h/\x7f", "http://h:/", "http://h:0/", "http://h:65536/",
		"http://h:99999999999999999999/", "http://h:80x/", "http://h:-1/", "http://h:80:80/",
		"http://[::1/", "http://[::1]x/", "http://[]/", "http://[1.2.3.4]/",
		"http://[fe80::1%25eth0]/", "http://::1/", "http://h\\evil/", "http://%68/",
		"http://.h/", "http://h\xc3\xa4/", "http://a,b/", "http://$(x)/", " http://h/",
		"sql:", "sql:f", "sql:s.", "sql:.f", "sql:s.f()", "sql:s.f.g", "sql:1s.f", "sql://server/s",
		"sql:\"s.f", "sql:\"\".f", "sql:s.f;drop", "topic://t", "grpc://h:1/s/m", "h:80/s/m",
	};
	char		longest[400] = "http://";
	DtmAddress	a;
	const char *reason;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		bool		accepted = dtm_address_parse(bad[i], &a, &reason);
		char		name[40];

		snprintf(name, sizeof(name), "refused, number %d", (int) i);
		ok(!accepted && reason != NULL, name);
		ok(!dtm_address_allowed(bad[i], "*"), "  and not even * allows it");
	}
	memset(longest + 7, 'a', 254);
	ok(!dtm_address_parse(longest, &a, &reason), "a host of 254 bytes");
	longest[7 + 253] = '\0';
	ok(dtm_address_parse(longest, &a, &reason), "a host of 253 bytes");
}

/* sql://server/schema.function: the server and the function by SQL's rules. */
static void
remote(void)
{
	static const struct
	{
		const char *address;
		const char *target;		/* NULL: refused */
		const char *function;
	}			addresses[] = {
		{"sql://bank_b/public.pay", "bank_b", "public.pay"},
		{"SQL://Bank_B/Public.Pay", "bank_b", "Public.Pay"},
		{"sql://\"Bank-B\"/s.f", "Bank-B", "s.f"},
		{"sql://\"a\"\"b\"/s.f", "a\"b", "s.f"},
		{"sql://\"a/b\"/\"x/y\".\"f\"", "a/b", "\"x/y\".\"f\""},
		{"sql://\"b\"/s.f", "b", "s.f"},
		{"sql:/bank/s.f", NULL, NULL},
		{"sql://", NULL, NULL},
		{"sql:///s.f", NULL, NULL},
		{"sql://bank", NULL, NULL},
		{"sql://bank/", NULL, NULL},
		{"sql://bank/f", NULL, NULL},
		{"sql://bank/s.f()", NULL, NULL},
		{"sql://bank/s.f/g", NULL, NULL},
		{"sql://bank/d.s.f", NULL, NULL},
		{"sql://bank-b/s.f", NULL, NULL},
		{"sql://b%61nk/s.f", NULL, NULL},
		{"sql://bank:5432/s.f", NULL, NULL},
		{"sql://me@bank/s.f", NULL, NULL},
		{"sql://bank//s.f", NULL, NULL},
		{"sql://\"bank/s.f", NULL, NULL},
		{"sql://\"\"/s.f", NULL, NULL},
		{"sql://\"a b\"/s.f", NULL, NULL},
		{"sql://bank/s.f;drop", NULL, NULL},
		{"sql://1bank/s.f", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
	{
		DtmAddress	a;
		const char *reason;
		char		target[64];
		bool		good = dtm_address_parse(addresses[i].address, &a, &reason);

		is(good, addresses[i].target != NULL, addresses[i].address);
		if (!good)
		{
			ok(reason != NULL, "a reason is given");
			continue;
		}
		is(a.transport, DTM_CALL_REMOTE, "on another server");
		dtm_address_target(&a, target, sizeof(target));
		is_text(target, addresses[i].target, "its server");
		is_text(a.function, addresses[i].function, "its function");
		dtm_address_target(&a, target, 3);
		ok(strlen(target) < 3, "a small buffer is not overrun");
		ok(!dtm_address_allowed(addresses[i].address, "http://bank"), "no HTTP prefix covers it");
	}
}

static void
others(void)
{
	DtmAddress	a;
	const char *reason;
	char		target[4];

	ok(dtm_address_parse("", &a, &reason) && a.transport == DTM_CALL_NOBODY, "nobody");
	ok(dtm_address_parse("sql:public.pay", &a, &reason) && a.transport == DTM_CALL_SQL, "a SQL function");
	is_text(a.function, "public.pay", "its name");
	ok(dtm_address_parse("sql:\"My.S\".\"a\"\"b\"", &a, &reason), "a quoted one");
	ok(dtm_address_parse("sql:s\xc3\xa9.f$1", &a, &reason), "with letters of the world");
	remote();
	(void) dtm_address_parse("http://long-name/", &a, &reason);
	dtm_address_target(&a, target, sizeof(target));
	is_text(target, "lon", "a small buffer is not overrun");
}

static void
allowed(void)
{
	static const struct
	{
		const char *address;
		const char *prefix;
		bool		allowed;
	}			rules[] = {
		{"http://h/a", "*", true},
		{"http://h/a", "http://h", true},
		{"http://h", "http://h/", true},
		{"http://h?q", "http://h", true},
		{"HTTP://H/a", "http://h", true},
		{"http://h:80/a", "http://h", true},
		{"http://h/a", "http://h:80", true},
		{"https://h/a", "http://h", false},
		{"http://h:81/a", "http://h", false},
		{"http://hostile/a", "http://host", false},
		{"http://host.evil/a", "http://host", false},
		{"http://h/a", "http://h/a", true},
		{"http://h/a/b", "http://h/a", true},
		{"http://h/a?x=../..", "http://h/a", true},
		{"http://h/ab", "http://h/a", false},
		{"http://h/A", "http://h/a", false},
		{"http://h/a", "http://h/a/", false},
		{"http://h/a/", "http://h/a/", true},
		{"http://h/a/b", "http://h/a/", true},
		{"http://h/a/../b", "http://h/a", false},
		{"http://h/a/..", "http://h/a", false},
		{"http://h/a/%2e%2E/b", "http://h/a", false},
		{"http://h/a/.%2e/b", "http://h/a", false},
		{"http://h/a/..%2fb", "http://h/a", false},
		{"http://h/a/x%2f..%2f..", "http://h/a", false},
		{"http://h/a/..%5cb", "http://h/a", false},
		{"http://h/a/..;v=1/b", "http://h/a", false},
		{"http://h/a/..%3bv/b", "http://h/a", false},
		{"http://h/a%2f../b", "http://h/a", false},
		{"http://h/a/..b/c", "http://h/a", true},
		{"http://h/a/b../c", "http://h/a", true},
		{"http://h/a/.../c", "http://h/a", true},
		{"http://h/a/./c", "http://h/a", true},
		{"http://h/../b", "http://h/", true},
		{"http://[::1]/a", "http://[::1]", true},
		{"sql:a.b", "http://h", false},
		{"", "http://h", false},
		{"http://h/a", "http://h/?q", false},
		{"http://h/a", "", false},
		{"http://h/a", "http://", false},
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
	{
		char		name[200];

		snprintf(name, sizeof(name), "%s %s %s", rules[i].address,
				 rules[i].allowed ? "is under" : "is not under", rules[i].prefix);
		is(dtm_address_allowed(rules[i].address, rules[i].prefix),
		   rules[i].allowed, name);
	}
}

static void
prefixes(void)
{
	static const char *bad[] = {"", "h", "**", "http://", "http://h/?a", "http://h/a/../b",
	"http://h/a/%2e%2e", "http://h:99999", "sql:a.b", "http://u@h/"};
	const char *reason;

	ok(dtm_prefix_is_valid("*", &reason), "prefix *");
	ok(dtm_prefix_is_valid("http://h", &reason), "prefix of a host");
	ok(dtm_prefix_is_valid("https://h:8443/a/", &reason), "prefix of a path");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!dtm_prefix_is_valid(bad[i], &reason) && reason != NULL, "a prefix that is none");
}

static void
sockets(void)
{
	static const struct
	{
		const char *ip;
		bool		allowed;
	}			rules[] = {
		{"127.0.0.1", true}, {"10.1.2.3", true}, {"192.168.0.1", true}, {"8.8.8.8", true},
		{"0.0.0.0", false}, {"0.1.2.3", false}, {"169.254.169.254", false},
		{"169.254.0.1", false}, {"169.253.0.1", true}, {"224.0.0.1", false}, {"239.1.1.1", false},
		{"255.255.255.255", false}, {"100.100.100.200", false}, {"100.100.100.201", true},
		{"168.63.129.16", false}, {"192.0.0.192", false},
		{"::1", true}, {"2001:db8::1", true}, {"fd00::1", true}, {"::", false},
		{"fe80::1", false}, {"febf::1", false}, {"fec0::1", true}, {"ff02::1", false},
		{"fd00:ec2::254", false}, {"fd20:ce::254", false}, {"fd00:42::42", false},
		{"::ffff:169.254.169.254", false}, {"::ffff:127.0.0.1", true},
		{"::169.254.169.254", false}, {"::ffff:0:169.254.169.254", false},
		{"64:ff9b::169.254.169.254", false}, {"64:ff9b::8.8.8.8", true},
		{"64:ff9b:1::a9fe:a9fe", false}, {"2002:a9fe:a9fe::1", false}, {"2002:808:808::1", true},
		{"2001:0:1::5601:5601", false}, {"2001:db8::5efe:169.254.169.254", false},
		{"2001:db8::200:5efe:169.254.169.254", false},
	};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
	{
		struct sockaddr_in in = {.sin_family = AF_INET};
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
		bool		v4 = inet_pton(AF_INET, rules[i].ip, &in.sin_addr) == 1;

		if (!v4 && inet_pton(AF_INET6, rules[i].ip, &in6.sin6_addr) != 1)
			ok(false, "the test's own address");
		is(dtm_socket_allowed(v4 ? (struct sockaddr *) &in : (struct sockaddr *) &in6),
		   rules[i].allowed, rules[i].ip);
	}
	ok(!dtm_socket_allowed((struct sockaddr *) &un), "no unix sockets");
}

int
main(void)
{
	parsed();
	refused();
	others();
	allowed();
	prefixes();
	sockets();
	return tap_done();
}
