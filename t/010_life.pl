# The life of the launcher and of a worker: the extension comes and goes, and
# processes and servers die, in every order.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

# Looking at the databases once an hour: what is seen here is seen at once.
my $node = dtm_node(
	'life',
	extension => 0,
	conf => "max_prepared_transactions = 5\n");
$node->append_conf('postgresql.conf', "dtm.launcher_interval = '1h'\n");
$node->restart;

sub workers
{
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker'");
}

# Long enough for a worker to come, if one wanted to.
sub no_worker
{
	my ($what) = @_;
	my $end = time + 0.5;
	my $seen = 0;

	while (time < $end)
	{
		$seen ||= workers();
		sleep(0.05);
	}
	is($seen, 0, $what);
	return;
}

ok( wait_until('the launcher', sub { worker_pid($node, 'dtm launcher') }),
	'a preloaded library has a launcher');
no_worker('no worker without the extension');

# --- CREATE EXTENSION

$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION dtm; ROLLBACK');
no_worker('no worker when CREATE EXTENSION is rolled back');

my $begin = time;
$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
my $first = wait_worker($node);
my $took = time - $begin;
ok($first, 'CREATE EXTENSION brings a worker');
cmp_ok($took, '<', 5, sprintf('soon: %.0f ms', $took * 1000));

$node->safe_psql('postgres', 'BEGIN; SAVEPOINT s; DROP EXTENSION dtm; ROLLBACK TO s; COMMIT');
ok(wait_worker($node, $first), 'another one after a drop that was rolled back to a savepoint');

# --- SIGHUP

my $pid = wait_worker($node);
$node->reload;
sleep(0.3);
is(wait_worker($node), $pid, 'a reload leaves the worker alone');

# --- the processes end

$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_worker($node, $pid), 'a terminated worker is replaced');

$pid = wait_worker($node);
my $launcher = worker_pid($node, 'dtm launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
wait_until('another launcher',
	sub { my $p = worker_pid($node, 'dtm launcher'); $p && $p != $launcher });
sleep(0.5);
is(workers(), 1, 'a new launcher does not start a second worker');
is(worker_pid($node), $pid, '... and leaves the first alone');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_worker($node, $pid), 'a worker that an earlier launcher started is replaced, too');

$pid = wait_worker($node);
kill_process($node, $pid);
ok(wait_worker($node, $pid), 'a crash of the worker restarts the server, and then the worker');

kill_postmaster($node);
$node->start;
ok(wait_worker($node), 'the worker comes back with the server');

# --- DROP EXTENSION

my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; DROP EXTENSION dtm');
no_worker('no worker while a drop is not committed');
$begin = time;
$session->query_safe('ROLLBACK');
ok(wait_worker($node), 'it comes back when the drop is rolled back');
cmp_ok(time - $begin, '<', 5, sprintf('soon: %.0f ms', (time - $begin) * 1000));

$session->query_safe('BEGIN; DROP EXTENSION dtm');
$session->quit;
ok(wait_worker($node), 'it comes back when the dropping session goes away');

$session = $node->background_psql('postgres');
my $backend = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN; DROP EXTENSION dtm');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($backend)");
ok(wait_worker($node), 'it comes back when the dropping session is terminated');
eval { $session->quit };

$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
$pid = wait_worker($node);
my ($rc, $out, $err) = $node->psql('postgres', 'DROP EXTENSION dtm', extra_params => [ '-U', 'nobody' ]);
isnt($rc, 0, 'not everybody may drop the extension');
is(worker_pid($node), $pid, '... nor stop the worker by trying');

$node->safe_psql('postgres', 'CREATE VIEW mine AS SELECT id FROM dtm.trans');
($rc, $out, $err) = $node->psql('postgres', 'DROP EXTENSION dtm');
isnt($rc, 0, 'others depend on the extension: no drop');
ok(wait_worker($node), 'the worker comes back');
$node->safe_psql('postgres', 'DROP VIEW mine');

$node->safe_psql('postgres', 'DROP EXTENSION dtm');
no_worker('no worker after DROP EXTENSION');

$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
ok(wait_worker($node), 'created once more');
$node->safe_psql('postgres', 'DROP SCHEMA dtm CASCADE');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'dtm'"),
	0, 'DROP SCHEMA takes the extension');
no_worker('... and the worker');

# A drop must not wait for a worker, nor a worker for a drop.
$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
for my $i (1 .. 10)
{
	$node->safe_psql('postgres', "BEGIN; DROP EXTENSION dtm; CREATE EXTENSION dtm; COMMIT");
}
ok(wait_worker($node), 'dropped and created ten times, as fast as it goes');
is(workers(), 1, 'one worker');

# The launcher hears of all this while it probes, starts and buries.
my $slowest = 0;
for my $i (0 .. 19)
{
	$node->safe_psql('postgres', 'DROP EXTENSION dtm');
	sleep(0.002 * $i);
	$begin = time;
	$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
	wait_worker($node) or last;
	$slowest = time - $begin if time - $begin > $slowest;
}
cmp_ok($slowest, '<', 5, sprintf('created twenty times, the slowest took %.0f ms', $slowest * 1000));

# --- prepared transactions

$node->safe_psql('postgres', 'DROP EXTENSION dtm');
$node->safe_psql('postgres', "BEGIN; CREATE EXTENSION dtm; PREPARE TRANSACTION 'create'");
no_worker('no worker when CREATE EXTENSION is only prepared');
$node->safe_psql('postgres', "COMMIT PREPARED 'create'");
ok(wait_worker($node), 'COMMIT PREPARED brings it');
$node->safe_psql('postgres', "BEGIN; DROP EXTENSION dtm; PREPARE TRANSACTION 'drop'");
$node->safe_psql('postgres', "COMMIT PREPARED 'drop'");
wait_until('the end of the worker', sub { workers() == 0 });
no_worker('no worker when a prepared drop is committed');
$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
ok(wait_worker($node), 'created again');

# --- ALTER EXTENSION

$node->safe_psql('postgres', 'ALTER EXTENSION dtm UPDATE');
$pid = wait_worker($node);
ok($pid, 'a worker after ALTER EXTENSION UPDATE');

# Somebody has replaced the library, but not updated yet.
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'dtm'");
my $log = -s $node->logfile;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok( wait_until('the hint',
		sub { slurp_file($node->logfile, $log) =~ /Run ALTER EXTENSION dtm UPDATE/ }),
	'the log says that the SQL is not that of the library');
no_worker('... and no worker runs');
$node->safe_psql('postgres',
	"UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'dtm'; ALTER EXTENSION dtm UPDATE");
ok(wait_worker($node), 'a worker when they fit again');

# --- shutdown

for my $mode (qw(fast smart immediate))
{
	$begin = time;
	$node->stop($mode);
	cmp_ok(time - $begin, '<', 10, sprintf('%s shutdown takes %.1f s', $mode, time - $begin));
	$node->start;
	ok(wait_worker($node), "a worker after $mode shutdown");
}

# At any moment: while everything is still starting.
for my $delay (map { $_ * 0.02 } 0 .. 9)
{
	for my $mode (qw(fast immediate))
	{
		$node->stop('fast');
		$node->start;
		sleep($delay);
		$begin = time;
		$node->stop($mode);
		$took = time - $begin;
		fail("$mode shutdown after $delay s takes $took s") if $took > 10;
		$node->start;
	}
}
ok(wait_worker($node), 'a worker after shutdowns at any moment');

$log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|could not unlink|leaked/, 'nothing bad in the log');

$node->stop;
done_testing();
