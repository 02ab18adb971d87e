# Addresses that lead nowhere, and servers with every bad manner: each is an
# error that can be read, or a retry that can be seen, and delays nobody else.
use strict;
use warnings FATAL => 'all';

use File::Basename;
use IO::Socket::INET;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('bad_urls', conf => <<'CONF');
dtm.retry_interval = '50ms'
dtm.max_response_size = '64kB'
dtm.circuit_failures = 1000
CONF
my $worker = worker_pid($node);
my $stub = DtmTest::Stub->new;

# It ends when its input does, that is, with us at the latest.
my $pid = open2(my $out, my $in, 'python3', '-u', dirname(__FILE__) . '/../test/http/hostile.py');
my $hostile = 'http://127.0.0.1:' . (<$out> =~ /^(\d+)/)[0];

sub sql { return $node->safe_psql('postgres', @_); }

# Nobody listens here (any more) ...
my $gone = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
my $refusing = 'http://127.0.0.1:' . $gone->sockport;
close($gone);

# ... and here somebody does, but never says a word.
my $silent = IO::Socket::INET->new(Listen => 1024, LocalAddr => '127.0.0.1') or die;
my $dead = 'http://127.0.0.1:' . $silent->sockport;

# Each as the second step of a saga whose first step is then undone.

my %bad = (
	"$refusing/x" => qr/^connection refused by 127\.0\.0\.1:/,
	'http://no-such-host.invalid/x' => qr/^(cannot resolve the name of no-such-host\.invalid|no connection to no-such-host)/,
	"$dead/x" => qr/^no answer from 127\.0\.0\.1:\d+ within 600 ms$/,
	"$hostile/hang" => qr/^no answer from .* within 600 ms$/,
	"$hostile/drip-head" => qr/^no (complete )?answer from .* within 600 ms$/,
	"$hostile/drip-body" => qr/^no complete answer from .* within 600 ms$/,
	"$hostile/gigabyte" => qr/^response larger than dtm\.max_response_size/,
	"$hostile/endless" => qr/^response larger than dtm\.max_response_size/,
	"$hostile/shorter" => qr/^answer of .* is shorter than it says$/,
	"$hostile/refuse-shorter" => qr/^answer of .* is shorter than it says$/,
	"$hostile/redirect" => qr!^HTTP 302: redirects are not followed, to http://169\.254\.169\.254/latest$!,
	"$hostile/status/500?no+luck" => qr/^HTTP 500: no luck/,
	"$hostile/status/404" => qr/^HTTP 404: gid=/,
	"$hostile/status/201" => qr/^HTTP 201: gid=/,
	"$hostile/status/204" => qr/^HTTP 204$/,
	"$hostile/bad-chunks" => qr/./,
	"$hostile/one-huge-header" => qr/header/,
	"$hostile/endless-headers" => qr/header/,
	"$hostile/endless-continue" => qr/./,
	"$hostile/close" => qr/closed the connection without an answer|broke/,
	"$hostile/reset" => qr/broke|without an answer/,
	"$hostile/cut" => qr/./,
	"$hostile/cut-headers" => qr/./,
	"$hostile/not-http" => qr/./,
	"$hostile/ugly" => qr/^HTTP 500: /,
	"$hostile/gzip" => undef,
	"$hostile/longer" => undef,
	"$hostile/trailers" => undef);
my @urls = sort keys %bad;

sub memory
{
	return (slurp_file("/proc/$worker/status") =~ /VmHWM:\s+(\d+) kB/)[0] || 0;
}

