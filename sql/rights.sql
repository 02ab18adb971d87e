-- Who may do what. Nobody may do anything until it is granted.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_team;
CREATE ROLE regress_watch;
GRANT pg_monitor TO regress_watch;
GRANT regress_team TO regress_bob;

SET ROLE regress_alice;
SELECT dtm.saga('alice-1', ARRAY[dtm.step('')]);
RESET ROLE;
SELECT dtm.grant_usage('regress_alice'), dtm.grant_usage('regress_bob'), dtm.grant_usage('regress_team');

-- A function that one may call is a branch that one may use. No address is, until it is allowed.
CREATE SCHEMA stock;
CREATE FUNCTION stock.deduct(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
REVOKE ALL ON FUNCTION stock.deduct FROM PUBLIC;
SET ROLE regress_alice;
SELECT dtm.saga('alice-1', ARRAY[dtm.step('')]);
SELECT dtm.saga('alice-2', ARRAY[dtm.step('sql:stock.deduct')]);
RESET ROLE;
GRANT USAGE ON SCHEMA stock TO regress_alice;
SET ROLE regress_alice;
SELECT dtm.saga('alice-2', ARRAY[dtm.step('sql:stock.deduct')]);
RESET ROLE;
GRANT EXECUTE ON FUNCTION stock.deduct TO regress_alice;
SET ROLE regress_alice;
SELECT dtm.saga('alice-2', ARRAY[dtm.step('sql:stock.deduct')]);
SELECT dtm.saga('alice-3', ARRAY[dtm.step('http://stock/deduct')]);
RESET ROLE;
SELECT dtm.allow('regress_alice', 'http://stock/');
SET ROLE regress_alice;
SELECT dtm.saga('alice-3', ARRAY[dtm.step('http://stock/deduct')]);
SELECT dtm.saga('alice-4', ARRAY[dtm.step('http://stock/deduct'), dtm.step('', 'http://stock.evil/')]);
SELECT dtm.saga('alice-4', ARRAY[dtm.step('http://stock:81/deduct')]);
RESET ROLE;
SELECT dtm.disallow('regress_alice', 'http://stock/'), dtm.disallow('regress_alice', 'http://stock/');
SET ROLE regress_alice;
SELECT dtm.saga('alice-4', ARRAY[dtm.step('http://stock/deduct')]);

-- What a role is granted, its members are; what public is granted, everybody.
RESET ROLE;
SELECT dtm.allow('regress_team', 'http://team'), dtm.allow('public', 'https://all:8443/api/');
SELECT role, prefix FROM dtm.allowed ORDER BY prefix;
SET ROLE regress_bob;
SELECT dtm.saga('bob-1', ARRAY[dtm.step('http://team/x', 'https://all:8443/api/x')]);
SELECT dtm.saga('bob-2', ARRAY[dtm.step('https://all:8443/apis')]);
RESET ROLE;
REVOKE regress_team FROM regress_bob;
SET ROLE regress_bob;
SELECT dtm.saga('bob-2', ARRAY[dtm.step('http://team/x')]);
RESET ROLE;
SELECT dtm.allow('regress_alice', 'stock');
SELECT dtm.allow('regress_nobody', '*');

-- One's own, and nobody else's.
SET ROLE regress_bob;
SELECT gid FROM dtm.transactions;
SELECT DISTINCT gid FROM dtm.branches;
SELECT dtm.status('alice-1');
SELECT dtm.abort('alice-1');
SELECT dtm.wait('alice-1', '0');
SELECT dtm.saga('alice-1', ARRAY[dtm.step('')]);
SELECT dtm.saga_begin('alice-1');
RESET ROLE;

-- A team's transactions are its members'.
SET ROLE regress_team;
SELECT dtm.saga_begin('team-1');
RESET ROLE;
GRANT regress_team TO regress_bob;
SET ROLE regress_bob;
SELECT dtm.saga_branch('team-1', '');
SELECT dtm.abort('team-1');
SELECT gid, owner FROM dtm.transactions ORDER BY gid;

-- The tables are out of reach, and so is administration.
SELECT * FROM dtm.trans;
UPDATE dtm.trans SET status = 'S';
INSERT INTO dtm_barrier.barrier DEFAULT VALUES;
SELECT dtm.allow('regress_bob', '*');
SELECT dtm.grant_usage('regress_bob');
SELECT dtm.adopt();
SELECT dtm.describe(1);
RESET ROLE;

-- pg_monitor sees all, and changes nothing.
SET ROLE regress_watch;
SELECT gid FROM dtm.transactions WHERE gid LIKE 'alice%' ORDER BY gid;
SELECT dtm.status('alice-1');
SELECT dtm.abort('alice-1');
RESET ROLE;

-- What is begun goes on when the right, or a secret, was taken back since: to repeat
-- its beginning is still nothing new. What is new is refused, and leaves nothing.
SELECT dtm.allow('regress_alice', 'http://late');
CREATE TABLE again (statement text);
INSERT INTO again VALUES
($$dtm.saga('late-1', ARRAY[dtm.step('http://late/a', headers => '{"T": {"secret": "late"}}')])$$),
($$dtm.tcc('late-2', ARRAY[dtm.tcc_step('http://late/a', 'http://late/b', 'http://late/c')])$$),
($$dtm.msg('late-3', ARRAY[dtm.step('http://late/a')], branch_headers => '{"T": {"secret": "late"}}')$$),
($$dtm.msg_begin('late-4', 'http://late/q')$$),
($$dtm.saga_begin('late-5', branch_headers => '{"T": {"secret": "late"}}')$$),
($$dtm.tcc_begin('late-6')$$),
($$dtm.tcc_branch('late-6', 'http://late/a', 'http://late/b', branch_id => '01')$$),
($$dtm.xa_begin('late-7')$$),
($$dtm.xa_branch('late-7', 'http://late/a', branch_id => '01')$$),
($$(SELECT run FROM dtm.workflow_prepare('late-8', 'code', 'http://late/r'))$$);
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE 'SELECT ' || statement INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
GRANT SELECT ON again TO regress_alice;
SET ROLE regress_alice;
SELECT dtm.set_secret('late', 'x');
SELECT try(statement) FROM again;
SELECT dtm.drop_secret('late');
RESET ROLE;
SELECT dtm.disallow('regress_alice', 'http://late');
SET ROLE regress_alice;
SELECT try(statement) FROM again;
SELECT try(replace(statement, 'late-', 'new-')) FROM again WHERE statement !~ '_branch|[567]';
SELECT try(replace(statement, '''01''', '''02''')) FROM again WHERE statement ~ '_branch';
SELECT try(replace(replace(statement, 'late-', 'new-'), 'http://late/a', '')) FROM again WHERE statement ~ 'late-[135]''';
SELECT gid FROM dtm.transactions WHERE gid LIKE 'new-%';
RESET ROLE;
DROP TABLE again;
DROP FUNCTION try;

-- A search_path with traps in it changes nothing.
CREATE SCHEMA trap;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
CREATE TABLE trap.trans (gid text);
GRANT USAGE ON SCHEMA trap TO regress_alice;
SET search_path = trap, pg_catalog;
SET ROLE regress_alice;
SELECT dtm.saga('alice-5', ARRAY[dtm.step('')]), dtm.status('alice-5'), dtm.query('alice-5') ->> 'status' AS query;
SELECT count(*) FROM dtm.transactions WHERE gid OPERATOR(pg_catalog.=) 'alice-5';
RESET ROLE;
RESET search_path;

-- Which functions users were given.
SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc
WHERE pronamespace = 'dtm'::regnamespace AND has_function_privilege('regress_alice', oid, 'EXECUTE');
SELECT count(*) FROM pg_proc WHERE pronamespace = 'dtm'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;

DROP SCHEMA trap CASCADE;
DROP SCHEMA stock CASCADE;
SELECT dtm.disallow('regress_team', 'http://team'), dtm.disallow('public', 'https://all:8443/api/');
SELECT dtm.revoke_usage('regress_alice'), dtm.revoke_usage('regress_bob'), dtm.revoke_usage('regress_team');

-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
DROP ROLE regress_alice, regress_bob, regress_team, regress_watch;
