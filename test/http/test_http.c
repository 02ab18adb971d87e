/*
 * test_http.c: HTTP calls against a server with every bad manner.
 *
 * test_http PORT TLS_PORT STUB_PORT CERTIFICATE OTHER_CERTIFICATE
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "call_http.h"
#include "clean_text.h"

#define MANY 1000

typedef struct Outcome
{
	DtmAnswer	answer;
	bool		answered;
	int			status;
	char		error[DTM_MAX_ERROR];
	char		body[8192];
	long		ms;
	int			wakeups;
} Outcome;

static int	tests;
static int	failures;
static int	port,
			tls_port,
			stub_port;
static DtmHttp *http;
static double longest_drive;	/* ms */

static void
ok(bool good, const char *what,...)
{
	va_list		args;

	printf("%sok %d - ", good ? "" : "not ", ++tests);
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	printf("\n");
	failures += !good;
	fflush(stdout);
}

static double
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000.0 + now.tv_nsec / 1e6;
}

/* As the worker does: sleep until the descriptor or the timeout says so. */
static void
wait_and_drive(void)
{
	struct pollfd p = {dtm_http_fd(http), POLLIN, 0};
	long		timeout = dtm_http_timeout(http);
	double		start;

	poll(&p, 1, timeout < 0 || timeout > 5000 ? 5000 : (int) timeout);
	start = now_ms();
	dtm_http_drive(http);
	if (now_ms() - start > longest_drive)
		longest_drive = now_ms() - start;
}

static const char *
url(const char *path)
{
	static char buf[4][1024];
	static int	i;

	i = (i + 1) % 4;
	snprintf(buf[i], sizeof(buf[i]), "http://127.0.0.1:%d%s", port, path);
	return buf[i];
}

static Outcome
perform(const DtmHttpRequest *request)
{
	Outcome		out = {0};
	DtmHttpResult result;
	double		start = now_ms();

	if (!dtm_http_start(http, request, out.error))
	{
		out.answer = DTM_ANSWER_ERROR;
		return out;
	}
	while (!dtm_http_result(http, &result))
	{
		wait_and_drive();
		out.wakeups++;
	}
	out.ms = (long) (now_ms() - start);
	out.answer = result.answer;
	out.answered = result.answered;
	out.status = result.http_status;
	strcpy(out.error, result.error);
	snprintf(out.body, sizeof(out.body), "%.*s", (int) result.body_size,
			 result.body);
	if (result.tag != request->tag || dtm_http_in_flight(http) != 0)
		ok(false, "the tag comes back, nothing is left in flight");
	return out;
}

static Outcome
get(const char *address, int64_t timeout)
{
	DtmHttpRequest request = {.url = address,.timeout = timeout,.tag = &request};

	return perform(&request);
}

/* One call, and everything its result should be. */
static Outcome
expect(const char *path, int64_t timeout, DtmAnswer answer, bool answered,
	   int status, const char *error)
{
	Outcome		out = get(path[0] == '/' ? url(path) : path, timeout);
	bool		good = out.answer == answer && out.answered == answered &&
		out.status == status &&
		(error[0] == '\0' ? out.error[0] == '\0' : strstr(out.error, error) != NULL);

	ok(good, "%s: %s", path, out.error[0] ? out.error : "no error");
	if (!good)
		printf("# answer %d, answered %d, status %d, error \"%s\"; expected %d, %d, %d, \"%s\"\n",
			   out.answer, out.answered, out.status, out.error,
			   answer, answered, status, error);
	return out;
}

static int
open_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	int			n = 0;

	if (dir == NULL)
		return -1;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int
closed_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t	len = sizeof(addr);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(fd, (struct sockaddr *) &addr, sizeof(addr));
	getsockname(fd, (struct sockaddr *) &addr, &len);
	close(fd);
	return ntohs(addr.sin_port);
}

/* A listener whose queue is full: connecting to it never ends. */
static int
full_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t	len = sizeof(addr);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(fd, (struct sockaddr *) &addr, sizeof(addr));
	listen(fd, 0);
	getsockname(fd, (struct sockaddr *) &addr, &len);
	for (int i = 0; i < 3; i++)
	{
		int			c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		(void) connect(c, (struct sockaddr *) &addr, sizeof(addr));
	}
	return ntohs(addr.sin_port);
}

