# What others were given, by default or for another purpose, is no way into dtm.
use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('rights', conf => "dtm.retry_interval = '50ms'\ndtm.retention_interval = '100ms'\n", init => [ allows_streaming => 'logical' ]);
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

# The barrier table runs no code of others, whatever somebody has put there

sql(q(GRANT ALL ON SCHEMA dtm_barrier TO svc; GRANT ALL ON dtm_barrier.barrier TO svc; GRANT CREATE ON SCHEMA public TO svc; GRANT USAGE ON SCHEMA dtm_barrier TO alice));
is(as('svc', <<'SQL'), '', 'svc has code');
CREATE TABLE trapped (who text);
GRANT INSERT, SELECT ON trapped TO PUBLIC;
CREATE FUNCTION spring() RETURNS bool LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO public.trapped VALUES (current_user); RETURN true; END $$;
CREATE FUNCTION spring(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.spring(); RETURN $1; END $$;
CREATE FUNCTION same(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.spring(); RETURN COALESCE(NEW, OLD); END $$;
CREATE DOMAIN d AS varchar(45) CHECK (public.same(VALUE) = VALUE);
CREATE TABLE child (id bigint);
SQL
sql(q(CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'));
my $call = q(BEGIN; SELECT dtm.barrier('saga', dtm.new_gid(), '01', 'action'); COMMIT);
is(as('alice', $call), 't', 'the barrier works');
my $doctor = q(SELECT remedy FROM dtm.doctor() WHERE why LIKE '%writes to this table%');
is(sql($doctor), '', '... and the doctor finds nothing');
for ([ 'svc', 'CREATE TRIGGER t BEFORE INSERT ON dtm_barrier.barrier FOR EACH ROW EXECUTE FUNCTION trap()', 'DROP TRIGGER t ON dtm_barrier.barrier' ],
	[ 'svc', 'CREATE TRIGGER t AFTER DELETE ON dtm_barrier.barrier FOR EACH STATEMENT EXECUTE FUNCTION trap()', 'DROP TRIGGER t ON dtm_barrier.barrier' ],
	[ 'svc', 'CREATE TRIGGER t BEFORE INSERT ON dtm_barrier.barrier FOR EACH ROW WHEN (spring()) EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'DROP TRIGGER t ON dtm_barrier.barrier' ],
	[ 'svc', 'ALTER TABLE child ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES dtm_barrier.barrier ON DELETE CASCADE', 'ALTER TABLE child DROP CONSTRAINT c', 'DROP CONSTRAINT' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier OWNER TO svc', undef, 'ALTER TABLE dtm_barrier.barrier OWNER TO' ],
	[ 'postgres', 'ALTER SCHEMA dtm_barrier OWNER TO svc', undef, 'ALTER SCHEMA dtm_barrier OWNER TO' ],
	[ 'postgres', 'CREATE RULE r AS ON INSERT TO dtm_barrier.barrier DO ALSO SELECT spring()', 'DROP RULE r ON dtm_barrier.barrier', 'DROP RULE' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier ADD CONSTRAINT c CHECK (spring(gid) = gid) NOT VALID', 'ALTER TABLE dtm_barrier.barrier DROP CONSTRAINT c' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier ADD COLUMN x text; ALTER TABLE dtm_barrier.barrier ALTER COLUMN x SET DEFAULT spring(random()::text)', 'ALTER TABLE dtm_barrier.barrier ALTER COLUMN x DROP DEFAULT' ],
	[ 'postgres', 'CREATE INDEX i ON dtm_barrier.barrier (public.same(gid))', 'DROP INDEX dtm_barrier.i' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier ALTER COLUMN reason TYPE d', 'ALTER TABLE dtm_barrier.barrier ALTER COLUMN reason TYPE varchar(45)', 'TYPE varchar' ],
	[ 'postgres', 'CREATE TABLE part () INHERITS (dtm_barrier.barrier); ALTER TABLE part OWNER TO svc', 'DROP TABLE part', 'ALTER TABLE public.part OWNER TO' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier RENAME CONSTRAINT uniq_barrier TO other', 'ALTER TABLE dtm_barrier.barrier RENAME CONSTRAINT other TO uniq_barrier', 'ADD CONSTRAINT uniq_barrier UNIQUE', '42704' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier RENAME COLUMN id TO number', 'ALTER TABLE dtm_barrier.barrier RENAME COLUMN number TO id', 'ADD COLUMN id bigint', '42804' ],
	[ 'postgres', 'ALTER TABLE dtm_barrier.barrier RENAME TO b', 'ALTER TABLE dtm_barrier.b RENAME TO barrier', 'CREATE TABLE dtm_barrier.barrier', '42P01' ])
{
	my ($who, $do, $undo, $remedy, $code) = @$_;

	if ($who eq 'svc') { as('svc', $do); }
	else { sql($do); }
	is(as('alice', $call), $code || '42501', "refused: $do");
	like(sql($doctor), qr/\Q@{[ $remedy || $undo ]}/, '... and the doctor knows what to do');
	# What the doctor says is what mends it.
	sql($undo || sql($doctor));
	is(as('alice', $call), 't', '... and all is well');
}
sql(q(CREATE TRIGGER fine BEFORE INSERT ON dtm_barrier.barrier FOR EACH ROW WHEN (NEW.gid <> '') EXECUTE FUNCTION harmless()));
is(as('alice', $call), 't', 'a trigger of a superuser is his own affair');
is(sql(q(SELECT count(*) FROM trapped)), '0', 'no trap has sprung');

# One table that is not as it should be does not stop retention of the others

sql(q(ALTER FUNCTION harmless OWNER TO svc));
is(as('alice', $call), '42501', 'now it is the affair of somebody else');
set_conf($node, 'dtm.retention' => '1s', 'dtm.barrier_retention' => '1s');
sql(q(SELECT dtm.saga('old', ARRAY[dtm.step('')])));
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid = 'old'), '0');
cmp_ok(sql(q(SELECT count(*) FROM dtm_barrier.barrier)), '>', 5, 'the barriers are left alone');
like(slurp_file($node->logfile), qr/dtm worker .*ERROR:  .*dtm_barrier/, '... and the log says why');
set_conf($node, 'dtm.retention' => '7d', 'dtm.barrier_retention' => '7d');

# A table that was there before

$node->safe_psql('postgres', 'CREATE DATABASE sdk');
$node->safe_psql('sdk', 'CREATE SCHEMA dtm_barrier; CREATE TABLE dtm_barrier.barrier (id text PRIMARY KEY, trans_type text, gid text, branch_id text, op text, barrier_id text, reason text, create_time timestamptz, update_time timestamptz)');
like(error('sdk', 'CREATE EXTENSION dtm'), qr/no column id of an integer type/, 'an id that is no number');
$node->safe_psql('sdk', 'ALTER TABLE dtm_barrier.barrier DROP COLUMN id; ALTER TABLE dtm_barrier.barrier ADD COLUMN id serial');
like(error('sdk', 'CREATE EXTENSION dtm'), qr/no constraint uniq_barrier/, 'no constraint');
$node->safe_psql('sdk', 'ALTER TABLE dtm_barrier.barrier ADD CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)');
is(error('sdk', 'CREATE EXTENSION dtm'), '', 'this will do');

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

# What is replicated from another server is that server's to carry out

my $other = dtm_node('other', conf => "dtm.enabled = on\n");
my $from = $node->connstr('postgres');

$from =~ s/'/''/g;
sql(q(CREATE PUBLICATION everything FOR ALL TABLES));
# Grants name roles, so these must be there, as for any table with such names.
$other->safe_psql('postgres', "CREATE ROLE $_") for qw(team alice svc loader);
# Both give out the same ids: what is changed there must not change it here.
$other->safe_psql('postgres', q(SELECT dtm.saga_begin('here-' || i) FROM generate_series(1, 100) AS i));
my $ids = $other->safe_psql('postgres', q(SELECT min(id) || '-' || max(id) FROM dtm.trans));
for my $table (split(/\n/, sql(q(SELECT format('CREATE TABLE IF NOT EXISTS %s (%s)', c.oid::regclass, string_agg(format('%I %s', attname, CASE atttypid WHEN 'd'::regtype THEN 'text' ELSE format_type(atttypid, atttypmod) END), ', ' ORDER BY attnum)) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' GROUP BY c.oid))))
{
	$other->safe_psql('postgres', $table);
}
$other->safe_psql('postgres', 'ALTER TABLE dtm_barrier.barrier ADD COLUMN x text');
$other->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION everything");
wait_for($other, q(SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'), '0');
sql(q(CREATE FUNCTION count_calls(jsonb) RETURNS void LANGUAGE sql AS 'SELECT'));
sql(q(SELECT dtm.saga('there-' || i, ARRAY[dtm.step('sql:public.count_calls')]) FROM generate_series(1, 200) AS i; SELECT dtm.saga_begin('waits')));
sql(q(SELECT dtm.set_secret('a', 'b'), dtm.allow('svc', 'http://there')));
wait_status($node, 'there-200', 'succeed');
wait_for($node, q(SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'there-%' AND status = 'succeed'), '200');
sql(q(SELECT dtm.abort('waits')));
$node->wait_for_catchup('s');
is($other->safe_psql('postgres', q(SELECT count(*), count(*) FILTER (WHERE gid LIKE 'here-%' AND status = 'p'), min(id) || '-' || max(id) FROM dtm.trans)), "100|100|$ids", 'what is begun there is not carried out here');
is($other->safe_psql('postgres', "SELECT (SELECT count(*) FROM dtm.$_) = 0"), 't', "... $_") for qw(branch op secret allowed);
is($other->safe_psql('postgres', q(SELECT count(*), bool_and(system_identifier = (SELECT system_identifier FROM pg_control_system())) FROM dtm.identity)), '1|t', '... and who we are stays as it is');
cmp_ok($other->safe_psql('postgres', q(SELECT count(*) FROM dtm_barrier.barrier)), '>', 0, 'the barriers of the services are replicated');
unlike(slurp_file($other->logfile), qr/ERROR/, 'nothing stands in the way of the rest');

# ... but a session that is called a replica begins sagas, and so does one after a restore

is($other->safe_psql('postgres', q(SET session_replication_role = replica; SELECT dtm.saga('replica', ARRAY[dtm.step('')]); RESET session_replication_role; SELECT dtm.wait('replica', '60s'))), "replica\nsucceed", 'a replica by name');
$other->safe_psql('postgres', "ALTER TABLE dtm.$_ ENABLE TRIGGER ALL") for @tables;
is($other->safe_psql('postgres', q(SELECT dtm.saga('enabled', ARRAY[dtm.step('')]); SELECT dtm.wait('enabled', '60s'))), "enabled\nsucceed", 'triggers that were enabled for all');

$other->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$other->stop;
$node->stop;
done_testing();
