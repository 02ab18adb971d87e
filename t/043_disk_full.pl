# A full disk: what was begun stays, what cannot be written is tried again, and
# when there is space again everything goes on.
#
# The disk is full because a small library, loaded before the server's own,
# refuses to let any file below the data directory grow while a certain file
# exists. That works without rights and hits exactly what a full disk would.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $full = "$dir/full";
my $library = "$dir/full.so";

append_to_file("$dir/full.c", do { local $/; <DATA> });
my $cc = $ENV{CC} || 'cc';
plan skip_all => "no compiler $cc"
  if system("$cc -shared -fPIC -O1 -o $library $dir/full.c -ldl >$dir/cc.log 2>&1") != 0;
plan skip_all => 'a server with AddressSanitizer wants to be first'
  if ($ENV{LD_PRELOAD} || '') ne '';

sub fill
{
	append_to_file($full, '');
	return;
}

sub free_space
{
	unlink($full) or die "cannot remove $full: $!";
	return;
}

# The server as a whole, not this test, is where the disk is full.
my $node = dtm_node('disk_full', start => 0, conf => <<'CONF');
dtm.retry_interval = '100ms'
autovacuum = off
CONF
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{DTM_TEST_FULL} = $full;
	local $ENV{DTM_TEST_FULL_BELOW} = $node->data_dir;
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
my $worker = wait_worker($node);
my $stub = DtmTest::Stub->new;

sub sql { return $node->safe_psql('postgres', @_); }

fill();
my ($rc, $out, $err) = $node->psql('postgres', 'CREATE TABLE t AS SELECT n, repeat(n::text, 100) FROM generate_series(1, 10000) n');
free_space();
plan skip_all => "the disk cannot be made full here: $err" unless $err =~ /No space left on device/;

# Sagas are under way while the disk fills up: their results cannot be written.
# (One row of dtm.op for each, and there is room for few.)

my $long = 'x' x 900;
$stub->program('/held', { hold => 1, body => $long, status => 500 });
$stub->program('/held/2', { status => 200 });
sql(sprintf(<<'SQL', $stub->url('/held'), $stub->url('/held'), $stub->url('/held/2')));
SELECT count(dtm.saga('under-way-' || n, ARRAY[dtm.step('%s', '%s'), dtm.step('%s')], request_timeout => '100s', retry_interval => '300ms'))
FROM generate_series(1, 60) n
SQL
$stub->wait_calls('/held', 60);
fill();
$stub->program('/held', { status => 200 });
$stub->release('/held');
wait_until('an error of the worker', sub { slurp_file($node->logfile) =~ /dtm worker ERROR:  could not extend file.*No space left on device/ });
is(worker_pid($node), $worker, 'the worker lives on');

# What cannot be stored is an error, and is not begun.

($rc, $out, $err) = $node->psql('postgres', "SELECT count(dtm.saga('no-room-' || n, ARRAY[dtm.step('" . $stub->url('/never') . "', payload => to_json(repeat('y', 3000) || n)::text)])) FROM generate_series(1, 300) n");
isnt($rc, 0, 'what cannot be stored is an error');
like($err, qr/No space left on device/, 'that says why');

# Nothing new has to grow for those that know what to do.

is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'under-way-%')), '60', 'the state can be read');

free_space();
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'under-way-%' AND status = 'succeed'), '60');
is(worker_pid($node), $worker, 'with space again they all go on, with the same worker');
is_deeply([ grep { $_->{path} eq '/never' } @{ $stub->journal } ], [], 'what was not begun has called nobody');
is(sql(q(SELECT count(*) FROM dtm.branches WHERE gid LIKE 'under-way-%' AND op = 'action' AND status = 'succeed')), '120', 'nothing is lost');

# An executor whose branch's effect finds no space: an error of the branch, then
# retried, and there once.

