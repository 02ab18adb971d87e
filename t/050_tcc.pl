# TCC, seen by the services that it calls: tries that are ours and tries of the
# application, over HTTP and as SQL functions, in time and too late, and with
# the worker killed at its decisions.
use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('tcc', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '30s'
max_prepared_transactions = 5
CONF
my $stub = DtmTest::Stub->new;
my $debug = $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");

sub sql { return $node->safe_psql('postgres', @_); }

# The SQLSTATE of a statement's error, and the error.
sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($err =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/);
}

# A step whose three addresses are paths under the stub: /NAME/try and so on.
sub step
{
	my ($name, $more) = @_;

	return sprintf("dtm.tcc_step('%s', '%s', '%s'%s)",
		(map { $stub->url("/$name/$_") } qw(try confirm cancel)), $more ? ", $more" : '');
}

sub tcc
{
	my ($gid, $options, @steps) = @_;

	return "SELECT dtm.tcc('$gid', ARRAY[" . join(', ', @steps) . ']' .
	  ($options ? ", $options" : '') . ')';
}

# A TCC whose tries are the application's, with branches of these names.
sub begin
{
	my ($gid, $options, @names) = @_;

	sql("SELECT dtm.tcc_begin('$gid'" . ($options ? ", $options" : '') . ')');
	sql(sprintf("SELECT dtm.tcc_branch('%s', '%s', '%s', '{}')", $gid,
		$stub->url("/$_/confirm"), $stub->url("/$_/cancel"))) for @names;
	return;
}

# The application calls a try itself.
sub try_it
{
	my ($gid, $branch_id) = @_;

	HTTP::Tiny->new(proxy => undef)->get($stub->url("/own?gid=$gid&trans_type=tcc&branch_id=$branch_id&op=try"));
	return;
}

# What arrived, without the order of the tries among themselves.
sub calls
{
	my ($gid) = @_;
	my @calls = @{ $stub->calls($gid) };

	return [ (sort grep { /try/ } @calls), grep { !/try/ } @calls ];
}

# Tries that are ours

sql(tcc('book', '', step('a', q(payload => '{"room":  1}')), step('b'), step('c', q(headers => '{"X-Leg": "3"}'))));
wait_status($node, 'book', 'succeed');
is_deeply(calls('book'),
	[ '01 try', '02 try', '03 try', '03 confirm', '02 confirm', '01 confirm' ],
	'all tried, then confirmed from the last to the first');
{
	my %call = map { ("$_->{branch_id} $_->{op}" => $_) } @{ $stub->journal('book') };

	is("$call{'01 try'}{method} $call{'01 try'}{target}",
		'POST /a/try?gid=book&trans_type=tcc&branch_id=01&op=try', 'how a try is called');
	is($call{"01 $_"}{body}, '{"room":  1}', "the payload goes to $_") for qw(try confirm);
	is($call{'03 confirm'}{headers}{'X-Leg'}, '3', 'and so do headers');
	is($call{'02 confirm'}{method}, 'GET', 'GET without a payload');
}
is(sql(q(SELECT submitted_at IS NOT NULL AND finished_at >= submitted_at FROM dtm.transactions WHERE gid = 'book')),
	't', 'when it was submitted is known');
is_deeply($stub->effects('book'), { map { ("0$_" => [ 2, 0 ]) } 1 .. 3 }, 'each tried and confirmed once');

sql(tcc('book', '', step('a', q(payload => '{"room":  1}')), step('b'), step('c', q(headers => '{"X-Leg": "3"}'))));
like((error_of(tcc('book', '', step('a'))))[1], qr/in use/, 'another start with its gid is an error');
is(scalar @{ $stub->journal('book') }, 6, 'the same start again does nothing');

