# SQL branches that behave badly, beside others: each is an error that can be
# read, nothing of it is left for the next one, and nobody else waits. (What
# runs as whom, and how often, is in t/020_sql_branch.pl.)
use strict;
use warnings FATAL => 'all';

use Encode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('sql_branches', conf => "dtm.retry_interval = '50ms'\ndeadlock_timeout = '100ms'\n");
my $worker = worker_pid($node);

sub sql { return $node->safe_psql('postgres', @_); }

sub as
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);

	return $rc == 0 ? $out : ($err =~ /ERROR:  (\w{5}): /)[0] || $err;
}

sub last_error
{
	my ($gid, $op) = @_;

	return sql("SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND branch_id = '01' AND op = '" . ($op || 'action') . "'");
}

sql(<<'SQL');
CREATE ROLE good LOGIN;
CREATE ROLE other NOLOGIN;
CREATE ROLE bad LOGIN IN ROLE other;
SELECT dtm.grant_usage('good'), dtm.grant_usage('bad'), dtm.grant_usage('other');
CREATE SCHEMA good AUTHORIZATION good;
CREATE SCHEMA bad AUTHORIZATION bad;
CREATE TABLE effect (gid text, branch_id text, op text, "current" text DEFAULT current_user, session text DEFAULT session_user,
	settings text DEFAULT concat_ws(' ', current_setting('statement_timeout'), current_setting('work_mem'), current_setting('TimeZone'), current_setting('default_transaction_read_only'), nullif(current_setting('bad.word', true), '')));