sql(<<'SQL');
CREATE TABLE effect (gid text, filler text);
ALTER TABLE effect ALTER filler SET STORAGE PLAIN;
CREATE FUNCTION fills(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.effect SELECT gid, repeat('z', 7000) FROM dtm.current_branch() $$;
INSERT INTO effect VALUES ('first', repeat('z', 7000));
-- Room for the error itself.
INSERT INTO dtm.op SELECT -n, 0, 0, 'S', false, 1, 0, 0 FROM generate_series(1, 1000) n;
DELETE FROM dtm.op WHERE id < 0;
VACUUM (TRUNCATE off) dtm.op;
SQL
$stub->program('/wait', { hold => 1 });
sql("SELECT dtm.saga('effect', ARRAY[dtm.step('" . $stub->url('/wait') . "'), dtm.step('sql:public.fills')], retry_interval => '200ms', request_timeout => '100s')");
$stub->wait_calls('/wait', 1);
fill();
$stub->release('/wait');
wait_for($node, q(SELECT last_error ~ '^53100: .*No space left' FROM dtm.branches WHERE gid = 'effect' AND branch_id = '02' AND op = 'action'));
free_space();
wait_status($node, 'effect', 'succeed');
is(sql(q(SELECT count(*) FROM effect WHERE gid = 'effect')), '1', 'the effect is there once');

# No space for the log either: the server stops, as PostgreSQL does. When there
# is space, it comes back, and what was acknowledged goes on.

$stub->program('/held', { hold => 1 });
sql("SELECT count(dtm.saga('wal-' || n, ARRAY[dtm.step('" . $stub->url('/held') . "')], request_timeout => '100s')) FROM generate_series(1, 20) n");
$stub->wait_calls('/held', 20);
my $acknowledged = 0;
fill();
for my $n (1 .. 2000)
{
	my ($rc) = $node->psql('postgres', "SELECT pg_switch_wal(); SELECT dtm.saga('wal-ack-$n', ARRAY[dtm.step('" . $stub->url('/a') . "')])");
	last if $rc != 0;
	$acknowledged = $n;
}
like(slurp_file($node->logfile), qr/PANIC:  .*No space left on device/, "the log has no space (after $acknowledged sagas)");
free_space();
$stub->program('/held', { status => 200 });
$stub->release('/held');
if (!$node->poll_query_until('postgres', 'SELECT 1', '1'))
{
	kill_postmaster($node);
	$node->start;
}
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'wal-%' AND gid NOT LIKE 'wal-ack-%' AND status = 'succeed'), '20');
wait_for($node, "SELECT count(*) >= $acknowledged FROM dtm.transactions WHERE gid LIKE 'wal-ack-%' AND status = 'succeed'");
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed'))), '0', 'after the crash everything has gone on');

$node->stop;
done_testing();

__DATA__
/*
 * full.c: the disk is full, for whatever would let a file below a directory
 * grow, as long as a certain file exists.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int
is_full(int fd, off_t end)
{
	const char *flag = getenv("DTM_TEST_FULL");
	const char *below = getenv("DTM_TEST_FULL_BELOW");
	char		link[64];
	char		path[PATH_MAX];
	struct stat st;
	ssize_t		length;
	int			saved = errno;
	int			full = 0;

	if (flag != NULL && below != NULL && access(flag, F_OK) == 0)
	{
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path) - 1);
		if (length > 0)
		{
			path[length] = '\0';
			full = strncmp(path, below, strlen(below)) == 0 &&
				(strstr(path, "/base/") != NULL || strstr(path, "/pg_wal/") != NULL) &&
				fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && end > st.st_size;
		}
	}
	errno = saved;
	return full;
}

#define NEXT(name) \
	static __typeof__(name) *next; \
	if (next == NULL) \
		next = (__typeof__(next)) dlsym(RTLD_NEXT, #name)
#define REFUSE_IF_FULL(fd, end, result) \
	do { \
		if (is_full((fd), (end))) \
		{ \
			errno = ENOSPC; \
			return (result); \
		} \
	} while (0)

static off_t
total(const struct iovec *iov, int n)
{
	off_t		size = 0;

	for (int i = 0; i < n; i++)
		size += iov[i].iov_len;
	return size;
}

ssize_t
pwrite(int fd, const void *buf, size_t size, off_t offset)
{
	NEXT(pwrite);
	REFUSE_IF_FULL(fd, offset + (off_t) size, -1);
	return next(fd, buf, size, offset);
}

ssize_t
pwrite64(int fd, const void *buf, size_t size, off64_t offset)
{
	NEXT(pwrite64);
	REFUSE_IF_FULL(fd, offset + (off_t) size, -1);
	return next(fd, buf, size, offset);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	NEXT(pwritev);
	REFUSE_IF_FULL(fd, offset + total(iov, n), -1);
	return next(fd, iov, n, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	NEXT(pwritev64);
	REFUSE_IF_FULL(fd, offset + total(iov, n), -1);
	return next(fd, iov, n, offset);
}

ssize_t
write(int fd, const void *buf, size_t size)
{
	NEXT(write);
	REFUSE_IF_FULL(fd, lseek(fd, 0, SEEK_CUR) + (off_t) size, -1);
	return next(fd, buf, size);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	NEXT(posix_fallocate);
	if (is_full(fd, offset + size))
		return ENOSPC;
	return next(fd, offset, size);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	NEXT(posix_fallocate64);
	if (is_full(fd, offset + size))
		return ENOSPC;
	return next(fd, offset, size);
}
