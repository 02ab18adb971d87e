# What a saga does, seen by the services that it calls: order, retries, time,
# and what its user may ask of it while it runs.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('saga', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '30s'
CONF
my $stub = DtmTest::Stub->new;
my $worker = worker_pid($node);

sub sql { return $node->safe_psql('postgres', @_); }

# The SQLSTATE, and the whole text, of the error of a statement.
sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($err =~ /(?:ERROR|FATAL):  (\w{5}): /)[0] || '', $err;
}

# A step: paths of action and compensate under the stub, and more arguments.
sub step
{
	my ($action, $compensate, $more) = @_;

	return sprintf("dtm.step('%s', '%s'%s)", $action eq '' ? '' : $stub->url($action),
		$compensate eq '' ? '' : $stub->url($compensate), $more ? ", $more" : '');
}

sub saga
{
	my ($gid, $options, @steps) = @_;

	return "SELECT dtm.saga('$gid', ARRAY[" . join(', ', @steps) . ']' .
	  ($options ? ", $options" : '') . ')';
}

# One column of one op, as people see it.
sub branch
{
	my ($gid, $branch_id, $op, $column) = @_;

	return sql("SELECT $column FROM dtm.branches WHERE gid = '$gid' AND branch_id = '$branch_id' AND op = '$op'");
}

# How a branch is called

sql(saga('form', q(branch_headers => '{"X-Shop": "a b=c"}'),
	step('/form?a=1&b', '', q(payload => '{"sku":  7, "name": "Ü ''"}')),
	step('/form', ''),
	step('/form', '', q(payload => '"x"', headers => '{"content-type": "text/x-own", "X-Step": "3"}')),
	step('/form', '', q(body => '\x00ff0a0d00'))));
wait_status($node, 'form', 'succeed');
{
	my @calls = @{ $stub->journal('form') };

	is_deeply([ map { "$_->{method} $_->{target}" } @calls ],
		[
			'POST /form?a=1&b&gid=form&trans_type=saga&branch_id=01&op=action',
			'GET /form?gid=form&trans_type=saga&branch_id=02&op=action',
			'POST /form?gid=form&trans_type=saga&branch_id=03&op=action',
			'POST /form?gid=form&trans_type=saga&branch_id=04&op=action'
		],
		'POST with a payload, GET without; who is called is in the query');
	is($calls[0]{body}, "{\"sku\":  7, \"name\": \"\x{dc} '\"}",
		'the payload arrives as it was written');
	my %first = map { lc $_ => $calls[0]{headers}{$_} } keys %{ $calls[0]{headers} };
	is($first{'content-type'}, 'application/json', 'as JSON');
	is($calls[0]{headers}{'X-Shop'}, 'a b=c', 'headers of the saga are sent with every call');
	my %third = map { lc $_ => $calls[2]{headers}{$_} } keys %{ $calls[2]{headers} };
	is_deeply([ @third{ 'content-type', 'x-step', 'x-shop' } ], [ 'text/x-own', '3', 'a b=c' ],
		'headers of a step, among them its content type');
	is($calls[3]{size}, 5, 'bytes of any kind');
	is_deeply([ grep { ($_->{headers}{Expect} || '') ne '' } @calls ], [], 'nobody is asked for permission first');
}

# In order, one after the other

sql(saga('order', '', map { step("/order$_", "/order$_/undo", q(payload => '{}')) } 1 .. 4));
wait_status($node, 'order', 'succeed');
{
	my @calls = @{ $stub->journal('order') };

	is_deeply($stub->calls('order'), [ map { "0$_ action" } 1 .. 4 ], 'actions in order');
	is_deeply([ grep { $calls[$_]{began} < $calls[ $_ - 1 ]{ended} } 1 .. $#calls ],
		[], 'each after the one before has answered');
}

# Refused: by status, by body; undone in reverse

$stub->program('/no', { status => 409, body => 'out of stock' });
sql(saga('refused', '', step('/a', '/a/undo'), step('/b', ''), step('/no', '/no/undo'), step('/d', '/d/undo')));
wait_status($node, 'refused', 'failed');
is_deeply($stub->calls('refused'),
	[ '01 action', '02 action', '03 action', '03 compensate', '01 compensate' ],
	'undone in reverse, what was refused too, what has no compensation not, what never ran not');
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'refused')),
	qr/branch 03 refused.*out of stock/, 'the reason says who refused, and why');
