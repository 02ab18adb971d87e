# Gids, payloads and headers of every size and kind arrive as they were given,
# or are refused before anything is stored.
use strict;
use warnings FATAL => 'all';

use Digest::MD5;
use Encode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('payloads', conf => "dtm.retry_interval = '100ms'\n");
my $worker = worker_pid($node);
my $stub = DtmTest::Stub->new;
my $action = $stub->url('/a');
my $undo = $stub->url('/a/undo');

sub sql { return $node->safe_psql('postgres', @_); }

sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($err =~ /ERROR:  (\w{5}): /)[0] || '';
}

# Gids, as they are given and as the service sees them

my @gids = ("O'Hara \"x\"", 'a b', 'a%20b%', 'a&b=c?d#e/f+g', '$1 \\n', "\xc3\xbc\xe4\xbd\xa0\xf0\x9f\x98\x80",
	'x' x 128, "\xc3\xbc" x 64, ';DROP TABLE dtm.trans;--', '../..', '0', 'NULL', '{}', '%s%n%d');
for my $gid (@gids)
{
	(my $quoted = $gid) =~ s/'/''/g;
	my $seen = Encode::decode('UTF-8', $gid);

	is(sql("SELECT dtm.saga('$quoted', ARRAY[dtm.step('$action', '$undo', '{}')])"), $gid, 'gid ' . substr($gid, 0, 40));
	wait_status($node, $gid, 'succeed');
	is_deeply($stub->calls($seen), ['01 action'], '... is what the service sees');
	is(sql("SELECT dtm.query('$quoted') ->> 'gid' = '$quoted' AND EXISTS (SELECT FROM dtm.branches WHERE gid = '$quoted')"), 't', '... and what the views show');
}
is(error_of("SELECT dtm.saga('$_', ARRAY[dtm.step('$action')])"), '22023', 'refused: ' . length($_) . ' bytes')
  for 'x' x 129, "\xc3\xbc" x 64 . 'x', '';
is(error_of("SELECT dtm.saga(E'a\\tb', ARRAY[dtm.step('$action')])"), '22023', 'refused: a control character');

# The same gid twice

my $again = "SELECT dtm.saga('again', ARRAY[dtm.step('$action', '$undo', '{\"n\": 1}')])";
sql($again);
is(sql($again), 'again', 'a repeat with the same content does nothing');
wait_status($node, 'again', 'succeed');
is(sql($again), 'again', 'when it has ended, too');
is(error_of("SELECT dtm.saga('again', ARRAY[dtm.step('$action', '$undo', '{\"n\": 2}')])"), '23505', 'another payload is an error');
is(error_of("SELECT dtm.saga('again', ARRAY[dtm.step('$action', '$undo', '{\"n\": 1}')], retry_limit => 3)"), '23505', 'another option, too');
is_deeply($stub->calls('again'), ['01 action'], 'it ran once');

# ... at the same time, in sessions that wait for each other

{
	my $same = "SELECT dtm.saga('race', ARRAY[dtm.step('$action')])";
	my @session = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;

	$session[0]->query_safe("BEGIN; $same");
	$session[1]->query_until(qr/sent/, "\\echo sent\n$same;\n");
	$session[2]->query_until(qr/sent/, "\\echo sent\nSELECT dtm.saga('race', ARRAY[dtm.step('$undo')]);\n");
	wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'race' AND backend_type = 'client backend'), '2');
	$session[0]->query_safe('COMMIT');
	like($session[1]->query('SELECT 1'), qr/^race/m, 'at the same time: the same content is a repeat');
	$session[2]->query('SELECT 1');
	like($session[2]->{stderr}, qr/in use|another/, 'other content is an error');
	$_->quit for @session;
	wait_status($node, 'race', 'succeed');
	is_deeply($stub->calls('race'), ['01 action'], 'and it runs once');
}

# ... where the first one is rolled back after all

{
	my @session = map { $node->background_psql('postgres') } 1 .. 2;

	$session[0]->query_safe("BEGIN; SELECT dtm.saga('race-2', ARRAY[dtm.step('$undo')])");
	$session[1]->query_until(qr/sent/, "\\echo sent\nSELECT dtm.saga('race-2', ARRAY[dtm.step('$action')]);\n");
	wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'race-2' AND backend_type = 'client backend'), '1');
	$session[0]->query_safe('ROLLBACK');
	like($session[1]->query_safe('SELECT 1'), qr/^race-2/m, 'the first is rolled back: the second one counts');
	$_->quit for @session;
	wait_status($node, 'race-2', 'succeed');
	is_deeply([ map { $_->{path} } @{ $stub->journal('race-2') } ], ['/a'], 'and nobody is called for the first');
}

# 10 MB, byte for byte, there and back again, beside small ones

