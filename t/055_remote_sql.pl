# Branches on other PostgreSQL servers: exactly once whatever breaks between the
# two, with nobody's rights but the caller's, and in nobody's way.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use DtmTest;

my $here = dtm_node('here', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '1s'
dtm.connect_timeout = '1s'
CONF
my $there = dtm_node('there', conf => "listen_addresses = '127.0.0.1'\n");
my $debug = $here->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");
my $port = $there->port;

append_to_file($there->data_dir . '/pg_hba.conf', '');
{
	my $hba = $there->data_dir . '/pg_hba.conf';
	my $rest = slurp_file($hba);
	open(my $file, '>', $hba) or die $!;
	print $file <<"HBA" . $rest;
local all app scram-sha-256
host all app 127.0.0.1/32 scram-sha-256
host all easy 127.0.0.1/32 trust
host all postgres 127.0.0.1/32 trust
HBA
	close $file;
}
$there->reload;

# There: the participant

my $participant = <<'SQL';
CREATE SCHEMA app AUTHORIZATION app;
SET ROLE app;
CREATE TABLE app.done (gid text, branch_id text, op text, payload jsonb,
	who text DEFAULT current_user, trans_type text, path text DEFAULT current_setting('search_path'));
CREATE SEQUENCE app.tries;
CREATE TABLE app.once (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION app.note(payload jsonb) RETURNS jsonb LANGUAGE sql AS
$$ INSERT INTO app.done SELECT gid, branch_id, op, payload, current_user, trans_type FROM dtm.current_branch() RETURNING to_jsonb(done) $$;
CREATE FUNCTION app.undo(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO app.done SELECT gid, branch_id, op, payload FROM dtm.current_branch() $$;
CREATE FUNCTION app."No;Thanks"(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO app.done(gid) VALUES ('never'); PERFORM dtm.fail('kein Platz für Böses'); END $$;
CREATE FUNCTION app.later(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM app.note(payload);
	IF nextval('app.tries') < 3 THEN PERFORM dtm.ongoing('not yet'); END IF;
END $$;
CREATE FUNCTION app.raises(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM app.note(payload);
	IF nextval('app.tries') < 3 THEN PERFORM 1 / 0; END IF;
END $$;
CREATE FUNCTION app.conflicts(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM app.note(payload);
	IF nextval('app.tries') < 3 THEN RAISE SQLSTATE '40001'; END IF;
END $$;
CREATE FUNCTION app.deferred(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO app.once VALUES (1), (1) $$;
CREATE FUNCTION app.slow(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM app.note(payload); PERFORM pg_sleep((payload ->> 'seconds')::float); END $$;
CREATE FUNCTION app.litters(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM pg_advisory_lock(42);
	PERFORM set_config('search_path', 'nowhere', false);
	CREATE TEMP TABLE leftover ();
	EXECUTE 'PREPARE leftover AS SELECT 1';
	EXECUTE 'DECLARE leftover CURSOR WITH HOLD FOR SELECT 1';
END $$;
CREATE FUNCTION app.clean(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	IF current_setting('search_path') = 'nowhere' OR to_regclass('pg_temp.leftover') IS NOT NULL
		OR EXISTS (SELECT FROM pg_prepared_statements) OR EXISTS (SELECT FROM pg_cursors WHERE name = 'leftover')
		OR EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
	THEN PERFORM dtm.fail('something was left behind'); END IF;
END $$;
CREATE FUNCTION app.chatters(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM app.note(payload);
	FOR i IN 1 .. 200 LOOP RAISE NOTICE '%', repeat('x', 8000); END LOOP;
END $$;
CREATE FUNCTION app.floods(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM app.note(payload);
	FOR i IN 1 .. 200 LOOP RAISE WARNING '%', repeat('x', 8000); END LOOP;
END $$;
CREATE FUNCTION app.certificate(payload jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT to_jsonb(coalesce(client_dn, 'none')) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl $$;
SQL
$there->safe_psql('postgres', <<"SQL");
CREATE ROLE app LOGIN PASSWORD 'open-sesame';
CREATE ROLE easy LOGIN;
SELECT dtm.grant_usage('app'), dtm.grant_usage('easy');
$participant
SQL
$there->safe_psql('postgres', 'CREATE DATABASE plain');

# Here: who calls

$here->safe_psql('postgres', <<"SQL");
CREATE EXTENSION postgres_fdw;
CREATE ROLE shop LOGIN;
CREATE ROLE poor LOGIN;
SELECT dtm.grant_usage('shop'), dtm.grant_usage('poor');
CREATE SERVER bank FOREIGN DATA WRAPPER postgres_fdw
	OPTIONS (host '127.0.0.1', port '$port', dbname 'postgres', use_remote_estimate 'true', fetch_size '7');
GRANT USAGE ON FOREIGN SERVER bank TO shop;
CREATE USER MAPPING FOR shop SERVER bank OPTIONS (user 'app', password 'open-sesame');
SQL

# A server for one purpose; options are those of the server.
sub server
{
	my ($name, $options, $mapping) = @_;
	$mapping ||= "user 'app', password 'open-sesame'";
	$here->safe_psql('postgres', <<"SQL");
CREATE SERVER "$name" FOREIGN DATA WRAPPER postgres_fdw OPTIONS ($options);
GRANT USAGE ON FOREIGN SERVER "$name" TO shop;
CREATE USER MAPPING FOR shop SERVER "$name" OPTIONS ($mapping);
SQL
	return;
}

# A saga of such branches, begun as a role; steps are [action, compensate, payload].
sub begin_saga
{
	my ($role, $gid, $options, @steps) = @_;
	my $steps = join(', ',
		map { sprintf('dtm.step(%s, %s, %s::jsonb)',
				map { defined $_ ? "\$q\$$_\$q\$" : 'NULL' } @$_[ 0 .. 2 ]) } @steps);
	return "SET SESSION AUTHORIZATION $role; SELECT dtm.saga('$gid', ARRAY[$steps]" .
	  ($options ? ", $options" : '') . ')';
}

sub saga
{
	$here->safe_psql('postgres', begin_saga('shop', @_));
	return;
}

sub done
{
	my ($gid) = @_;
	return $there->safe_psql('postgres',
		"SELECT branch_id, op, count(*) FROM app.done WHERE gid = '$gid' GROUP BY 1, 2 ORDER BY 1, 2");
}

# It may have succeeded by itself meanwhile.
sub hurry
{
	my ($gid) = @_;
	$here->psql('postgres', "SELECT dtm.retry_now('$gid')");
	return;
}

sub wait_error
{
	my ($gid, $pattern, $what) = @_;
	my $quoted = quotemeta($gid);
	wait_for($here,
		"SELECT bool_or(last_error ~ \$q\$$pattern\$q\$) FROM dtm.branches WHERE gid = '$gid'", 't');
	like($here->safe_psql('postgres',
			"SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND last_error IS NOT NULL LIMIT 1"),
		qr/$pattern/, $what);
	return;
}

my $note = 'sql://bank/app.note';
my $undo = 'sql://bank/app.undo';

# As it should be

saga('plain', '', [ $note, $undo, '{"a": "ü"}' ], [ 'sql://"bank"/app.note', $undo, undef ]);
wait_status($here, 'plain', 'succeed');
is( $there->safe_psql('postgres',
		q{SELECT branch_id, op, payload, who, trans_type, path FROM app.done WHERE gid = 'plain' ORDER BY 1}),
	qq(01|action|{"a": "ü"}|app|saga|"\$user", public\n02|action||app|saga|"\$user", public),
	'the function runs there as the role of the mapping, and knows its branch');
is($there->safe_psql('postgres',
		q{SELECT branch_id, op, barrier_id, reason FROM dtm_barrier.barrier WHERE gid = 'plain' ORDER BY 1}),
	"01|action|01|action\n02|action|01|action", 'behind the barrier');

saga('refused', '', [ $note, $undo, '{}' ], [ 'sql://bank/app."No;Thanks"', $undo, '{}' ]);
wait_status($here, 'refused', 'failed');
is(done('refused'), "01|action|1\n01|compensate|1", 'what was refused is not undone');
is($there->safe_psql('postgres', q{SELECT count(*) FROM app.done WHERE gid = 'never'}),
	'0', 'nothing of the refusing function stays');
like($here->safe_psql('postgres', q{SELECT dtm.query('refused') ->> 'reason'}),
	qr/kein Platz für Böses/, 'the reason is kept');

for my $case ([ 'later', 'not yet' ], [ 'raises', '22012: division by zero' ])
{
	my ($name, $error) = @$case;
	$there->safe_psql('postgres', 'ALTER SEQUENCE app.tries RESTART');
	saga($name, '', [ "sql://bank/app.$name", '', '{}' ]);
	wait_status($here, $name, 'succeed');
	is(done($name), '01|action|1', "$name: once, in the end");
	is($here->safe_psql('postgres',
			"SELECT attempts FROM dtm.branches WHERE gid = '$name' AND op = 'action'"),
		'3', "$name: at the third attempt");
}
saga('error text', "retry_interval => '1h'", [ 'sql://bank/app.deferred', '', '{}' ]);
wait_error('error text', '^23505: duplicate key value', 'deferred constraints are checked within the call');

$there->safe_psql('postgres', 'ALTER SEQUENCE app.tries RESTART');
saga('conflicts', "retry_interval => '1h'", [ 'sql://bank/app.conflicts', '', '{}' ]);
wait_status($here, 'conflicts', 'succeed');
is(done('conflicts'), '01|action|1', 'a serialization failure is repeated at once');

saga('litters', '', [ 'sql://bank/app.litters', '', '{}' ], [ 'sql://bank/app.clean', '', '{}' ],
	[ 'sql://bank/app.clean', '', '{}' ]);
wait_status($here, 'litters', 'succeed');
is($there->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND application_name = 'dtm'}),
	'1', 'one connection served them all');

# The other modes

$here->safe_psql('postgres', <<'SQL');
SET SESSION AUTHORIZATION shop;
SELECT dtm.tcc('tcc', ARRAY[
	dtm.tcc_step('sql://bank/app.note', 'sql://bank/app.note', 'sql://bank/app.undo', '{"n": 1}'),
	dtm.tcc_step('sql://bank/app.note', 'sql://bank/app.note', 'sql://bank/app.undo', '{"n": 2}')]);
SELECT dtm.tcc('tcc no', ARRAY[
	dtm.tcc_step('sql://bank/app.note', 'sql://bank/app.note', 'sql://bank/app.undo', '{"n": 1}'),
	dtm.tcc_step('sql://bank/app."No;Thanks"', 'sql://bank/app.note', 'sql://bank/app.undo', '{"n": 2}')]);
SELECT dtm.msg('msg', ARRAY[dtm.step('sql://bank/app.note', payload => '{"n": 1}')]);
SQL
wait_status($here, 'tcc', 'succeed');
is(done('tcc'), "01|confirm|1\n01|try|1\n02|confirm|1\n02|try|1", 'tcc: tried, then confirmed');
wait_status($here, 'tcc no', 'failed');
is(done('tcc no'), "01|cancel|1\n01|try|1", 'tcc: what was tried is cancelled, and only that');
wait_status($here, 'msg', 'succeed');
is(done('msg'), '01|action|1', 'msg: delivered');
is($there->safe_psql('postgres', q{SELECT DISTINCT trans_type FROM app.done WHERE gid IN ('tcc', 'msg') ORDER BY 1}),
	"msg\ntcc", 'the function knows the mode');

# What the function returns

$here->safe_psql('postgres', <<'SQL');
SET SESSION AUTHORIZATION shop;
SELECT dtm.saga('result', ARRAY[
	dtm.step('sql://bank/app.note', payload => '{"n": "ü"}', keep_result => true),
	dtm.step('sql://bank/app.note', payload => '{"of": {"$from": "01", "path": "$.payload.n"}}')]);
SQL
wait_status($here, 'result', 'succeed');
is($there->safe_psql('postgres', q{SELECT payload FROM app.done WHERE gid = 'result' AND branch_id = '02'}),
	'{"of": "ü"}', 'feeds a later branch');

# Repeats, and what comes too late

is($there->safe_psql('postgres', <<'SQL'), "\n\n\n", 'by hand');
SELECT dtm.run_branch('saga', 'late', '01', 'compensate', 'app.undo', '{}');
SELECT dtm.run_branch('saga', 'late', '01', 'action', 'app.note', '{}');
SELECT dtm.run_branch('saga', 'plain', '01', 'action', 'app.note', '{}', keep_result => true);
SELECT dtm.run_branch('msg', 'msg', '01', 'action', 'app.note', '{}');
SQL
is(done('late'), '', 'nothing to undo, and the late action is kept out');
is(done('plain'), "01|action|1\n02|action|1", 'a repeat does nothing');
is(done('msg'), '01|action|1', 'that of a message too');

saga('too slow', "request_timeout => '300ms', retry_limit => 1", [ 'sql://bank/app.slow', $undo, '{"seconds": 60}' ]);
wait_status($here, 'too slow', 'failed');
is(done('too slow'), '', 'what took too long was ended there, and there was nothing to undo');
like($here->safe_psql('postgres', q{SELECT last_error FROM dtm.branches WHERE gid = 'too slow' AND op = 'action'}),
	qr/^57014: canceling statement due to statement timeout$/, 'by its own clock');

# A broken network

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $helper = $INC{'DtmTest.pm'} =~ s/DtmTest\.pm$/pg_proxy.py/r;
sub set_mode
{
	my ($mode) = @_;
	open(my $file, '>', "$dir/mode.tmp") or die $!;
	print $file $mode;
	close $file;
	rename("$dir/mode.tmp", "$dir/mode") or die $!;
	return;
}
set_mode('pass');
my $proxy = open(my $proxy_in, '|-', 'python3', $helper, "$dir/port", "$dir/mode", $port) or die $!;
wait_until('the proxy', sub { -s "$dir/port" });
my $proxy_port = slurp_file("$dir/port");
server('far', "host '127.0.0.1', port '$proxy_port', dbname 'postgres', sslmode 'disable'");

for my $mode ('new', 'pooled')
{
	set_mode('cut');
	saga("cut $mode", '', [ 'sql://far/app.note', 'sql://far/app.undo', '{}' ]);
	wait_status($here, "cut $mode", 'succeed');
	is(slurp_file("$dir/mode"), 'pass', "an answer was lost on a $mode connection");
	is(done("cut $mode"), '01|action|1', 'and yet it was done once');
	saga("after $mode", '', [ 'sql://far/app.note', '', '{}' ]);
	wait_status($here, "after $mode", 'succeed');
}

# Done there, and the answer is on its way for ever: then it is asked again.
set_mode('hold');
saga('held', "request_timeout => '300ms'", [ 'sql://far/app.note', 'sql://far/app.undo', '{}' ]);
wait_error('held', '^no answer within 300 ms', 'an answer that is late is none');
set_mode('pass');
wait_status($here, 'held', 'succeed');
is(done('held'), '01|action|1', 'and yet it was done once');

saga('chatters', "retry_interval => '1h'", [ 'sql://far/app.chatters', '', '{}' ]);
wait_status($here, 'chatters', 'succeed');
is(done('chatters'), '01|action|1', 'a function may raise as many notices as it likes');

saga('floods', "retry_interval => '1h'", [ 'sql://far/app.floods', '', '{}' ]);
wait_error('floods', 'larger than dtm.max_response_size', 'nobody talks us to death');

# Silence is nobody else's matter

my $stub = DtmTest::Stub->new;
set_mode('silent');
server('mute', "host '127.0.0.1', port '$proxy_port', dbname 'postgres', sslmode 'disable', application_name 'x'");
saga("mute $_", "request_timeout => '30s'", [ 'sql://mute/app.note', '', '{}' ]) for 1 .. 20;
saga("sleeps $_", "request_timeout => '2s', retry_interval => '50ms'", [ 'sql://bank/app.slow', '', '{"seconds": 60}' ]) for 1 .. 10;
my $slowest = 0;
for my $i (1 .. 20)
{
	my $begun = time;
	$here->safe_psql('postgres', stub_saga($stub, "fast $i", 2) . "; SELECT dtm.wait('fast $i', '30s')");
	my $took = time - $begun;
	$slowest = $took if $took > $slowest;
}
is($here->safe_psql('postgres', q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'fast %' AND status = 'succeed'}),
	'20', 'HTTP sagas beside silent servers succeed');
cmp_ok($slowest, '<', 2, sprintf('and without delay: %.0f ms at most', $slowest * 1000));
wait_error('mute 1', 'no connection to foreign server "mute" \(127\.0\.0\.1, port \d+\) within 1000 ms', 'silence is noticed');
$here->safe_psql('postgres', q{SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE gid ~ '^(mute|sleeps) '});
set_mode('pass');

# A participant that means ill

my $fake = open(my $fake_in, '|-', "exec python3 '" . ($helper =~ s/pg_proxy/fake_participant/r) . "' $dir/fake_port > $dir/fake_log")
  or die $!;
wait_until('the fake participant', sub { -s "$dir/fake_port" });
my $fake_port = slurp_file("$dir/fake_port");
sub flooded
{
	my ($name) = @_;
	wait_until("$name to be cut off", sub { slurp_file("$dir/fake_log") =~ /^$name (\d+)$/m });
	slurp_file("$dir/fake_log") =~ /^$name (\d+)$/m;
	return $1;
}
server("ill_$_", "host '127.0.0.1', port '$fake_port', dbname '$_', sslmode 'disable'") for 'early', 'idle', 'slow', 'kerberos';

saga('early', "retry_interval => '1h'", [ 'sql://ill_early/app.note', '', '{}' ]);
wait_error('early', 'refused: the server says too much before a session begins|no connection|lost|closed', 'a flood while connecting');
cmp_ok(flooded('early'), '<', 64, 'is cut off');
saga('idle flood', '', [ 'sql://ill_idle/app.note', '', '{}' ]);
wait_status($here, 'idle flood', 'succeed');
cmp_ok(flooded('idle'), '<', 64, 'and so is one to a session that waits');

saga('kerberos', "retry_interval => '1h'", [ 'sql://ill_kerberos/app.note', '', '{}' ]);
wait_error('kerberos', 'GSSAPI|authentication method requirement', 'there is no Kerberos');

# It asks for a minute of work, which nothing can interrupt.
saga('slow', "retry_interval => '1h'", [ 'sql://ill_slow/app.note', '', '{}' ]);
wait_error('slow', 'no connection to foreign server "ill_slow" within 1000 ms: what it, or others of this role, ask for takes too long',
	'a password to be hashed for a minute');
saga('beside slow', '', [ $note, '', '{}' ]);
wait_status($here, 'beside slow', 'succeed');
{
	my $begun = time;
	$here->safe_psql('postgres', "SELECT dtm.force_stop('slow')");
	$here->restart;
	cmp_ok(time - $begun, '<', 20, 'the server stops while that goes on');
}

# Down, restarted, full

$there->stop('fast');
saga('down', '', [ $note, $undo, '{}' ]);
wait_error('down', 'Connection refused', 'a server that is down');
$there->start;
hurry('down');
wait_status($here, 'down', 'succeed');
is(done('down'), '01|action|1', 'once it was up');

$here->safe_psql('postgres', "SELECT dtm.new_gid(); " . join('; ', map { begin_saga('shop', "restart $_", '',
				[ $note, $undo, '{}' ], [ $note, $undo, '{}' ], [ $note, $undo, '{}' ]) } 1 .. 100));
$there->stop('immediate');
$there->start;
wait_for($here, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'restart %' AND status = 'succeed'}, '100');
is($there->safe_psql('postgres',
		q{SELECT count(*), count(DISTINCT (gid, branch_id)) FROM app.done WHERE gid LIKE 'restart %'}),
	'300|300', 'restarted in the middle: everything once');

$there->safe_psql('postgres', q{ALTER ROLE app CONNECTION LIMIT 0;
	SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'});
saga('full', '', [ $note, $undo, '{}' ]);
wait_error('full', 'too many connections for role', 'out of connections');
$there->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT -1');
wait_status($here, 'full', 'succeed');
is(done('full'), '01|action|1', 'and then there were some');

# A connection that is killed while it idles costs no attempt.
$there->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'});
saga('idle', "retry_interval => '1h'", [ $note, $undo, '{}' ]);
wait_status($here, 'idle', 'succeed');
is(done('idle'), '01|action|1', 'an old connection that died is replaced at once');

saga('killed', "request_timeout => '20s'", [ 'sql://bank/app.slow', $undo, '{"seconds": 1}' ]);
wait_for($there, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'PgSleep'}, '1');
wait_status($here, 'killed', 'succeed');
is(done('killed'), '01|action|1', 'killed in the middle of the function: once');

# Rights

my $password_error = 'password authentication failed';
$here->safe_psql('postgres', q{ALTER USER MAPPING FOR shop SERVER bank OPTIONS (SET password 'swordfish')});
saga('password', '', [ $note, $undo, '{}' ]);
wait_error('password', $password_error, 'a wrong password');
unlike($here->safe_psql('postgres', q{SELECT dtm.query('password')}), qr/swordfish|sesame/, 'which is not told');
$here->safe_psql('postgres', q{ALTER USER MAPPING FOR shop SERVER bank OPTIONS (SET password 'open-sesame')});
hurry('password');
wait_status($here, 'password', 'succeed');

my @mended = (
	[ 'usage', 'REVOKE USAGE ON FOREIGN SERVER bank FROM shop', 'permission denied for foreign server bank: GRANT USAGE',
		'GRANT USAGE ON FOREIGN SERVER bank TO shop' ],
	[ 'mapping', 'DROP USER MAPPING FOR shop SERVER bank', 'no user mapping for foreign server bank: CREATE USER MAPPING',
		q{CREATE USER MAPPING FOR shop SERVER bank OPTIONS (user 'app', password 'open-sesame')} ],
	[ 'no password', 'ALTER USER MAPPING FOR shop SERVER bank OPTIONS (DROP password)', 'has no password: ALTER USER MAPPING',
		q{ALTER USER MAPPING FOR shop SERVER bank OPTIONS (ADD password 'open-sesame')} ],
	[ 'gone', 'ALTER SERVER bank RENAME TO bankrupt', 'foreign server "bank" does not exist: CREATE SERVER',
		'ALTER SERVER bankrupt RENAME TO bank' ],
	[ 'moved', q{ALTER SERVER bank OPTIONS (SET port '1')}, 'Connection refused',
		"ALTER SERVER bank OPTIONS (SET port '$port')" ]);
for my $case (@mended)
{
	my ($name, $break, $pattern, $mend) = @$case;

	# Begun while all is well, called when it is not any more.
	set_conf($here, 'dtm.enabled' => 'off');
	wait_for($here, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND query ~ 'enabled is off'}, '1');
	saga($name, '', [ $note, $undo, '{}' ]);
	$here->safe_psql('postgres', $break);
	set_conf($here, 'dtm.enabled' => undef);
	wait_error($name, $pattern, "$name: refused at the call");
	$here->safe_psql('postgres', $mend);
	hurry($name);
	wait_status($here, $name, 'succeed');
	is(done($name), '01|action|1', "$name: mended");
}

server('trusting', "host '127.0.0.1', port '$port', dbname 'postgres'", "user 'easy', password 'whatever'");
saga('trusting', '', [ 'sql://trusting/app.note', '', '{}' ]);
wait_error('trusting', 'refused: the server asks for no password|authentication method requirement', 'no place of ours is lent to a role');
$here->safe_psql('postgres', "SELECT dtm.force_stop('trusting')");

$here->safe_psql('postgres', <<"SQL");
CREATE USER MAPPING FOR postgres SERVER trusting OPTIONS (user 'postgres');
@{[begin_saga('postgres', 'superuser', '', [ 'sql://trusting/app.note', '', '{}' ])]}
SQL
wait_status($here, 'superuser', 'succeed');
is(done('superuser'), '01|action|1', 'a superuser needs no password');

# A topic's subscriber is called as the sender, who needs the rights.
$here->safe_psql('postgres', q{SELECT dtm.subscribe('paid', 'sql://trusting/app.note')});
{
	my ($rc, $out, $err) = $here->psql('postgres',
		q{SET SESSION AUTHORIZATION poor; SELECT dtm.msg('topic', ARRAY[dtm.step('topic://paid')])});
	like($err, qr/topic: permission denied for foreign server trusting/, 'a sender without rights');
}
$here->safe_psql('postgres', q{SELECT dtm.msg('topic', ARRAY[dtm.step('topic://paid')])});
wait_status($here, 'topic', 'succeed');
is(done('topic'), '01|action|1', 'a topic with a remote subscriber');
is($here->safe_psql('postgres', q{SELECT count(*) FROM dtm.doctor() WHERE problem ~ 'topics'}), '0',
	'of which the doctor has nothing to say');

for my $case (
	[ 'shop', 'sql://nowhere/app.note', 'foreign server "nowhere" does not exist' ],
	[ 'poor', 'sql://bank/app.note', 'permission denied for foreign server bank' ],
	[ 'shop', 'sql://bank/note', 'must be written as schema.function' ])
{
	my ($role, $address, $pattern) = @$case;
	my ($rc, $out, $err) = $here->psql('postgres', begin_saga($role, 'refused at once', '', [ $address, '', '{}' ]));
	like($err, qr/step 1: action.*\Q$pattern\E|\Q$pattern\E/s, "at registration: $pattern");
}
$here->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER bank TO poor');
for my $mapping ('', "CREATE USER MAPPING FOR PUBLIC SERVER bank OPTIONS (user 'app')")
{
	$here->safe_psql('postgres', $mapping) if $mapping;
	my ($rc, $out, $err) = $here->psql('postgres', begin_saga('poor', 'refused at once', '', [ $note, '', '{}' ]));
	like($err, $mapping ? qr/has no password.*ALTER USER MAPPING FOR PUBLIC SERVER bank/s : qr/has no user mapping.*CREATE USER MAPPING FOR poor/s,
		'and says what to do');
}

# Files and identities of ours

$here->safe_psql('postgres', q{GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO shop});
for my $option ('sslrootcert', 'sslcrl', 'sslcrldir')
{
	my ($rc, $out, $err) = $here->psql('postgres', <<"SQL" . begin_saga('shop', 'files', '', [ 'sql://files/app.note', '', '{}' ]));
SET SESSION AUTHORIZATION shop;
DROP SERVER IF EXISTS files CASCADE;
CREATE SERVER files FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '$port', dbname 'postgres', sslmode 'require', $option '/proc/self/fd/3');
CREATE USER MAPPING FOR shop SERVER files OPTIONS (user 'app', password 'open-sesame');
SQL
	like($err, qr/option "$option" of foreign server files names a file, and the server does not belong to a superuser.*ALTER SERVER files OWNER TO/s,
		"$option from a role that is no superuser");
}
is(system('mkfifo', "$dir/fifo"), 0, 'a pipe');
server('pipe', "host '127.0.0.1', port '$port', dbname 'postgres', sslmode 'require', sslrootcert '$dir/fifo'");
saga('pipe', "retry_interval => '1h'", [ 'sql://pipe/app.note', '', '{}' ]);
wait_error('pipe', 'foreign server "pipe": sslrootcert is no regular file', 'pipes are not opened');

# One name, many ways to write it.
saga('names', '', map { [ "sql://$_/app.note", '', '{}' ] } 'BANK', 'Bank', '"bank"');
wait_status($here, 'names', 'succeed');
is(done('names'), "01|action|1\n02|action|1\n03|action|1", 'a name is read as SQL reads it');

# What is not there

my @missing = (
	[ 'resolve', "host 'no-such-host.invalid', dbname 'postgres'", 'app.note', 'cannot resolve the name of no-such-host\.invalid|not resolved in time' ],
	[ 'metadata', "host '169.254.169.254', dbname 'postgres'", 'app.note', 'refused: 169\.254\.169\.254 is a link-local' ],
	[ 'hostaddr', "host 'a,b', hostaddr '127.0.0.1'", 'app.note', 'different numbers of entries' ],
	[ 'extension', "host '127.0.0.1', port '$port', dbname 'plain'", 'app.note', '3F000: schema "dtm" does not exist; on that server: CREATE EXTENSION dtm' ],
	[ 'database', "host '127.0.0.1', port '$port', dbname 'none'", 'app.note', 'database "none" does not exist' ],
	[ 'function', "host '127.0.0.1', port '$port', dbname 'postgres'", 'app.none', '42883: function app.none\(jsonb\) does not exist in database "postgres"$' ],
	[ 'postgres', "host '127.0.0.1', port '" . $stub->port . "', dbname 'postgres', sslmode 'disable'", 'app.note', 'no connection to foreign server "postgres"' ]);
for my $case (@missing)
{
	my ($name, $options, $function, $pattern) = @$case;
	server($name, $options);
	saga("missing $name", "retry_interval => '1h'", [ "sql://\"$name\"/$function", '', '{}' ]);
	wait_error("missing $name", $pattern, "missing: $name");
}
server('two', "host 'no-such-host.invalid,localhost,127.0.0.1', port '1,1,$port', dbname 'postgres'");
saga('two hosts', '', [ 'sql://two/app.note', '', '{}' ]);
wait_status($here, 'two hosts', 'succeed');
is(done('two hosts'), '01|action|1', 'of several hosts one suffices');

# Killed between the two

SKIP:
{
	skip 'needs make DTM_DEBUG=1', 6 unless $debug;

	# No other call meets the point first.
	$here->safe_psql('postgres',
		q{SELECT dtm.force_stop(gid) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')});
	my $token = arm_point($there, 'participant-function-done', 'self');
	saga('crash there', '', [ $note, $undo, '{}' ]);
	wait_point($there, $token);
	wait_status($here, 'crash there', 'succeed');
	is(done('crash there'), '01|action|1', 'the other server crashes before its commit: once');
	set_conf($there, 'dtm.debug_point' => undef);

	$token = arm_point($here, 'worker-action-answered', 'self');
	# Its commit is answered, or that is lost with the server: to begin it again
	# changes nothing.
	wait_until('a saga to crash with', sub { eval { saga('crash here', '', [ $note, $undo, '{}' ]); 1 } });
	wait_point($here, $token);
	wait_status($here, 'crash here', 'succeed');
	is(done('crash here'), '01|action|1', 'we crash before we have noted the answer: once');
	set_conf($here, 'dtm.debug_point' => undef);
}

# The certificate of the server's own user is for superusers only.
SKIP:
{
	my $ready = $there->safe_psql('postgres', q{SELECT setting <> '' FROM pg_settings WHERE name = 'ssl_library'}) eq 't'
	  && system("openssl version > /dev/null 2>&1") == 0;
	skip 'needs OpenSSL', 2 unless $ready;

	my $home = "$dir/home";
	my $data = $there->data_dir;
	mkdir $home;
	mkdir "$home/.postgresql";
	for my $pair ([ "$data/server", 'localhost' ], [ "$home/.postgresql/postgresql", 'ourselves' ])
	{
		my ($file, $name) = @$pair;
		system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$name",
			'-keyout', "$file.key", '-out', "$file.crt");
		chmod 0600, "$file.key";
	}
	$there->append_conf('postgresql.conf', "ssl = on\nssl_ca_file = '$home/.postgresql/postgresql.crt'\n");
	$there->restart;
	local $ENV{HOME} = $home;
	$here->restart;
	server('tls', "host '127.0.0.1', port '$port', dbname 'postgres', sslmode 'require'");
	$here->safe_psql('postgres', q{CREATE USER MAPPING FOR postgres SERVER tls OPTIONS (user 'app', password 'open-sesame')});
	for my $case ([ 'shop', 'none' ], [ 'postgres', '/CN=ourselves' ])
	{
		my ($role, $dn) = @$case;
		$here->safe_psql('postgres', <<"SQL");
SET SESSION AUTHORIZATION $role;
SELECT dtm.saga('tls $role', ARRAY[dtm.step('sql://tls/app.certificate', keep_result => true),
	dtm.step('sql://tls/app.note', payload => '{"dn": {"\$from": "01", "path": "\$"}}')]);
SQL
		wait_status($here, "tls $role", 'succeed');
		is($there->safe_psql('postgres', "SELECT payload ->> 'dn' FROM app.done WHERE gid = 'tls $role'"),
			$dn, "the certificate that $role shows");
	}
}

unlike(slurp_file($here->logfile), qr/swordfish/, 'no password in the log but in the statement that has set it')
  if $here->safe_psql('postgres', 'SHOW log_statement') eq 'none';
ok(!grep({ /PANIC|TRAP|signal (6|7|8|11)/ } slurp_file($here->logfile), slurp_file($there->logfile)),
	'no crashes');

close($proxy_in);
close($fake_in);
$here->stop;
$there->stop;
done_testing();