is(branch('refused', '03', 'action', 'status'), 'failed', 'the action has failed');
is(branch('refused', '02', 'compensate', 'status'), 'succeed', 'nobody to call is success');
is(branch('refused', '04', 'compensate', "status || ' ' || attempts"), 'prepared 0', 'what was not needed was not called');

$stub->program('/word', { status => 200, body => '{"dtm_result": "FAILURE"}' });
sql(saga('word', '', step('/a', '/a/undo'), step('/word', '')));
wait_status($node, 'word', 'failed');
is_deeply($stub->calls('word'), [ '01 action', '02 action', '01 compensate' ], 'a body with FAILURE refuses');

# A compensation cannot refuse

$stub->program('/must', { status => 409 }, { status => 200, body => 'FAILURE' }, { status => 200 });
sql(saga('must', '', step('/a', '/must'), step('/no', '')));
wait_status($node, 'must', 'failed');
is_deeply($stub->calls('must'), [ '01 action', '02 action', ('01 compensate') x 3 ], 'a compensation is called until it succeeds');
is(branch('must', '01', 'compensate', "status || ' ' || attempts"), 'succeed 3', 'its attempts are counted');

# All at once

$stub->program("/c$_", { hold => 1 }) for 1 .. 3;
sql(saga('at-once', 'concurrent => true', map { step("/c$_", "/c$_/undo") } 1 .. 3));
$stub->wait_calls("/c$_", 1) for 1 .. 3;
pass('concurrent: all are called before any has answered');
is(sql(q(SELECT dtm.status('at-once'))), 'submitted', 'and it goes on');
$stub->release("/c$_", 1) for 3, 1, 2;
wait_status($node, 'at-once', 'succeed');

# One refuses while another runs: that is waited for before anything is undone

$stub->program('/slow', { hold => 1 });
sql(saga('turn', 'concurrent => true', step('/slow', '/slow/undo'), step('/no', '/no/undo')));
$stub->wait_calls('/slow', 1);
wait_status($node, 'turn', 'aborting');
is_deeply([ grep { /compensate/ } @{ $stub->calls('turn') } ], [], 'nothing is undone while an action runs');
$stub->release('/slow', 1);
wait_status($node, 'turn', 'failed');
is_deeply([ sort @{ $stub->calls('turn') } ], [ '01 action', '01 compensate', '02 action', '02 compensate' ], 'then all is');

# In the order that was asked for: 1 and 2, then 3, then 4; and back

$stub->program('/o1', { hold => 1 });
$stub->program('/o4', { status => 409 });
sql(saga('graph', q(orders => '{"3": [1, 2], "04": [3]}'), map { step("/o$_", "/o$_/undo") } 1 .. 4));
$stub->wait_calls('/o1', 1);
$stub->wait_calls('/o2', 1);
wait_for($node, q(SELECT status FROM dtm.branches WHERE gid = 'graph' AND branch_id = '02' AND op = 'action'), 'succeed');
is_deeply([ sort @{ $stub->calls('graph') } ], [ '01 action', '02 action' ], 'step 3 waits for both');
$stub->release('/o1', 1);
wait_status($node, 'graph', 'failed');
{
	my @calls = @{ $stub->calls('graph') };

	is_deeply([ sort @calls[ 0, 1 ] ], [ '01 action', '02 action' ], 'ordered: 1 and 2 ...');
	is_deeply([ @calls[ 2 .. 5 ] ], [ '03 action', '04 action', '04 compensate', '03 compensate' ], '... 3, 4, and back ...');
	is_deeply([ sort @calls[ 6, 7 ] ], [ '01 compensate', '02 compensate' ], '... to both');
}

# Not yet: asked again, at the plain interval, and not counted as a failure

$stub->program('/soon', { status => 425 }, { status => 200, body => 'ONGOING' },
	{ status => 409, body => 'FAILURE? no: ONGOING' }, { status => 425 }, { status => 200 });
