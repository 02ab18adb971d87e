# Many at once, little memory, small rings, several workers, idle sessions: the
# tables are the truth, so nothing is lost and nobody waits for anybody else.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('many', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.ring_size = 16
dtm.worker_memory = '1MB'
dtm.workers_per_database = 2
dtm.retention_interval = '100ms'
max_prepared_transactions = 5
CONF
wait_for($node, q(SELECT count(*) FROM dtm.workers WHERE database = 'postgres' AND pid IS NOT NULL), '2');
my $workers = sql(q(SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM dtm.workers));
my $stub = DtmTest::Stub->new;
my $action = $stub->url('/a');

sub sql { return $node->safe_psql('postgres', @_); }

sub wait_count
{
	my ($gids, $status, $n) = @_;

	return wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE '$gids' AND status = '$status'", $n);
}

# Ten thousand in one statement, with a ring of 16 places and a megabyte for
# each worker. Each leaves a row, once.

sql(<<'SQL');
CREATE TABLE effect (gid text, branch_id text, op text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch() $$;
SQL
is(sql(q(SELECT count(dtm.saga('order-' || n, ARRAY[dtm.step('sql:public.note', 'sql:public.note', jsonb_build_object('order', n))])) FROM generate_series(1, 10000) n)),
	'10000', '10,000 sagas in one statement');
sql("SELECT dtm.saga('beside', ARRAY[dtm.step('$action')])");
wait_status($node, 'beside', 'succeed');
wait_count('order-%', 'succeed', 10000);
is(sql(q(SELECT count(*), count(DISTINCT gid) FROM effect WHERE op = 'action')), '10000|10000', 'each has run, once');
is(sql(q(SELECT count(*) FROM dtm.workers WHERE commits > 10)), '2', 'both workers had their share');

# More than memory holds that wait for a retry far away: they leave it and come
# back, and others go on meanwhile.

$stub->program('/soon', ({ status => 425 }) x 600, { status => 200 });
sql("SELECT count(dtm.saga('soon-' || n, ARRAY[dtm.step('" . $stub->url('/soon') . "', payload => to_json(repeat('x', 4000))::text)], retry_interval => '6s')) FROM generate_series(1, 600) n");
sql("SELECT count(dtm.saga('now-' || n, ARRAY[dtm.step('$action')])) FROM generate_series(1, 50) n");
wait_count('now-%', 'succeed', 50);
wait_for($node, q(SELECT (SELECT sum(in_memory) < 300 FROM dtm.workers) AND (SELECT count(*) = 600 FROM dtm.branches WHERE gid LIKE 'soon-%' AND op = 'action' AND attempts >= 1)));
wait_count('soon-%', 'succeed', 600);
is(sql(q(SELECT sum(attempts), bool_and(last_attempt >= created_at + '6s') FROM dtm.branches JOIN dtm.transactions USING (gid) WHERE gid LIKE 'soon-%' AND op = 'action')),
	'1200|t', 'evicted and read again: each was called when it was due, not before');
$stub->reset;

# Not begun after all

sql(<<"SQL");
BEGIN;
SELECT dtm.saga('kept', ARRAY[dtm.step('$action')]);
SAVEPOINT s;
SELECT dtm.saga('undone', ARRAY[dtm.step('$action')]);
SAVEPOINT t;
SELECT dtm.saga('undone-too', ARRAY[dtm.step('$action')]);
RELEASE t;
ROLLBACK TO s;
SELECT dtm.saga('kept-too', ARRAY[dtm.step('$action')]);
COMMIT;
BEGIN;
SELECT dtm.saga('rolled-back', ARRAY[dtm.step('$action')]);
ROLLBACK;
SQL
wait_status($node, $_, 'succeed') for 'kept', 'kept-too';
is_deeply([ map { scalar @{ $stub->calls($_) } } qw(kept kept-too undone undone-too rolled-back) ], [ 1, 1, 0, 0, 0 ],
	'what was rolled back has called nobody');

# Two-phase commit of the user's own

sql("BEGIN; SELECT dtm.saga('two-phase', ARRAY[dtm.step('$action')]); PREPARE TRANSACTION 'mine'");
sql("BEGIN; SELECT dtm.saga('two-phase-not', ARRAY[dtm.step('$action')]); PREPARE TRANSACTION 'not'");
sql("SELECT dtm.saga('later', ARRAY[dtm.step('$action')])");
wait_status($node, 'later', 'succeed');
is_deeply($stub->calls('two-phase'), [], 'prepared is not committed');
sql(q(COMMIT PREPARED 'mine'));
sql(q(ROLLBACK PREPARED 'not'));
wait_status($node, 'two-phase', 'succeed');
is_deeply([ map { scalar @{ $stub->calls($_) } } qw(two-phase two-phase-not) ], [ 1, 0 ], 'COMMIT PREPARED starts it, ROLLBACK PREPARED does not');

# Sessions that hold rows and do nothing

$stub->program('/held', { hold => 1 });
sql("SELECT dtm.saga('row-$_', ARRAY[dtm.step('" . $stub->url('/held') . "', '" . $stub->url('/undo') . "')], request_timeout => '100s')") for 1 .. 3;
sql("SELECT dtm.saga_begin('row-4'); SELECT dtm.saga_branch('row-4', '$action')");
$stub->wait_calls('/held', 3);
{
	my %session = map { $_ => $node->background_psql('postgres') } qw(abort stop retry submit begin);

	$session{$_}->query_safe('BEGIN') for keys %session;
	$session{abort}->query_safe(q(SELECT dtm.abort('row-1', 'idle')));
	$session{stop}->query_safe(q(SELECT dtm.force_stop('row-2', 'idle')));
	$session{retry}->query_safe(q(SELECT dtm.retry_now('row-3')));
	$session{submit}->query_safe(q(SELECT dtm.submit('row-4')));
	$session{begin}->query_safe("SELECT dtm.saga('row-5', ARRAY[dtm.step('$action')])");

	# Their rows cannot be written now; everybody else's can.
	$stub->release('/held');
	sql("SELECT count(dtm.saga('free-' || n, ARRAY[dtm.step('$action')])) FROM generate_series(1, 50) n");
	wait_count('free-%', 'succeed', 50);
	is(sql(q(SELECT string_agg(status, ' ' ORDER BY gid) FROM dtm.transactions WHERE gid LIKE 'row-%')),
		'submitted submitted submitted prepared', 'idle sessions hold their own rows, and nobody else');
	is(sql(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND wait_event_type = 'Lock')), '0', 'no worker waits for a lock');

	$session{$_}->query_safe('COMMIT') for sort keys %session;
	$_->quit for values %session;
}
wait_status($node, 'row-1', 'failed');
wait_status($node, $_, 'succeed') for 'row-3' .. 'row-3', 'row-4', 'row-5';
is(sql(q(SELECT string_agg(status || ' ' || forced, ', ' ORDER BY gid) FROM dtm.transactions WHERE gid LIKE 'row-_')),
	'failed false, failed true, succeed false, succeed false, succeed false', 'after their commits each goes its way');
