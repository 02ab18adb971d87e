# What others were given, by default or for another purpose, is no way into dtm.
use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('rights', conf => "dtm.retry_interval = '50ms'\ndtm.retention_interval = '100ms'\nwal_level = logical\n");
my $stub = DtmTest::Stub->new;
my $action = $stub->url('/a');

sub sql { return $node->safe_psql('postgres', @_); }

# A statement of somebody who is really logged in as that role: its answer, or
# the code of its error.
sub as
{
	my ($role, $sql, $db) = @_;
	my ($rc, $out, $err) = $node->psql($db || 'postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);

	return $rc == 0 ? $out : ($err =~ /ERROR:  (\w{5}): /)[0] || $err;
}

# The error of a statement of a superuser, with detail and hint.
sub error
{
	my ($db, $sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql);

	return $err;
}

sql(<<"SQL");
CREATE ROLE team LOGIN;
CREATE ROLE alice LOGIN IN ROLE team;
CREATE ROLE svc LOGIN;
CREATE ROLE loader LOGIN IN ROLE pg_write_all_data, pg_read_all_data;
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
SELECT dtm.grant_usage('team'), dtm.grant_usage('alice'), dtm.grant_usage('svc');
SELECT dtm.allow('alice', '$action');
SQL

# A member adds branches to what is its team's; the team's grants decide

is(as('team', q(SELECT dtm.saga_begin('teams'))), 'teams', 'the team begins a saga');
is(as('alice', "SELECT dtm.saga_branch('teams', '$action')"), '42501', 'alice may have this called, the team may not');
is(as('alice', "SELECT dtm.saga_branch('teams', '', '$action')"), '42501', '... nor as a compensation');
sql("SELECT dtm.allow('team', '$action')");
is(as('alice', "SELECT dtm.saga_branch('teams', '$action')"), '01', 'now she adds it');

# A repeat is one's own

is(as('alice', q(SELECT dtm.saga_begin('teams'))), '23505', 'alice cannot begin the saga of the team again');
is(as('team', q(SELECT dtm.saga_begin('teams'))), 'teams', '... but the team can');
is(as('team', "SELECT dtm.saga('one', ARRAY[dtm.step('')])"), 'one', 'a saga of the team');
is(as('alice', "SELECT dtm.saga('one', ARRAY[dtm.step('')])"), '23505', 'the same by alice is another one');
is(as('team', "SELECT dtm.saga('one', ARRAY[dtm.step('')])"), 'one', '... and by the team a repeat');
like(error('postgres', "SELECT dtm.saga('one', ARRAY[dtm.step('')])"), qr/begun by role "team".*HINT:  Take another gid, or repeat it as the role/s, 'whoever may know is told whose it is');

# A read of the grants that failed is no empty list

my ($out, $err) = ('', '');
my $holder = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c',
	"SET application_name = 'holder'; BEGIN; LOCK TABLE dtm.allowed; SELECT pg_sleep(1.5); COMMIT" ], '>', \$out, '2>', \$err);
wait_for($node, q(SELECT count(*) FROM pg_locks WHERE relation = 'dtm.allowed'::regclass AND mode = 'AccessExclusiveLock' AND granted), '1');
my ($rc, $got, $errors) = $node->psql('postgres', <<"SQL", on_error_stop => 0, extra_params => [ '-U', 'alice' ]);
SET lock_timeout = '100ms';
SELECT dtm.saga('grants', ARRAY[dtm.step('$action')]);
SET lock_timeout = 0;
SELECT pg_sleep(2);
SELECT dtm.saga('grants', ARRAY[dtm.step('$action')]);
SQL
like($errors, qr/lock timeout/, 'the grants cannot be read');
like($got, qr/^grants$/m, '... and are when they can');
unlike($errors, qr/may not have/, '... not taken for none');
$holder->finish;

# Members of pg_write_all_data write none of our tables

my @tables = qw(trans branch op secret operation_log identity allowed);
is(sql(q(SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'dtm'::regnamespace AND relkind = 'r' AND NOT relrowsecurity)), 'allowed topic', 'row security guards all tables but those of dumps');
is(as('loader', "INSERT INTO dtm.trans (gid, mode, status, owner, due) VALUES ('evil', 's', 's', 10, now())"), '42501', 'no saga of a superuser');
is(as('loader', q(INSERT INTO dtm.branch (id, branch, branch_id, forward, backward) SELECT id, 1, '02', 'sql:public.evil', '' FROM (VALUES (1)) AS t(id))), '42501', '... no branch');
is(as('loader', q(INSERT INTO dtm.op (id, branch, phase, status, attempts, failed_attempts, streak) VALUES (1, 0, 0, 'S', 1, 0, 0))), '42501', '... no result');
is(as('loader', q(INSERT INTO dtm.secret (role, name, value) VALUES (10, 'a', 'b'))), '42501', '... no secret');
is(as('loader', q(INSERT INTO dtm.operation_log (role, command) VALUES ('postgres', 'abort'))), '42501', '... no record');
is(as('loader', q(INSERT INTO dtm.allowed VALUES ('loader', '*'))), '42501', '... no grant');
is(as('loader', q(UPDATE dtm.allowed SET prefix = '*' WHERE prefix <> '')), '42501', '... nor a wider one');
is(as('loader', q(DELETE FROM dtm.allowed)), '42501', '... nor one less');
is(as('loader', "WITH d AS (DELETE FROM dtm.$_ RETURNING 1) SELECT count(*) FROM d"), '0', "nothing to delete from $_") for grep { $_ ne 'allowed' } @tables;
is(as('loader', q(WITH u AS (UPDATE dtm.trans SET owner = 10 RETURNING 1) SELECT count(*) FROM u)), '0', 'nothing to update');
cmp_ok(sql(q(SELECT count(*) FROM dtm.trans)), '>=', 3, 'all is there');
is(as('watcher', q(SELECT count(*) > 0, (SELECT count(*) > 0 FROM dtm.allowed) FROM dtm.operation_log)), 't|t', 'pg_monitor reads the records');
is(as('watcher', q(SELECT count(*) FROM dtm.transactions WHERE gid = 'one')), '1', '... and the transactions');
ok(!system_log('pg_dump', '-U', 'loader', '-d', $node->connstr('postgres'), '-f', $node->basedir . '/dump.sql', '-t', 'dtm.allowed', '-e', 'dtm'), 'pg_read_all_data can dump');
like(slurp_file($node->basedir . '/dump.sql'), qr/^alice\t\Q$action\E/m, '... the grants, too');

