# The same life events, while transactions are under way: no statement waits
# for a branch, and no transaction is lost.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

my $node = dtm_node('busy', extension => 0, conf => "max_prepared_transactions = 5\n");
$node->append_conf('postgresql.conf',
	"dtm.launcher_interval = '1h'\ndtm.retry_interval = '200ms'\ndtm.safety_interval = '1h'\n");
$node->restart;

# A shop whose branch takes as long as its payload says, and leaves a row.
my $shop = <<'SQL';
CREATE EXTENSION dtm;
CREATE TABLE effect (gid text);
CREATE FUNCTION work(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep((p ->> 'seconds')::float);
	INSERT INTO public.effect SELECT gid FROM dtm.current_branch();
END $$;
SQL

sub new_shop
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, $shop);
	return;
}

sub saga
{
	my ($db, $gid, $seconds) = @_;
	my $sql = saga_text($gid, $seconds);

	return $node->safe_psql($db, $sql);
}

sub saga_text
{
	my ($gid, $seconds) = @_;

	return "SELECT dtm.saga('$gid', ARRAY[dtm.step('sql:public.work', '', '{\"seconds\": $seconds}')], request_timeout => '60s')";
}

sub busy
{
	my ($db) = @_;

	return wait_until("a busy executor in $db",
		sub {
			return $node->safe_psql('postgres',
				"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND datname = '$db' AND wait_event = 'PgSleep'"
			) > 0;
		});
}

sub quickly
{
	my ($db, $sql) = @_;
	my $begin = time;
	my ($rc, $out, $err) = $node->psql($db, $sql);

	is($rc, 0, $sql) or diag($err);
	cmp_ok(time - $begin, '<', 5, sprintf('... in %.0f ms', (time - $begin) * 1000));
	return;
}

new_shop('shop');
saga('shop', 'quick', 0);
wait_status($node, 'quick', 'succeed', dbname => 'shop');
is($node->safe_psql('shop', 'SELECT count(*) FROM effect'), 1, 'a branch works');

# --- stopped in the middle of a branch, and taken up again

saga('shop', 'copied', 3);
busy('shop');
quickly('postgres', 'CREATE DATABASE copy TEMPLATE shop');
ok(wait_status($node, 'copied', 'succeed', dbname => 'shop'), 'the saga ends all the same');
is($node->safe_psql('shop', "SELECT count(*) FROM effect WHERE gid = 'copied'"), 1, 'done once');
is($node->safe_psql('copy', "SELECT dtm.status('copied')"), 'submitted',
	'the copy has it, too, and does not run it');
is($node->safe_psql('copy', "SELECT count(*) FROM effect WHERE gid = 'copied'"), 0, '... at all');

saga('shop', 'renamed', 3);
busy('shop');
quickly('postgres', 'ALTER DATABASE shop RENAME TO store');
ok(wait_status($node, 'renamed', 'succeed', dbname => 'store'), 'a saga outlives a new name');
is($node->safe_psql('store', "SELECT count(*) FROM effect WHERE gid = 'renamed'"), 1, 'done once');

saga('store', 'kept', 3);
busy('store');
quickly('store', 'BEGIN; DROP EXTENSION dtm CASCADE; ROLLBACK');
ok(wait_status($node, 'kept', 'succeed', dbname => 'store'), 'a saga outlives a drop that was rolled back');
is($node->safe_psql('store', "SELECT count(*) FROM effect WHERE gid = 'kept'"), 1, 'done once');

# --- the worker waits for a lock: for a drop, that must not matter

my $session = $node->background_psql('store');
$session->query_safe('BEGIN; LOCK TABLE dtm.trans, dtm.op IN ACCESS EXCLUSIVE MODE');
sleep(0.3);
$session->query_safe('DROP EXTENSION dtm');
$session->query_safe('ROLLBACK');
ok(wait_worker($node, undef, 'store'), 'a worker after locks, drop and rollback');
$session->quit;

# --- begun by a transaction that is prepared

$node->safe_psql('store', 'BEGIN; ' . saga_text('prepared', 0) . "; PREPARE TRANSACTION 'p'");
sleep(0.5);
is($node->safe_psql('store', "SELECT count(*) FROM effect WHERE gid = 'prepared'"),
	0, 'a prepared transaction calls nobody');
my $begin = time;
$node->safe_psql('store', "COMMIT PREPARED 'p'");
ok(wait_status($node, 'prepared', 'succeed', dbname => 'store'), 'COMMIT PREPARED starts its saga');
cmp_ok(time - $begin, '<', 10, sprintf('... in %.0f ms', (time - $begin) * 1000));

$node->safe_psql('store', 'BEGIN; ' . saga_text('refused', 0) . "; PREPARE TRANSACTION 'p'");
$node->safe_psql('store', "ROLLBACK PREPARED 'p'");
sleep(0.3);
is($node->safe_psql('store', "SELECT count(*) FROM effect WHERE gid = 'refused'"),
	0, 'ROLLBACK PREPARED: nobody is called');

# --- taken away in the middle of a branch

saga('store', 'lost', 60);
busy('store');
quickly('store', 'DROP EXTENSION dtm CASCADE');
quickly('store', 'DROP TABLE effect');
quickly('store', 'DROP FUNCTION work');
quickly('store', $_) for split(/;\n(?=C)/, $shop);
saga('store', 'again', 60);
busy('store');
quickly('postgres', 'DROP DATABASE store');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor'"),
	0, 'no executor is left');
$node->safe_psql('postgres', 'DROP DATABASE copy');

# --- shutdown in the middle of branches

for my $mode (qw(fast smart immediate))
{
	new_shop($mode);
	saga($mode, $mode, 3);
	busy($mode);
	$begin = time;
	$node->stop($mode);
	cmp_ok(time - $begin, '<', 10, sprintf('%s shutdown takes %.1f s', $mode, time - $begin));
	$node->start;
	ok(wait_status($node, $mode, 'succeed', dbname => $mode), 'the saga ends after the restart');
	is($node->safe_psql($mode, 'SELECT count(*) FROM effect'), 1, 'done once');
	$node->safe_psql('postgres', "DROP DATABASE $mode");
}

# --- a worker that keeps failing is started less and less often

new_shop('broken');
wait_worker($node, undef, 'broken');
my $log = -s $node->logfile;
$node->safe_psql('broken', 'ALTER TABLE dtm.trans RENAME TO lost');
my $pid = worker_pid($node, 'dtm worker', 'broken');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
sleep(5);
my $starts = () = slurp_file($node->logfile, $log) =~ /"dtm worker".*exited with exit code 1/g;
cmp_ok($starts, '>=', 2, "it is tried again ($starts)");
cmp_ok($starts, '<=', 5, '... with growing pauses');
$node->safe_psql('broken', 'ALTER TABLE dtm.lost RENAME TO trans');
saga('broken', 'mended', 0);
ok(wait_status($node, 'mended', 'succeed', dbname => 'broken'), 'mended, it works');

$log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|leaked|terminated by signal (6|11)/, 'nothing bad in the log');
$node->stop;
done_testing();