$stub->program("/h$_/try", { hold => 1 }) for 1 .. 3;
sql(tcc('at-once', 'concurrent => true', map { step("h$_") } 1 .. 3));
$stub->wait_calls("/h$_/try", 1) for 1 .. 3;
pass('all are tried before any has answered');
is(sql(q(SELECT dtm.status('at-once'))), 'prepared', 'and nothing is decided');
sql(q(SELECT dtm.submit('at-once')));
is(sql(q(SELECT dtm.status('at-once'))), 'prepared', 'not even by submit: its tries decide');
$stub->program("/h$_/confirm", { hold => 1 }) for 1 .. 3;
$stub->release("/h$_/try", 1) for 1 .. 3;
$stub->wait_calls("/h$_/confirm", 1) for 1 .. 3;
pass('concurrent: all are confirmed before any has answered');
like((error_of(q(SELECT dtm.abort('at-once'))))[1], qr/submitted/, 'too late to abort');
$stub->release("/h$_/confirm", 1) for 1 .. 3;
wait_status($node, 'at-once', 'succeed');

# Refused

$stub->program('/full/try', { status => 409, body => 'no room' });
sql(tcc('refused', '', step('a'), step('full'), step('c')));
wait_status($node, 'refused', 'failed');
is_deeply([ grep { /cancel/ } @{ $stub->calls('refused') } ], [ '03 cancel', '02 cancel', '01 cancel' ],
	'cancelled in reverse, who refused too');
is_deeply([ grep { /confirm/ } @{ $stub->calls('refused') } ], [], 'nobody confirmed');
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'refused')),
	qr/branch 02 refused.*no room/, 'who refused, and why');
is_deeply($stub->effects('refused'), { map { ($_ => [ 1, 1 ]) } qw(01 03) }, 'nothing remains');

$stub->program('/slow/try', { hold => 1 });
$stub->program('/soon/try', { status => 409, delay => 0.3 });
sql(tcc('awaited', '', step('slow'), step('soon')));
$stub->wait_calls('/slow/try', 1);
wait_status($node, 'awaited', 'aborting');
is_deeply([ grep { /cancel/ } @{ $stub->calls('awaited') } ], [], 'nothing is cancelled while a try runs');
$stub->release('/slow/try', 1);
wait_status($node, 'awaited', 'failed');
is_deeply($stub->effects('awaited'), { '01' => [ 1, 1 ] }, 'its late success is cancelled');

# Not known yet; unclear; never

$stub->program('/later/try', { status => 425 }, { status => 500 }, { status => 200 });
$stub->program('/later/confirm', { status => 409 }, { body => 'FAILURE' }, { status => 425 }, { status => 200 });
sql(tcc('later', '', step('later')));
wait_status($node, 'later', 'succeed');
is_deeply($stub->calls('later'), [ ('01 try') x 3, ('01 confirm') x 4 ],
	'tries are repeated, and a confirm cannot refuse');

$stub->program('/dead/try', { status => 500, effect => 1 });
$stub->program('/dead/cancel', { status => 409 }, { status => 200 });
sql(tcc('dead', q(timeout_to_fail => '700ms'), step('a'), step('dead')));
wait_status($node, 'dead', 'failed');
is(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'dead')), 'timeout_to_fail has passed', 'its time is over');
is_deeply($stub->effects('dead'), { map { ($_ => [ 1, 1 ]) } qw(01 02) },
	'the try in doubt is cancelled, and a cancel cannot refuse');

sql(tcc('limit', 'retry_limit => 2', step('dead')));
wait_status($node, 'limit', 'failed');
is_deeply($stub->calls('limit'), [ ('01 try') x 2, '01 cancel' ], 'a limit of attempts ends the tries');

# Stopped by its user

$stub->program('/stop/try', { hold => 1 });
sql(tcc('stopped', '', step('a'), step('stop')));
$stub->wait_calls('/stop/try', 1);
sql(q(SELECT dtm.abort('stopped', 'no more')));
sql(q(SELECT dtm.abort('stopped')));
is((error_of(q(SELECT dtm.submit('stopped'))))[0], 'DT412', 'aborted is not submitted any more');
$stub->release('/stop/try', 1);
wait_status($node, 'stopped', 'failed');
is_deeply($stub->effects('stopped'), { map { ($_ => [ 1, 1 ]) } qw(01 02) }, 'aborted while it tries: cancelled');
sql(q(SELECT dtm.abort('stopped')));