sql(saga('ongoing', 'retry_limit => 1', step('/soon', '')));
wait_status($node, 'ongoing', 'succeed');
is(branch('ongoing', '01', 'action', 'attempts'), '5', 'ONGOING is asked again and does not count against retry_limit');
{
	my @calls = @{ $stub->journal('ongoing') };

	is_deeply([ grep { $calls[$_]{began} - $calls[ $_ - 1 ]{ended} < 0.098 } 1 .. $#calls ], [], 'each time after retry_interval');
}

# Retries: doubled, up to the ceiling

$stub->program('/flaky', ({ status => 500, body => 'oops' }) x 5, { status => 200 });
sql(saga('flaky', '', step('/flaky', '')));
wait_status($node, 'flaky', 'succeed');
{
	my @calls = @{ $stub->journal('flaky') };
	my @least = (0.1, 0.2, 0.4, 0.4, 0.4);

	is(scalar @calls, 6, 'retried until it succeeds');
	is_deeply([ grep { $calls[ $_ + 1 ]{began} - $calls[$_]{ended} < $least[$_] - 0.002 } 0 .. $#least ],
		[], 'never before its time: the interval, doubled, up to dtm.max_retry_interval');
	is(branch('flaky', '01', 'action', 'attempts'), '6', 'attempts are counted');
}

$stub->program('/down', { status => 503, body => "try\nlater" });
sql(saga('schedule', q(retry_interval => '200ms'), step('/down', '')));
wait_for($node, q(SELECT attempts >= 3 FROM dtm.branches WHERE gid = 'schedule' AND op = 'action'));
is(branch('schedule', '01', 'action', q(next_attempt - last_attempt BETWEEN '400ms' AND '441ms')),
	't', 'the next attempt is shown: interval, plus at most a tenth');
like(branch('schedule', '01', 'action', 'last_error'), qr/503.*try.later/s, 'so is the last error');

# The limit of retries

$stub->program('/never', { status => 500 });
sql(saga('limit', q(retry_limit => 3, retry_interval => '10ms'), step('/a', '/a/undo'), step('/never', '/never/undo')));
wait_status($node, 'limit', 'failed');
is_deeply($stub->calls('limit'), [ '01 action', ('02 action') x 3, '02 compensate', '01 compensate' ],
	'retry_limit attempts, then back, with the step that is in doubt');
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'limit')), qr/branch 02 failed 3 times: .*500/, 'the reason says so');

sql(saga('own-limit', q(retry_limit => 50, retry_interval => '10ms'), step('/never', '', 'retry_limit => 2')));
wait_status($node, 'own-limit', 'failed');
is(branch('own-limit', '01', 'action', 'attempts'), '2', 'a step may have a limit of its own');

# Its own time for a call

$stub->program('/hang', { hold => 1 });
sql(saga('own-time', q(retry_limit => 1), step('/hang', '', q(request_timeout => '200ms'))));
wait_status($node, 'own-time', 'failed');
like(branch('own-time', '01', 'action', 'last_error'), qr/200 ms|timed? ?out|no answer/i, 'a call ends at its request_timeout');

# The deadline is a timer, not something noticed at the next retry

$stub->program('/later', { status => 425 });
sql(saga('deadline', q(timeout_to_fail => '700ms', retry_interval => '1h'), step('/a', '/a/undo'), step('/later', '/later/undo')));
wait_status($node, 'deadline', 'failed');
is_deeply($stub->calls('deadline'), [ '01 action', '02 action', '02 compensate', '01 compensate' ], 'past its deadline it goes back');
is(sql(q(SELECT deadline - submitted_at = '700ms' AND finished_at >= deadline AND finished_at < deadline + '10s' FROM dtm.transactions WHERE gid = 'deadline')),
	't', 'not before it, and not at the next retry');
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'deadline')), qr/timeout_to_fail/, 'the reason says so');
sql(saga('in-time', q(timeout_to_fail => '1h'), step('/a', '')));
wait_status($node, 'in-time', 'succeed');

# A call under way at the deadline is awaited, as long as it may take

sql(saga('late-call', q(timeout_to_fail => '200ms', request_timeout => '900ms'), step('/hang', '/hang/undo')));
wait_status($node, 'late-call', 'aborting');
is_deeply($stub->calls('late-call'), ['01 action'], 'a deadline does not undo what still runs');
wait_status($node, 'late-call', 'failed');
{
	my @calls = @{ $stub->journal('late-call') };

	is_deeply($stub->calls('late-call'), [ '01 action', '01 compensate' ], 'it is called once, and then undone');
	cmp_ok($calls[1]{began} - $calls[0]{began}, '>=', 0.88, 'after the call has had its time');
}

# Prepared, and never submitted

