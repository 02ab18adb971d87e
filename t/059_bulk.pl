# Commands to thousands in one statement: each happens, each is recorded, nobody
# touches what is another's, and two people who do it at once wait for each other
# and never in a circle.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use DtmTest;

my $node = dtm_node('bulk', conf => <<'CONF');
dtm.stuck_after = 1
dtm.retry_interval = '1h'
dtm.max_retry_interval = '2h'
dtm.max_in_flight_per_host = 64
CONF
my $stub = DtmTest::Stub->new;
my $many = 1200;
my $some = 60;

sub sql { return $node->safe_psql('postgres', @_); }

# What is in the log of one command: how many, about how many, by whom, why.
sub logged
{
	my ($command, $since) = @_;

	return sql("SELECT count(*), count(DISTINCT gid), string_agg(DISTINCT role, ' '), string_agg(DISTINCT reason, ' '),"
		  . " bool_and(at BETWEEN '$since' AND clock_timestamp()) FROM dtm.operation_log WHERE command = '$command' AND at >= '$since'");
}

sub now { return sql('SELECT clock_timestamp()'); }

# Thousands of all modes, of two roles, whose branches fail.

$stub->program($_, { status => 500, body => 'closed' }) for '/xa', '/asked';
sql(<<"SQL");
CREATE ROLE clerk LOGIN;
CREATE ROLE rival LOGIN;
SELECT dtm.grant_usage(r), dtm.allow(r, '@{[ $stub->url ]}') FROM unnest('{clerk,rival}'::name[]) r;
CREATE TABLE shop (open boolean);
INSERT INTO shop VALUES (false);
CREATE TABLE effect (gid text, op text);
GRANT SELECT ON shop TO clerk, rival;
GRANT INSERT, SELECT ON effect TO clerk, rival;
CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF NOT (SELECT open FROM public.shop) THEN RAISE 'closed'; END IF;
	INSERT INTO public.effect SELECT gid, op FROM dtm.current_branch();
END \$\$;
SQL

sub begin_all
{
	my ($role, $prefix) = @_;
	my $work = 'sql:public.work';

	sql(<<"SQL");
SET SESSION AUTHORIZATION $role;
SELECT count(dtm.saga('$prefix-saga-' || n, ARRAY[dtm.step('$work', '')])) FROM generate_series(1, $many) n;
SELECT count(dtm.tcc('$prefix-tcc-' || n, ARRAY[dtm.tcc_step('', '$work', '$work')])) FROM generate_series(1, $many) n;
SELECT count(dtm.msg('$prefix-msg-' || n, ARRAY[dtm.step('$work')])) FROM generate_series(1, $many) n;
SELECT count(dtm.xa_begin('$prefix-xa-' || n)) FROM generate_series(1, $some) n;
SELECT count(dtm.xa_branch('$prefix-xa-' || n, '@{[ $stub->url('/xa') ]}')) FROM generate_series(1, $some) n;
SELECT count(dtm.submit('$prefix-xa-' || n)) FROM generate_series(1, $some) n;
SELECT count(dtm.msg_begin('$prefix-asked-' || n, '@{[ $stub->url('/asked') ]}', timeout_to_fail => '1ms')) FROM generate_series(1, $some) n;
SQL
	return;
}

my $each = 3 * $many + 2 * $some;
begin_all('clerk', 'c');
begin_all('rival', 'r');
wait_for($node, 'SELECT count(*) FROM dtm.stuck', 2 * $each);

# One's own, and only those

my $since = now();
is(sql("SET SESSION AUTHORIZATION clerk; SELECT count(*), count(dtm.retry_now(gid)) FROM dtm.stuck WHERE trans_type = 'saga'"),
	"$many|$many", 'retry_now: a role sees, and hurries, what is its own');
is(logged('retry', $since), "$many|$many|clerk||t", 'each is recorded: who, and when');
wait_for($node, q(SELECT count(*) FROM dtm.branches WHERE gid LIKE 'c-saga-%' AND op = 'action' AND attempts = 2), $many);
is(sql(q(SELECT count(*) FROM dtm.branches WHERE attempts > 1 AND gid NOT LIKE 'c-saga-%')), '0', 'those are called again, nobody else');
is(sql(q(SELECT count(*) FROM dtm.stuck)), 2 * $each, 'the shop is still closed');
{
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET SESSION AUTHORIZATION clerk; SELECT dtm.force_stop('r-saga-' || n) FROM generate_series(1, $many) n");

	like($err, qr/unknown gid "r-saga-1"/, 'another\'s are unknown');
}
$since = now();
sql("SET SESSION AUTHORIZATION clerk; SELECT dtm.force_stop(gid, 'lost') FROM dtm.stuck WHERE trans_type = 'tcc'");
is(logged('stop', $since), "$many|$many|clerk|lost|t", 'force_stop: each is recorded: who, when and why');
is(sql(q(SELECT count(*), count(*) FILTER (WHERE forced AND status = 'failed' AND reason = 'lost' AND finished_at IS NOT NULL)
	FROM dtm.transactions WHERE gid LIKE 'c-tcc-%')), "$many|$many", 'and has happened');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'r-%' AND status = 'failed')), '0', 'to nobody else');

