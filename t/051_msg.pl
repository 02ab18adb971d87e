# Messages, seen by the services that they are sent to: with the business and
# without it, asked for and not, late and twice, and with the worker killed at
# its decisions.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('msg', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '30s'
CONF
my $stub = DtmTest::Stub->new;
my $debug = $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");

sub sql { return $node->safe_psql('postgres', @_); }

sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($err =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/);
}

sub msg
{
	my ($gid, $options, @paths) = @_;
	my @steps = map { sprintf("dtm.step('%s', payload => '{\"to\": \"%s\"}')", /:/ ? $_ : $stub->url($_), $_) } @paths;

	return "SELECT dtm.msg('$gid', ARRAY[" . join(', ', @steps) . ']' . ($options ? ", $options" : '') . ')';
}

# A message that is only begun; $ask is the path of its back-check.
my $patience = '300ms';

sub begin
{
	my ($gid, $ask, $options, @paths) = @_;

	return join("; ",
		sprintf("SELECT dtm.msg_begin('%s', '%s', timeout_to_fail => '$patience'%s)", $gid,
			$ask eq '' ? '' : $stub->url($ask), $options ? ", $options" : ''),
		map { sprintf("SELECT dtm.msg_branch('%s', '%s', '{}')", $gid, $stub->url($_)) } @paths);
}

# With the business

sql('CREATE TABLE product (id int PRIMARY KEY, price int); INSERT INTO product VALUES (7, 10)');
sql('BEGIN; UPDATE product SET price = 9 WHERE id = 7; ' . msg('sent', '', '/a', '/b', '/c') . '; COMMIT');
wait_status($node, 'sent', 'succeed');
is_deeply($stub->calls('sent'), [ map { "0$_ action" } 1 .. 3 ], 'committed: sent, in order');
is($stub->journal('sent')->[0]{target}, '/a?gid=sent&trans_type=msg&branch_id=01&op=action', 'how it is called');
is($stub->journal('sent')->[0]{body}, '{"to": "/a"}', 'with its payload');
sql('BEGIN; UPDATE product SET price = 8 WHERE id = 7; ' . msg('never', '', '/a') . '; ROLLBACK');
sql(msg('sent', '', '/a', '/b', '/c'));
sql(msg('sent-2', '', '/a'));
wait_status($node, 'sent-2', 'succeed');
is_deeply($stub->calls('never'), [], 'rolled back: nobody is called');
is((error_of(q(SELECT dtm.status('never'))))[0], 'DT404', 'and there is no message');
is(scalar @{ $stub->journal('sent') }, 3, 'sent again with the same content: once');
is((error_of(msg('sent', '', '/b')))[0], '23505', 'with another content: an error');

$stub->program('/must', { status => 409 }, { body => 'FAILURE' }, { status => 425 }, { manner => 'drop' }, { status => 200 });
sql(msg('must', '', '/must', '/b'));
wait_status($node, 'must', 'succeed');
is_deeply($stub->calls('must'), [ ('01 action') x 5, '02 action' ], 'nobody can refuse a message');
is((error_of(q(SELECT dtm.abort('must'))))[0], 'DT412', 'nor can it be taken back');

$stub->program("/h$_", { hold => 1 }) for 1 .. 3;
sql(msg('at-once', 'concurrent => true', '/h1', '/h2', '/h3'));
$stub->wait_calls("/h$_", 1) for 1 .. 3;
pass('concurrent: all are called before any has answered');
$stub->release("/h$_", 1) for 2, 3, 1;
wait_status($node, 'at-once', 'succeed');

sql(msg('delayed', q(delay => '800ms'), '/a'));
sql(q(SELECT dtm.retry_now('delayed')));
wait_status($node, 'delayed', 'succeed');
cmp_ok($stub->journal('delayed')->[0]{began},
	'>=', sql(q(SELECT extract(epoch FROM created_at) + 0.8 FROM dtm.transactions WHERE gid = 'delayed')),
	'not before its delay is over, whoever is in a hurry');

