-- Try, confirm, cancel: begin it in one call, or branch by branch.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

-- Reserve everywhere, then confirm everywhere, or cancel everywhere.
SELECT dtm.tcc('tcc-trip-9', ARRAY[
         dtm.tcc_step(try => 'http://hotel/hold',  confirm => 'http://hotel/book',  cancel => 'http://hotel/release',  payload => '{"room": 1}'),
         dtm.tcc_step(try => 'http://flight/hold', confirm => 'http://flight/book', cancel => 'http://flight/release', payload => '{"seat": 2}')]);
SELECT gid, trans_type, status, timeout_to_fail, deadline = created_at + timeout_to_fail AS exact, concurrent
FROM dtm.transactions WHERE gid = 'tcc-trip-9';
SELECT branch_id, op, status, address, attempts FROM dtm.branches WHERE gid = 'tcc-trip-9';
SELECT jsonb_pretty(dtm.query('tcc-trip-9') - 'created_at' - 'deadline' - 'owner');

-- The same again does nothing; something else under the same gid is an error.
SELECT dtm.tcc('tcc-trip-9', ARRAY[
         dtm.tcc_step(try => 'http://hotel/hold',  confirm => 'http://hotel/book',  cancel => 'http://hotel/release',  payload => '{"room": 1}'),
         dtm.tcc_step(try => 'http://flight/hold', confirm => 'http://flight/book', cancel => 'http://flight/release', payload => '{"seat": 2}')]);
SELECT dtm.tcc('tcc-trip-9', ARRAY[
         dtm.tcc_step(try => 'http://hotel/hold',  confirm => 'http://hotel/book',  cancel => 'http://hotel/release',  payload => '{"room": 1}'),
         dtm.tcc_step(try => 'http://flight/HOLD', confirm => 'http://flight/book', cancel => 'http://flight/release', payload => '{"seat": 2}')]);
SELECT dtm.tcc_begin('tcc-trip-9');
SELECT dtm.tcc_branch('tcc-trip-9', 'http://car/book', 'http://car/release');
SELECT dtm.saga('tcc-trip-9', ARRAY[dtm.step('http://a')]);

-- It is submitted when all tries have succeeded; to ask for it is no harm.
SELECT dtm.submit('tcc-trip-9');
SELECT dtm.retry_now('tcc-trip-9');
SELECT dtm.status('tcc-trip-9');
SELECT dtm.abort('tcc-trip-9', 'changed my mind');
SELECT dtm.abort('tcc-trip-9', 'again');
SELECT status, reason FROM dtm.transactions WHERE gid = 'tcc-trip-9';
SELECT dtm.submit('tcc-trip-9');
SELECT dtm.force_stop('tcc-trip-9', 'enough');
SELECT status, reason, forced FROM dtm.transactions WHERE gid = 'tcc-trip-9';

-- With a new gid, other payloads, options; and rolled back.
SELECT dtm.tcc(ARRAY[
         dtm.tcc_step('http://a/t', 'http://a/f', 'http://a/c', to_jsonb(7), request_timeout => '1s'),
         dtm.tcc_step('http://b/t', 'http://b/f', 'http://b/c', '[ 1 ]'::json, retry_limit => 3),
         dtm.tcc_step('http://c/t', '', '', body => '\x00ff', headers => '{"X-A": "b"}')],
       timeout_to_fail => '1 min', concurrent => true) AS gid \gset
SELECT status, timeout_to_fail, concurrent FROM dtm.transactions WHERE gid = :'gid';
SELECT branch_id, op, address FROM dtm.branches WHERE gid = :'gid';
SELECT b->'branch_id', b->'payload', b->'request_timeout', b->'retry_limit', b->'headers'
FROM jsonb_array_elements(dtm.query(:'gid')->'branches') AS b;
BEGIN;
SELECT dtm.tcc('never', ARRAY[dtm.tcc_step('http://a/t', 'http://a/f', 'http://a/c')]);
ROLLBACK;
SELECT dtm.status('never');

-- The application calls its tries itself: register, commit, try, ..., submit.
SELECT dtm.tcc_begin('tcc-trip-10', timeout_to_fail => '2 min');
SELECT dtm.tcc_branch('tcc-trip-10', confirm => 'http://hotel/book', cancel => 'http://hotel/release', payload => '{"room": 1}');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://flight/book', 'http://flight/release', payload => to_jsonb(2));
-- A participant that calls others registers them below itself.
SELECT dtm.tcc_branch('tcc-trip-10', 'http://meal/book', 'http://meal/release', parent => '02');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://seat/book', 'http://seat/release', '7'::json, parent => '02');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://salt/book', 'http://salt/release', parent => '0201');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://car/book', 'http://car/release', body => '\x01');
-- One that knows its id says it; again is nothing, another one an error.
SELECT dtm.tcc_branch('tcc-trip-10', 'http://bus/book', 'http://bus/release', branch_id => '0302');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://bus/book', 'http://bus/release', branch_id => '0302');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://bus/BOOK', 'http://bus/release', branch_id => '0302');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://bus/book', 'http://bus/release', '{}', branch_id => '0302');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://tax/book', 'http://tax/release', parent => '03');
SELECT branch_id, op, address FROM dtm.branches WHERE gid = 'tcc-trip-10';
SELECT dtm.tcc_branch('tcc-trip-10', 'http://a', 'http://b', parent => '07');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://a', 'http://b', branch_id => '1');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://a', 'http://b', branch_id => 'ab');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://a', 'http://b', branch_id => repeat('01', 33));
SELECT dtm.tcc_branch('tcc-trip-10', 'http://a', 'http://b', parent => '01', branch_id => '0101');

