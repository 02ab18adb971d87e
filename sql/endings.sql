-- Endings: a statement that runs in the same commit as the final status.
-- Here only what is checked when it is given; t/057_endings.pl shows it at work.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default
CREATE TABLE purchase (id int PRIMARY KEY, state text);
INSERT INTO purchase VALUES (42, 'PENDING');

-- The order is PAID or CANCELLED together with the end of its saga.
SELECT dtm.saga('purchase-42', ARRAY[dtm.step('http://pay/charge', 'http://pay/refund')],
	on_success => 'UPDATE purchase SET state = ''PAID'' WHERE id = 42',
	on_failure => 'UPDATE purchase SET state = ''CANCELLED'' WHERE id = 42');
SELECT on_success, on_failure FROM dtm.transactions WHERE gid = 'purchase-42';
SELECT branch_id, op, status, address, attempts FROM dtm.branches WHERE gid = 'purchase-42' ORDER BY 1, 2;
SELECT q ->> 'on_success' AS on_success, q -> 'ending' AS ending FROM dtm.query('purchase-42') AS q;

-- The same again is a repeat; with another statement it is not.
SELECT dtm.saga('purchase-42', ARRAY[dtm.step('http://pay/charge', 'http://pay/refund')],
	on_success => 'UPDATE purchase SET state = ''PAID'' WHERE id = 42',
	on_failure => 'UPDATE purchase SET state = ''CANCELLED'' WHERE id = 42');
SELECT dtm.saga('purchase-42', ARRAY[dtm.step('http://pay/charge', 'http://pay/refund')],
	on_success => 'UPDATE purchase SET state = ''PAID'' WHERE id = 43',
	on_failure => 'UPDATE purchase SET state = ''CANCELLED'' WHERE id = 42');

-- One statement, of a kind that changes data or calls what does.
SELECT dtm.saga_begin('e-1', on_success => 'SELECT 1', on_failure => 'VALUES (1)');
BEGIN;
SELECT dtm.tcc_begin('e-2', on_success => 'INSERT INTO purchase SELECT 1', on_failure => 'DELETE FROM purchase;');
SELECT dtm.xa_begin('e-3', on_success => 'MERGE INTO purchase AS o USING purchase AS p ON o.id = p.id WHEN MATCHED THEN DELETE', on_failure => 'CALL cancel(1, DEFAULT)');
SELECT gid, on_success, on_failure FROM dtm.transactions WHERE gid ~ '^e-' ORDER BY gid;
ROLLBACK;
SELECT dtm.msg_begin('e-4', 'http://a', on_success => 'WITH a AS (UPDATE purchase SET state = NULL RETURNING *) SELECT * FROM a', on_failure => '');

SELECT dtm.saga_begin('bad', on_success => 'SELECT 1; SELECT 2');
SELECT dtm.saga_begin('bad', on_failure => ' ; ');
SELECT dtm.saga_begin('bad', on_failure => '-- nothing');
SELECT dtm.saga_begin('bad', on_success => 'SELEKT 1');
SELECT dtm.saga_begin('bad', on_failure => 'UPDATE purchase SET state = ''PAID WHERE id = 1');
SELECT dtm.saga_begin('bad', on_success => 'DROP TABLE purchase');
SELECT dtm.saga_begin('bad', on_success => 'COMMIT');
SELECT dtm.saga_begin('bad', on_success => 'DO $$ BEGIN END $$');
SELECT dtm.saga_begin('bad', on_success => 'COPY purchase TO PROGRAM ''cat''');
SELECT dtm.saga_begin('bad', on_success => 'SELECT * INTO more FROM purchase');
SELECT dtm.saga_begin('bad', on_success => 'SELECT * INTO more FROM purchase UNION (SELECT * FROM purchase EXCEPT SELECT * FROM purchase)');
SELECT dtm.saga_begin('bad', on_success => 'SET ROLE postgres');
SELECT dtm.tcc_begin('bad', on_success => 'UPDATE purchase SET state = ''PAID'' WHERE id = $1');
SELECT dtm.xa_begin('bad', on_failure => 'CALL cancel($1)');
SELECT dtm.msg(ARRAY[dtm.step('http://a')], on_success => 'WITH a AS (SELECT $1) SELECT * FROM a');
SELECT count(*) FROM dtm.transactions WHERE gid = 'bad';

-- What a user ends has its statement due: the worker runs it, and it is shown.
SELECT dtm.abort('e-1', 'changed my mind');
SELECT dtm.force_stop('purchase-42', 'enough');
SELECT dtm.force_stop('purchase-42', 'enough');
SELECT t.gid, t.status, b.op, b.status AS ending, b.attempts FROM dtm.transactions AS t JOIN dtm.branches AS b USING (gid)
WHERE gid IN ('e-1', 'purchase-42') AND b.branch_id = '00' ORDER BY 1, 3;
SELECT dtm.query('purchase-42') -> 'ending' AS ending;
SELECT gid, due IS NOT NULL AS due FROM dtm.trans WHERE gid IN ('e-1', 'e-4', 'purchase-42') ORDER BY 1;
SELECT dtm.wait('purchase-42');
SELECT dtm.abort('e-4');
SELECT due IS NOT NULL AS due FROM dtm.trans WHERE gid = 'e-4';

-- It can be hurried as long as it has not succeeded.
SELECT dtm.retry_now('purchase-42');
SELECT dtm.retry_now('e-4');

-- The worker goes on, and runs it.
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT state FROM purchase WHERE id = 42) = 'CANCELLED';
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;
SELECT * FROM purchase;
SELECT q ->> 'status' AS status, q -> 'ending' ->> 'status' AS ending FROM dtm.query('purchase-42') AS q;
SELECT dtm.retry_now('purchase-42');
DROP TABLE purchase;