# Tries of the application

begin('own', '', qw(a b));
is(sql(sprintf(q(SELECT dtm.tcc_branch('own', '%s', '%s', '{}', parent => '02')), $stub->url('/n/confirm'), $stub->url('/n/cancel'))),
	'0201', 'a branch below a branch');
try_it('own', $_) for qw(01 02 0201);
sql(q(SELECT dtm.tcc_begin('own')));
sql(q(SELECT dtm.submit('own')));
wait_status($node, 'own', 'succeed');
is_deeply(calls('own'), [ '01 try', '02 try', '0201 try', '0201 confirm', '02 confirm', '01 confirm' ],
	'confirmed from the last registered to the first');
sql(q(SELECT dtm.submit('own')));
is(scalar @{ $stub->journal('own') }, 6, 'submitted again: nothing');
is((error_of(q(SELECT dtm.abort('own'))))[0], 'DT412', 'abort after success');
is((error_of(q(SELECT dtm.tcc_begin('own'))))[0], 'DT412', 'begin after success');
is((error_of(q(SELECT dtm.tcc_branch('own', '', ''))))[0], 'DT412', 'a branch after success');

begin('give-up', '', qw(a b));
try_it('give-up', '01');
sql(q(SELECT dtm.abort('give-up')));
wait_status($node, 'give-up', 'failed');
is_deeply(calls('give-up'), [ '01 try', '02 cancel', '01 cancel' ], 'aborted: all that is registered is cancelled');
try_it('give-up', '02');
is_deeply($stub->effects('give-up'), { '01' => [ 1, 1 ] }, 'a try after its cancel does nothing, behind the barrier');
sql(q(SELECT dtm.abort('give-up')));
is((error_of(q(SELECT dtm.submit('give-up'))))[0], 'DT412', 'submit after abort');

begin('lost', q(timeout_to_fail => '500ms'), qw(a b));
try_it('lost', $_) for qw(01 02);
wait_status($node, 'lost', 'failed');
is_deeply([ grep { /cancel/ } @{ $stub->calls('lost') } ], [ '02 cancel', '01 cancel' ], 'never submitted: cancelled when its time is over');
is_deeply($stub->effects('lost'), { map { ($_ => [ 1, 1 ]) } qw(01 02) }, 'nothing remains');

begin('in-time', q(timeout_to_fail => '1s'), 'slow2');
$stub->program('/slow2/confirm', { status => 500, delay => 1.2 }, { status => 200 });
sql(q(SELECT dtm.submit('in-time')));
wait_status($node, 'in-time', 'succeed');
pass('once submitted, there is no deadline');

# Submitted by a prepared transaction, of which no callback tells the worker

begin('two-phase', '', 'a');
wait_for($node, q(SELECT sum(in_memory) > 0 FROM dtm.workers));
sql(q(BEGIN; SELECT dtm.submit('two-phase'); PREPARE TRANSACTION 'submit'));
sql(q(COMMIT PREPARED 'submit'));
wait_status($node, 'two-phase', 'succeed');
is(sql(q(SELECT finished_at < created_at + interval '20 s' FROM dtm.transactions WHERE gid = 'two-phase')), 't',
	'it is confirmed without waiting for its deadline');

# SQL functions