# Abort, in bulk: sagas roll back, and what nobody was called for has failed

$since = now();
sql(qq(SELECT count(dtm.abort(gid, 'season is over')) FROM dtm.transactions WHERE gid LIKE 'c-saga-%' OR gid LIKE 'c-asked-%'));
is(logged('abort', $since), ($many + $some) . '|' . ($many + $some) . '|' . sql('SELECT current_user') . '|season is over|t',
	'abort: each is recorded');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE status = 'failed' AND NOT forced AND reason = 'season is over'), $many + $some);
is(sql('SELECT count(*) FROM effect'), '0', 'what had no effect left none');

# What ends while the statement runs is no reason to fail

{
	my ($rc, $out, $err) = $node->psql('postgres',
		q(SELECT dtm.force_stop('c-xa-1'), dtm.retry_now('c-xa-1'), dtm.retry_now('c-xa-2')));

	is($rc, 0, 'retry_now does without what has just ended');
	like($err, qr/NOTICE: .*"c-xa-1" has ended meanwhile: it is failed/, 'and says so');
	($rc, $out, $err) = $node->psql('postgres', q(SELECT dtm.retry_now('c-xa-1')));
	like($err, qr/ERROR: .*"c-xa-1": it is failed/, 'what had ended before is an error');
}

# Two at once over the same rows, by different ways into the table: one waits for
# the other, and none is told of a deadlock. A third holds a row in the middle
# until both have got as far as they can.

my %way = (
	'hash joins' => 'SET enable_nestloop = off; SET enable_mergejoin = off',
	'loops' => 'SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off',
	'merge joins' => 'SET enable_hashjoin = off; SET enable_nestloop = off');

sub both
{
	my ($what, $middle, @calls) = @_;
	my $holder = $node->background_psql('postgres');
	my (@sessions, @seen);

	$holder->query_safe("BEGIN; SELECT dtm.retry_now('$middle')");
	for (@calls)
	{
		my ($way, $call, $where) = @$_;
		my $session = $node->background_psql('postgres', on_error_stop => 0);

		$session->query_safe($way{$way});
		$session->query_until(qr/begun/, "\\echo begun\nSELECT 'rows: ' || count($call) FROM dtm.stuck WHERE $where;\n");
		push @sessions, $session;
		wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'rows: '), scalar @sessions);
	}
	$holder->query_safe('COMMIT');
	$holder->quit;
	for (@sessions)
	{
		push @seen, $_->query("SELECT 'end'") =~ /rows: (\d+)/;
		unlike($_->{stderr}, qr/ERROR/, "$what: no error");
		$_->quit;
	}
	return @seen;
}

my $left = sql('SELECT count(*) FROM dtm.stuck');

# Where rows are says nothing of when they came: here they are in order of gid.
sql('CLUSTER dtm.trans USING trans_gid_key');
my $began = time;
is_deeply([ both('retry twice', 'r-msg-600', [ 'hash joins', "dtm.retry_now(gid, 'try')", 'true' ], [ 'loops', "dtm.retry_now(gid, 'try')", q(gid ~ '^r') ]) ],
	[ $left, $each ], 'both hurry all that they meant');
note(sprintf('%d rows: %.1f s', $left + $each, time - $began));
is(sql(q(SELECT count(*) FROM dtm.operation_log WHERE reason = 'try')), $left + $each, 'each of both is recorded');

# Until they have been called again, and are where they were.
wait_for($node, q(SELECT count(*) FROM dtm.stuck WHERE attempts >= 2), $left);
my $stopped = "gid ~ '^r-(tcc|msg)'";
both('retry and stop', 'r-msg-600', [ 'merge joins', "dtm.force_stop(gid, 'never')", $stopped ], [ 'loops', 'dtm.retry_now(gid)', 'true' ]);
is(sql(qq(SELECT count(*), count(*) FILTER (WHERE forced AND reason = 'never') FROM dtm.transactions WHERE $stopped)),
	2 * $many . '|' . 2 * $many, 'those that were to be stopped are');
both('stop twice', 'r-saga-600', [ 'hash joins', "dtm.force_stop(gid, 'one')", "gid ~ '^r-saga'" ], [ 'loops', "dtm.force_stop(gid, 'other')", 'true' ]);
is(sql(q(SELECT count(*) FROM dtm.operation_log WHERE command = 'stop' AND gid ~ '^r-saga')), $many, 'what one has stopped the other finds stopped');

# The rest succeeds once it is let; what was stopped stays as it was.

is(sql('SELECT count(*) FROM dtm.stuck'), '0', 'nothing is left to be hurried');
my $forced = sql('SELECT count(*) FROM dtm.transactions WHERE forced');
sql('UPDATE shop SET open = true');
begin_all('clerk', 'n');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid ~ '^n-(saga|tcc|msg)' AND status = 'succeed'), 3 * $many);
is(sql(q(SELECT count(*), count(DISTINCT gid) FROM effect)), 3 * $many . '|' . 3 * $many, 'those that are begun later run, once');
is(sql(q(SELECT count(*) FROM effect WHERE gid !~ '^n-')), '0', 'what was stopped never runs');
is(sql('SELECT count(*) FROM dtm.transactions WHERE forced'), $forced, 'and stays stopped');

$node->stop;
done_testing();
