# Nobody gets further by dtm than he could without it.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('security', conf => "dtm.retry_interval = '50ms'\n");
my $worker = worker_pid($node);
my $stub = DtmTest::Stub->new;
my $action = $stub->url('/a');

sub sql { return $node->safe_psql('postgres', @_); }

# A statement of somebody who is really logged in as that role.
sub as
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);

	return $rc == 0 ? $out : ($err =~ /ERROR:  (\w{5}): /)[0] || $err;
}

sql(<<"SQL");
CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE stranger LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
SELECT dtm.grant_usage('alice'), dtm.grant_usage('bob');
SELECT dtm.allow('alice', '$action'), dtm.allow('bob', '$action');
CREATE TABLE secret (word text);
INSERT INTO secret VALUES ('xyzzy');
CREATE TABLE trapped (who text, how text);
CREATE SCHEMA alice AUTHORIZATION alice;
CREATE SCHEMA bob AUTHORIZATION bob;
SQL

# Who was not granted anything

is(as('stranger', $_), '42501', "a stranger: $_")
  for "SELECT dtm.saga('s', ARRAY[dtm.step('')])", q(SELECT dtm.new_gid()), q(SELECT * FROM dtm.transactions), q(SELECT * FROM dtm.doctor()),
  q(SELECT dtm.status('x')), q(SELECT dtm.barrier('saga', 'g', '01', 'action')), q(SELECT * FROM dtm_barrier.barrier), q(SELECT NULL::dtm.step);

# Tables and what belongs to administrators

my @tables = split(/\n/, sql(q(SELECT oid::regclass FROM pg_class WHERE relnamespace IN ('dtm'::regnamespace, 'dtm_barrier'::regnamespace) AND relkind = 'r')));
cmp_ok(scalar @tables, '>=', 7, 'all tables');
for my $table (@tables)
{
	is(as('alice', "INSERT INTO $table DEFAULT VALUES"), '42501', "alice: insert into $table");
	is(as('alice', "DELETE FROM $table"), '42501', "... delete");
	is(as('alice', "BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE"), '42501', '... lock');
	is(as('alice', "CREATE TRIGGER t BEFORE INSERT ON $table EXECUTE FUNCTION suppress_redundant_updates_trigger()"), '42501', '... trigger');
	is(as('alice', "ALTER TABLE $table ENABLE ROW LEVEL SECURITY"), '42501', '... row security');
	is(as('alice', "CREATE TABLE alice.f (id bigint REFERENCES $table)"), '42501', '... foreign key');
}
is(as('alice', $_), '42501', "alice: $_")
  for q(SELECT dtm.allow('alice', '*')), q(SELECT dtm.disallow('bob', '*')), q(SELECT dtm.grant_usage('stranger')), q(SELECT dtm.revoke_usage('bob')),
  q(SELECT dtm.adopt()), q(SELECT dtm.describe(1)), q(CREATE FUNCTION dtm.f() RETURNS int LANGUAGE sql AS 'SELECT 1'), 
  q(SELECT nextval('dtm.trans_id_seq')), q(CREATE RULE r AS ON INSERT TO dtm.transactions DO INSTEAD NOTHING);

# One's own and no one else's

is(as('alice', "SELECT dtm.saga_begin('alices', branch_headers => '{\"Authorization\": \"alices word\"}'), dtm.saga_branch('alices', '$action', payload => '\"alices\"')"), 'alices|01', 'alice begins');
is(as('bob', $_), 'DT404', "bob: $_")
  for map { "SELECT dtm.$_" } q(status('alices')), q(query('alices')), q(wait('alices', '0')), q(submit('alices')), q(abort('alices')), q(retry_now('alices')),
  q(force_stop('alices')), q(saga_branch('alices', ''));
is(as('bob', q(CALL dtm.submit('alices', wait_result => true))), 'DT404', 'bob: CALL submit');
is(as('bob', "SELECT dtm.saga('alices', ARRAY[dtm.step('')])"), '23505', 'bob: a gid is taken, and no more is said');
is(as('bob', "SELECT count(*) FROM dtm.$_ WHERE gid = 'alices'"), '0', "bob: dtm.$_") for qw(transactions branches stuck);

# Functions that leak what a view's condition hides: the views are barriers.

is(as('bob', <<'SQL'), "0", 'bob: a cheap function of his does not see rows that the view hides');
CREATE FUNCTION bob.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE 'leaked %', $1; END $$;
SELECT count(*) FROM dtm.transactions WHERE bob.leak(gid);
SQL