is_deeply($stub->calls('row-1'), [ '01 action', '01 compensate' ], 'the abort won over the success that could not be written');
is_deeply($stub->calls('row-2'), ['01 action'], 'force_stop calls nobody');

# A session with an old snapshot, and one that locks tables to read them

{
	my $old = $node->background_psql('postgres');

	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dtm.trans; LOCK TABLE dtm.trans, dtm.op, dtm.branch IN ACCESS SHARE MODE');
	sql("SELECT count(dtm.saga('old-' || n, ARRAY[dtm.step('$action')])) FROM generate_series(1, 50) n");
	wait_count('old-%', 'succeed', 50);
	is($old->query_safe(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'old-%')), '0', 'an old snapshot holds nobody up');
	$old->query_safe('COMMIT');
	$old->quit;
}

# Not now

set_conf($node, 'dtm.enabled' => 'off');
wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND query LIKE 'idle: dtm.enabled is off%'), '2');
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT dtm.saga('quiet', ARRAY[dtm.step('$action')])");

	is($rc, 0, 'disabled: stored all the same');
	like($err, qr/NOTICE:.*dtm\.enabled is off/, 'with a notice that says so');
}
sql("SELECT count(dtm.saga('quiet-' || n, ARRAY[dtm.step('$action')])) FROM generate_series(1, 100) n");
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'quiet%' AND status = 'submitted')), '101', 'nobody is called');
is_deeply($stub->calls('quiet'), [], 'really nobody');
set_conf($node, 'dtm.enabled' => 'on');
wait_count('quiet%', 'succeed', 101);

# What is old goes; what is not finished stays

sql("SELECT dtm.saga_begin('unfinished'); SELECT dtm.saga_branch('unfinished', '$action')");
sql(q(BEGIN; SELECT count(dtm.barrier('saga', 'g-' || n, '01', 'action')) FROM generate_series(1, 3000) n; COMMIT));
{
	# What is locked is passed over for now.
	my $locks = $node->background_psql('postgres');

	$locks->query_safe(q(BEGIN; SELECT 1 FROM dtm.trans WHERE gid = 'order-7' FOR UPDATE));
	set_conf($node, 'dtm.retention' => '1s', 'dtm.barrier_retention' => '1s');
	wait_for($node, q(SELECT string_agg(gid, ' ' ORDER BY gid) FROM dtm.trans), 'order-7 unfinished');
	$locks->query_safe('COMMIT');
	$locks->quit;
}
wait_for($node, q(SELECT count(*) FROM dtm.trans), '1');
wait_for($node, q(SELECT count(*) FROM dtm_barrier.barrier), '0');
is(sql(q(SELECT (SELECT count(*) FROM dtm.branch), (SELECT count(*) FROM dtm.op), dtm.status('unfinished'))), '1|0|prepared', 'retention: with branches and ops, and nothing that is not finished');
sql(q(SELECT dtm.submit('unfinished')));
is(sql(q(SELECT dtm.wait('unfinished', '60s'))), 'succeed', 'that goes on');

is(sql(q(SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM dtm.workers)), $workers, 'no worker has been replaced');
$node->stop;
done_testing();
