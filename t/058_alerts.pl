# What fails again and again is told: in the log, by NOTIFY, by a POST; and not more
# often than people can read. And traces: which call belongs to whose.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('alerts', conf => <<'CONF');
dtm.retry_interval = '20ms'
dtm.max_retry_interval = '60ms'
dtm.request_timeout = '10s'
dtm.circuit_failures = 1000000
CONF
my $stub = DtmTest::Stub->new;
my $receiver = DtmTest::Stub->new;

sub sql { return $node->safe_psql('postgres', @_); }

# A session that listens; what it has heard so far, decoded.
my $ear = $node->background_psql('postgres');
$ear->query_safe('LISTEN dtm_alert');
my @heard;

sub heard
{
	my ($gid) = @_;
	my $out = $ear->query_safe('SELECT 1');

	push @heard, map { decode_json($_) } $out =~ /notification "dtm_alert" with payload "(\{.*?\})" received/g;
	return grep { $_->{gid} eq $gid } @heard;
}

sub posts
{
	my ($gid) = @_;
	return grep { $_->{gid} eq $gid } map { decode_json($_->{body}) } @{ $receiver->journal };
}

sub logged
{
	my ($gid) = @_;
	my $log = slurp_file($node->logfile);
	return () = $log =~ /LOG:  global transaction "\Q$gid\E": .* has failed \d+ times in a row/g;
}

sub wait_alerts
{
	my ($gid, $n) = @_;
	return wait_until("$n alerts of $gid", sub { heard($gid) >= $n && posts($gid) >= $n && logged($gid) >= $n });
}

set_conf($node, 'dtm.alert_url' => $receiver->url('/alerts?token=hush'));

# --- an action that fails ---

$stub->program('/bad', { status => 500, body => 'the shelf is "broken"' });
sql("SELECT dtm.saga('a1', ARRAY[dtm.step('" . $stub->url('/good') . "'), dtm.step('" . $stub->url('/bad') . "', payload => '{}')])");
wait_alerts('a1', 2);
{
	my ($first, $second) = posts('a1');

	is($first->{retry_count}, 3, 'the first alert comes after three failures in a row');
	is($second->{retry_count}, 6, 'the second when their number has doubled');
	is($first->{branch}, '02', 'it names the branch');
	is($first->{op}, 'action', 'and the op');
	is($first->{status}, 'submitted', 'and the status');
	is($first->{trans_type}, 'saga', 'and the kind');
	like($first->{error}, qr/500.*the shelf is "broken"/s, 'and the error');
	my ($notified) = heard('a1');
	is($notified->{retry_count}, 3, 'NOTIFY says the same');
	ok(!exists $notified->{error}, 'but not the error, since everybody may listen');
	my ($call) = @{ $receiver->journal };
	is($call->{method}, 'POST', 'it is a POST');
	is($call->{headers}{'Content-Type'}, 'application/json', 'of JSON');
	is($call->{target}, '/alerts?token=hush', 'to exactly the address that is set');
}
$stub->program('/bad', {});
wait_status($node, 'a1', 'succeed');

# --- never on ONGOING, nor before their time ---

$stub->program('/slow', ({ status => 425 }) x 8, {});
sql("SELECT dtm.saga('a2', ARRAY[dtm.step('" . $stub->url('/slow') . "')])");
wait_status($node, 'a2', 'succeed');
$stub->program('/twice', ({ status => 500 }) x 2, { status => 425 }, ({ status => 500 }) x 2, {});
sql("SELECT dtm.saga('a3', ARRAY[dtm.step('" . $stub->url('/twice') . "')])");
wait_status($node, 'a3', 'succeed');
is(logged('a2') + heard('a2') + posts('a2'), 0, 'ONGOING is no failure');
is(logged('a3') + heard('a3') + posts('a3'), 0, 'two failures in a row are none to tell of, twice');

# --- compensations, SQL branches, back-checks, confirms ---