is(as('watcher', q(SELECT owner || ' ' || status FROM dtm.transactions WHERE gid = 'alices')), 'alice prepared', 'pg_monitor sees all');
is(as('watcher', q(SELECT dtm.query('alices') ->> 'owner')), 'alice', '... and may ask');
is(as('watcher', $_), '42501', "... but not: $_") for q(SELECT dtm.abort('alices')), q(SELECT dtm.saga('w', ARRAY[dtm.step('')]));
is(sql(q(SELECT dtm.status('alices'))), 'prepared', 'nobody has changed it');

# Traps in the search_path, for the session, the worker and the executor: names
# that dtm uses, better matches than those of pg_catalog, and triggers on temporary tables.

my $traps = <<'SQL';
CREATE FUNCTION alice.trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'alice' OR pg_has_role(session_user, 'pg_monitor', 'usage') THEN RAISE 'sprung'; END IF; RETURN 'x'; END $$;
CREATE FUNCTION alice.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: now'; END $$;
CREATE FUNCTION alice.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: clock'; END $$;
CREATE FUNCTION alice.octet_length(bytea) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: octet_length'; END $$;
CREATE FUNCTION alice.eq(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: text ='; END $$;
CREATE FUNCTION alice.eq(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: bigint ='; END $$;
CREATE FUNCTION alice.eq(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: oid ='; END $$;
CREATE FUNCTION alice.eq(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: int ='; END $$;
CREATE FUNCTION alice.eq("char", "char") RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: char ='; END $$;
CREATE FUNCTION alice.add(timestamptz, interval) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: +'; END $$;
CREATE FUNCTION alice.plus(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung: int +'; END $$;
CREATE OPERATOR alice.= (LEFTARG = text, RIGHTARG = text, FUNCTION = alice.eq);
CREATE OPERATOR alice.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = alice.eq);
CREATE OPERATOR alice.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = alice.eq);
CREATE OPERATOR alice.= (LEFTARG = int, RIGHTARG = int, FUNCTION = alice.eq);
CREATE OPERATOR alice.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = alice.eq);
CREATE OPERATOR alice.+ (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = alice.add);
CREATE OPERATOR alice.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = alice.plus);
CREATE TABLE alice.trans (gid text);
CREATE TABLE alice.op (gid text);
CREATE FUNCTION alice.work(jsonb) RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION alice.refuse(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm.fail('no'); END $$;
SQL
is(as('alice', $traps), '', 'traps are set');
sql(q(ALTER ROLE alice SET search_path = alice, pg_catalog; ALTER ROLE alice SET default_transaction_isolation = 'repeatable read'));
is(as('alice', <<"SQL"), "t1\nt2\nt3|01\nt3|02\n\n\nt1|failed", 'alice walks among them');
SELECT dtm.saga('t1', ARRAY[dtm.step('sql:alice.work', 'sql:alice.work', '{}'), dtm.step('sql:alice.refuse', 'sql:alice.work', '{}')]);
SELECT dtm.saga('t2', ARRAY[dtm.step('$action', '', '{}'), dtm.step('sql:alice.work')], retry_limit => 2, orders => '{"2": [1]}', timeout_to_fail => '100s');
SELECT dtm.saga_begin('t3'), dtm.saga_branch('t3', 'sql:alice.work');
SELECT 't3', dtm.saga_branch('t3', '$action');
SELECT dtm.submit('t3');
SELECT dtm.retry_now('t3');
SELECT 't1', dtm.wait('t1', '60s');
SQL
is(as('alice', q(SELECT dtm.wait('t2', '60s'), dtm.wait('t3', '60s'))), 'succeed|succeed', 'none has sprung');
is(as('alice', q(SELECT count(*) FROM dtm.branches WHERE last_error LIKE '%sprung%')), '0', '... nor in an executor');
unlike(slurp_file($node->logfile), qr/sprung/, '... nor anywhere');
sql(q(ALTER ROLE alice RESET ALL));

# In a database whose owner is not to be trusted, defaults of the database are
# not what the worker goes by

sql(q(ALTER DATABASE postgres SET search_path = alice, pg_catalog; ALTER DATABASE postgres SET session_replication_role = replica;
	ALTER DATABASE postgres SET default_transaction_read_only = on; ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
	ALTER DATABASE postgres SET statement_timeout = '1ms'; ALTER DATABASE postgres SET row_security = off;));
{
	local $ENV{PGOPTIONS} = '-c search_path=pg_catalog -c statement_timeout=0 -c default_transaction_read_only=off';

	sql("SELECT pg_terminate_backend($worker, 60000)");
	$worker = wait_worker($node, $worker);
	sql("SET SESSION AUTHORIZATION alice; SELECT dtm.saga('defaults', ARRAY[dtm.step('$action'), dtm.step('sql:alice.refuse', 'sql:alice.work', '{}')])");
	wait_status($node, 'defaults', 'failed');
	sql(q(ALTER DATABASE postgres RESET ALL));
}
like(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'defaults')), qr/refused: no/, 'defaults of the database do not get in the way');

