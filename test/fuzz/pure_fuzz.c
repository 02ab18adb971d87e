/*
 * pure_fuzz.c: hostile bytes for address.c and answer.c.
 *
 * A libFuzzer target. Without libFuzzer, compile with -DSTANDALONE: then it
 * breeds inputs from the seeds below itself, pure_fuzz [COUNT [SEED]], in TAP.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "call_http.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) do { if (!(condition)) abort(); } while (0)

static void
check_parsed(const char *text, const DtmAddress *a)
{
	const char *end = text + strlen(text);
	char		target[300];

	for (const char *p = text; *p != '\0'; p++)
		MUST((unsigned char) *p > ' ' && *p != 0x7f);
	if (a->transport == DTM_CALL_SQL)
		MUST(strchr(a->function, '.') != NULL);
	if (a->transport != DTM_CALL_HTTP)
		return;

	MUST(a->host >= text && a->host + a->host_len <= end && a->host_len > 0);
	MUST(a->path >= a->host + a->host_len && a->path + a->path_len <= end);
	MUST(a->path_len == 0 || a->path[0] == '/');
	MUST(a->port >= 1 && a->port <= 65535);
	MUST(memchr(a->host, '@', a->host_len) == NULL);
	MUST(memchr(a->host, '%', a->host_len) == NULL);
	MUST(a->has_query == (a->path[a->path_len] == '?'));
	dtm_address_target(a, target, sizeof(target));
	MUST(strlen(target) >= a->host_len + 2);
	dtm_address_target(a, target, 5);
	MUST(strlen(target) < 5);
}

/* Whatever is under a path must be under its host as well. */
static void
check_allowed(const char *address, const char *prefix)
{
	DtmAddress	a;
	DtmAddress	p;
	const char *reason;
	char		host[300];

	if (!dtm_address_allowed(address, prefix))
		return;
	MUST(dtm_prefix_is_valid(prefix, &reason));
	MUST(dtm_address_parse(address, &a, &reason));
	if (strcmp(prefix, "*") == 0)
		return;
	MUST(dtm_address_parse(prefix, &p, &reason));
	MUST(a.host_len == p.host_len && a.port == p.port && a.tls == p.tls);
	MUST(a.path_len >= p.path_len || p.path_len == 1);
	snprintf(host, sizeof(host), memchr(p.host, ':', p.host_len) ?
			 "%s://[%.*s]:%d" : "%s://%.*s:%d",
			 p.tls ? "https" : "http", (int) p.host_len, p.host, p.port);
	MUST(dtm_address_allowed(address, host));
}

/* The input is an answer; and, cut at its first '|', an address and a prefix. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);
	char	   *bar;
	DtmAddress	a;
	const char *reason;
	struct sockaddr_storage socket;

	if (size > 0)
	{
		DtmAnswer	answer = dtm_http_answer(200 + data[0], (const char *) data, size);

		MUST(answer == dtm_http_answer(200 + data[0], (const char *) data, size));
		MUST(data[0] != 225 || answer == DTM_ANSWER_ONGOING);
	}

	memset(&socket, 0, sizeof(socket));
	memcpy(&socket, data, size < sizeof(socket) ? size : sizeof(socket));
	(void) dtm_socket_allowed((struct sockaddr *) &socket);
	socket.ss_family = AF_INET6;
	(void) dtm_socket_allowed((struct sockaddr *) &socket);

	memcpy(text, data, size);
	text[size] = '\0';
	if (dtm_address_parse(text, &a, &reason))
		check_parsed(text, &a);
	else
		MUST(reason != NULL);

	bar = strchr(text, '|');
	if (bar != NULL)
	{
		*bar = '\0';
		if (dtm_address_parse(text, &a, &reason))
			check_parsed(text, &a);
		check_allowed(text, bar + 1);
	}
	free(text);
	return 0;
}

#ifdef STANDALONE
static const char *const seeds[] = {
	"http://host.example:8080/a/b?c=d|http://host.example:8080/a/",
	"https://[::1]:443/x/%2e%2e/y|https://[::1]",
	"sql:schema.function", "sql:\"Sch\"\"ema\".\"f\"", "http://h/a/..%2f;x|http://h/a", "*", "",
	"{\"dtm_result\":\"FAILURE\"} ONGOING FAILUREONGOIN",
};
static const char *const words[] = {
	"http://", "https://", "sql:", "%2e", "%2f", "..", "/", "?", "#", "@", ":", "[", "]", "|", "*",
	"ONGOING", "FAILURE", "\"", "\r\n", ";", "\\", "0", "65535", "::ffff:169.254.169.254",
};

int
main(int argc, char **argv)
{
	long		count = argc > 1 ? atol(argv[1]) : 200000;
	unsigned	seed = argc > 2 ? (unsigned) atol(argv[2]) : 1;

	srand(seed);
	for (long n = 0; n < count; n++)
	{
		uint8_t		data[512];
		const char *from = seeds[(size_t) rand() % (sizeof(seeds) / sizeof(seeds[0]))];
		size_t		size = strlen(from);

		memcpy(data, from, size);
		for (int i = rand() % 8; i > 0; i--)
		{
			const char *word = words[(size_t) rand() % (sizeof(words) / sizeof(words[0]))];
			size_t		length = strlen(word);
			size_t		at = (size_t) rand() % (size + 1);

			switch (rand() % 4)
			{
				case 0:
					if (size > 0)
						data[(size_t) rand() % size] = (uint8_t) rand();
					break;
				case 1:
					size = at;
					break;
				default:
					if (size + length > sizeof(data))
						break;
					memmove(data + at + length, data + at, size - at);
					memcpy(data + at, word, length);
					size += length;
			}
		}
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("ok 1 - %ld hostile inputs from seed %u\n1..1\n", count, seed);
	return 0;
}
#endif