$stub->program('/no', { status => 409 });
$stub->program('/undo', { status => 500 });
sql("SELECT dtm.saga('b1', ARRAY[dtm.step('" . $stub->url('/yes') . "', '" . $stub->url('/undo') . "'), dtm.step('" . $stub->url('/no') . "')])");
wait_alerts('b1', 1);
is((posts('b1'))[0]->{op}, 'compensate', 'a compensation that fails');
is((posts('b1'))[0]->{status}, 'aborting', 'of a saga that is aborting');

sql(q{CREATE FUNCTION broken(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'the drawer is stuck'; END $$});
sql("SELECT dtm.saga('b2', ARRAY[dtm.step('sql:public.broken')])");
wait_alerts('b2', 1);
like((posts('b2'))[0]->{error}, qr/P0001: the drawer is stuck/, 'a SQL branch that fails');

$stub->program('/ask', { status => 500 });
sql("SELECT dtm.msg_begin('b3', '" . $stub->url('/ask') . "', timeout_to_fail => '10ms')");
wait_alerts('b3', 1);
is((posts('b3'))[0]->{op}, 'msg', 'a back-check that fails');
is((posts('b3'))[0]->{branch}, '00', 'has branch 00');

sql("SELECT dtm.tcc('b4', ARRAY[dtm.tcc_step('', '" . $stub->url('/undo') . "', '')])");
wait_alerts('b4', 1);
is((posts('b4'))[0]->{op}, 'confirm', 'a confirm that fails');
sql("SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')");

# --- a receiver that refuses, hangs, is gone: nobody waits for it ---

$receiver->program('/alerts', { status => 500 });
sql("SELECT dtm.saga('c1', ARRAY[dtm.step('sql:public.broken')])");
wait_until('the log says that it was not taken',
	sub { slurp_file($node->logfile) =~ /an alert could not be posted to dtm.alert_url: .*500/ });
is(scalar(grep { /token=hush/ && !/parameter "dtm.alert_url" changed/ } split(/\n/, slurp_file($node->logfile))),
	0, 'dtm does not tell the address');
$receiver->program('/alerts', { manner => 'hang' });
sql("SELECT dtm.saga('c2', ARRAY[dtm.step('sql:public.broken')])");
wait_until('an alert in the log', sub { logged('c2') >= 2 });
sql("SELECT dtm.saga('c3', ARRAY[dtm.step('" . $stub->url('/good') . "')])");
wait_status($node, 'c3', 'succeed');
pass('a receiver that hangs delays no call');
sql("SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')");
$receiver->program('/alerts', {});

# --- bounded ---

my ($log_before, $posts_before) = (scalar(() = slurp_file($node->logfile) =~ /times in a row/g), scalar @{ $receiver->journal });
set_conf($node, 'dtm.alert_rate' => 5);
$stub->program('/bad500', { status => 500 });
sql("SELECT dtm.saga('d' || n, ARRAY[dtm.step('" . $stub->url('/bad500') . "')]) FROM generate_series(1, 200) n");
wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid LIKE 'd%' AND attempts >= 6", '200');
my $lines = (() = slurp_file($node->logfile) =~ /times in a row/g) - $log_before;
my $posts = @{ $receiver->journal } - $posts_before;

# 400 would be due; five at once, then one each twelve seconds.
cmp_ok($lines, '>=', 1, 'a flood is told of');
cmp_ok($lines, '<', 100, "but not line by line: $lines lines");
cmp_ok($posts, '<', 100, "nor by a flood of posts: $posts");
set_conf($node, 'dtm.alert_rate' => 6000);
sql("SELECT dtm.saga('e1', ARRAY[dtm.step('sql:public.broken')])");
wait_until('a later alert', sub { logged('e1') >= 1 });
wait_until('what was left out is counted',
	sub { slurp_file($node->logfile) =~ /CONTEXT:  (\d+) alerts were left out before this one/ && $1 > 100 });
wait_until('also where it is posted',
	sub { grep { ($_->{left_out} || 0) > 100 } map { decode_json($_->{body}) } @{ $receiver->journal } });
sql("SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')");

# --- a receiver that is away: posts do not pile up ---

my $gone = DtmTest::Stub->new;
my $gone_url = $gone->url('/alerts');
$gone->stop;
set_conf($node, 'dtm.alert_url' => $gone_url, 'dtm.alert_rate' => 60000, 'dtm.circuit_failures' => 2);
sql("SELECT dtm.saga('g' || n, ARRAY[dtm.step('" . $stub->url('/bad500') . "')]) FROM generate_series(1, 300) n");
wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid LIKE 'g%' AND attempts >= 6", '300');
sql("SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')");
wait_for($node, 'SELECT sum(in_memory) FROM dtm.workers', '0');
cmp_ok(sql('SELECT sum(queued) FROM dtm.workers'), '<=', 64, 'of 600 alerts, few wait for a receiver that is away');
set_conf($node, 'dtm.alert_url' => $receiver->url('/alerts'));

# --- off ---

set_conf($node, 'dtm.alert_after' => 0);
sql("SELECT dtm.saga('f1', ARRAY[dtm.step('sql:public.broken')])");
wait_for($node, "SELECT attempts >= 7 FROM dtm.branches WHERE gid = 'f1' AND op = 'action'");
is(logged('f1') + heard('f1') + posts('f1'), 0, 'none when alerts are off');
sql("SELECT dtm.force_stop('f1')");

# --- settings ---

my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET dtm.alert_url = 'ftp://somewhere'");
like($err, qr/invalid value for parameter "dtm.alert_url"/, 'an address that cannot be posted to is refused');

# --- traces ---

my $trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
sql(q{CREATE TABLE seen (t text); CREATE FUNCTION look(jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO seen VALUES (current_setting('dtm.traceparent')) $$});
sql("SET dtm.traceparent = '$trace'; SELECT dtm.saga('t1', ARRAY[dtm.step('" . $stub->url('/t1') . "'), dtm.step('sql:public.look'), dtm.step('" . $stub->url('/t2') . "', headers => '{\"traceparent\": \"mine\"}')])");
wait_status($node, 't1', 'succeed');
is($stub->journal('t1')->[0]{headers}{traceparent}, $trace, 'a call has the trace of its caller');
is(sql('SELECT t FROM seen'), $trace, 'a SQL branch is run in it');
is($stub->journal('t1')->[1]{headers}{traceparent}, 'mine', 'a header of that name wins');
is(sql("SELECT traceparent FROM dtm.transactions WHERE gid = 't1'"), $trace, 'the view shows it');
is(sql("SELECT dtm.query('t1')->>'traceparent'"), $trace, 'and dtm.query');
sql("SELECT dtm.saga('t2', ARRAY[dtm.step('" . $stub->url('/t1') . "'), dtm.step('sql:public.look')])");
wait_status($node, 't2', 'succeed');
ok(!exists $stub->journal('t2')->[0]{headers}{traceparent}, 'without one there is no header');
is(sql('SELECT count(*) FROM seen WHERE t = $$$$'), '1', 'and none in a SQL branch of the same process');
sql("SET dtm.traceparent = '$trace'; SELECT dtm.msg_begin('t3', '" . $stub->url('/asked') . "', timeout_to_fail => '10ms')");
$stub->wait_calls('/asked', 1);
is($stub->journal('t3')->[0]{headers}{traceparent}, $trace, 'a back-check has it too');
for my $bad ('x', "$trace ", uc $trace, '00-' . ('0' x 32) . '-00f067aa0ba902b7-01', '01' . substr($trace, 2), substr($trace, 0, 54), "$trace\r\nX-Evil: 1")
{
	($rc, $out, $err) = $node->psql('postgres', "SELECT set_config('dtm.traceparent', \$v\$$bad\$v\$, false)");
	like($err, qr/invalid value for parameter "dtm.traceparent"/, 'no trace: ' . substr($bad =~ s/[\r\n]/ /gr, 0, 60));
}

$ear->quit;
done_testing();
