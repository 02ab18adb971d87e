-- Branches on other PostgreSQL servers: who may have them called, and what the other
-- side does. (t/055 has two servers.)
\set VERBOSITY default
CREATE FOREIGN DATA WRAPPER any_pg;		-- any wrapper whose options are libpq's
CREATE SERVER bank_b FOREIGN DATA WRAPPER any_pg OPTIONS (host 'bank-b.example', dbname 'bank');
CREATE SERVER "Bank C" FOREIGN DATA WRAPPER any_pg;
CREATE ROLE regress_remote;
SELECT dtm.grant_usage('regress_remote');

SET ROLE regress_remote;
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/bank.pay', 'sql://bank_b/bank.unpay', '{"n": 1}')]);
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_x/bank.pay')]);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER bank_b TO regress_remote;
SET ROLE regress_remote;
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/bank.pay')]);
CREATE USER MAPPING FOR regress_remote SERVER bank_b OPTIONS (user 'shop', password_required 'false');
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/bank.pay')]);
ALTER USER MAPPING FOR regress_remote SERVER bank_b OPTIONS (ADD password 'secret');

-- No dtm.allow is needed: rights are PostgreSQL's own.
BEGIN;
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/bank.pay', 'SQL://"bank_b"/bank.unpay', '{"n": 1}')]);
SELECT dtm.tcc('remote-2', ARRAY[dtm.tcc_step('sql://bank_b/a.b', 'sql://bank_b/a.c', 'sql://bank_b/a.d')]);
SELECT dtm.msg('remote-3', ARRAY[dtm.step('SQL://BANK_B/a.b')]);
ROLLBACK;

-- What is no such address, no such payload, or no place for one.
\set VERBOSITY terse
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b')]);
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/pay')]);
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank-b/bank.pay')]);
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://"Bank C"/bank.pay')]);	-- no spaces in addresses
SELECT dtm.saga('remote-1', ARRAY[dtm.step('sql://bank_b/bank.pay', body => '\xff')]);
SELECT dtm.msg_begin('remote-1', query_prepared => 'sql://bank_b/bank.asked');
RESET ROLE;
\set VERBOSITY default

