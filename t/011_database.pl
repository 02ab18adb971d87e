# Databases with workers are dropped, renamed, moved, copied and closed like any
# other: nobody has to know that dtm is connected to them.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

my $node = dtm_node('database', extension => 0, conf => "dtm.max_databases = 4\n");
$node->append_conf('postgresql.conf', "dtm.launcher_interval = '1h'\n");
$node->restart;

sub databases
{
	return $node->safe_psql('postgres',
		"SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'dtm worker'"
	);
}

sub quickly
{
	my ($sql, $what) = @_;
	my $begin = time;
	my ($rc, $out, $err) = $node->psql('postgres', $sql);

	is($rc, 0, $what) or diag($err);
	cmp_ok(time - $begin, '<', 4, sprintf('... in %.0f ms', (time - $begin) * 1000));
	return;
}

sub workers_are
{
	my ($expected, $what) = @_;
	my $seen;

	ok(wait_until($what, sub { $seen = databases(); $seen eq $expected }, \$seen), $what);
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dtm');
workers_are('shop', 'a database that the launcher had not seen before');

# --- CREATE DATABASE ... TEMPLATE

quickly('CREATE DATABASE copy TEMPLATE shop', 'a database with a worker is a template');
workers_are('copy shop', 'both have workers');

# --- RENAME

my $pid = worker_pid($node, 'dtm worker', 'copy');
quickly('ALTER DATABASE copy RENAME TO outlet', 'it can be renamed');
workers_are('outlet shop', 'and has a worker again');

my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; ALTER DATABASE outlet RENAME TO nowhere');
sleep(0.5);
is(databases(), 'shop', 'no worker while the renaming is not committed');
$session->query_safe('ROLLBACK');
workers_are('outlet shop', 'it comes back when that is rolled back');
$session->quit;

# --- SET TABLESPACE

my $folder = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$folder'");
quickly('ALTER DATABASE outlet SET TABLESPACE elsewhere', 'it can be moved');
workers_are('outlet shop', 'and has a worker again');

# --- statements that fail

my $guest = $node->background_psql('outlet');
$guest->query_safe('SELECT 1');
my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE outlet');
isnt($rc, 0, 'others are connected: no drop');
like($err, qr/There is 1 other session/, 'of dtm, nothing is counted');
workers_are('outlet shop', 'the worker comes back');
$guest->quit;

$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN CREATEDB');
$pid = worker_pid($node, 'dtm worker', 'shop');
for my $sql (
	'DROP DATABASE shop',
	'ALTER DATABASE shop RENAME TO mine',
	'ALTER DATABASE shop SET TABLESPACE pg_default',
	'CREATE DATABASE mine TEMPLATE shop')
{
	($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', 'nobody' ]);
	isnt($rc, 0, "not everybody may $sql");
	is(worker_pid($node, 'dtm worker', 'shop'), $pid, '... nor stop the worker by trying');
}

# --- closed databases

$node->safe_psql('postgres', 'ALTER DATABASE outlet WITH IS_TEMPLATE true');
workers_are('shop', 'a template has no worker');
$node->safe_psql('postgres', 'ALTER DATABASE outlet WITH IS_TEMPLATE false');
workers_are('outlet shop', 'it has one when it is no template any more');
$node->safe_psql('postgres', 'ALTER DATABASE outlet WITH ALLOW_CONNECTIONS false');
workers_are('shop', 'a database without connections has no worker');
$node->safe_psql('postgres', 'ALTER DATABASE outlet WITH ALLOW_CONNECTIONS true');
workers_are('outlet shop', 'it has one when it is open again');

# --- DROP DATABASE

quickly('DROP DATABASE outlet', 'it can be dropped');
workers_are('shop', 'its worker is gone');
for my $i (1 .. 6)
{
	# At once, while the worker is on its way.
	$node->safe_psql('postgres', 'CREATE DATABASE brief TEMPLATE shop');
	sleep(0.02 * $i);
	$node->safe_psql('postgres', 'DROP DATABASE brief');
}
pass('dropped while its worker was starting');
workers_are('shop', 'the slots of dropped databases are free again');

# --- limits

my $log = -s $node->logfile;
$node->safe_psql('postgres', "CREATE DATABASE shop$_ TEMPLATE shop") for 2 .. 5;
my $hint = wait_until('the hint',
	sub { slurp_file($node->logfile, $log) =~ /Increase "dtm.max_databases"/ });
ok($hint, 'one database too many: the log says what to set');
wait_until('four workers', sub { () = databases() =~ /shop/g; scalar(split(/ /, databases())) == 4 });
my ($lucky) = (split(/ /, databases()))[0];
$node->safe_psql('postgres', "DROP DATABASE $lucky");
wait_until('four workers again', sub { scalar(split(/ /, databases())) == 4 });
is(scalar(split(/ /, databases())), 4, 'one is dropped: another gets its place');

# A DROP DATABASE of somebody else's is not hindered either.
$node->safe_psql('postgres', 'CREATE DATABASE plain');
quickly('DROP DATABASE plain', 'a database without dtm can be dropped as ever');
$node->stop;

# --- several workers for one database, and too few slots for them

$node->append_conf('postgresql.conf', "dtm.workers_per_database = 3\n");
$node->start;
ok( wait_for($node,
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND datname = 'shop5'",
		'3'),
	'three workers for each database');
$node->append_conf('postgresql.conf', "max_worker_processes = 3\n");
$log = -s $node->logfile;
$node->restart;
ok( wait_until('the hint',
		sub { slurp_file($node->logfile, $log) =~ /Increase "max_worker_processes"/ }),
	'too few worker slots: the log says what to set');
$node->stop;

done_testing();
