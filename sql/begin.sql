-- Sagas: begin them, all at once or piece by piece, and look at them.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

-- One statement starts a saga, in the transaction that needs it.
CREATE TABLE orders (id integer PRIMARY KEY, status text);
BEGIN;
INSERT INTO orders VALUES (42, 'PENDING');
SELECT dtm.saga('order-42', ARRAY[
         dtm.step('http://stock/deduct', 'http://stock/restore', '{"sku": 7, "n": 1}'),
         dtm.step('http://pay/charge',   'http://pay/refund',    '{"order": 42}')],
       timeout_to_fail => '30s', retry_interval => '2s');
COMMIT;
SELECT dtm.status('order-42');
SELECT gid, trans_type, status, owner = current_user AS mine, timeout_to_fail, retry_interval,
       deadline = submitted_at + timeout_to_fail AS exact
FROM dtm.transactions;
SELECT gid, branch_id, op, status, address, attempts, last_error FROM dtm.branches;

-- Rolled back: there is no such saga.
BEGIN;
SELECT dtm.saga('order-43', ARRAY[dtm.step('http://stock/deduct')]);
ROLLBACK;
SELECT dtm.status('order-43');

-- A savepoint takes it away as well.
BEGIN;
SAVEPOINT s;
SELECT dtm.saga('order-43', ARRAY[dtm.step('http://stock/deduct')]);
ROLLBACK TO s;
COMMIT;
SELECT dtm.status('order-43');

-- The same again does nothing; something else under the same gid is an error.
SELECT dtm.saga('order-42', ARRAY[
         dtm.step('http://stock/deduct', 'http://stock/restore', '{"sku": 7, "n": 1}'),
         dtm.step('http://pay/charge',   'http://pay/refund',    '{"order": 42}')],
       timeout_to_fail => '30s', retry_interval => '2s');
SELECT dtm.saga('order-42', ARRAY[
         dtm.step('http://stock/deduct', 'http://stock/restore', '{"sku": 7, "n": 2}'),
         dtm.step('http://pay/charge',   'http://pay/refund',    '{"order": 42}')],
       timeout_to_fail => '30s', retry_interval => '2s');
SELECT dtm.saga('order-42', ARRAY[
         dtm.step('http://stock/deduct', 'http://stock/restore', '{"sku": 7, "n": 1}'),
         dtm.step('http://pay/charge',   'http://pay/refund',    '{"order": 42}')],
       timeout_to_fail => '31s', retry_interval => '2s');

-- Without a gid, a new one is made.
SELECT dtm.saga(ARRAY[dtm.step('http://a/b')]) AS gid \gset
SELECT length(:'gid'), dtm.status(:'gid');
SELECT length(dtm.new_gid()), dtm.new_gid() ~ '^[0-9a-z]+$' AS plain, dtm.new_gid() <> dtm.new_gid() AS new;

-- Many in one statement.
INSERT INTO orders SELECT g FROM generate_series(100, 1099) AS g;
SELECT count(dtm.saga('o-' || id, ARRAY[
         dtm.step('http://stock/deduct', 'http://stock/restore', jsonb_build_object('order', id))]))
FROM orders WHERE id >= 100;
SELECT count(*), min(status), max(status) FROM dtm.transactions WHERE gid LIKE 'o-%';

-- Piece by piece.
SELECT dtm.saga_begin('trip-9', request_timeout => '1s', branch_headers => '{"X-Tenant": "7"}');
SELECT dtm.saga_branch('trip-9', action => 'http://hotel/book', compensate => 'http://hotel/cancel', payload => '{"room": 1}');
SELECT dtm.saga_branch('trip-9', 'http://flight/book', 'http://flight/cancel', body => '\x0801', retry_limit => 3);
SELECT dtm.saga_branch('trip-9', 'http://car/book', payload => to_jsonb(7));
SELECT dtm.status('trip-9');
SELECT dtm.saga_begin('trip-9');	-- again: nothing
SELECT dtm.submit('trip-9');
SELECT dtm.submit('trip-9');		-- again: nothing
SELECT dtm.status('trip-9');
SELECT dtm.saga_begin('trip-9');
SELECT dtm.saga_branch('trip-9', 'http://late');
SELECT jsonb_pretty(dtm.query('trip-9') - 'created_at' - 'submitted_at' - 'owner');

-- Which step waits for which.
SELECT dtm.saga('order-50', ARRAY[dtm.step('http://a'), dtm.step('http://b'), dtm.step('http://c'), dtm.step('http://d')],
       orders => '{"3": [1, 2], "04": ["03"]}');
SELECT jsonb_path_query_array(dtm.query('order-50'), '$.branches[*].waits_for'), dtm.query('order-50')->'concurrent';
SELECT dtm.saga_begin('trip-10', concurrent => true);
SELECT dtm.saga_branch('trip-10', 'http://a'), dtm.saga_branch('trip-10', 'http://b', after => ARRAY[1]);
SELECT dtm.saga_branch('trip-10', 'http://c', after => ARRAY[3]);
SELECT dtm.saga_branch('trip-9', 'http://c', after => ARRAY[1]);

-- A payload is kept byte for byte; a large one and a long saga are nothing special.
SELECT payload = convert_to('{"a" :  1.00}', 'UTF8') AS as_written FROM dtm.step('http://a', payload => '{"a" :  1.00}');
SELECT dtm.saga('large', ARRAY[dtm.step('http://a', payload => ('"' || repeat('x', 10000000) || '"')::json)]);
SELECT dtm.query('large')->'branches'->0->'payload_size';
SELECT dtm.saga('long', array_agg(dtm.step('http://a/' || g))) FROM generate_series(1, 1000) AS g;
SELECT count(*), max(branch_id::integer) FROM dtm.branches WHERE gid = 'long' AND op = 'action';

-- Gids can be anything that has no control characters.
SELECT dtm.saga(gid, ARRAY[dtm.step('')]) FROM unnest(ARRAY[$$o'Brien "x" %s$$, 'Grüße 订单', 'a b', repeat('x', 128)]) AS gid;

-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
DROP TABLE orders;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