sql(sprintf("SELECT dtm.subscribe('price', '%s')", $stub->url("/s$_"))) for 1, 2;
sql(sprintf("SELECT dtm.subscribe('one', '%s')", $stub->url('/s3')));
sql(msg('topics', '', 'topic://price', 'topic://one'));
wait_status($node, 'topics', 'succeed');
is_deeply($stub->calls('topics'), [ '01-01 action', '01-02 action', '02 action' ], 'every subscriber of a topic is called');

# The business is elsewhere: it is asked

sql(begin('in-time', '/ask', q(delay => '1ms'), '/a') . q(; SELECT dtm.submit('in-time')));
wait_status($node, 'in-time', 'succeed');
is_deeply($stub->calls('in-time'), ['01 action'], 'submitted in time: not asked');

sql(begin('yes', '/yes', '', '/a', '/b'));
is(sql(q(SELECT dtm.status('yes'))), 'prepared', 'begun, and left alone');
wait_status($node, 'yes', 'succeed');
is_deeply($stub->calls('yes'), [ '00 msg', '01 action', '02 action' ], 'success: it is sent');
{
	my $ask = $stub->journal('yes')->[0];

	is("$ask->{method} $ask->{target}", 'GET /yes?gid=yes&trans_type=msg&branch_id=00&op=msg', 'how it is asked');
	cmp_ok($ask->{began}, '>=', sql(q(SELECT extract(epoch FROM created_at) + 0.3 FROM dtm.transactions WHERE gid = 'yes')),
		'not before its time is over');
}
is(sql(q(SELECT submitted_at >= created_at FROM dtm.transactions WHERE gid = 'yes')), 't', 'submitted by the answer');
is(sql(q(SELECT status || ' ' || attempts FROM dtm.branches WHERE gid = 'yes' AND op = 'msg')), 'succeed 1', 'the question can be seen');

$stub->program('/no', { status => 409, body => 'rolled back' });
sql(begin('no', '/no', '', '/a'));
wait_status($node, 'no', 'failed');
is_deeply($stub->calls('no'), ['00 msg'], 'FAILURE: nobody is called');
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'no')), qr/query_prepared.*rolled back/, 'the reason says who said so');
is((error_of(q(SELECT dtm.submit('no'))))[0], 'DT412', 'submitted too late');

$stub->program('/perhaps', { status => 425 }, { body => 'ONGOING' }, { status => 500 }, { manner => 'drop' }, { manner => 'hang' }, { status => 200 });
sql(begin('perhaps', '/perhaps', q(request_timeout => '400ms'), '/a'));
wait_status($node, 'perhaps', 'succeed');
is_deeply($stub->calls('perhaps'), [ ('00 msg') x 6, '01 action' ], 'asked until there is an answer');

$stub->program('/silent', { status => 500 });
sql(begin('silent', '/silent', q(retry_interval => '1h', retry_limit => 1), '/a'));
wait_for($node, q(SELECT gid FROM dtm.stuck WHERE op = 'msg'), 'silent');
$stub->program('/silent', { status => 200 });
sql(q(SELECT dtm.retry_now('silent')));
wait_status($node, 'silent', 'succeed');
is_deeply($stub->calls('silent'), [ ('00 msg') x 2, '01 action' ], 'who does not answer is shown, and asked again at once by retry_now');

sql(begin('nobody', '', '', '/a'));
wait_status($node, 'nobody', 'failed');
is_deeply($stub->calls('nobody'), [], 'nobody to ask: it is not sent');

# Branches that join, and a submit that comes, while the question is open

$stub->program('/open', { hold => 1 });
sql(begin('open', '/open', '', '/a'));
$stub->wait_calls('/open', 1);
sql(sprintf("SELECT dtm.msg_branch('open', '%s', '{}')", $stub->url('/b')));
sql(q(SELECT dtm.submit('open')));
wait_status($node, 'open', 'succeed');
$stub->release('/open');
is_deeply([ grep { /action/ } @{ $stub->calls('open') } ], [ '01 action', '02 action' ], 'submitted while it is asked: all is sent, once');