GRANT ALL ON effect TO good, bad, other;
CREATE TABLE a (n int); INSERT INTO a VALUES (0);
CREATE TABLE b (n int); INSERT INTO b VALUES (0);
GRANT ALL ON a, b TO bad;
SQL
as('good', <<'SQL');
CREATE FUNCTION good.note(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch() $$;
SQL
is(as('bad', <<'SQL'), '', 'functions');
CREATE FUNCTION bad.note(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch() $$;
CREATE FUNCTION bad.loop_without_timeout(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET statement_timeout = 0; LOOP END LOOP; END $$;
CREATE FUNCTION bad.sleep(jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(100) $$;
CREATE FUNCTION bad.kills_itself(jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_terminate_backend(pg_backend_pid()); SELECT pg_sleep(100) $$;
CREATE FUNCTION bad.recurses(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM bad.recurses($1); END $$;
CREATE FUNCTION bad.huge(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM repeat('x', 1073741824); END $$;
CREATE FUNCTION bad.long_error(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE E'first\nsecond %', repeat('ü', 5000); END $$;
CREATE FUNCTION bad.long_refusal(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm.fail(repeat('ü', 5000)); END $$;
CREATE FUNCTION bad.read_only(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET TRANSACTION READ ONLY; END $$;
CREATE FUNCTION bad.waits_for_itself(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm.wait((SELECT gid FROM dtm.current_branch())); END $$;
CREATE FUNCTION bad.rolls_back(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; END $$;
CREATE FUNCTION bad.prepares(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'PREPARE TRANSACTION ''x'''; END $$;
CREATE FUNCTION bad.refuses(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm.fail('no'); END $$;
CREATE FUNCTION bad.set_returning(jsonb) RETURNS SETOF int LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT 1; RETURN NEXT 2; PERFORM bad.note($1); END $$;
CREATE FUNCTION bad.becomes(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE other; INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch(); END $$;
CREATE FUNCTION bad.settings(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	SET statement_timeout = '1ms'; SET work_mem = '64kB'; SET TimeZone = 'Asia/Tokyo'; SET default_transaction_read_only = on;
	SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE; PERFORM set_config('bad.word', 'bad', false); SET client_encoding = 'LATIN1';
	SET lock_timeout = '1ms'; SET idle_in_transaction_session_timeout = '1ms'; SET search_path = nowhere; END $$;
CREATE FUNCTION bad.locks_table(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE public.effect IN ACCESS EXCLUSIVE MODE; PERFORM pg_advisory_lock(7); PERFORM pg_advisory_lock_shared(8); END $$;
CREATE FUNCTION bad.starts_another(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM dtm.saga((SELECT gid FROM dtm.current_branch()) || '-child', ARRAY[dtm.step('sql:bad.note')]);
	IF (SELECT count(*) FROM public.effect WHERE gid = 'parent-first') = 0 THEN INSERT INTO public.effect VALUES ('parent-first'); END IF; END $$;
CREATE FUNCTION bad.starts_and_fails(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM dtm.saga('never-born', ARRAY[dtm.step('sql:bad.note')]); RAISE 'no'; END $$;
CREATE FUNCTION bad.a_then_b(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE public.a SET n = n + 1; PERFORM pg_sleep(0.3); UPDATE public.b SET n = n + 1; END $$;
CREATE FUNCTION bad.b_then_a(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE public.b SET n = n + 1; PERFORM pg_sleep(0.3); UPDATE public.a SET n = n + 1; END $$;
SQL

# Refused when it is registered

is(as('bad', "SELECT dtm.saga('unregistered', ARRAY[dtm.step('$_->[0]'" . ($_->[2] || '') . ")])"), $_->[1], "cannot be registered: $_->[0]")
  for [ 'sql:bad.nothing', '42883' ], [ 'sql:nowhere.note', '42883' ], [ 'sql:good.note', '42883' ], [ 'sql:bad.set_returning', '42883' ], [ 'sql:pg_catalog.lower', '42883' ],
  [ 'sql:note', '22023' ], [ 'sql:', '22023' ], [ 'sql://server/f', '22023' ], [ 'sql://nowhere/f.g', '42704' ], [ 'sql:bad.note', '22023', ", body => '\\xff'" ];

# What goes wrong when it runs, all at once, while good ones run beside

my %wrong = (
	loop_without_timeout => qr/^no answer within 400 ms$/,
	sleep => qr/^no answer within 400 ms$/,
	kills_itself => qr/^executor ended: terminating/,
	recurses => qr/^54001: stack depth limit exceeded/,
	huge => qr/^54000: /,
	long_error => qr/^P0001: first.second \x{fc}+$/s,
	read_only => qr/^25006: /,
	waits_for_itself => qr/^(DT412: |no answer within 400 ms)/,
	rolls_back => qr/^2D000: /,
	prepares => qr/^(25001|0A000|2D000): /,
	starts_and_fails => qr/^P0001: no$/);
as('bad', "SELECT dtm.saga('$_', ARRAY[dtm.step('sql:bad.$_', 'sql:bad.note', '{}')], retry_limit => 2, request_timeout => '400ms')") for sort keys %wrong;
as('good', q(SELECT count(dtm.saga('good-' || n, ARRAY[dtm.step('sql:good.note')])) FROM generate_series(1, 20) n));
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'good-%' AND status = 'succeed'), '20');
for my $name (sort keys %wrong)
{
	wait_status($node, $name, 'failed');
	like(Encode::decode('UTF-8', last_error($name)), $wrong{$name}, "$name: the error can be read");
	is(sql("SELECT attempts FROM dtm.branches WHERE gid = '$name' AND op = 'action'"), '2', '... it was tried again');
}
is(sql(q(SELECT count(*) FROM effect WHERE gid NOT LIKE 'good-%')), '0', 'nothing of them is left');
cmp_ok(sql(q(SELECT max(octet_length(last_error)) FROM dtm.op)), '<=', 1024, 'errors are cut');
is((as('bad', q(SELECT dtm.status('never-born')))), 'DT404', 'what a failed branch began was not begun');

as('bad', q(SELECT dtm.saga('long-refusal', ARRAY[dtm.step('sql:bad.long_refusal')])));
wait_status($node, 'long-refusal', 'failed');
is(sql(q(SELECT octet_length(reason) <= 1100 FROM dtm.transactions WHERE gid = 'long-refusal')), 't', 'a refusal of any length is a refusal');

# A compensation cannot refuse

as('bad', q(SELECT dtm.saga('must', ARRAY[dtm.step('sql:bad.note', 'sql:bad.refuses'), dtm.step('sql:bad.refuses')], retry_interval => '10ms')));
wait_for($node, q(SELECT attempts >= 3 AND status = 'prepared' FROM dtm.branches WHERE gid = 'must' AND branch_id = '01' AND op = 'compensate'));
like(last_error('must', 'compensate'), qr/no/, 'a compensation that refuses is retried, to be seen');
as('bad', q(CREATE OR REPLACE FUNCTION bad.refuses(jsonb) RETURNS void LANGUAGE sql AS 'SELECT'));
wait_status($node, 'must', 'failed');

# A branch that begins another saga: both or none

as('bad', q(SELECT dtm.saga('parent', ARRAY[dtm.step('sql:bad.starts_another')])));
wait_status($node, 'parent', 'succeed');
wait_status($node, 'parent-child', 'succeed');
is(sql(q(SELECT count(*) FROM effect WHERE gid = 'parent-child')), '1', 'a branch may begin another saga');

# Nothing is left for the next one in the same process: role, settings, locks

set_conf($node, 'dtm.executors_per_role' => 1);
as('bad', q(SELECT dtm.saga('leaves', ARRAY[dtm.step('sql:bad.becomes'), dtm.step('sql:bad.note'), dtm.step('sql:bad.settings'), dtm.step('sql:bad.note'), dtm.step('sql:bad.locks_table'), dtm.step('sql:bad.note')])));
wait_status($node, 'leaves', 'succeed');
is(sql(q(SELECT string_agg(concat_ws(' ', branch_id, "current", session, settings), ', ' ORDER BY branch_id) FROM effect WHERE gid = 'leaves')),
	join(', ', map { "$_ bad 0 4MB " . sql('SHOW TimeZone') . ' off' } '01 other', '02 bad', '04 bad', '06 bad'), 'the next one is itself again');
is(sql(q(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid IN (7, 8))), '0', 'no lock is left');

sql(<<'SQL');
CREATE FUNCTION impersonates(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	SET SESSION AUTHORIZATION bad; SET ROLE other; INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch(); END $$;
CREATE FUNCTION note(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effect SELECT gid, branch_id, op FROM dtm.current_branch() $$;
SELECT dtm.saga('impersonates', ARRAY[dtm.step('sql:public.impersonates'), dtm.step('sql:public.note'), dtm.step('sql:public.note')]);
SQL
wait_status($node, 'impersonates', 'succeed');
is(sql(q(SELECT string_agg(concat_ws(' ', branch_id, "current", session), ', ' ORDER BY branch_id) FROM effect WHERE gid = 'impersonates')),
	'01 other bad, ' . join(', ', map { "$_ " . sql('SELECT current_user') . ' ' . sql('SELECT session_user') } '02', '03'),
	'nor the identity that a superuser had taken on');
set_conf($node, 'dtm.executors_per_role' => undef);

# Deadlocks among branches: one gives way, and both get there

as('bad', q(SELECT dtm.saga('cross-' || n, ARRAY[dtm.step(CASE n % 2 WHEN 0 THEN 'sql:bad.a_then_b' ELSE 'sql:bad.b_then_a' END)], request_timeout => '30s') FROM generate_series(1, 2) n));
wait_status($node, "cross-$_", 'succeed') for 1, 2;
is(sql(q(SELECT (SELECT n FROM a), (SELECT n FROM b))), '2|2', 'deadlocks are resolved, and each effect is there once');

# A role whose branches hang keeps its own executors busy, not those of others

as('bad', q(SELECT count(dtm.saga('hang-' || n, ARRAY[dtm.step('sql:bad.sleep')], request_timeout => '90s')) FROM generate_series(1, 20) n));
wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm executor' AND usename = 'bad' AND wait_event = 'PgSleep'), '2');
as('good', q(SELECT count(dtm.saga('beside-' || n, ARRAY[dtm.step('sql:good.note'), dtm.step('sql:good.note')])) FROM generate_series(1, 20) n));
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'beside-%' AND status = 'succeed'), '20');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'hang-%' AND status = 'submitted')), '20', 'who hangs delays nobody else');
as('bad', q(SELECT count(dtm.force_stop('hang-' || n)) FROM generate_series(1, 20) n));

# A role that may not do any more what it might when it began

as('good', q(SELECT dtm.saga_begin('revoked'), dtm.saga_branch('revoked', 'sql:good.note')));
sql(q(SELECT dtm.revoke_usage('good')));
sql(q(SELECT dtm.submit('revoked')));
wait_for($node, q(SELECT coalesce(last_error, 'none') || ' ' || status FROM dtm.branches WHERE gid = 'revoked' AND op = 'action'),
	'42501: permission denied for schema dtm prepared');
sql(q(SELECT dtm.grant_usage('good'), dtm.retry_now('revoked')));
wait_status($node, 'revoked', 'succeed');
is(sql(q(SELECT count(*) FROM effect WHERE gid = 'revoked')), '1', 'given back, it goes on');

is(worker_pid($node), $worker, 'the worker has not been replaced');
$node->stop;
done_testing();
