# The slow, the silent and the many stand in nobody's way; and what users do to
# sagas in memory is heard, however the news of it is lost.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('overload', conf => <<'CONF');
dtm.ring_size = 16
dtm.worker_memory = '1MB'
dtm.max_in_flight = 24
dtm.max_in_flight_per_host = 16
dtm.max_executors = 1
dtm.retention_interval = '100ms'
dtm.request_timeout = '30s'
max_prepared_transactions = 5
CONF
wait_worker($node);
my $stub = DtmTest::Stub->new;
my $action = $stub->url('/a');

sub sql { return $node->safe_psql('postgres', @_); }

# News that a full ring, or COMMIT PREPARED, does not bring

$stub->program('/later', { status => 425 });
my $later = $stub->url('/later');
sql("SELECT dtm.saga('$_', ARRAY[dtm.step('$later', '$action')], retry_interval => '100ms')") for qw(stop-x stop-y abort-z);
wait_for($node, q(SELECT count(*) FROM dtm.branches WHERE op = 'action' AND attempts > 0), 3);
sql("BEGIN; SELECT count(dtm.saga('flood-' || n, ARRAY[dtm.step('$action')])) FROM generate_series(1, 60) n; SELECT dtm.force_stop('stop-x', 'flooded'); COMMIT");
sql("BEGIN; SELECT dtm.force_stop('stop-y', 'prepared'); SELECT dtm.abort('abort-z'); PREPARE TRANSACTION 'both'; COMMIT PREPARED 'both'");
wait_status($node, 'abort-z', 'failed');
is_deeply([ grep { $_ eq '01 compensate' } @{ $stub->calls('abort-z') } ], ['01 compensate'], 'an abort by COMMIT PREPARED is heard');
wait_for($node, q(SELECT sum(in_memory) FROM dtm.workers), 0);
pass('... and so are stops: nobody is asked any more');
is(sql("SELECT string_agg(status, ' ') FROM dtm.transactions WHERE gid LIKE 'stop-_'"), 'failed failed', 'both are failed');

sql("SELECT dtm.saga_begin('held', timeout_to_fail => '50s'); SELECT dtm.saga_branch('held', '$action')");
wait_for($node, q(SELECT sum(in_memory) FROM dtm.workers), 1);
sql("BEGIN; SELECT dtm.submit('held'); PREPARE TRANSACTION 'submit'; COMMIT PREPARED 'submit'");
wait_status($node, 'held', 'succeed');
pass('a submit by COMMIT PREPARED does not wait for a deadline');

# More sagas for a slow host than memory holds

$stub->program('/slow', { hold => 1 });
sql("SELECT count(dtm.saga('slow-' || n, ARRAY[dtm.step('" . $stub->url('/slow') . "')], retry_interval => '200ms')) FROM generate_series(1, 2000) n");
$stub->wait_calls('/slow', 8);
my $fast = DtmTest::Stub->new;
my $beside = $fast->url('/a');
sql("SELECT dtm.saga('beside', ARRAY[dtm.step('$beside')])");
wait_status($node, 'beside', 'succeed');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'slow-%' AND status = 'submitted')), '2000', 'a saga beside two thousand that wait for a slow host');
$stub->program('/slow', { status => 200 });
$stub->release('/slow');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'slow-%' AND status = 'succeed'), 2000);
pass('... which all succeed when it answers');

# Several hosts that hang leave places for others

my @hanging = map { DtmTest::Stub->new } 1 .. 4;
$_->program('/hang', { hold => 1 }) for @hanging;
for my $h (0 .. 3)
{
	sql("SELECT count(dtm.saga('hang-$h-' || n, ARRAY[dtm.step('" . $hanging[$h]->url('/hang') . "')])) FROM generate_series(1, 20) n");
}
$_->wait_calls('/hang', 1) for @hanging;
sql("SELECT dtm.saga('between', ARRAY[dtm.step('$beside'), dtm.step('$beside')])");
wait_status($node, 'between', 'succeed');
pass('a saga runs while four hosts hang');
$_->program('/hang', { status => 200 }) for @hanging;
$_->release('/hang') for @hanging;
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'hang-%' AND status = 'succeed'), 80);

# Whoever keeps the executors busy makes room; waiting is no failed attempt

my $functions = <<'SQL';
CREATE TABLE gate (open boolean);
CREATE FUNCTION busy(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM public.gate) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
CREATE FUNCTION quick(payload jsonb) RETURNS void LANGUAGE sql AS '';
SQL
sql($functions);
sql('CREATE DATABASE beside');
$node->safe_psql('beside', "CREATE EXTENSION dtm; $functions");
wait_for($node, q(SELECT count(*) FROM dtm.workers WHERE database = 'beside' AND pid IS NOT NULL), 1);
sql(q(SELECT count(dtm.saga('busy-' || n, ARRAY[dtm.step('sql:public.busy')])) FROM generate_series(1, 10) n));
wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND query LIKE '%busy%'), 1);
$node->safe_psql('beside', "SELECT dtm.saga('patient', ARRAY[dtm.step('sql:public.quick', request_timeout => '100ms')], retry_limit => 1, retry_interval => '100ms')");
wait_until('the wait for an executor is shown', sub {
	$node->safe_psql('beside', q(SELECT last_error LIKE '%executors%' FROM dtm.branches WHERE gid = 'patient' AND op = 'action')) eq 't' });
is($node->safe_psql('beside', q(SELECT status FROM dtm.transactions WHERE gid = 'patient')), 'submitted', 'waiting for an executor is no failure');
sql('INSERT INTO gate VALUES (true)');
wait_until('the patient one succeeds', sub { $node->safe_psql('beside', q(SELECT dtm.status('patient'))) eq 'succeed' });
is($node->safe_psql('beside', q(SELECT attempts FROM dtm.branches WHERE gid = 'patient' AND op = 'action')), '1', '... nor an attempt');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'busy-%' AND status = 'succeed'), 10);

# A server that does not answer counts for all who wait for it

my $closed = PostgreSQL::Test::Cluster::get_free_port();
sql("SELECT count(dtm.saga('limited-' || n, ARRAY[dtm.step('http://127.0.0.1:$closed/x')], retry_limit => 2, retry_interval => '100ms')) FROM generate_series(1, 100) n");
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'limited-%' AND status = 'failed'), 100);
pass('a hundred sagas with a limit end soon, though only one call at a time is tried');

# Rows from a time when the clock was ahead do not stop retention

sql(q(UPDATE dtm.trans SET created_at = now() + interval '1 year', finished_at = now() + interval '1 year' WHERE gid LIKE 'slow-%'));
sql(q(UPDATE dtm.trans SET created_at = now() - interval '1 year', finished_at = now() - interval '1 year' WHERE gid LIKE 'limited-%'));
set_conf($node, 'dtm.retention' => '3600');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'limited-%'), 0);
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'slow-%')), '2000', 'old rows go, from behind two thousand of the future');

$node->stop;
done_testing();
