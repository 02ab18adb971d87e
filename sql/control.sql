-- Submit, abort, hurry, stop: what is possible in which status.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default
CREATE TABLE made AS
SELECT dtm.saga('running-' || g, ARRAY[dtm.step('http://a', 'http://b')]) FROM generate_series(1, 4) AS g;

-- A saga that runs is rolled back; one that is only begun fails at once.
SELECT dtm.abort('running-1', 'changed my mind');
SELECT dtm.saga_begin('begun-1');
SELECT dtm.abort('begun-1');
SELECT dtm.abort('begun-1', 'again: nothing');
SELECT gid, status, reason, finished_at IS NOT NULL AS finished FROM dtm.transactions WHERE gid IN ('running-1', 'begun-1') ORDER BY gid;
SELECT dtm.submit('begun-1');
SELECT dtm.submit('running-1');

-- Give up, without any compensation.
SELECT dtm.force_stop('running-2', 'stock was mended by hand');
SELECT dtm.force_stop('running-2');
SELECT gid, status, reason, forced FROM dtm.transactions WHERE gid = 'running-2';
SELECT dtm.retry_now('running-2');
SELECT dtm.retry_now('running-3');

-- Somebody has interfered: it is on record.
SELECT role = current_user AS me, command, gid, reason FROM dtm.operation_log WHERE gid ~ '^(running|begun)' ORDER BY id;

-- Unknown.
SELECT dtm.submit('nobody');
SELECT dtm.abort('nobody');
SELECT dtm.query('nobody');
SELECT dtm.wait('nobody');
SELECT dtm.submit(NULL);

-- Waiting: for what has ended, not at all, and not in the transaction itself.
SELECT dtm.wait('running-2');
SELECT dtm.wait('running-3', '0');
SELECT dtm.wait('running-3', '20 ms');
SELECT dtm.wait('running-3', '-1 s');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT dtm.saga('mine', ARRAY[dtm.step('http://a')]);
SELECT dtm.wait('mine', '1s');
ROLLBACK;

-- Submit and wait, in one.
SELECT dtm.saga_begin('begun-2');
CALL dtm.submit('begun-2', wait_result => true, timeout => '20 ms');
SELECT dtm.status('begun-2');
SELECT dtm.force_stop('begun-2', 'no stock');
SELECT dtm.saga_begin('begun-3'), dtm.force_stop('running-4', 'no stock');
CALL dtm.submit('running-4', wait_result => true);
BEGIN;
CALL dtm.submit('begun-3', wait_result => true);
ROLLBACK;
CALL dtm.submit('begun-3', wait_result => false);
SELECT dtm.status('begun-3');

-- Inside SQL branches: refuse, ask for time, know where one is.
SELECT dtm.fail('no stock');
SELECT dtm.ongoing();
SELECT * FROM dtm.current_branch();
DROP TABLE made;

-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