-- The other side: the barrier and the function, in one statement.
CREATE SCHEMA bank AUTHORIZATION regress_remote;
SET ROLE regress_remote;
CREATE TABLE bank.account (id int PRIMARY KEY, balance int CHECK (balance >= 0) NOT NULL);
INSERT INTO bank.account VALUES (1, 100);
CREATE TABLE bank.line (account int REFERENCES bank.account DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION bank.pay(payload jsonb) RETURNS integer LANGUAGE sql AS
$$ UPDATE bank.account SET balance = balance - (payload ->> 'n')::int WHERE id = 1 RETURNING balance $$;
CREATE FUNCTION bank.unpay(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE bank.account SET balance = balance + (payload ->> 'n')::int WHERE id = 1 $$;
CREATE FUNCTION bank.who(payload jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('branch', to_jsonb(b), 'payload', payload, 'user', current_user,
	'trace', current_setting('dtm.traceparent')) FROM dtm.current_branch() b $$;
CREATE FUNCTION bank.no(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM bank.pay('{"n": 1}'); PERFORM dtm.fail('account closed'); END $$;
CREATE FUNCTION bank.dangling(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO bank.line VALUES (2) $$;
CREATE FUNCTION bank.sleep(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(60) $$;
CREATE FUNCTION bank.nothing(payload jsonb) RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;
CREATE FUNCTION bank.many(payload jsonb) RETURNS SETOF int LANGUAGE sql AS $$ SELECT 1 $$;

SELECT dtm.run_branch('saga', 'g1', '01', 'action', 'bank.pay', '{"n": 30}', 3000, keep_result => true);
SELECT dtm.run_branch('saga', 'g1', '01', 'action', 'bank.pay', '{"n": 30}', 3000, keep_result => true);	-- a repeat
SELECT balance FROM bank.account;
SELECT dtm.run_branch('saga', 'g1', '01', 'compensate', 'bank.unpay', '{"n": 30}');
SELECT dtm.run_branch('saga', 'g1', '01', 'compensate', 'bank.unpay', '{"n": 30}');
SELECT balance FROM bank.account;
SELECT dtm.run_branch('tcc', 'g2', '01', 'cancel', 'bank.unpay', '{"n": 30}');		-- nothing to undo
SELECT dtm.run_branch('tcc', 'g2', '01', 'try', 'bank.pay', '{"n": 30}');			-- too late
SELECT balance FROM bank.account;

SELECT jsonb_pretty(dtm.run_branch('msg', 'g3', '01', 'action', 'bank.who', '{"a": 1}',
	traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', keep_result => true));
SELECT dtm.run_branch('msg', 'g3', '02', 'action', 'bank.nothing', keep_result => true) IS NULL AS nothing,
       dtm.run_branch('msg', 'g3', '03', 'action', 'bank.unpay', '{"n": 0}', keep_result => true) IS NULL AS void,
       current_setting('dtm.traceparent') AS trace;
SELECT * FROM dtm.current_branch();

-- An error takes the barrier's row with it.
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.no', '{}');
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.dangling', '{}');
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.pay', '{"n": 101}');
\set VERBOSITY terse
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.sleep', '{}', 50);
SET statement_timeout = '50ms';
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.sleep', '{}', 60000);
RESET statement_timeout;
SELECT dtm.run_branch('saga', 'g4', '01', 'action', 'bank.pay', '{"n": 1}', keep_result => true);
DO $$ BEGIN		-- the time limit is the call's, and ends with it
	PERFORM dtm.run_branch('saga', 'g5', '01', 'action', 'bank.pay', '{"n": 1}', 100);
	PERFORM pg_sleep(0.3);
	BEGIN
		PERFORM dtm.run_branch('saga', 'g5', '02', 'action', 'bank.sleep', '{}', 100);
	EXCEPTION WHEN query_canceled THEN RAISE NOTICE 'cancelled';
	END;
	PERFORM pg_sleep(0.3);
END $$;

-- What dtm never sends.
SELECT dtm.run_branch('saga', 'g6', '01', 'try', 'bank.pay', '{}');
SELECT dtm.run_branch('msg', 'g6', '00', 'msg', 'bank.pay', '{}');
SELECT dtm.run_branch('xa', 'g6', '01', 'commit', 'bank.pay', '{}');
SELECT dtm.run_branch('sago', 'g6', '01', 'action', 'bank.pay', '{}');
SELECT dtm.run_branch(NULL, 'g6', '01', 'action', 'bank.pay', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', NULL, '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'pay', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'bank.pay(1)', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'bank.none', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'bank.many', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'nowhere.pay', '{}');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'bank.pay', '{}', 0);
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'bank.pay', '{}', traceparent => 'x');
SELECT dtm.run_branch('saga', 'g6', '01', 'action', 'pg_catalog.pg_read_file', '{}');
RESET ROLE;

-- With the caller's rights, whoever that is.
CREATE ROLE regress_remote_guest;
SELECT dtm.grant_usage('regress_remote_guest');
SET ROLE regress_remote_guest;
SELECT dtm.run_branch('saga', 'g7', '01', 'action', 'bank.pay', '{"n": 1}');
RESET ROLE;
GRANT USAGE ON SCHEMA bank TO regress_remote_guest;
SET ROLE regress_remote_guest;
SELECT dtm.run_branch('saga', 'g7', '01', 'action', 'bank.pay', '{"n": 1}');
RESET ROLE;
SELECT count(*) FROM dtm_barrier.barrier WHERE gid IN ('g6', 'g7');

SET client_min_messages = warning;
DROP SCHEMA bank CASCADE;
DROP OWNED BY regress_remote, regress_remote_guest;
DROP SERVER bank_b CASCADE;
DROP SERVER "Bank C" CASCADE;
DROP FOREIGN DATA WRAPPER any_pg;
DROP ROLE regress_remote, regress_remote_guest;
