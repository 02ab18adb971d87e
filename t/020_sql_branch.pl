# SQL branches: run as their role and nobody else, exactly once, whatever the
# function does and whoever is killed.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('sql', conf => "dtm.retry_interval = '200ms'\n");
my $debug = $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE shop LOGIN;
CREATE ROLE owner NOLOGIN;
GRANT shop TO owner;
CREATE ROLE strict LOGIN;
ALTER ROLE strict SET default_transaction_isolation = 'serializable';
ALTER ROLE strict SET default_transaction_read_only = on;
ALTER ROLE strict SET statement_timeout = '1ms';
SELECT dtm.grant_usage('shop'), dtm.grant_usage('owner'), dtm.grant_usage('strict');

CREATE SCHEMA shop AUTHORIZATION shop;
GRANT USAGE ON SCHEMA shop TO public;
SET ROLE shop;
CREATE TABLE shop.done (gid text, branch_id text, op text, payload jsonb,
	"current" text DEFAULT current_user, session text DEFAULT session_user,
	path text DEFAULT current_setting('search_path'));
GRANT ALL ON shop.done TO public;
CREATE TABLE shop.once (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE shop.mood (name text, n int);
GRANT ALL ON shop.mood TO public;

CREATE FUNCTION shop.note(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO shop.done SELECT gid, branch_id, op, payload FROM dtm.current_branch() $$;
CREATE FUNCTION shop.undo(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO shop.done SELECT gid, branch_id, op, payload FROM dtm.current_branch() $$;
CREATE FUNCTION shop."No;Thanks"(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO shop.done(gid) VALUES ('never'); PERFORM dtm.fail('no stock'); END $$;
CREATE FUNCTION shop.raises(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM 1 / 0; END $$;
CREATE FUNCTION shop.loops(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN LOOP END LOOP; END $$;
CREATE FUNCTION shop.deaf(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
CREATE FUNCTION shop.commits(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN COMMIT; END $$;
CREATE FUNCTION shop.deferred(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO shop.once VALUES (1), (1) $$;
CREATE FUNCTION shop.climbs(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN RESET ROLE; RESET SESSION AUTHORIZATION; PERFORM * FROM pg_catalog.pg_authid; END $$;
CREATE FUNCTION shop.secret(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION shop.takes(payload jsonb) RETURNS void LANGUAGE sql AS
$$ DELETE FROM shop.once; INSERT INTO shop.done SELECT gid, branch_id, op FROM dtm.current_branch() $$;
CREATE FUNCTION shop.litters(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	PERFORM pg_advisory_lock(42);
	PERFORM set_config('search_path', 'nowhere', false);
	CREATE TEMP TABLE leftover ();
	EXECUTE 'PREPARE leftover AS SELECT 1';
	EXECUTE 'DECLARE leftover CURSOR WITH HOLD FOR SELECT 1';
END $$;
SQL

# A saga of SQL branches, begun as a role; steps are [action, compensate, payload].
sub saga
{
	my ($role, $gid, $options, @steps) = @_;
	my $steps = join(', ',
		map { sprintf('dtm.step(%s, %s, %s::jsonb)',
				map { defined $_ ? "\$q\$$_\$q\$" : 'NULL' } @$_[ 0 .. 2 ]) } @steps);

	$node->safe_psql('postgres',
		"SET SESSION AUTHORIZATION $role; SELECT dtm.saga('$gid', ARRAY[$steps]" .
		($options ? ", $options" : '') . ')');
	return;
}

sub done
{
	my ($gid) = @_;
	return $node->safe_psql('postgres',
		"SELECT branch_id, op, count(*) FROM shop.done WHERE gid = '$gid' GROUP BY 1, 2 ORDER BY 1, 2");
}

# The identity

saga('shop', 'plain', '', [ 'sql:shop.note', 'sql:shop.undo', '{"a": "ü"}' ], [ 'sql:shop.note', '', undef ]);
wait_status($node, 'plain', 'succeed');
is( $node->safe_psql('postgres',
		q{SELECT branch_id, op, payload, "current", session, path FROM shop.done WHERE gid = 'plain' ORDER BY 1}),
	qq(01|action|{"a": "ü"}|shop|shop|"\$user", public\n02|action||shop|shop|"\$user", public),
	'the function runs as its role, with its payload, its search_path, and knows its branch');

saga('owner', 'nologin', '', [ 'sql:shop.note', '', undef ]);
wait_status($node, 'nologin', 'succeed');
is( $node->safe_psql('postgres',
		q{SELECT "current", session FROM shop.done WHERE gid = 'nologin'}),
	'owner|owner', 'a role that may not log in');

saga('strict', 'strict', '', [ 'sql:shop.note', '', undef ], [ 'sql:shop.note', 'sql:shop.undo', undef ]);
wait_status($node, 'strict', 'succeed');
is(done('strict'), "01|action|1\n02|action|1", 'settings of a role that would be in the way are not');

# Refusal: undone in reverse, and only what took effect

saga('shop', 'refused', '',
	[ 'sql:shop.note', 'sql:shop.undo', '{}' ],
	[ 'sql:shop."No;Thanks"', 'sql:shop.undo', '{}' ]);
wait_status($node, 'refused', 'failed');
is(done('refused'), "01|action|1\n01|compensate|1", 'what was refused is not undone');
is($node->safe_psql('postgres', q{SELECT count(*) FROM shop.done WHERE gid = 'never'}),
	'0', 'nothing of the refusing function stays');
like($node->safe_psql('postgres', q{SELECT dtm.query('refused') ->> 'reason'}),
	qr/no stock/, 'the reason is kept');

# What functions do wrong

my %wrong = (
	'sql:shop.raises' => qr/^22012: division by zero/,
	'sql:shop.commits' => qr/^2D000: invalid transaction termination/,
	'sql:shop.deferred' => qr/^23505: /,
	'sql:shop.climbs' => qr/^42501: permission denied for table pg_authid/,
	'sql:shop.loops' => qr/^no answer within 300 ms$/);
for my $address (sort keys %wrong)
{
	(my $gid = $address) =~ s/.*\.//;
	saga('shop', $gid, "retry_limit => 2, request_timeout => '300ms'",
		[ $address, 'sql:shop.undo', '{}' ]);
	wait_status($node, $gid, 'failed');
	like($node->safe_psql('postgres',
			"SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND op = 'action'"),
		$wrong{$address}, "$address: the error can be read");
	is(done($gid), '', "$address: nothing is left, so nothing is undone");
}

saga('shop', 'deaf', "retry_limit => 1, request_timeout => '300ms'", [ 'sql:shop.deaf', '', '{}' ]);
saga('shop', 'beside', '', [ 'sql:shop.note', '', '{}' ]);
wait_status($node, 'beside', 'succeed');
wait_status($node, 'deaf', 'failed');
like($node->safe_psql('postgres', q{SELECT last_error FROM dtm.branches WHERE gid = 'deaf' AND op = 'action'}),
	qr/no answer within 300 ms, and deaf/, 'a function that cannot be cancelled is ended');

# What functions leave behind

saga('shop', 'litters', '', [ 'sql:shop.litters', '', undef ], [ 'sql:shop.litters', '', undef ],
	[ 'sql:shop.note', '', undef ]);
wait_status($node, 'litters', 'succeed');
is($node->safe_psql('postgres', q{SELECT path FROM shop.done WHERE gid = 'litters'}),
	'"$user", public', 'the next one does not see its settings');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42}),
	'0', 'nor its locks');

# A function that has gone since it was registered, or may not be called any
# more, and then comes back

my $later = 'CREATE FUNCTION shop.later(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT 1 $$';
set_conf($node, 'dtm.enabled' => 'off');
$node->safe_psql('postgres', "SET ROLE shop; $later");
saga('shop', 'late', '', [ 'sql:shop.later', '', undef ], [ 'sql:shop.secret', '', undef ]);
$node->safe_psql('postgres',
	'DROP FUNCTION shop.later(jsonb); REVOKE ALL ON FUNCTION shop.secret(jsonb) FROM public, shop');
set_conf($node, 'dtm.enabled' => 'on');
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'late' AND branch_id = '01' AND op = 'action'},
	'42883: function shop.later(jsonb) does not exist');
$node->safe_psql('postgres', "SET ROLE shop; $later");
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'late' AND branch_id = '02' AND op = 'action'},
	'42501: permission denied for function secret');
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION shop.secret(jsonb) TO shop');
wait_status($node, 'late', 'succeed');

# A held lock delays its own saga only; then the effect is there once

{
	my $holder = $node->background_psql('postgres');

	$holder->query_safe('BEGIN; LOCK TABLE shop.once');
	saga('shop', 'blocked', "request_timeout => '60s'", [ 'sql:shop.takes', '', undef ]);
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'}, '1');
	saga('shop', 'free', '', [ 'sql:shop.note', '', undef ]);
	wait_status($node, 'free', 'succeed');

	# The worker is ended and starts again while the function still runs.
	my $worker = worker_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
	wait_worker($node, $worker);
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event_type = 'Lock'}, '2');
	$holder->query_safe('COMMIT');
	$holder->quit;
	wait_status($node, 'blocked', 'succeed');
	is(done('blocked'), '01|action|1', 'asked for twice, done once');
}

# A role that is gone: an error that can be read, and force_stop ends it

$node->safe_psql('postgres', q{CREATE ROLE gone LOGIN; SELECT dtm.grant_usage('gone')});
set_conf($node, 'dtm.enabled' => 'off');
saga('gone', 'gone', '', [ 'sql:shop.note', '', undef ]);
$node->safe_psql('postgres', 'DROP OWNED BY gone; DROP ROLE gone');
set_conf($node, 'dtm.enabled' => 'on');
wait_for($node, q{SELECT last_error ~ 'does not exist|is gone' FROM dtm.branches WHERE gid = 'gone' AND op = 'action'});
$node->safe_psql('postgres', q{SELECT dtm.force_stop('gone', 'its role is gone')});
wait_status($node, 'gone', 'failed');

# More roles than executors: all of them get their turn

$node->safe_psql('postgres',
	"CREATE ROLE r$_ LOGIN; SELECT dtm.grant_usage('r$_')") for 1 .. 8;
saga("r$_", "role-$_", '', [ 'sql:shop.note', '', undef ], [ 'sql:shop.note', '', undef ]) for 1 .. 8;
wait_status($node, "role-$_", 'succeed') for 1 .. 8;

# A job that is taken while its transaction turns back comes too late: it does not
# run, so there is nothing to undo

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $note = "'sql:shop.note'";
	my %begin = (
		action => "dtm.saga('%s', ARRAY[dtm.step($note, 'sql:shop.undo')], request_timeout => '60s')",
		try => "dtm.tcc('%s', ARRAY[dtm.tcc_step($note, $note, 'sql:shop.undo')], request_timeout => '60s')");
	for my $op (sort keys %begin)
	{
		my $gid = "too-late-$op";
		my $token = arm_point($node, 'executor-job-taken', 'pause');

		$node->safe_psql('postgres', 'SET SESSION AUTHORIZATION shop; SELECT ' . sprintf($begin{$op}, $gid));
		wait_point($node, $token);
		$node->safe_psql('postgres', "SELECT dtm.abort('$gid')");
		kill('CONT', split /\n/, $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm executor')));
		wait_status($node, $gid, 'failed');
		is(done($gid), '', "$op: not after the abort");
		like($node->safe_psql('postgres', "SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND op = '$op'"),
			qr/came too late: the transaction is aborting/, "$op: why not can be read");
	}
}

# User's code within the commit, when the op's row is locked: nobody waits for it

$node->safe_psql('postgres', <<'SQL');
SET ROLE shop;
CREATE SEQUENCE shop.tries;
CREATE TABLE shop.late (n int);
CREATE FUNCTION shop.later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.n = 0 THEN
		SET CONSTRAINTS ALL DEFERRED;
		INSERT INTO shop.late VALUES (1);
	ELSE
		PERFORM pg_sleep(600);
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON shop.late DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION shop.later();
-- Earlier failures are what the worker writes meanwhile.
CREATE FUNCTION shop.defers(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('shop.tries') <> 4 THEN RAISE EXCEPTION 'not yet'; END IF;
	INSERT INTO shop.late VALUES (0);
END $$;
CREATE FUNCTION shop.hoards(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	EXECUTE 'DECLARE hoard CURSOR WITH HOLD FOR SELECT pg_sleep(600)';
	EXECUTE 'DECLARE other CURSOR FOR SELECT 1';
END $$;
SQL
my $in_commit = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event = 'PgSleep'};

saga('shop', 'hoards', q{request_timeout => '300s'}, [ 'sql:shop.hoards', '', '{}' ]);
wait_status($node, 'hoards', 'succeed');
is($node->safe_psql('postgres', q{SELECT attempts, last_error FROM dtm.branches WHERE gid = 'hoards' AND op = 'action'}),
	'1|', 'a cursor that would be filled by the commit is not');

saga('shop', 'defers', q{retry_interval => '1ms', request_timeout => '300s'}, [ 'sql:shop.defers', '', '{}' ]);
wait_for($node, $in_commit, '1');
$node->safe_psql('postgres', q{SET SESSION AUTHORIZATION strict; SET default_transaction_read_only = off; SET statement_timeout = 0;
	SELECT dtm.saga('strict-' || i, ARRAY[dtm.step('')]) FROM generate_series(1, 5) AS i});
wait_status($node, "strict-$_", 'succeed') for 1 .. 5;
is($node->safe_psql('postgres', $in_commit), '1', 'a trigger keeps on being deferred: others do not wait for that');
my $sleeper = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND wait_event = 'PgSleep'});
is($node->safe_psql('postgres', "SELECT pg_cancel_backend($sleeper)"), 't', 'somebody cancels it');
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'defers' AND op = 'action'}, 'P0001: not yet');
is($node->safe_psql('postgres', 'SELECT count(*) FROM shop.late'), '0', 'nothing of it has happened');
unlike(slurp_file($node->logfile), qr/lock timeout/, 'that a row was held is not an error');
$node->safe_psql('postgres', q{SELECT dtm.abort('defers')});
wait_status($node, 'defers', 'failed');