$stub->program('/open3', { hold => 1 });
sql(begin('joined', '/open3', '', '/a'));
$stub->wait_calls('/open3', 1);
sql(sprintf(<<'SQL', $stub->url('/b')));
INSERT INTO dtm.branch (id, branch, branch_id, forward, backward)
SELECT id, 1, '02', '%s', '' FROM dtm.trans WHERE gid = 'joined'
SQL
$stub->release('/open3');
wait_status($node, 'joined', 'succeed');
is_deeply([ grep { /action/ } @{ $stub->calls('joined') } ], [ '01 action', '02 action' ], 'a branch of which the worker has not heard is sent, too');

$stub->program('/open2', { hold => 1 });
sql(begin('open-no', '/open2', '', '/a'));
$stub->wait_calls('/open2', 1);
sql(q(SELECT dtm.abort('open-no', 'it was rolled back')));
is(sql(q(SELECT dtm.wait('open-no', '10s'))), 'failed', 'aborted while it is asked: failed at once');
$stub->release('/open2');
sql(q(SELECT dtm.abort('open-no')));
is_deeply([ grep { /action/ } @{ $stub->calls('open-no') } ], [], 'nobody is called, whatever the answer');

# The same calls again, at every status

sql(q(SELECT dtm.msg_begin('again'); SELECT dtm.msg_begin('again')));
sql(q(SELECT dtm.submit('again')));
wait_status($node, 'again', 'succeed');
sql(q(SELECT dtm.submit('again')));
is((error_of($_))[0], 'DT412', "$_: not when it has succeeded")
  for q(SELECT dtm.msg_begin('again')), q(SELECT dtm.abort('again')), q(SELECT dtm.msg_branch('again', ''));
sql(q(SELECT dtm.msg_begin('gone'); SELECT dtm.abort('gone'); SELECT dtm.abort('gone')));
is((error_of($_))[0], 'DT412', "$_: not when it has failed")
  for q(SELECT dtm.msg_begin('gone')), q(SELECT dtm.submit('gone')), q(SELECT dtm.msg_branch('gone', ''));

# SQL functions

sql(<<'SQL');
CREATE TABLE noted (gid text, branch_id text, op text, payload jsonb);
CREATE SEQUENCE calls;
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO noted SELECT gid, branch_id, op, payload FROM dtm.current_branch();
	IF nextval('calls') % 2 = 1 THEN
		PERFORM dtm.fail('not yet');
	END IF;
END $$;
SQL
sql(msg('sql', '', 'sql:public.note', '/a'));
wait_status($node, 'sql', 'succeed');
is(sql(q(SELECT branch_id, op, payload ->> 'to' FROM noted WHERE gid = 'sql')), '01|action|sql:public.note',
	'SQL: done once, and its refusal only put it off');
sql('CREATE OR REPLACE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO noted SELECT gid, branch_id, op FROM dtm.current_branch() $$');

# Killed at every decision: sent to all or to nobody, each once

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $n = 0;

	# The point is armed first; it goes off when the question comes.
	$patience = '1s';
	for my $point (qw(worker-check-sent worker-check-answered worker-before-decision
		worker-change-written worker-after-decision worker-action-sent worker-action-answered
		executor-before-commit executor-after-commit))
	{
		for my $refused (0, 1)
		{
			next if $refused && $point =~ /action|executor/;
			my $gid = 'point-' . ++$n;
			my $begin = begin($gid, $refused ? '/no' : '/yes', '', '/a');

			my $token = arm_point($node, $point, 'self');
			sql("BEGIN; $begin; SELECT dtm.msg_branch('$gid', 'sql:public.note', '{}'); COMMIT");
			wait_point($node, $token);
			wait_status($node, $gid, $refused ? 'failed' : 'succeed');
			my @actions = grep { /action/ } @{ $stub->calls($gid) };
			is($actions[0] // '', $refused ? '' : '01 action', "$point, refused: $refused: who is called");
			is_deeply($stub->effects($gid)->{'01'}, $refused ? undef : [ 1, 0 ], "$point, refused: $refused: once behind the barrier");
			is(sql("SELECT count(*) FROM noted WHERE gid = '$gid'"), $refused ? 0 : 1, "$point, refused: $refused: SQL, once");
		}
	}
}

$node->stop;
done_testing();