sql(<<'SQL');
CREATE TABLE seat (n int PRIMARY KEY, state text NOT NULL DEFAULT 'free');
INSERT INTO seat SELECT generate_series(1, 60);
CREATE TABLE noted (gid text, branch_id text, op text);
CREATE FUNCTION change(payload jsonb, "from" text, "to" text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE seat SET state = "to" WHERE n = (payload ->> 'seat')::int AND state = "from";
	IF NOT found THEN
		PERFORM dtm.fail('seat ' || (payload ->> 'seat') || ' is not ' || "from");
	END IF;
	INSERT INTO noted SELECT gid, branch_id, op FROM dtm.current_branch();
END $$;
CREATE FUNCTION hold(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT change(payload, 'free', 'held') $$;
CREATE FUNCTION take(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT change(payload, 'held', 'taken') $$;
CREATE FUNCTION let_go(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT change(payload, 'held', 'free') $$;
SQL

sub seat
{
	my ($n) = @_;
	return "dtm.tcc_step('sql:public.hold', 'sql:public.take', 'sql:public.let_go', '{\"seat\": $n}'::jsonb)";
}

sub noted
{
	my ($gid) = @_;
	return sql("SELECT string_agg(branch_id || ' ' || op, ', ' ORDER BY branch_id, op DESC) FROM noted WHERE gid = '$gid'");
}

sub seats
{
	return sql('SELECT string_agg(state, \' \' ORDER BY n) FROM seat WHERE n IN (' . join(', ', @_) . ')');
}

sql(tcc('sql', '', seat(1), seat(2)));
wait_status($node, 'sql', 'succeed');
is(seats(1, 2), 'taken taken', 'SQL: tried and confirmed');
sql(tcc('sql-no', '', seat(3), seat(2), seat(4)));
wait_status($node, 'sql-no', 'failed');
is(seats(2, 3, 4), 'taken free free', 'SQL: cancelled');
unlike(noted('sql-no'), qr/02/, 'the cancel of a try that has never committed is not called');

sql(tcc('mixed', '', seat(5), step('a')));
wait_status($node, 'mixed', 'succeed');
is(seats(5), 'taken', 'SQL and HTTP: confirmed');
sql(tcc('mixed-no', '', seat(6), step('full')));
wait_status($node, 'mixed-no', 'failed');
is(seats(6), 'free', 'SQL and HTTP: cancelled');

sql(q(SELECT dtm.tcc_begin('own-sql')));
sql(q(SELECT dtm.tcc_branch('own-sql', 'sql:public.take', 'sql:public.let_go', '{"seat": 7}'::jsonb)));
sql(q(SELECT change('{"seat": 7}', 'free', 'held')));
sql(q(SELECT dtm.abort('own-sql')));
wait_status($node, 'own-sql', 'failed');
is(seats(7), 'free', 'the cancel is called for what the application has tried');

# Killed at every decision: all confirmed, or all cancelled, each once

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $seat = 10;
	my $n = 0;
	for my $point (qw(worker-after-load worker-try-sent worker-try-answered
		worker-before-decision worker-change-written worker-after-decision
		worker-action-sent worker-compensate-sent executor-before-commit executor-after-commit))
	{
		for my $refused (0, 1)
		{
			next if $point =~ /action/ && $refused || $point =~ /compensate/ && !$refused;
			my $gid = 'point-' . ++$n;
			my $token = arm_point($node, $point, 'self');

			$seat++;
			$node->psql('postgres', tcc($gid, q(timeout_to_fail => '60s'), seat($seat), step('a'), step($refused ? 'full' : 'c')));
			wait_point($node, $token);
			wait_status($node, $gid, $refused ? 'failed' : 'succeed');

			my @http = $refused ? ('02') : qw(02 03);
			is_deeply($stub->effects($gid), { map { ($_ => $refused ? [ 1, 1 ] : [ 2, 0 ]) } @http },
				"$point, refused: $refused: HTTP effects, once behind the barrier");
			# A refusal may come before the SQL try has begun.
			like(noted($gid), $refused ? qr/^(01 try, 01 cancel)?$/ : qr/^01 try, 01 confirm$/, "$point, refused: $refused: SQL effects, once");
			is(seats($seat), $refused ? 'free' : 'taken', "$point, refused: $refused: the seat");
		}
	}
}

$node->stop;
done_testing();