# A branch is its role: no more, and not another

sql(<<'SQL');
GRANT INSERT ON trapped TO alice, bob;
CREATE FUNCTION bob.mine(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.trapped VALUES (current_user, session_user) $$;
GRANT USAGE ON SCHEMA bob TO alice;
SQL
is(as('alice', q(SELECT dtm.saga('borrowed', ARRAY[dtm.step('sql:bob.mine')]), dtm.wait('borrowed', '0'))), 'DT412', 'a saga ...');
is(as('alice', q(SELECT dtm.saga('borrowed', ARRAY[dtm.step('sql:bob.mine')]))), 'borrowed', '... with a function of bob ...');
wait_status($node, 'borrowed', 'succeed');
is(sql(q(SELECT who || ' ' || how FROM trapped)), 'alice alice', '... runs as alice who began it');

is(as('alice', <<'SQL'), '', 'functions that would be somebody else');
CREATE FUNCTION alice.up1(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE bob; END $$;
CREATE FUNCTION alice.up2(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; SET SESSION AUTHORIZATION DEFAULT; PERFORM word FROM public.secret; END $$;
CREATE FUNCTION alice.up3(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE dtm.op SET status = 'S'; END $$;
CREATE FUNCTION alice.up4(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_read_file('PG_VERSION'); END $$;
CREATE FUNCTION alice.up5(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET session_replication_role = replica; END $$;
CREATE FUNCTION alice.up6(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET dtm.enabled = off; END $$;
CREATE FUNCTION alice.up7(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY public.trapped TO PROGRAM 'true'; END $$;
CREATE FUNCTION alice.up8(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'RESET SESSION AUTHORIZATION; ALTER ROLE alice SUPERUSER'; END $$;
SQL
my %error = (1 => '42501', 2 => '42501', 3 => '42501', 4 => '42501', 5 => '42501', 6 => '55P02', 7 => '42501', 8 => '42501');
as('alice', "SELECT dtm.saga('up$_', ARRAY[dtm.step('sql:alice.up$_')], retry_limit => 1)") for sort keys %error;
for my $n (sort keys %error)
{
	wait_status($node, "up$n", 'failed');
	like(sql("SELECT last_error FROM dtm.branches WHERE gid = 'up$n' AND op = 'action'"), qr/^$error{$n}: /, "up$n: refused");
}
is(sql(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'alice')), 'f', 'alice is who she was');

# A trigger of hers, deferred until the commit of an executor, is still hers

is(as('alice', <<'SQL'), '', 'a deferred trigger');
CREATE TABLE alice.t (a int);
CREATE FUNCTION alice.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.trapped VALUES (current_user, 'trigger'); PERFORM word FROM public.secret; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON alice.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fire();
CREATE FUNCTION alice.defers(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO alice.t VALUES (1) $$;
SQL
as('alice', q(SELECT dtm.saga('defers', ARRAY[dtm.step('sql:alice.defers')], retry_limit => 1)));
wait_status($node, 'defers', 'failed');
like(sql(q(SELECT last_error FROM dtm.branches WHERE gid = 'defers' AND op = 'action')), qr/^42501: .*secret/, 'has her rights only');

# What an executor runs later in the same process: nothing is left of the above

as('alice', q(CREATE FUNCTION alice.who(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.trapped VALUES (current_user || session_user, current_setting('session_replication_role')) $$; SELECT dtm.saga('after', ARRAY[dtm.step('sql:alice.who')])));
wait_status($node, 'after', 'succeed');
is(sql(q(SELECT how FROM trapped WHERE who = 'alicealice')), 'origin', 'the next branch is alice, too');

# Rights that were taken away are gone for what was begun before

as('alice', q(SELECT dtm.saga_begin('late'), dtm.saga_branch('late', 'sql:bob.mine')));
sql(q(REVOKE USAGE ON SCHEMA bob FROM alice));
as('alice', q(SELECT dtm.submit('late')));
wait_for($node, q(SELECT last_error FROM dtm.branches WHERE gid = 'late' AND op = 'action'), '42501: permission denied for schema bob');
sql(q(SELECT dtm.force_stop('late')));

# Secrets in headers are not written to the log

sql(q(SELECT dtm.submit('alices')));
wait_status($node, 'alices', 'succeed');
is($stub->journal('alices')->[0]{headers}{Authorization}, 'alices word', 'a secret is sent');
my $log = slurp_file($node->logfile);
$log =~ s/^.*(STATEMENT|QUERY):.*$//mg;
unlike($log, qr/alices word/, 'and not logged');

is(worker_pid($node), $worker, 'the worker has not been replaced');
$node->stop;
done_testing();
