# Endings: a statement in the same commit as the final status, whoever refuses,
# whoever is killed, and whatever is wrong with the statement.
#
# The business here is an order for each gid. Its statement adds to a counter, so
# that it shows when one has run twice, or for the wrong end.
use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('endings', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '30s'
dtm.stuck_after = 3
CONF
my $stub = DtmTest::Stub->new;
my $debug = $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");

sub sql { return $node->safe_psql('postgres', @_); }

sql(<<'SQL');
CREATE ROLE shop LOGIN;
ALTER ROLE shop SET search_path = 'shop';
SELECT dtm.grant_usage('shop'), dtm.allow('shop', '*');
CREATE SCHEMA shop AUTHORIZATION shop;
SET ROLE shop;
CREATE TABLE shop.orders (gid text PRIMARY KEY, paid int NOT NULL DEFAULT 0, cancelled int NOT NULL DEFAULT 0,
	seen text, CHECK (paid + cancelled < 2));
CREATE TABLE shop.switch (name text PRIMARY KEY, broken boolean NOT NULL);
INSERT INTO shop.switch VALUES ('broken', false);

-- The gid comes from the context; the order is put in by whoever begins.
CREATE FUNCTION shop.paid() RETURNS void LANGUAGE sql SET search_path = shop AS
$$ UPDATE orders AS o SET paid = paid + 1, seen = concat_ws(' ', b.branch_id, b.op, b.trans_type, current_user, session_user, dtm.status(b.gid))
	FROM dtm.current_branch() AS b WHERE o.gid = b.gid $$;
CREATE FUNCTION shop.cancelled() RETURNS void LANGUAGE sql SET search_path = shop AS
$$ UPDATE orders AS o SET cancelled = cancelled + 1, seen = concat_ws(' ', b.branch_id, b.op, b.trans_type)
	FROM dtm.current_branch() AS b WHERE o.gid = b.gid $$;
CREATE FUNCTION shop.maybe() RETURNS void LANGUAGE plpgsql SET search_path = shop AS
$$ BEGIN PERFORM paid(); IF (SELECT broken FROM switch) THEN RAISE EXCEPTION 'out of paper'; END IF; END $$;
CREATE FUNCTION shop.fine(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION shop.refuses(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm.fail('no stock'); END $$;
CREATE FUNCTION shop.naps(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(600) $$;
CREATE PROCEDURE shop.pay() LANGUAGE sql AS $$ SELECT shop.paid() $$;
CREATE PROCEDURE shop.commits() LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.paid(); COMMIT; END $$;
SQL

my $both = q{on_success => 'SELECT shop.paid()', on_failure => 'CALL shop.cancel()'};
sql('SET ROLE shop; CREATE PROCEDURE shop.cancel() LANGUAGE sql AS $$ SELECT shop.cancelled() $$');

# As shop, with an order for the gid.
sub begin
{
	my ($gid, @statements) = @_;
	sql("SET SESSION AUTHORIZATION shop; BEGIN; "
		. join('; ', "INSERT INTO shop.orders SELECT '$gid' WHERE NOT EXISTS (SELECT FROM shop.orders WHERE gid = '$gid')", @statements, 'COMMIT'));
	return;
}

sub saga
{
	my ($gid, $options, @actions) = @_;
	my $steps = join(', ', map { "dtm.step('$_', '', '{}'::jsonb)" } @actions);

	begin($gid, "SELECT dtm.saga('$gid', ARRAY[$steps]::dtm.step[], $options)");
	return;
}

# paid|cancelled
sub order { return sql("SELECT paid, cancelled FROM shop.orders WHERE gid = '$_[0]'"); }

# What a user sees who waits: the status, and then the order.
sub outcome
{
	my ($gid) = @_;
	return sql("SELECT dtm.wait('$gid', '60s'); SELECT paid, cancelled FROM shop.orders WHERE gid = '$gid'");
}

sub row
{
	my ($gid, $op) = @_;
	return sql("SELECT branch_id, status, attempts, stuck FROM dtm.branches WHERE gid = '$gid' AND op = '$op'");
}

# Every mode, both ends

my $ok = $stub->url('/ok');
$stub->program('/no', { status => 409 });
my $no = $stub->url('/no');

saga('saga-1', $both, $ok, 'sql:shop.fine');
is(outcome('saga-1'), "succeed\n1|0", 'a saga that succeeds');
is(sql("SELECT seen FROM shop.orders WHERE gid = 'saga-1'"), '00 on_success saga shop shop submitted',
	'the statement runs as its owner, and knows where it is; the status is not final before it');
is(row('saga-1', 'on_success'), '00|succeed|1|f', 'it is seen');
is(row('saga-1', 'on_failure'), '00|prepared|0|f', 'and that the other is not needed');
is(sql("SELECT count(*) FROM dtm.branches WHERE gid = 'saga-1' AND op = 'action' AND status = 'succeed'"), '2',
	'whoever sees the status sees what the branches have answered');
is(sql("SELECT dtm.query('saga-1') -> 'ending' ->> 'status', dtm.query('saga-1') ->> 'on_success'"),
	'succeed|SELECT shop.paid()', 'so does who queries');

saga('saga-2', $both, 'sql:shop.fine', $no);
is(outcome('saga-2'), "failed\n0|1", 'a saga that is refused');
is(sql("SELECT seen FROM shop.orders WHERE gid = 'saga-2'"), '00 on_failure saga', 'the other statement');
like(sql("SELECT reason FROM dtm.transactions WHERE gid = 'saga-2'"), qr/^branch 02 refused: /, 'the reason is kept');
is(sql("SELECT finished_at IS NOT NULL AND finished_at >= submitted_at FROM dtm.transactions WHERE gid = 'saga-2'"), 't', 'and the times');

saga('saga-4', $both, '');
is(outcome('saga-4'), "succeed\n1|0", 'a saga that calls nobody');
saga('saga-5', "on_failure => 'SELECT shop.cancelled()'", $ok);
is(outcome('saga-5'), "succeed\n0|0", 'a statement for the other end only');

begin('saga-6', "SELECT dtm.saga_begin('saga-6', timeout_to_fail => '50ms', $both)");
is(outcome('saga-6'), "failed\n0|1", 'a saga that is never submitted');
is(sql("SELECT reason FROM dtm.transactions WHERE gid = 'saga-6'"), 'timeout_to_fail has passed', 'with its reason');

begin('saga-7', "SELECT dtm.saga_begin('saga-7', $both)");
sql("SELECT dtm.abort('saga-7', 'changed my mind')");
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'saga-7'", '0|1');
is(sql("SELECT status, reason FROM dtm.transactions WHERE gid = 'saga-7'"), 'failed|changed my mind', 'a saga that its user aborts');

for my $local (0, 1)
{
	my ($yes, $refuses) = $local ? ('sql:shop.fine', 'sql:shop.refuses') : ($ok, $no);
	my $step = "dtm.tcc_step('%s', '$yes', '$yes', '{}'::jsonb)";

	begin("tcc-1-$local", sprintf("SELECT dtm.tcc('tcc-1-$local', ARRAY[$step, $step], $both)", $yes, $yes));
	is(outcome("tcc-1-$local"), "succeed\n1|0", 'a tcc that is confirmed');
	begin("tcc-2-$local", sprintf("SELECT dtm.tcc('tcc-2-$local', ARRAY[$step, $step], $both)", $yes, $refuses));
	is(outcome("tcc-2-$local"), "failed\n0|1", 'a tcc that is cancelled');
	begin("tcc-3-$local", "SELECT dtm.tcc_begin('tcc-3-$local', $both)",
		"SELECT dtm.tcc_branch('tcc-3-$local', '$yes', '$yes', '{}')", "SELECT dtm.abort('tcc-3-$local')");
	is(outcome("tcc-3-$local"), "failed\n0|1", 'a tcc that its user aborts');
	begin("tcc-4-$local", sprintf("SELECT dtm.tcc('tcc-4-$local', ARRAY[dtm.tcc_step('%s', '', '', '{}'::jsonb)], $both)", $refuses));
	is(outcome("tcc-4-$local"), "failed\n0|1", 'a tcc that is refused, with nothing to cancel');
	begin("msg-1-$local", "SELECT dtm.msg('msg-1-$local', ARRAY[dtm.step('$yes', payload => '{}')], $both)");
	is(outcome("msg-1-$local"), "succeed\n1|0", 'a message');
}
begin('tcc-5', "SELECT dtm.tcc_begin('tcc-5', timeout_to_fail => '50ms', $both)");
is(outcome('tcc-5'), "failed\n0|1", 'a tcc without branches that is left alone');

begin('msg-2', "SELECT dtm.msg_begin('msg-2', '$no', timeout_to_fail => '50ms', $both)");
is(outcome('msg-2'), "failed\n0|1", 'a message that was rolled back');
begin('msg-3', "SELECT dtm.msg_begin('msg-3', '$ok', timeout_to_fail => '50ms', $both)", "SELECT dtm.msg_branch('msg-3', '$ok', '{}')");
is(outcome('msg-3'), "succeed\n1|0", 'a message whose submit was lost');

begin('xa-1', "SELECT dtm.xa_begin('xa-1', $both)", "SELECT dtm.xa_branch('xa-1', '$ok')", "SELECT dtm.submit('xa-1')");
is(outcome('xa-1'), "succeed\n1|0", 'an xa that is committed');
begin('xa-2', "SELECT dtm.xa_begin('xa-2', $both)", "SELECT dtm.xa_branch('xa-2', '$ok')", "SELECT dtm.abort('xa-2')");
is(outcome('xa-2'), "failed\n0|1", 'an xa that is rolled back');

# Kinds of statements

saga('call', q{on_success => 'CALL shop.pay()'}, $ok);
is(outcome('call'), "succeed\n1|0", 'a procedure');
saga('update', q{on_success => $$UPDATE orders SET paid = 1 WHERE gid = 'update' RETURNING *; $$}, $ok);
is(outcome('update'), "succeed\n1|0", 'an update, with the search_path of its owner');
saga('many', q{on_success => $$WITH one AS (SELECT shop.paid()) SELECT * FROM one, generate_series(1, 100000)$$}, $ok);
is(outcome('many'), "succeed\n1|0", 'one with many rows, which nobody reads');
saga('next', sprintf(q{on_success => $$SELECT dtm.saga('next-next', ARRAY[dtm.step('%s')], on_success => 'INSERT INTO shop.orders VALUES (''next-next'')')$$}, $ok), $ok);
is(outcome('next'), "succeed\n0|0", 'one that begins the next saga');
is(outcome('next-next'), "succeed\n0|0", 'which runs, with its own ending');

# A statement that fails: the status is final all the same

sql('UPDATE shop.switch SET broken = true');
set_conf($node, 'dtm.max_retry_interval' => '1h');
saga('broken-2', q{on_success => 'SELECT shop.maybe()', retry_interval => '1 hour'}, $ok);
is(outcome('broken-2'), "succeed\n0|0", 'one that waits long');
my $was = sql("SELECT finished_at FROM dtm.transactions WHERE gid = 'broken-2'");
set_conf($node, 'dtm.max_retry_interval' => '400ms');

saga('broken', q{on_success => 'SELECT shop.maybe()'}, $ok);
is(outcome('broken'), "succeed\n0|0", 'a broken statement: the status is final, nothing else has happened');
is(sql("SELECT finished_at IS NOT NULL FROM dtm.transactions WHERE gid = 'broken'"), 't', 'it has finished');
wait_for($node, "SELECT status, branch_id, op, address, last_error FROM dtm.stuck WHERE gid = 'broken'",
	'succeed|00|on_success|SELECT shop.maybe()|P0001: out of paper');
like(row('broken', 'on_success'), qr/^00\|prepared\|\d+\|t$/, 'it is seen, and by whoever looks for what is stuck');
is(sql('SELECT backlog FROM dtm.stats'), '0', 'it is no backlog');
is(sql("SELECT dtm.query('broken') -> 'ending' ->> 'last_error'"), 'P0001: out of paper', 'and why');

# Through restarts, of the worker and of the server
my $worker = worker_pid($node);
sql("SELECT pg_terminate_backend($worker)");
wait_worker($node, $worker);
$node->restart;
wait_worker($node);
my $attempts = sql("SELECT attempts FROM dtm.branches WHERE gid = 'broken' AND op = 'on_success'");
wait_for($node, "SELECT attempts > $attempts FROM dtm.branches WHERE gid = 'broken' AND op = 'on_success'");
is(order('broken') . ' ' . order('broken-2'), '0|0 0|0', 'nothing has happened yet');

sql('UPDATE shop.switch SET broken = false');
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'broken'", '1|0');
is(sql("SELECT count(*) FROM dtm.stuck"), '0', 'mended: it is not stuck any more');
is(order('broken-2'), '0|0', 'the one that waits, waits');
sql("SELECT dtm.retry_now('broken-2')");
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'broken-2'", '1|0');
wait_for($node, "SELECT attempts, status FROM dtm.branches WHERE gid = 'broken-2' AND op = 'on_success'", '2|succeed');
is(sql("SELECT finished_at FROM dtm.transactions WHERE gid = 'broken-2'"), $was, 'that it has finished was before');
is(($node->psql('postgres', "SELECT dtm.retry_now('broken-2')"))[0], 3, 'there is nothing to retry any more');

# What a statement must not do

saga('hangs', q{on_success => 'SELECT shop.paid(), pg_sleep(600)', request_timeout => '300ms'}, $ok);
is(outcome('hangs'), "succeed\n0|0", 'a statement that hangs');
like(sql("SELECT last_error FROM dtm.branches WHERE gid = 'hangs' AND op = 'on_success'"), qr/^no answer within 300 ms$/, 'and why');

my %wrong = (
	'commits' => [ 'CALL shop.commits()', qr/^2D000: / ],
	'gone' => [ 'SELECT shop.never_made()', qr/^42883: function shop.never_made\(\) does not exist/ ],
	'rights' => [ 'SELECT shop.paid(), (SELECT count(*) FROM pg_catalog.pg_authid)', qr/^42501: permission denied/ ],
	'own' => [ q{UPDATE dtm.trans SET status = 'F'}, qr/^42501: permission denied/ ],
	'refuses' => [ q{SELECT shop.paid(), dtm.fail('no')}, qr/^DT409: no/ ],
	'ongoing' => [ q{SELECT shop.paid(), dtm.ongoing('later')}, qr/^DT425: later/ ],
	'itself' => [ q{SELECT shop.paid(), dtm.force_stop('wrong-itself')}, qr/^DT412: (the statement has changed its own|cannot stop) global transaction/ ]);
for my $name (sort keys %wrong)
{
	my ($statement, $error) = @{ $wrong{$name} };

	saga("wrong-$name", "on_success => \$q\$$statement\$q\$", $ok);
	is(outcome("wrong-$name"), "succeed\n0|0", "$name: the status is final");
	like(sql("SELECT last_error FROM dtm.branches WHERE gid = 'wrong-$name' AND op = 'on_success'"), $error, "$name: and why");
}
begin('wrong-joins', q{SELECT dtm.saga_begin('wrong-joins', timeout_to_fail => '50ms', on_failure => $$SELECT shop.cancelled(), dtm.saga_branch('wrong-joins', '')$$)});
is(outcome('wrong-joins'), "failed\n0|0", 'one that would join its own saga');
like(sql("SELECT last_error FROM dtm.branches WHERE gid = 'wrong-joins' AND op = 'on_failure'"), qr/^DT412: /, 'and why');

# They can be given up, but only when people have been told
wait_for($node, q{SELECT count(*) FROM dtm.stuck}, '9');
is(sql(q{SELECT count(dtm.force_stop(gid, 'not worth it')) FROM dtm.stuck WHERE op = 'on_success' OR op = 'on_failure'}), '9', 'stuck statements are given up');
is(sql(q{SELECT count(*) FROM dtm.stuck}), '0', 'and not seen any more');
is(sql(q{SELECT count(*) FROM dtm.trans WHERE due IS NOT NULL}), '0', 'nor tried');
is(sql(q{SELECT status, forced FROM dtm.transactions WHERE gid = 'wrong-gone'}), 'succeed|f', 'the status stays');
is(sql(q{SELECT count(*) FROM dtm.operation_log WHERE gid ~ '^(wrong|hangs)' AND reason = 'not worth it'}), '9', 'it is on record');

# A role that is gone
sql(q{CREATE ROLE leaver LOGIN; SELECT dtm.grant_usage('leaver'), dtm.allow('leaver', '*')});
$stub->program('/leaver', { hold => JSON::PP::true });
sql(sprintf(q{SET SESSION AUTHORIZATION leaver; SELECT dtm.saga('leaver', ARRAY[dtm.step('%s')], on_success => 'SELECT 1')}, $stub->url('/leaver')));
$stub->wait_calls('/leaver', 1);
sql('DROP OWNED BY leaver; DROP ROLE leaver');
$stub->release('/leaver');
wait_status($node, 'leaver', 'succeed');
wait_for($node, q{SELECT last_error ~ 'does not exist|is gone' FROM dtm.stuck WHERE gid = 'leaver'});
sql(q{SELECT dtm.force_stop('leaver', 'its role is gone')});

# Users against it

# Force: the branches are not listened to any more; the statement runs.
$stub->program('/held', { hold => JSON::PP::true });
saga('forced', $both, $stub->url('/held'), $ok);
$stub->wait_calls('/held', 1);
is(sql("SELECT dtm.force_stop('forced', 'enough'); SELECT dtm.wait('forced', '60s')"), "\nfailed", 'stopped by force');
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'forced'", '0|1');
sql("SELECT dtm.force_stop('forced', 'once more')");
$stub->release('/held');
saga('after', $both, $ok);
is(outcome('after'), "succeed\n1|0", 'others go on');
is(order('forced'), '0|1', 'and that one stays as it is');
is_deeply($stub->calls('forced'), ['01 action'], 'nothing more was called');

# Force, while the statement for success runs: the row wins.
{
	my $holder = $node->background_psql('postgres');

	sql(q{INSERT INTO shop.orders VALUES ('race')});
	$holder->query_safe(q{BEGIN; UPDATE shop.orders SET seen = 'held' WHERE gid = 'race'});
	saga('race', $both, $ok);
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'}, '1');
	is(sql("SELECT dtm.status('race')"), 'submitted', 'as long as its statement runs, it has not ended');
	sql("SELECT dtm.abort('race', 'no, stop')");
	$holder->query_safe('COMMIT');
	is(outcome('race'), "failed\n0|1", 'aborted while its statement ran: the other end, and that statement only');

	# A row that a session holds for long: nothing is blocked, nothing is lost.
	$holder->query_safe(q{BEGIN; SELECT FROM dtm.trans WHERE gid = 'idle' FOR UPDATE});
	sql(q{INSERT INTO shop.orders VALUES ('idle')});
	$stub->program('/idle', { hold => JSON::PP::true });
	saga('idle', $both, $stub->url('/idle'));
	$stub->wait_calls('/idle', 1);
	$holder->query_safe(q{SELECT FROM dtm.trans WHERE gid = 'idle' FOR UPDATE});
	$stub->release('/idle');
	wait_for($node, q{SELECT calls_ongoing > 0 FROM dtm.stats});
	saga('beside', $both, $ok);
	is(outcome('beside'), "succeed\n1|0", 'a held row stops nobody else');
	is(order('idle') . sql(q{SELECT dtm.status('idle')}), '0|0submitted', 'its own end waits');
	$holder->query_safe('COMMIT');
	is(outcome('idle'), "succeed\n1|0", 'until it is free');

	# The same of one that is only prepared, which is read anew each time.
	$holder->query_safe(q{BEGIN});
	begin('idle-2', "SELECT dtm.saga_begin('idle-2', timeout_to_fail => '200ms', $both)");
	$holder->query_safe(q{SELECT FROM dtm.trans WHERE gid = 'idle-2' FOR UPDATE});
	my $before = sql(q{SELECT calls_ongoing FROM dtm.stats});
	wait_for($node, qq{SELECT calls_ongoing > $before + 2 FROM dtm.stats});
	$holder->query_safe('COMMIT');
	is(outcome('idle-2'), "failed\n0|1", 'prepared, and held');

	# A branch that joins while the end is being decided: it is decided anew.
	$holder->query_safe(q{BEGIN});
	begin('joined', "SELECT dtm.tcc_begin('joined', timeout_to_fail => '300ms', $both)");
	$holder->query_safe(qq{SELECT dtm.tcc_branch('joined', '$ok', '$ok', '{}')});
	$before = sql(q{SELECT calls_ongoing FROM dtm.stats});
	wait_for($node, qq{SELECT calls_ongoing > $before FROM dtm.stats});
	$holder->query_safe('COMMIT');
	is(outcome('joined'), "failed\n0|1", 'a branch joined meanwhile');
	is_deeply($stub->calls('joined'), ['01 cancel'], 'and was cancelled');

	# What is read again while its statement runs has no other executor run it.
	my $locked = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'};

	sql(q{INSERT INTO shop.orders VALUES ('again')});
	$holder->query_safe(q{BEGIN; UPDATE shop.orders SET seen = 'held' WHERE gid = 'again'});
	begin('again', "SELECT dtm.saga_begin('again', timeout_to_fail => '50ms', $both)");
	wait_for($node, $locked, '1');
	sql("SELECT dtm.saga_branch('again', '$ok')") for 1, 2;
	saga('later', "timeout_to_fail => '1h'", $ok);
	wait_status($node, 'later', 'succeed');
	is(sql($locked), '1', 'read again: its statement runs once');
	$holder->query_safe('COMMIT');
	is(outcome('again'), "failed\n0|1", 'and for the branches that there are');
	$holder->quit;
}

# Executors that are busy with something else do not keep a status open

{
	my $naps = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event = 'PgSleep'};

	saga("nap-$_", "request_timeout => '300s'", 'sql:shop.naps') for 1, 2;
	wait_for($node, "SELECT count(*) FROM ($naps) AS n", '2');
	saga('busy', "$both, request_timeout => '300ms'", $ok);
	is(outcome('busy'), "succeed\n0|0", 'no executor is free for its statement: it ends without');
	is(sql("SELECT last_error FROM dtm.branches WHERE gid = 'busy' AND op = 'on_success'"),
		'no executor was free within 300 ms', 'and why');
	sql("SELECT dtm.force_stop('nap-$_', 'wake up')") for 1, 2;
	sql("SELECT pg_cancel_backend($_)") for split /\n/, sql($naps);
	wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'busy'", '1|0');
}

# Many at once: whoever has waited sees the effect

{
	my $script = $node->basedir . '/load.sql';

	PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
\set end random(0, 1)
SELECT quote_literal(dtm.new_gid()) AS gid \gset
BEGIN;
INSERT INTO shop.orders VALUES (:gid);
SELECT dtm.saga(:gid, ARRAY[dtm.step(CASE :end WHEN 1 THEN 'sql:shop.fine' ELSE 'sql:shop.refuses' END)],
	on_success => 'SELECT shop.paid()', on_failure => 'CALL shop.cancel()');
COMMIT;
SELECT quote_literal(dtm.wait(:gid, '60s')) AS status \gset
SELECT 1 / count(*) FROM shop.orders WHERE gid = :gid
	AND paid = (:status = 'succeed')::int AND cancelled = (:status = 'failed')::int AND paid = :end;
SQL
	$node->command_ok(
		[ 'pgbench', '-n', '-U', 'shop', '-c', 8, '-j', 2, '-t', 150, '-M', 'simple', '-f', $script, 'postgres' ],
		'1200 sagas by eight clients: each sees its order as it ended');

	sql(<<'SQL');
SET SESSION AUTHORIZATION shop;
INSERT INTO shop.orders SELECT 'mass-' || i FROM generate_series(1, 3000) AS i;
SELECT count(dtm.saga('mass-' || i, ARRAY[dtm.step('')], on_success => 'SELECT shop.paid()')) FROM generate_series(1, 3000) AS i;
SQL
	wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid ~ '^mass-' AND status = 'succeed'}, '3000');
	is(sql(q{SELECT count(*) FROM shop.orders WHERE gid ~ '^mass-' AND paid = 1}), '3000', 'thousands at once');
	sql(q{SET SESSION AUTHORIZATION shop; INSERT INTO shop.orders SELECT 'stop-' || i FROM generate_series(1, 1000) AS i;
		SELECT count(dtm.saga_begin('stop-' || i, on_failure => 'CALL shop.cancel()')) FROM generate_series(1, 1000) AS i;
		SELECT count(dtm.force_stop('stop-' || i)) FROM generate_series(1, 1000) AS i});
	wait_for($node, q{SELECT count(*) FROM shop.orders WHERE gid ~ '^stop-' AND cancelled = 1}, '1000');
}

# Retention leaves alone what is still to be run

sql('UPDATE shop.switch SET broken = true');
saga('kept', q{on_success => 'SELECT shop.maybe()'}, $ok);
saga('goes', $both, $ok);
is(outcome('kept') . ' ' . outcome('goes'), "succeed\n0|0 succeed\n1|0", 'one pending, one not');
set_conf($node, 'dtm.retention' => '1s', 'dtm.retention_interval' => '100ms');
wait_for($node, q{SELECT count(*) FROM dtm.transactions}, '1');
is(sql(q{SELECT gid FROM dtm.transactions}), 'kept', 'what has a statement to run is kept');
sql('UPDATE shop.switch SET broken = false');
wait_for($node, q{SELECT count(*) FROM dtm.transactions}, '0');
is(order('kept'), '1|0', 'until that is done');
set_conf($node, 'dtm.retention' => undef, 'dtm.retention_interval' => undef);

# Paused in the middle: nothing is lost
set_conf($node, 'dtm.enabled' => 'off');
begin('paused', "SELECT dtm.saga_begin('paused', $both)", "SELECT dtm.force_stop('paused')");
is(sql(q{SELECT dtm.wait('paused', '0')}), 'failed', 'stopped while nothing is called');
set_conf($node, 'dtm.enabled' => 'on');
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'paused'", '0|1');

# What was stuck when it was stopped is so no more
my $stuck = q{SELECT (SELECT count(*) FROM dtm.stuck), (SELECT count(*) FROM dtm.doctor() WHERE problem ~ 'are stuck')};
begin('given-up', "SELECT dtm.saga('given-up', ARRAY[dtm.step('$ok', '$no'), dtm.step('$no')], $both)");
wait_for($node, $stuck, '1|1');
set_conf($node, 'dtm.enabled' => 'off');
sql(q{SELECT dtm.force_stop('given-up')});
is(sql($stuck), '0|0', 'nor for the doctor, while its statement is due');
set_conf($node, 'dtm.enabled' => 'on');
wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = 'given-up'", '0|1');

# Killed at every point: the effect is there once, and that of the status

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $n = 0;
	my @executor = qw(executor-job-taken executor-op-locked executor-ending-run executor-before-commit executor-after-commit executor-result-told);
	my @worker = qw(worker-job-given worker-ending-answered worker-before-marks worker-after-marks worker-before-decision worker-after-decision worker-before-telling worker-after-load);

	# The role has no SQL branches here: executors run endings only.
	for my $case ((map { my $p = $_; map { [ $p, $_ ] } qw(self worker postmaster) } @executor),
		# An idle worker has marks to commit, too: that must not end the server.
		(map { my $p = $_; map { [ $p, $_ ] } $p =~ /marks/ ? 'self' : qw(self postmaster) } @worker))
	{
		my ($point, $victim) = @$case;
		my @ends = $point =~ /decision/ ? ('failed', 'broken') : ('succeed', 'failed');

		for my $end (@ends)
		{
			# A decision of the worker's own is to turn back, or to do without the statement.
			my $gid = 'point-' . ++$n;
			my $statement = $end eq 'broken' ? 'SELECT shop.maybe()' : 'SELECT shop.paid()';

			sql('UPDATE shop.switch SET broken = ' . ($end eq 'broken' ? 'true' : 'false'));
			sql("INSERT INTO shop.orders VALUES ('$gid')");
			my $token = arm_point($node, $point, $victim);

			# It may die before the client has its answer.
			$node->psql('postgres', "SET SESSION AUTHORIZATION shop; SELECT dtm.saga('$gid', ARRAY[dtm.step('$ok', '$ok'), dtm.step('"
				. ($end eq 'failed' ? $no : $ok) . "')], on_success => '$statement', on_failure => 'CALL shop.cancel()')");
			wait_point($node, $token);
			start_again($node) if $victim eq 'postmaster';
			wait_status($node, $gid, $end eq 'failed' ? 'failed' : 'succeed');
			wait_for($node, q{UPDATE shop.switch SET broken = false RETURNING 't'}) if $end eq 'broken';
			wait_for($node, "SELECT paid, cancelled FROM shop.orders WHERE gid = '$gid'", $end eq 'failed' ? '0|1' : '1|0');
			wait_for($node, "SELECT count(*) FROM dtm.trans WHERE gid = '$gid' AND due IS NULL AND finished_at IS NOT NULL", '1');
			is(order($gid), $end eq 'failed' ? '0|1' : '1|0', "$point, $victim killed, $end: run once");
		}
	}

	# The worker is ended, and its executor goes on: the status is there once.
	my $holder = $node->background_psql('postgres');
	for my $end ('succeed', 'failed')
	{
		my $old = worker_pid($node);

		sql("INSERT INTO shop.orders VALUES ('left-$end')");
		$holder->query_safe("BEGIN; UPDATE shop.orders SET seen = 'held' WHERE gid = 'left-$end'");
		saga("left-$end", $both, $ok, $end eq 'failed' ? $no : $ok);
		wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'}, '1');
		sql("SELECT pg_terminate_backend($old)");
		wait_worker($node, $old);
		wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'}, '2');
		$holder->query_safe('COMMIT');
		is(outcome("left-$end"), $end eq 'failed' ? "failed\n0|1" : "succeed\n1|0", "asked for twice, run once: $end");
	}
	$holder->quit;
}

is(sql(q{SELECT count(*) FROM shop.orders AS o JOIN dtm.transactions AS t USING (gid)
	WHERE t.status = 'succeed' AND cancelled > 0 OR t.status = 'failed' AND paid > 0}), '0', 'nowhere the wrong statement');

$node->stop;
done_testing();
