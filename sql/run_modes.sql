-- Every mode with branches in this database: the worker runs, nobody needs a
-- network. What the branches do is written to a table.
\set VERBOSITY default
CREATE SCHEMA shop;
CREATE TABLE shop.calls (n integer GENERATED ALWAYS AS IDENTITY, gid text, branch_id text, op text, payload jsonb);
CREATE FUNCTION shop.note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE b record;
BEGIN
	SELECT * INTO b FROM dtm.current_branch();
	INSERT INTO shop.calls (gid, branch_id, op, payload) VALUES (b.gid, b.branch_id, b.op, payload);
	IF payload->>'refuse' = b.op THEN
		PERFORM dtm.fail(payload->>'why');
	END IF;
END $$;
CREATE FUNCTION shop.calls_of(gid text, sorted boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(branch_id || ' ' || op, ', ' ORDER BY CASE WHEN sorted THEN branch_id || op END, n)
	FROM shop.calls AS c WHERE c.gid = $1
$$;

-- TCC: all tries, then the confirms, the last registered first.
SELECT dtm.tcc('run-trip-1', ARRAY[
         dtm.tcc_step('sql:shop.note', 'sql:shop.note', 'sql:shop.note', '{"room": 1}'),
         dtm.tcc_step('sql:shop.note', 'sql:shop.note', 'sql:shop.note', '{"seat": 2}')]);
SELECT dtm.wait('run-trip-1', '30s');
SELECT shop.calls_of('run-trip-1', sorted => true);
SELECT string_agg(branch_id, ' ' ORDER BY n) FROM shop.calls WHERE gid = 'run-trip-1' AND op = 'confirm';
SELECT branch_id, op, status, attempts FROM dtm.branches WHERE gid = 'run-trip-1';

-- One try refuses: nothing of it happened; what the others hold is cancelled.
SELECT dtm.tcc('run-trip-2', ARRAY[
         dtm.tcc_step('sql:shop.note', 'sql:shop.note', 'sql:shop.note', '{"room": 1}'),
         dtm.tcc_step('sql:shop.note', 'sql:shop.note', 'sql:shop.note', '{"refuse": "try", "why": "no seat"}')]);
SELECT dtm.wait('run-trip-2', '30s');
SELECT reason ~ 'no seat' AS no_seat FROM dtm.transactions WHERE gid = 'run-trip-2';
SELECT shop.calls_of('run-trip-2') IN ('01 try, 01 cancel', '01 try, 02 cancel, 01 cancel') OR shop.calls_of('run-trip-2') IS NULL AS undone;

-- The application calls its tries, and submits, or not.
SELECT dtm.tcc_begin('run-trip-3');
SELECT dtm.tcc_branch('run-trip-3', 'sql:shop.note', 'sql:shop.note', '{}');
SELECT dtm.tcc_branch('run-trip-3', 'sql:shop.note', 'sql:shop.note', '{}');
SELECT dtm.tcc_branch('run-trip-3', 'sql:shop.note', 'sql:shop.note', '{}', parent => '01');
CALL dtm.submit('run-trip-3', wait_result => true, timeout => '30s');
SELECT shop.calls_of('run-trip-3');
SELECT dtm.tcc_begin('run-trip-4');
SELECT dtm.tcc_branch('run-trip-4', 'sql:shop.note', 'sql:shop.note', '{}');
SELECT dtm.tcc_branch('run-trip-4', 'sql:shop.note', 'sql:shop.note', '{}');
SELECT dtm.abort('run-trip-4', 'too expensive');
SELECT dtm.wait('run-trip-4', '30s');
SELECT shop.calls_of('run-trip-4');
BEGIN;
SELECT dtm.tcc_begin('run-trip-5', timeout_to_fail => '200 ms');
SELECT dtm.tcc_branch('run-trip-5', 'sql:shop.note', 'sql:shop.note', '{}');
COMMIT;
SELECT dtm.wait('run-trip-5', '30s');
SELECT shop.calls_of('run-trip-5');
SELECT status, reason FROM dtm.transactions WHERE gid = 'run-trip-5';
SELECT dtm.submit('run-trip-5');

-- Messages: in order, once.
SELECT dtm.msg('run-news-1', ARRAY[dtm.step('sql:shop.note', '{"n": 1}'::jsonb), dtm.step(''), dtm.step('sql:shop.note', '{"n": 2}'::jsonb)]);
SELECT dtm.wait('run-news-1', '30s');
SELECT shop.calls_of('run-news-1');
SELECT dtm.msg('run-news-1', ARRAY[dtm.step('sql:shop.note', '{"n": 1}'::jsonb), dtm.step(''), dtm.step('sql:shop.note', '{"n": 2}'::jsonb)]);
SELECT shop.calls_of('run-news-1');

-- Not before its delay is over.
SELECT dtm.msg('run-news-2', ARRAY[dtm.step('sql:shop.note', '{}'::jsonb)], delay => '2s');
SELECT dtm.retry_now('run-news-2');	-- a delay is not a retry
SELECT dtm.wait('run-news-2', '1 ms');
SELECT dtm.wait('run-news-2', '30s');
SELECT finished_at >= created_at + '2s' AS later FROM dtm.transactions WHERE gid = 'run-news-2';

-- Begun: sent when it is submitted; failed when it is not, and nobody can be asked.
SELECT dtm.msg_begin('run-news-3');
SELECT dtm.msg_branch('run-news-3', 'sql:shop.note', '{}');
CALL dtm.submit('run-news-3', wait_result => true, timeout => '30s');
SELECT shop.calls_of('run-news-3');
BEGIN;
SELECT dtm.msg_begin('run-news-4', timeout_to_fail => '200 ms');
SELECT dtm.msg_branch('run-news-4', 'sql:shop.note', '{}');
COMMIT;
SELECT dtm.wait('run-news-4', '30s');
SELECT shop.calls_of('run-news-4'), reason FROM dtm.transactions WHERE gid = 'run-news-4';
SELECT dtm.submit('run-news-4');

-- A refusal is no way out for a message: it is repeated.
SELECT dtm.msg('run-news-5', ARRAY[dtm.step('sql:shop.note', '{"refuse": "action", "why": "no"}'::jsonb)], retry_interval => '50 ms', retry_limit => 2);
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		EXIT WHEN EXISTS (SELECT FROM dtm.stuck WHERE gid = 'run-news-5');
		PERFORM pg_sleep(0.1);
		COMMIT;
	END LOOP;
END $$;
SELECT status FROM dtm.transactions WHERE gid = 'run-news-5';
SELECT attempts >= 2 AS repeated, last_error FROM dtm.stuck WHERE gid = 'run-news-5';
SELECT dtm.force_stop('run-news-5', 'nobody wants it');

-- A row changes, and everybody hears of it.
SELECT dtm.subscribe('product', 'sql:shop.note');
CREATE TABLE shop.product (id integer PRIMARY KEY, price numeric);
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON shop.product FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('topic://product');
INSERT INTO shop.product VALUES (7, 10);
SELECT dtm.wait(gid, '30s') FROM dtm.transactions JOIN dtm.branches USING (gid) WHERE address = 'sql:shop.note' AND gid NOT LIKE 'run-%';
SELECT branch_id, op, payload FROM shop.calls WHERE payload ? 'table';

-- XA without branches has nobody to tell.
SELECT dtm.xa_begin('run-transfer-1');
CALL dtm.submit('run-transfer-1', wait_result => true, timeout => '30s');
SELECT dtm.xa_begin('run-transfer-2', timeout_to_fail => '200 ms');
SELECT dtm.wait('run-transfer-2', '30s');

SELECT dtm.unsubscribe('product', 'sql:shop.note');
DROP SCHEMA shop CASCADE;