sql(q(SELECT dtm.saga_begin('forgotten', timeout_to_fail => '300ms')));
wait_status($node, 'forgotten', 'failed');
is(sql(q(SELECT finished_at >= created_at + '300ms' FROM dtm.transactions WHERE gid = 'forgotten')), 't', 'a saga that is never submitted fails at its deadline');

# The user changes his mind

$stub->program('/wait', { hold => 1 });
sql(saga('abort', '', step('/a', '/a/undo'), step('/wait', '/wait/undo'), step('/c', '/c/undo')));
$stub->wait_calls('/wait', 1);
sql(q(SELECT dtm.abort('abort', 'changed my mind')));
is(sql(q(SELECT dtm.status('abort'))), 'aborting', 'abort: it turns back');
is_deeply([ grep { /compensate/ } @{ $stub->calls('abort') } ], [], 'when the running action has answered');
$stub->release('/wait', 1);
wait_status($node, 'abort', 'failed');
is_deeply($stub->calls('abort'), [ '01 action', '02 action', '02 compensate', '01 compensate' ], 'and undoes what has run');
is(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'abort')), 'changed my mind', 'the reason is kept');
is(sql(q(SELECT role || ' ' || command || ' ' || reason FROM dtm.operation_log WHERE gid = 'abort')),
	$node->safe_psql('postgres', 'SELECT current_user') . ' abort changed my mind', 'who did it is logged');
sql(q(SELECT dtm.abort('abort')));
is((error_of(q(SELECT dtm.abort('form'))))[0], 'DT412', 'what has succeeded cannot be aborted');
is((error_of(q(SELECT dtm.submit('abort'))))[0], 'DT412', 'what was aborted cannot be submitted');
is((error_of(q(SELECT dtm.abort('nobody'))))[0], 'DT404', 'an unknown gid');

# Not waiting for a retry that is far away

$stub->program('/mended', { status => 500 }, { status => 200 });
set_conf($node, 'dtm.max_retry_interval' => '2h');
sql(saga('hurry', q(retry_interval => '1h'), step('/mended', '')));
wait_for($node, q(SELECT attempts FROM dtm.branches WHERE gid = 'hurry' AND op = 'action'), '1');
sql(q(SELECT dtm.retry_now('hurry')));
wait_status($node, 'hurry', 'succeed');

# Giving up by force

sql(saga('force', q(retry_interval => '1h'), step('/a', '/a/undo'), step('/down', '/down/undo')));
wait_for($node, q(SELECT attempts >= 1 FROM dtm.branches WHERE gid = 'force' AND branch_id = '02' AND op = 'action'));
sql(q(SELECT dtm.force_stop('force', 'enough')));
is(sql(q(SELECT status || ' ' || forced || ' ' || reason FROM dtm.transactions WHERE gid = 'force')), 'failed true enough', 'force_stop: failed, recorded as forced');
set_conf($node, 'dtm.max_retry_interval' => '400ms');

# Stuck: shown to people, still retried, and gone when mended

set_conf($node, 'dtm.stuck_after' => 2);
$stub->program('/stuck', ({ status => 500, body => 'no way' }) x 3, { hold => 1 });
sql(saga('stuck', '', step('/stuck', '')));
wait_for($node, q(SELECT count(*) FROM dtm.stuck WHERE gid = 'stuck'), '1');
like(sql(q(SELECT branch_id || ' ' || op || ' ' || address || ' ' || last_error FROM dtm.stuck WHERE gid = 'stuck')),
	qr!^01 action \Q@{[ $stub->url('/stuck') ]}\E .*no way!, 'the view shows what is stuck');
$stub->wait_calls('/stuck', 4);
$stub->release('/stuck');
wait_status($node, 'stuck', 'succeed');
is(sql(q(SELECT count(*) FROM dtm.stuck WHERE gid = 'stuck')), '0', 'and no longer what is not');
set_conf($node, 'dtm.stuck_after' => undef);

# Nobody to call

sql(saga('nobody', '', step('', ''), step('', '')));
wait_status($node, 'nobody', 'succeed');
sql(saga('some', '', step('', '/s1/undo'), step('/a', '/a/undo'), step('', ''), step('/no', '')));
wait_status($node, 'some', 'failed');
is_deeply($stub->calls('some'), [ '02 action', '04 action', '02 compensate', '01 compensate' ],
	'an empty address is success without a call');

# Piece by piece