# Default privileges of the installer

$node->safe_psql('postgres', 'CREATE DATABASE defaults');
$node->safe_psql('defaults', "ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO svc, PUBLIC") for qw(TABLES SEQUENCES ROUTINES TYPES SCHEMAS);
$node->safe_psql('defaults', 'BEGIN; SAVEPOINT s; CREATE EXTENSION dtm; COMMIT');
is($node->safe_psql('defaults', <<'SQL'), '', 'default privileges give nothing of dtm away');
SELECT what, a.grantee::regrole, a.privilege_type FROM (
	SELECT nspname::text, nspowner, nspacl FROM pg_namespace WHERE nspname LIKE 'dtm%'
	UNION ALL SELECT oid::regclass::text, relowner, relacl FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'dtm%'
	UNION ALL SELECT oid::regprocedure::text, proowner, proacl FROM pg_proc WHERE pronamespace = 'dtm'::regnamespace
	UNION ALL SELECT oid::regtype::text, typowner, typacl FROM pg_type WHERE typnamespace::regnamespace::text LIKE 'dtm%') AS o(what, owner, acl),
	aclexplode(acl) AS a
WHERE a.grantee <> o.owner AND a.grantee <> 'pg_monitor'::regrole
SQL
is(as('svc', q(SELECT dtm.allow('svc', '*')), 'defaults'), '42501', '... no administration');
is(as('svc', q(INSERT INTO dtm_barrier.barrier DEFAULT VALUES), 'defaults'), '42501', '... no barrier');
is(as('watcher', q(SELECT count(*) FROM dtm.transactions), 'defaults'), '0', 'what we grant is there');

# A schema that was there before

$node->safe_psql('postgres', 'CREATE DATABASE before');
$node->safe_psql('before', 'CREATE SCHEMA dtm AUTHORIZATION svc');
like(error('before', 'CREATE EXTENSION dtm'), qr/schema dtm belongs to role "svc".*HINT:  ALTER SCHEMA dtm RENAME/s, 'a schema of somebody else');
$node->safe_psql('before', 'ALTER SCHEMA dtm OWNER TO CURRENT_USER; GRANT CREATE ON SCHEMA dtm TO svc');
like(error('before', 'CREATE EXTENSION dtm'), qr/role "svc" may create objects in schema dtm.*HINT:  REVOKE CREATE ON SCHEMA dtm FROM svc/s, '... or in which somebody else creates');
is(as('svc', q(CREATE FUNCTION dtm.saga(text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL'), 'before'), '', '... such things');
$node->safe_psql('before', 'REVOKE CREATE ON SCHEMA dtm FROM svc');
like(error('before', 'CREATE EXTENSION dtm'), qr/schema dtm contains objects of role "svc"/, '... or in which such things are left');
$node->safe_psql('before', 'DROP FUNCTION dtm.saga; GRANT USAGE ON SCHEMA dtm TO svc');
is(error('before', 'CREATE EXTENSION dtm'), '', 'nothing is wrong with it');
is($node->safe_psql('before', q(SELECT has_schema_privilege('svc', 'dtm', 'usage'))), 'f', '... and it is ours now');

# Whoever waits holds back nobody

$stub->program('/slow', { hold => 1 });
sql("SELECT dtm.saga_begin('slow'), dtm.saga_branch('slow', '" . $stub->url('/slow') . "', request_timeout => '100s')");
{
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=serializable';
	my $waiter = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c',
		"CALL dtm.submit('slow', wait_result => true)" ], '>', \$out, '2>', \$err);

	wait_for($node, q(SELECT wait_event_type = 'Extension', backend_xmin IS NULL, backend_xid IS NULL FROM pg_stat_activity WHERE query LIKE 'CALL dtm.submit%' AND wait_event IS NOT NULL), 't|t|t');
	$stub->release('/slow');
	$waiter->finish;
	is($err, '', 'it hears of the end');
}

# The reason of a failure is told as it is, also after many looks

my $reason = 'r' x 500;
sql("CREATE FUNCTION refuse(jsonb) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN IF (SELECT attempts FROM dtm.branches WHERE gid = 'refused' AND op = 'action') < 3 THEN RAISE 'later'; END IF; PERFORM dtm.fail('$reason'); END \$\$;
	SELECT dtm.saga_begin('refused'), dtm.saga_branch('refused', 'sql:public.refuse', payload => '{}')");
like(error('postgres', q(CALL dtm.submit('refused', wait_result => true))), qr/global transaction failed: [^\n]*$reason/, 'a long reason is told in full');

$node->stop;
done_testing();