$stub->program('/no', { status => 409 });
sql(<<"SQL");
SELECT dtm.saga('big', ARRAY[dtm.step('$action', '$undo', body => b), dtm.step('@{[ $stub->url('/no') ]}')], request_timeout => '60s')
FROM (SELECT decode(string_agg(md5(n::text), ''), 'hex') AS b FROM generate_series(1, 655360) n) AS x
SQL
wait_status($node, 'big', 'failed');
{
	my @calls = @{ $stub->journal('big') };

	is_deeply([ map { "$_->{op} $_->{size}" } @calls ], [ 'action 10485760', 'action 0', 'compensate 10485760' ], '10 MB arrive');
	my $md5 = sql(q(SELECT md5(string_agg(decode(md5(n::text), 'hex'), '')) FROM generate_series(1, 655360) n));
	is($calls[0]{md5}, $md5, 'byte for byte, with the action');
	is($calls[2]{md5}, $md5, 'and with the compensation');
}
is(sql(q(SELECT q #>> '{branches,0,payload_size}' FROM dtm.query('big') q)), '10485760', 'dtm.query tells its size');

# Ten of one MB at once, as JSON, concurrently

sql(<<"SQL");
SELECT dtm.saga('wide', array_agg(dtm.step('$action', '$undo', to_json(repeat('x', 1000000) || n)::text)), concurrent => true, request_timeout => '60s')
FROM generate_series(1, 10) n
SQL
wait_status($node, 'wide', 'succeed');
is_deeply([ sort map { $_->{size} } @{ $stub->journal('wide') } ], [ (1000003) x 9, 1000004 ], 'ten payloads of 1 MB at once');

$stub->reset;

# A thousand steps

sql("SELECT dtm.saga('long', array_agg(dtm.step('$action?n=' || n, '$undo', format('{\"n\": %s}', n)) ORDER BY n)) FROM generate_series(1, 1000) n");
wait_status($node, 'long', 'succeed');
is_deeply([ map { $_->{query}{n} } @{ $stub->journal('long') } ], [ 1 .. 1000 ], 'a thousand steps, in order');
is(sql(q(SELECT string_agg(branch_id, ' ' ORDER BY length(branch_id), branch_id) LIKE '01 02 % 99 100 % 1000' FROM (SELECT DISTINCT branch_id FROM dtm.branches WHERE gid = 'long') x)), 't', 'their ids');

sql("SELECT dtm.saga('crowd', array_agg(dtm.step('$action', '$undo') ORDER BY n) || dtm.step('@{[ $stub->url('/refuse') ]}', ''), orders => jsonb_build_object('1000', jsonb_agg(n))) FROM generate_series(1, 999) n");
$stub->program('/refuse', { status => 409 });
wait_status($node, 'crowd', 'failed');
{
	my @calls = @{ $stub->calls('crowd') };
	my %count;
	$count{$_}++ for map { /(\w+)$/ } @calls;
	my ($last) = grep { $calls[$_] eq '1000 action' } 0 .. $#calls;

	is_deeply(\%count, { action => 1000, compensate => 999 }, 'a thousand at once, and back');
	is($last, 999, 'the one that waits for all others is the last');
}

# Deep chains of orders are no problem either

sql("SELECT dtm.saga('chain', array_agg(dtm.step('') ORDER BY n), orders => jsonb_object_agg(n, jsonb_build_array(n - 1)) FILTER (WHERE n > 1)) FROM generate_series(1, 1000) n");
wait_status($node, 'chain', 'succeed');

# Headers: what would be another header, or another request, is refused

is(error_of("SELECT dtm.saga('h', ARRAY[dtm.step('$action', headers => jsonb_build_object(E'$_->[0]', E'$_->[1]'))])"), '22023', "header $_->[0]: $_->[1]")
  for [ 'X', 'a\\r\\nEvil: 1' ], [ 'X', 'a\\nb' ], [ 'X', '\\r' ], [ 'X\\r\\nY', 'a' ], [ 'X: y', 'a' ], [ '', 'a' ],
  [ 'Host', 'evil' ], [ 'content-length', '1' ], [ 'Transfer-Encoding', 'chunked' ];
is(error_of("SELECT dtm.saga('h', ARRAY[dtm.step('$action')], branch_headers => '{\"X\": \"a\\r\\nY: b\"}')"), '22023', 'branch_headers, too');
is(error_of("SELECT dtm.saga('h', ARRAY[dtm.step(E'$action?x=\\r\\nEvil: 1')])"), '22023', 'an address with a line end');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid = 'h')), '0', 'nothing is stored');
sql("SELECT dtm.saga('odd', ARRAY[dtm.step('$action', headers => '{\"X-Empty\": \"\", \"X-Utf8\": \"\xc3\xbc\", \"X-Long\": \"" . 'y' x 8000 . "\", \"X-Quote\": \"a\\\"b;c\"}')])");
wait_status($node, 'odd', 'succeed');
{
	my $headers = $stub->journal('odd')->[0]{headers};

	is(length($headers->{'X-Long'}), 8000, 'a long header arrives');
	is($headers->{'X-Quote'}, 'a"b;c', 'quotes in a header arrive');
	ok(exists $headers->{'X-Empty'}, 'so does an empty one');
}

is(worker_pid($node), $worker, 'the worker has not been replaced');
$node->stop;
done_testing();