is(sql(q(SELECT dtm.saga_begin('pieces'))), 'pieces', 'begin');
is(sql(sprintf(q(SELECT dtm.saga_branch('pieces', action => '%s', compensate => '%s', payload => '{"n": %d}')),
			$stub->url("/p$_"), $stub->url("/p$_/undo"), $_)), "0$_", "branch $_") for 1, 2;
is_deeply($stub->calls('pieces'), [], 'nobody is called before it is submitted');
sql(q(SELECT dtm.submit('pieces')));
wait_status($node, 'pieces', 'succeed');
is_deeply($stub->calls('pieces'), [ '01 action', '02 action' ], 'then they are');
sql(q(SELECT dtm.submit('pieces')));
is((error_of(q(SELECT dtm.saga_branch('pieces', ''))))[0], 'DT412', 'too late for another branch');
sql(sprintf(q(SELECT dtm.saga_begin('dropped'); SELECT dtm.saga_branch('dropped', '%s'); SELECT dtm.abort('dropped')), $stub->url('/a')));
is(sql(q(SELECT dtm.status('dropped'))), 'failed', 'aborted before it was submitted');
is_deeply($stub->calls('dropped'), [], 'and nobody was called');

# Waiting for the outcome

is(sql(q(SELECT dtm.wait('pieces'), dtm.wait('abort', '1s'))), 'succeed|failed', 'wait: the outcome');
$stub->program('/held', { hold => 1 });
sql(saga('held', '', step('/held', '')));
is(sql(q(SELECT dtm.wait('held', '50ms') IS NULL)), 't', 'NULL while it runs');
is((error_of("BEGIN; " . saga('self', '', step('', '')) . "; SELECT dtm.wait('self')"))[0], 'DT412', 'an error where it could never end');
{
	my $waiter = $node->background_psql('postgres');

	$waiter->query_until(qr/begun/, "\\echo begun\nSELECT 'outcome ' || dtm.wait('held', '60s');\n");
	$stub->wait_calls('/held', 1);
	$stub->release('/held');
	like($waiter->query_safe('SELECT 1'), qr/outcome succeed/, 'whoever waits is told');
	$waiter->quit;
}

sql(sprintf(q(SELECT dtm.saga_begin('call-%s'); SELECT dtm.saga_branch('call-%s', '%s')), $_->[0], $_->[0], $stub->url($_->[1])))
  for [ 'good', '/a' ], [ 'bad', '/no' ], [ 'long', '/forever' ];
$stub->program('/forever', { status => 425 });
sql(q(CALL dtm.submit('call-good', wait_result => true)));
is(sql(q(SELECT dtm.status('call-good'))), 'succeed', 'CALL submit returns when it has succeeded');
{
	my ($state, $text) = error_of(q(CALL dtm.submit('call-bad', wait_result => true)));

	is($state, 'DT409', 'a failure is an error');
	like($text, qr/branch 01 refused.*out of stock/, 'with its reason');
	($state, $text) = error_of(q(CALL dtm.submit('call-long', wait_result => true, timeout => '100ms')));
	is($state, 'DT425', 'not finished in time is another');
	is(sql(q(SELECT dtm.status('call-long'))), 'submitted', 'and it goes on');
}

# Everything about one, and all in numbers

is(sql(q(SELECT q ->> 'status', jsonb_array_length(q -> 'branches'), q #>> '{branches,0,ops,0,op}', q #>> '{branches,1,ops,1,attempts}'
	FROM dtm.query('limit') AS q)), 'failed|2|compensate|3', 'query: the branches, each with its ops');
is(sql(q(SELECT begun >= 30 AND succeeded >= 10 AND failed >= 10 AND calls = calls_success + calls_failure + calls_ongoing + calls_error
	AND retries > 10 AND mean_latency_ms > 0 FROM dtm.stats)), 't', 'stats');
is(sql(q(SELECT backlog = (SELECT count(*) FROM dtm.transactions WHERE status IN ('prepared', 'submitted', 'aborting')) FROM dtm.stats)),
	't', 'the backlog is what is not finished');
is(sql(q(SELECT count(*) FROM dtm.workers WHERE database = 'postgres' AND pid IS NOT NULL)), '1', 'one worker');

is_deeply([ grep { /compensate/ } @{ $stub->calls('force') } ], [], 'nothing was undone after force_stop');

is(worker_pid($node), $worker, 'the worker has not been replaced');
$stub->release('/hang');
$node->stop;
done_testing();