my $before = memory();
sql(join('; ',
		map {
			my $url = $urls[$_];
			"SELECT dtm.saga('bad-$_', ARRAY[dtm.step('" . $stub->url('/a') . "', '" . $stub->url('/a/undo') .
			  "'), dtm.step('$url')], retry_limit => 2, request_timeout => '600ms')"
		} 0 .. $#urls));
for my $i (0 .. $#urls)
{
	my $url = $urls[$i];
	(my $name = $url) =~ s!.*?//[^/]*!!;
	$name = $url if $name eq '/x';

	unless (defined $bad{$url})
	{
		wait_status($node, "bad-$i", 'succeed');
		pass("$name: strange, but an answer");
		next;
	}
	wait_status($node, "bad-$i", 'failed');
	my ($attempts, $error) = split(/\|/,
		sql("SELECT attempts, last_error FROM dtm.branches WHERE gid = 'bad-$i' AND branch_id = '02' AND op = 'action'"), 2);
	like($error, $bad{$url}, "$name: the error can be read");
	is($attempts, 2, '... it was tried again, and counted');
	is_deeply($stub->calls("bad-$i"), [ '01 action', '01 compensate' ], '... and what came before is undone');
}
cmp_ok(memory() - $before, '<', 100 * 1024, 'no answer has filled the memory');

# Where no service can be: refused for everybody, superusers too

my @nowhere = ('http://169.254.169.254/latest/meta-data', 'http://2852039166/', 'http://0xa9fea9fe/',
	'http://169.254.1.1:80/', 'http://[fe80::1]/', 'http://[::ffff:169.254.169.254]/', 'http://0.0.0.0/', 'http://224.0.0.1/',
	'http://[fd00:ec2::254]/');
for my $i (0 .. $#nowhere)
{
	my ($rc, $said, $err) = $node->psql('postgres',
		"SELECT dtm.saga('nowhere-$i', ARRAY[dtm.step('$nowhere[$i]')], retry_limit => 1)");

	if ($rc != 0)
	{
		like($err, qr/address/, "$nowhere[$i]: refused at once");
		next;
	}
	wait_status($node, "nowhere-$i", 'failed');
	like(sql("SELECT last_error FROM dtm.branches WHERE gid = 'nowhere-$i' AND op = 'action'"),
		qr/^refused: .* is a link-local or metadata address/, "$nowhere[$i]: no socket is opened");
}

# What no one may have called without being allowed to

sql(q(CREATE ROLE shop LOGIN; SELECT dtm.grant_usage('shop')));
sub as_shop { return $node->psql('postgres', $_[0], extra_params => [ '-U', 'shop', '-v', 'VERBOSITY=verbose' ]); }
my $url = $stub->url('/allowed');
{
	my ($rc, $said, $err) = as_shop("SELECT dtm.saga('not-allowed', ARRAY[dtm.step('$url')])");

	like($err, qr/42501.*role "shop" may not have "\Q$url\E" called/, 'nothing is allowed that was not granted');
	like($err, qr/HINT:.*dtm\.allow\('shop', '\Q$url\E'\)/, 'the hint says how');
	sql("SELECT dtm.allow('shop', '$url')");
	($rc) = as_shop("SELECT dtm.saga('now-allowed', ARRAY[dtm.step('$url')])");
	is($rc, 0, 'and then it is');
	wait_status($node, 'now-allowed', 'succeed');
	($rc, $said, $err) = as_shop("SELECT dtm.saga('not-allowed', ARRAY[dtm.step('" . $stub->url('/allowed/../_journal') . "')])");
	like($err, qr/42501/, 'dots do not lead out of it');
	is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid = 'not-allowed')), '0', 'nothing is stored');
}

# 500 for ever: retried for ever, to be seen, and ended by force

sql("SELECT dtm.saga('for-ever', ARRAY[dtm.step('$hostile/status/500')], retry_interval => '5ms')");
wait_for($node, q(SELECT attempts >= 5 AND status = 'prepared' AND last_error LIKE 'HTTP 500: gid=%' AND next_attempt > last_attempt
	FROM dtm.branches WHERE gid = 'for-ever' AND op = 'action'));
sql(q(SELECT dtm.force_stop('for-ever', 'never')));
is(sql(q(SELECT dtm.status('for-ever'))), 'failed', 'a server that says 500 for ever: retries can be seen, and ended');

# A dead host beside normal traffic: its calls hang, its queue grows, and
# nobody else waits. (All of them are begun first, and none has ended yet when
# the last of the others has.)

set_conf($node, 'dtm.circuit_failures' => 3);
sql("SELECT count(dtm.saga('dead-' || n, ARRAY[dtm.step('$dead/x')], request_timeout => '100s')) FROM generate_series(1, 300) n");
wait_for($node, q(SELECT in_flight >= 64 AND in_flight + queued >= 300 FROM dtm.workers WHERE database = 'postgres'));
sql("SELECT count(dtm.saga('alive-' || n, ARRAY[dtm.step('" . $stub->url('/alive') . "'), dtm.step('" . $stub->url('/alive') . "')])) FROM generate_series(1, 50) n");
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'alive-%' AND status = 'succeed'), '50');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'dead-%' AND status = 'submitted')), '300', 'the dead host has delayed nobody');

# Turning back does not wait for the queue; what can be stopped by force is.

sql(q(SELECT count(dtm.force_stop('dead-' || n)) FROM generate_series(1, 300) n));
wait_for($node, q(SELECT queued FROM dtm.workers WHERE database = 'postgres'), '0');

# A host that lets calls fail is left alone after a while, probed by one call at
# a time, and served again when it is back.

close($silent);
sql("SELECT count(dtm.saga('back-' || n, ARRAY[dtm.step('$refusing/back')], retry_interval => '10ms')) FROM generate_series(1, 20) n");
wait_for($node, q(SELECT open_circuits >= 1 FROM dtm.workers WHERE database = 'postgres'));
my ($attempts) = sql(q(SELECT sum(attempts) FROM dtm.branches WHERE gid LIKE 'back-%'));
cmp_ok($attempts, '<', 100, 'it is not called over and over');
sql(q(SELECT count(dtm.force_stop('back-' || n)) FROM generate_series(1, 20) n));

is(worker_pid($node), $worker, 'the worker has not been replaced');
close($in);
waitpid($pid, 0);
$node->stop;
done_testing();