$node->safe_psql('postgres', q{ALTER SEQUENCE shop.tries RESTART 4});
saga('shop', 'defers-2', q{retry_interval => '1h', request_timeout => '300ms'}, [ 'sql:shop.defers', '', '{}' ]);
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'defers-2' AND op = 'action'}, 'no answer within 300 ms');
$node->safe_psql('postgres', q{SELECT dtm.abort('defers-2')});
wait_status($node, 'defers-2', 'failed');

# Killed at every point: the effect is there exactly once

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $n = 0;
	for my $point (qw(executor-job-taken executor-op-locked executor-function-done
		executor-before-commit executor-after-commit executor-result-told))
	{
		for my $victim (qw(self worker postmaster))
		{
			my $gid = 'point-' . ++$n;
			my $token = arm_point($node, $point, $victim);

			# It may die before the client has its answer.
			$node->psql('postgres',
				"SET SESSION AUTHORIZATION shop; SELECT dtm.saga('$gid', ARRAY[" .
				"dtm.step('sql:shop.note', 'sql:shop.undo', '{}'::jsonb), " .
				"dtm.step('sql:shop.\"No;Thanks\"', 'sql:shop.undo', '{}'::jsonb)])");
			wait_point($node, $token);
			start_again($node) if $victim eq 'postmaster';
			wait_status($node, $gid, 'failed');
			is(done($gid), "01|action|1\n01|compensate|1", "$point, $victim killed: done once, undone once");
		}
	}
}

$node->stop;
done_testing();