-- Begin and submit may be repeated; what comes too late is told so.
SELECT dtm.tcc_begin('tcc-trip-10');
SELECT dtm.submit('tcc-trip-10');
SELECT dtm.submit('tcc-trip-10');
SELECT status, deadline IS NULL AS no_deadline FROM dtm.transactions WHERE gid = 'tcc-trip-10';
SELECT dtm.tcc_begin('tcc-trip-10');
SELECT dtm.tcc_branch('tcc-trip-10', 'http://late', 'http://late');
SELECT dtm.abort('tcc-trip-10');
SELECT dtm.retry_now('tcc-trip-10');
SELECT dtm.tcc('tcc-trip-10', ARRAY[dtm.tcc_step('http://a', 'http://a', 'http://a')]);

-- Aborted while prepared: it is aborting, until all is cancelled.
SELECT dtm.tcc_begin(timeout_to_fail => '2s', concurrent => true) AS gid \gset
SELECT timeout_to_fail, concurrent FROM dtm.transactions WHERE gid = :'gid';
SELECT dtm.tcc_begin('tcc-trip-11');
SELECT dtm.tcc_branch('tcc-trip-11', 'http://a', 'http://b');
SELECT dtm.retry_now('tcc-trip-11');
SELECT dtm.abort('tcc-trip-11', 'no seat');
SELECT status, reason FROM dtm.transactions WHERE gid = 'tcc-trip-11';
SELECT dtm.abort('tcc-trip-11');
SELECT dtm.submit('tcc-trip-11');
SELECT dtm.tcc_branch('tcc-trip-11', 'http://late', 'http://late');

-- Bad input stores nothing.
SELECT dtm.tcc_step(NULL, 'http://a', 'http://b');
SELECT dtm.tcc_step('http://a', 'http://a', 'http://b', payload => '{');
SELECT dtm.tcc_step('http://a', 'http://a', 'http://b', payload => '{}', body => '\x00');
SELECT dtm.tcc('bad', ARRAY[]::dtm.tcc_step[]);
SELECT dtm.tcc('bad', NULL::dtm.tcc_step[]);
SELECT dtm.tcc('bad', ARRAY[NULL::dtm.tcc_step]);
SELECT dtm.tcc('bad', ARRAY[dtm.tcc_step('http://a', 'nonsense', 'http://b')]);
SELECT dtm.tcc('bad', ARRAY[dtm.tcc_step('http://a', 'topic://t', 'http://b')]);
SELECT dtm.tcc('bad', ARRAY[dtm.tcc_step('sql:no.function', 'http://a', 'http://b')]);
SELECT dtm.tcc('bad', ARRAY[dtm.tcc_step('http://a', 'http://a', 'http://b')], timeout_to_fail => '1 month');
SELECT dtm.tcc('', ARRAY[dtm.tcc_step('http://a', 'http://a', 'http://b')]);
SELECT dtm.tcc_begin(NULL::text);
SELECT dtm.tcc_branch('nobody', 'http://a', 'http://b');
SELECT dtm.saga_begin('tcc-saga');
SELECT dtm.tcc_branch('tcc-saga', 'http://a', 'http://b');
SELECT dtm.tcc_begin('tcc-saga');
SELECT dtm.status('bad');

-- What is another's is unknown, and so is its gid to those who only guess.
CREATE ROLE regress_stranger;
SELECT dtm.grant_usage('regress_stranger');
SELECT dtm.tcc_begin('tcc-mine');
SET ROLE regress_stranger;
SELECT dtm.tcc_branch('tcc-mine', '', '');
SELECT dtm.submit('tcc-mine');
SELECT dtm.tcc_begin('tcc-mine');
SELECT dtm.tcc('tcc-mine', ARRAY[dtm.tcc_step('', '', '')]);
SELECT dtm.tcc('tcc-strange', ARRAY[dtm.tcc_step('', 'http://a', '')]);
SELECT dtm.tcc('tcc-strange', ARRAY[dtm.tcc_step('http://a', '', '')]);
SELECT gid, status FROM dtm.transactions;
RESET ROLE;
SELECT dtm.revoke_usage('regress_stranger');
DROP ROLE regress_stranger;

-- Steps may come from a table.
CREATE TABLE plan (gid text, step dtm.tcc_step);
INSERT INTO plan SELECT 'bulk-' || n, dtm.tcc_step('http://a/t', 'http://a/f', 'http://a/c', to_jsonb(n)) FROM generate_series(1, 100) AS n;
SELECT count(dtm.tcc(gid, ARRAY[step])) FROM plan;
SELECT count(*), min(status), max(status) FROM dtm.transactions WHERE gid LIKE 'bulk-%';
DROP TABLE plan;

-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
