/*
 * stub.c: a branch service that says yes, as fast as one thread can.
 *
 *   stub [--port N] [--delay-ms N] [--hang] [--log FILE]
 *
 * Prints the port it listens on (127.0.0.1; --port 0, the default, is any free
 * one), reads each request with its body, and answers 200. --delay-ms answers
 * later, --hang never. --log writes, for each request, when its first byte came
 * (µs of the wall clock) and its request line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER	(64 * 1024)
#define EVENTS	256

static const char answer[] =
"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

typedef struct Conn
{
	int			fd;
	bool		used;
	bool		in_body;
	size_t		body_left;
	size_t		have;			/* bytes of an unfinished head */
	int64_t		first_byte;		/* of the request being read */
	uint32_t	generation;		/* a late answer must not go to a successor */
	char	   *head;
} Conn;

typedef struct Late
{
	int64_t		due;
	int			fd;
	uint32_t	generation;
} Late;

static Conn *conns;
static int	nconns;
static int64_t delay;			/* µs */
static bool hang;
static FILE *log_file;

/* The delay is the same for all, so a queue is a heap. */
static Late *late;
static size_t late_room,
			late_first,
			late_end;

static int	listen_on(int port);
static void accept_all(int epoll, int listener);
static void read_some(Conn *c);
static bool take(Conn *c, char *data, size_t size);
static void request_done(Conn *c);
static void send_answer(int fd);
static void answer_late_ones(int64_t now);
static void close_conn(Conn *c);
static int64_t clock_us(clockid_t id);

int
main(int argc, char **argv)
{
	int			port = 0;
	int			listener,
				epoll;
	struct rlimit limit;
	struct epoll_event event = {.events = EPOLLIN};
	struct epoll_event events[EVENTS];

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--hang") == 0)
			hang = true;
		else if (i + 1 < argc && strcmp(argv[i], "--port") == 0)
			port = atoi(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--delay-ms") == 0)
			delay = atoll(argv[++i]) * 1000;
		else if (i + 1 < argc && strcmp(argv[i], "--log") == 0)
			log_file = fopen(argv[++i], "w");
		else
		{
			fprintf(stderr, "usage: stub [--port N] [--delay-ms N] [--hang] [--log FILE]\n");
			return 2;
		}
	}

	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		(void) setrlimit(RLIMIT_NOFILE, &limit);
	}
	listener = listen_on(port);
	epoll = epoll_create1(0);
	event.data.fd = listener;
	if (listener < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
	{
		perror("stub");
		return 1;
	}

	for (;;)
	{
		int			wait = -1;
		int			n;

		if (late_first < late_end)
		{
			int64_t		left = late[late_first].due - clock_us(CLOCK_MONOTONIC);

			wait = left <= 0 ? 0 : (int) ((left + 999) / 1000);
		}
		n = epoll_wait(epoll, events, EVENTS, wait);
		for (int i = 0; i < n; i++)
		{
			if (events[i].data.fd == listener)
				accept_all(epoll, listener);
			else if (conns[events[i].data.fd].used)
				read_some(&conns[events[i].data.fd]);
		}
		if (late_first < late_end)
			answer_late_ones(clock_us(CLOCK_MONOTONIC));
	}
}

static int
listen_on(int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t	len = sizeof(addr);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int			on = 1;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons(port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *) &addr, sizeof(addr)) != 0 ||
		listen(fd, 4096) != 0 ||
		getsockname(fd, (struct sockaddr *) &addr, &len) != 0)
		return -1;
	printf("%d\n", ntohs(addr.sin_port));
	fflush(stdout);
	return fd;
}

static void
accept_all(int epoll, int listener)
{
	int			fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
	{
		struct epoll_event event = {.events = EPOLLIN,.data.fd = fd};
		int			on = 1;
		Conn	   *c;

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (fd >= nconns)
		{
			int			room = (fd + 1) * 2;

			conns = realloc(conns, room * sizeof(Conn));
			memset(conns + nconns, 0, (room - nconns) * sizeof(Conn));
			nconns = room;
		}
		c = &conns[fd];
		c->fd = fd;
		c->used = true;
		c->in_body = false;
		c->have = 0;
		c->first_byte = 0;
		c->generation++;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
			close_conn(c);
	}
}

static void
read_some(Conn *c)
{
	static char buffer[BUFFER];
	ssize_t		n = read(c->fd, buffer, sizeof(buffer));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || !take(c, buffer, n))
		close_conn(c);
}

/* Take in what came; false: this is no HTTP that we know. */
static bool
take(Conn *c, char *data, size_t size)
{
	while (size > 0)
	{
		char	   *head = data;
		char	   *end;
		size_t		head_size = size;

		if (c->first_byte == 0)
			c->first_byte = log_file ? clock_us(CLOCK_REALTIME) : 1;
		if (c->in_body)
		{
			size_t		n = size < c->body_left ? size : c->body_left;

			data += n;
			size -= n;
			c->body_left -= n;
			if (c->body_left == 0)
				request_done(c);
			continue;
		}

		if (c->have > 0)
		{
			/* the rest of a head that came in pieces */
			if (c->have + size > BUFFER)
				return false;
			memcpy(c->head + c->have, data, size);
			head = c->head;
			head_size = c->have + size;
		}
		end = memmem(head, head_size, "\r\n\r\n", 4);
		if (end == NULL)
		{
			if (head_size > BUFFER)
				return false;
			if (c->head == NULL)
				c->head = malloc(BUFFER);
			if (head == data)
				memcpy(c->head, data, size);
			c->have = head_size;
			return true;
		}
		data += (end + 4 - head) - c->have;
		size -= (end + 4 - head) - c->have;
		c->have = 0;

		*end = '\0';
		c->body_left = 0;
		for (char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n'))
		{
			line++;
			if (strncasecmp(line, "Content-Length:", 15) == 0)
				c->body_left = strtoul(line + 15, NULL, 10);
		}
		if (log_file)
			fprintf(log_file, "%lld %.*s\n", (long long) c->first_byte,
					(int) strcspn(head, "\r\n"), head);
		c->in_body = true;
		if (c->body_left == 0)
			request_done(c);
	}
	return true;
}

static void
request_done(Conn *c)
{
	c->in_body = false;
	c->first_byte = 0;
	if (log_file)
		fflush(log_file);
	if (hang)
		return;
	if (delay == 0)
	{
		send_answer(c->fd);
		return;
	}
	if (late_end == late_room)
	{
		/* Make room at the front, or more of it. */
		if (late_first > late_room / 2)
		{
			memmove(late, late + late_first, (late_end - late_first) * sizeof(Late));
			late_end -= late_first;
			late_first = 0;
		}
		else
		{
			late_room = late_room * 2 + 1024;
			late = realloc(late, late_room * sizeof(Late));
		}
	}
	late[late_end++] = (Late)
	{
		clock_us(CLOCK_MONOTONIC) + delay, c->fd, c->generation
	};
}

static void
send_answer(int fd)
{
	/* So short that a socket that has read a request always takes it. */
	if (write(fd, answer, sizeof(answer) - 1) < 0 && errno != EAGAIN)
		close_conn(&conns[fd]);
}

static void
answer_late_ones(int64_t now)
{
	while (late_first < late_end && late[late_first].due <= now)
	{
		Late	   *l = &late[late_first++];

		if (conns[l->fd].used && conns[l->fd].generation == l->generation)
			send_answer(l->fd);
	}
}

static void
close_conn(Conn *c)
{
	if (c->used)
		close(c->fd);
	c->used = false;
}

static int64_t
clock_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