static void
test_answers(void)
{
	expect("/ok", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect("/status/200?FAILURE", 5000, DTM_ANSWER_FAILURE, true, 200, "HTTP 200: FAILURE");
	expect("/status/200?ONGOING", 5000, DTM_ANSWER_ONGOING, true, 200, "HTTP 200: ONGOING");
	expect("/status/409?no+stock", 5000, DTM_ANSWER_FAILURE, true, 409, "HTTP 409: no stock");
	expect("/status/409?ONGOING", 5000, DTM_ANSWER_ONGOING, true, 409, "HTTP 409");
	expect("/status/425", 5000, DTM_ANSWER_ONGOING, true, 425, "HTTP 425");
	expect("/status/500?oops", 5000, DTM_ANSWER_ERROR, true, 500, "HTTP 500: oops");
	expect("/status/204", 5000, DTM_ANSWER_ERROR, true, 204, "HTTP 204");
	expect("/status/201?fine", 5000, DTM_ANSWER_ERROR, true, 201, "HTTP 201: fine");
	expect("/chunks", 5000, DTM_ANSWER_ONGOING, true, 200, "HTTP 200: ONGOING");
	expect("/trailers", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect("/redirect", 5000, DTM_ANSWER_ERROR, true, 302,
		   "HTTP 302: redirects are not followed, to http://169.254.169.254/latest");
	expect("/gzip", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect("/drip-fast", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
}

static void
test_requests(void)
{
	static const char *const headers[] = {"Content-Type: text/x-test",
		"X-Branch: 01", "Content-Length: 3", "transfer-encoding : chunked",
		"Host: elsewhere", "X-Split: a\r\nX-Smuggled: b", "garbage"};
	DtmHttpRequest request = {.url = url("/echo?gid=a%20b&op=action"),
		.headers = headers,.nheaders = 7,.body = "{\"n\": 1}",.body_size = 8,
	.post = true,.timeout = 5000};
	Outcome		out = perform(&request);
	char	   *big = malloc(10 * 1024 * 1024);

	ok(strstr(out.body, "POST /echo?gid=a%20b&op=action HTTP/1.1") == out.body,
	   "the URL arrives as it is");
	ok(strstr(out.body, "\r\n\r\n{\"n\": 1}") != NULL, "the body arrives");
	ok(strstr(out.body, "Content-Type: text/x-test\r\n") != NULL &&
	   strstr(out.body, "X-Branch: 01\r\n") != NULL &&
	   strstr(out.body, "User-Agent: dtm/1.0\r\n") != NULL, "headers arrive");
	ok(strstr(out.body, "Content-Length: 8\r\n") != NULL &&
	   strstr(out.body, "chunked") == NULL &&
	   strstr(out.body, "elsewhere") == NULL &&
	   strstr(out.body, "Smuggled") == NULL &&
	   strstr(out.body, "garbage") == NULL, "headers of the transport are ours");
	ok(strstr(out.body, "Expect") == NULL && strstr(out.body, "Encoding") == NULL,
	   "no Expect, no compression");

	request.nheaders = 0;
	request.body_size = 0;
	request.body = NULL;
	out = perform(&request);
	ok(strstr(out.body, "POST") == out.body &&
	   strstr(out.body, "Content-Length: 0\r\n") != NULL &&
	   strstr(out.body, "Content-Type") == NULL, "a POST without a body");
	request.post = false;
	out = perform(&request);
	ok(strstr(out.body, "GET") == out.body &&
	   strstr(out.body, "Content-Length") == NULL, "a GET after a POST");

	memset(big, 'x', 10 * 1024 * 1024);
	request.url = url("/size");
	request.post = true;
	request.body = big;
	request.body_size = 10 * 1024 * 1024;
	out = perform(&request);
	ok(strcmp(out.body, "10485760") == 0, "a body of 10 MB");
	request.url = url("/early");
	out = perform(&request);
	ok(out.answer == DTM_ANSWER_ERROR && out.ms < 4000,
	   "an answer before the body was read: %s", out.error);
	free(big);
}

static void
test_no_answer(void)
{
	char		buf[256];
	Outcome		out;

	snprintf(buf, sizeof(buf), "http://127.0.0.1:%d/x", closed_port());
	expect(buf, 5000, DTM_ANSWER_ERROR, false, 0, "connection refused by 127.0.0.1:");
	expect("/close", 5000, DTM_ANSWER_ERROR, false, 0, "closed the connection without an answer");
	expect("/reset", 5000, DTM_ANSWER_ERROR, false, 0, "broke");
	out = expect("/hang", 300, DTM_ANSWER_ERROR, false, 0, "no answer from 127.0.0.1:");
	ok(out.ms >= 299 && out.ms < 450, "the timeout is exact: %ld ms", out.ms);
	ok(out.wakeups < 20, "waiting does not spin: %d wake-ups", out.wakeups);
	snprintf(buf, sizeof(buf), "http://127.0.0.1:%d/x", full_port());
	out = expect(buf, 5000, DTM_ANSWER_ERROR, false, 0, "within 700 ms");
	ok(out.ms >= 699 && out.ms < 900, "connecting has its own timeout: %ld ms", out.ms);
	expect(buf, 200, DTM_ANSWER_ERROR, false, 0, "within 200 ms");

	out = get("http://no-such-host.invalid/x", 1500);
	ok(out.answer == DTM_ANSWER_ERROR && !out.answered && out.ms < 1800 &&
	   (strstr(out.error, "cannot resolve the name of no-such-host.invalid:80") ||
		strstr(out.error, "within")), "an unknown name: %s", out.error);
	expect("http://169.254.169.254/latest", 2000, DTM_ANSWER_ERROR, false, 0,
		   "refused: 169.254.169.254 is a link-local or metadata address");
	expect("http://[::ffff:169.254.169.254]/latest", 2000, DTM_ANSWER_ERROR, false, 0, "refused: ");
	expect("http://0.0.0.0/", 2000, DTM_ANSWER_ERROR, false, 0, "refused: 0.0.0.0");
	expect("ftp://127.0.0.1/", 2000, DTM_ANSWER_ERROR, false, 0, "failed");
	expect("file:///etc/passwd", 2000, DTM_ANSWER_ERROR, false, 0, "failed");
}

static void
test_bad_answers(void)
{
	Outcome		out;

	expect("/shorter", 5000, DTM_ANSWER_ERROR, true, 200, "shorter than it says");
	expect("/refuse-shorter", 5000, DTM_ANSWER_ERROR, true, 409, "shorter than it says");
	expect("/longer", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect("/ok", 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect("/bad-chunks", 5000, DTM_ANSWER_ERROR, true, 200, "chunk");
	expect("/endless", 5000, DTM_ANSWER_ERROR, true, 200, "larger than dtm.max_response_size");
	expect("/gigabyte", 5000, DTM_ANSWER_ERROR, true, 200, "larger than dtm.max_response_size");
	expect("/gigabyte?FAILURE", 5000, DTM_ANSWER_FAILURE, true, 200, "HTTP 200: FAILURE");
	expect("/refuse-much", 5000, DTM_ANSWER_FAILURE, true, 409, "HTTP 409: xxx");
	expect("/one-huge-header", 5000, DTM_ANSWER_ERROR, true, 200, "header");
	expect("/endless-headers", 5000, DTM_ANSWER_ERROR, true, 200, "headers");
	expect("/endless-continue", 5000, DTM_ANSWER_ERROR, true, 100, "headers");
	expect("/cut", 5000, DTM_ANSWER_ERROR, false, 0, "closed the connection");
	expect("/cut-headers", 5000, DTM_ANSWER_ERROR, true, 200, "shorter than it says");
	expect("/not-http", 5000, DTM_ANSWER_ERROR, true, 0, "failed");
	out = expect("/drip-head", 400, DTM_ANSWER_ERROR, true, 0, "no complete answer from");
	ok(out.ms < 550, "drop by drop does not outlive the timeout: %ld ms", out.ms);
	expect("/drip-body", 400, DTM_ANSWER_ERROR, true, 200, "no complete answer from");

	out = get(url("/ugly"), 5000);
	ok(strstr(out.error, "HTTP 500: line one [31mred? \xe4\xbd\xa0\xe5\xa5\xbd \xc3\xbc") == out.error &&
	   strlen(out.error) < 500, "an ugly body becomes one clean line");
}

static void
test_keep_alive(void)
{
	int			before = atoi(get(url("/connections"), 5000).body);
	int			after;
	struct pollfd p = {dtm_http_fd(http), POLLIN, 0};

	for (int i = 0; i < 20; i++)
		get(url("/ok"), 5000);
	after = atoi(get(url("/connections"), 5000).body);
	ok(before == after, "connections are kept: %d, then %d", before, after);

	for (int i = 0; i < 5; i++)
	{
		Outcome		out = get(url("/answer-and-close"), 5000);

		if (out.answer != DTM_ANSWER_SUCCESS)
			ok(false, "a connection that was closed while idle: %s", out.error);
		usleep(20000);
	}
	ok(true, "a connection that was closed while idle is replaced");
	usleep(50000);
	dtm_http_drive(http);
	dtm_http_drive(http);
	ok(poll(&p, 1, 0) == 0, "a closed idle connection does not keep us awake");
	ok(dtm_http_timeout(http) != 0, "and the timer is quiet");
}

static void
test_many(int limit, int timeout, bool patient, const char *what)
{
	static DtmHttpRequest requests[MANY];
	static bool seen[MANY];
	char		address[64];
	char		error[DTM_MAX_ERROR] = "";
	DtmHttpResult result;
	double		start = now_ms();
	int			started = 0,
				ended = 0,
				good = 0;
	DtmHttpSettings settings = {.max_connections = MANY,.max_per_host = limit,
	.max_response = 1024,.connect_timeout = 3000};

	dtm_http_configure(http, &settings);
	memset(seen, 0, sizeof(seen));
	snprintf(address, sizeof(address), "http://127.0.0.1:%d/x", stub_port);
	for (int i = 0; i < MANY; i++)
	{
		requests[i] = (DtmHttpRequest)
		{
			.url = address,.body = "{}",.body_size = 2,.post = true,
			.timeout = timeout,.tag = &requests[i]
		};
		if (!dtm_http_start(http, &requests[i], error))
			break;
		started++;
	}
	while (ended < started && now_ms() - start < 20000)
	{
		wait_and_drive();
		while (dtm_http_result(http, &result))
		{
			int			i = (int) ((DtmHttpRequest *) result.tag - requests);

			ended++;
			good += result.answer == DTM_ANSWER_SUCCESS && !seen[i];
			seen[i] = true;
			if (result.error[0])
				strcpy(error, result.error);
		}
	}
	ok(started == MANY && ended == MANY && good == (patient ? MANY : 0) && dtm_http_in_flight(http) == 0,
	   "%s: %d started, %d good, %.0f ms %s", what, started, good,
	   now_ms() - start, error);
}

static void
test_hanging_neighbour(void)
{
	DtmHttpRequest hang = {.url = url("/hang"),.timeout = 2000};
	char		error[DTM_MAX_ERROR];
	DtmHttpResult result;
	int			good = 0;
	double		start = now_ms();

	for (int i = 0; i < 50; i++)
		dtm_http_start(http, &hang, error);
	for (int i = 0; i < 200; i++)
	{
		DtmHttpRequest request = {.url = url("/ok"),.timeout = 1000,.tag = &good};
		bool		done = false;

		dtm_http_start(http, &request, error);
		while (!done)
		{
			wait_and_drive();
			while (dtm_http_result(http, &result))
			{
				done = result.tag == &good;
				good += done && result.answer == DTM_ANSWER_SUCCESS;
			}
		}
	}
	ok(good == 200 && now_ms() - start < 1900,
	   "200 calls beside 50 that hang: %.0f ms", now_ms() - start);
	while (dtm_http_in_flight(http) > 0)
	{
		wait_and_drive();
		while (dtm_http_result(http, &result))
			;
	}
	ok(now_ms() - start < 2300, "and those end in time");
}

static void
test_tls(const DtmHttpSettings *settings, const char *right, const char *wrong)
{
	DtmHttpSettings tls = *settings;
	char		by_address[64];
	char		by_name[64];

	snprintf(by_address, sizeof(by_address), "https://127.0.0.1:%d/ok", tls_port);
	snprintf(by_name, sizeof(by_name), "https://localhost:%d/ok", tls_port);
	expect(by_address, 5000, DTM_ANSWER_ERROR, false, 0, "certificate");
	tls.ca_file = right;
	dtm_http_configure(http, &tls);
	expect(by_address, 5000, DTM_ANSWER_SUCCESS, true, 200, "");
	expect(by_name, 5000, DTM_ANSWER_ERROR, false, 0, "localhost");	/* not in the certificate */
	tls.ca_file = wrong;
	dtm_http_configure(http, &tls);
	expect(by_address, 5000, DTM_ANSWER_ERROR, false, 0, "certificate");
	tls.ca_file = "/no/such/file";
	dtm_http_configure(http, &tls);
	expect(by_address, 5000, DTM_ANSWER_ERROR, false, 0, "/no/such/file");
	snprintf(by_address, sizeof(by_address), "https://127.0.0.1:%d/ok", port);
	tls.ca_file = right;
	dtm_http_configure(http, &tls);
	expect(by_address, 2000, DTM_ANSWER_ERROR, false, 0, "no connection");	/* speaks no TLS */
	dtm_http_configure(http, settings);
}

static void
test_clean_text(void)
{
	static const struct
	{
		const char *in;
		const char *out;
	}			cases[] = {
		{"plain", "plain"},
		{"  a\r\n\tb\x7f\x01 c  ", "a b c"},
		{"\xc0\xaf|\xe0\x80\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xff",
		"??|???|???|????|?"},
		{"\xc2\x85|\xc3\xa9|\xe2\x82", "??|\xc3\xa9|??"},
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
		{"", ""},
	};
	char		buf[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		dtm_clean_text(buf, sizeof(buf), cases[i].in, strlen(cases[i].in));
		ok(strcmp(buf, cases[i].out) == 0, "clean text %zu", i);
	}
	ok(dtm_clean_text(buf, 6, "ab\xe2\x82\xac" "c", 6) == 5, "as much as there is room for");
	ok(dtm_clean_text(buf, 5, "ab\xe2\x82\xac" "c", 6) == 2, "no character is cut in two");
	ok(dtm_clean_text(buf, 1, "abc", 3) == 0 && buf[0] == '\0', "no room at all");
}

/* In a process of its own, since a hard limit is for ever. */
static void
test_no_descriptors(const DtmHttpSettings *settings)
{
	int			status = -1;
	pid_t		pid = fork();

	if (pid == 0)
	{
		struct rlimit limit = {128, 128};
		DtmHttpRequest request = {.url = url("/late?100"),.timeout = 3000};
		DtmHttpResult result;
		char		error[DTM_MAX_ERROR];
		double		start = now_ms();
		int			started = 0,
					good = 0,
					told = 0,
					last;

		setrlimit(RLIMIT_NOFILE, &limit);
		http = dtm_http_create(settings);
		while ((last = dup(2)) < 127 - 10)
			;
		while (started < 1000 && dtm_http_start(http, &request, error))
			started++;
		while (dtm_http_in_flight(http) > 0)
		{
			wait_and_drive();
			while (dtm_http_result(http, &result))
			{
				good += result.answer == DTM_ANSWER_SUCCESS;
				told += strstr(result.error, "Too many open files") != NULL;
			}
		}
		/* 64 kept back, so 64 start; about ten find a descriptor */
		_exit(started == 64 && strstr(error, "descriptors") != NULL &&
			  good > 5 && good + told == 64 && now_ms() - start < 1000 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "no descriptors left: told at once, the others go on");
}

int
main(int argc, char **argv)
{
	DtmHttpSettings settings = {.max_connections = 100,.max_per_host = 100,
	.max_response = 4096,.connect_timeout = 700};
	int			descriptors;

	if (argc != 6)
		return 2;
	port = atoi(argv[1]);
	tls_port = atoi(argv[2]);
	stub_port = atoi(argv[3]);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);

	test_clean_text();
	ok(dtm_http_global_init(), "global init");
	test_no_descriptors(&settings);
	full_port();
	descriptors = open_descriptors();
	http = dtm_http_create(&settings);
	ok(http != NULL && dtm_http_timeout(http) == -1, "create");
	test_answers();
	test_requests();
	test_no_answer();
	descriptors += 4;			/* the listener of a full queue, and three */
	test_bad_answers();
	test_keep_alive();
	test_hanging_neighbour();
	test_tls(&settings, argv[4], argv[5]);
	ok(longest_drive < 100 || getenv("VALGRIND") != NULL, "driving never blocks: longest %.1f ms", longest_drive);
	test_many(MANY, 5000, true, "a thousand at once");
	test_many(50, 5000, true, "a thousand through fifty connections");
	test_many(MANY, 5000, true, "a thousand again");
	test_many(MANY, 1, false, "a thousand too hasty");

	/* destroyed in the middle of calls */
	for (int i = 0; i < 10; i++)
	{
		DtmHttpRequest request = {.url = url("/hang"),.timeout = 5000};
		char		error[DTM_MAX_ERROR];

		dtm_http_start(http, &request, error);
	}
	wait_and_drive();
	dtm_http_destroy(http);
	ok(open_descriptors() == descriptors, "no descriptor is left: %d, then %d",
	   descriptors, open_descriptors());
	printf("1..%d\n", tests);
	return failures != 0;
}
