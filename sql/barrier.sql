-- A participant asks: is this call new, a repeat, or too late?
\set VERBOSITY default
CREATE TABLE stock (sku integer PRIMARY KEY, n integer);
INSERT INTO stock VALUES (7, 10);
CREATE PROCEDURE deduct(gid text, branch_id text, op text)
LANGUAGE plpgsql AS $$
BEGIN
	IF dtm.barrier('saga', gid, branch_id, op) THEN
		UPDATE stock SET n = n - CASE op WHEN 'action' THEN 1 ELSE -1 END WHERE sku = 7;
	END IF;
END $$;

-- Once, however often it is called.
CALL deduct('order-1', '01', 'action');
CALL deduct('order-1', '01', 'action');
SELECT n FROM stock;

-- Undone once.
CALL deduct('order-1', '01', 'compensate');
CALL deduct('order-1', '01', 'compensate');
SELECT n FROM stock;

-- Its compensation came first: nothing to undo, and the action is kept out for good.
CALL deduct('order-2', '01', 'compensate');
CALL deduct('order-2', '01', 'action');
SELECT n FROM stock;

-- With the business, or not at all.
BEGIN;
SELECT dtm.barrier('saga', 'order-3', '01', 'action');
ROLLBACK;
BEGIN;
SELECT dtm.barrier('saga', 'order-3', '01', 'action');
COMMIT;
SELECT dtm.barrier('saga', 'order-3', '02', 'action');	-- alone it would mean nothing

-- Several barriers in one branch; the other modes.
BEGIN;
SELECT dtm.barrier('saga', 'order-4', '01', 'action', '01'), dtm.barrier('saga', 'order-4', '01', 'action', '02');
SELECT dtm.barrier('tcc', 'trip-1', '01', 'try') AS try, dtm.barrier('tcc', 'trip-1', '01', 'confirm') AS confirm,
       dtm.barrier('tcc', 'trip-2', '01', 'cancel') AS cancel_first, dtm.barrier('tcc', 'trip-2', '01', 'try') AS try_late;
SELECT dtm.barrier('xa', 'xa-1', '01', 'rollback') AS rollback_first, dtm.barrier('xa', 'xa-1', '01', 'action') AS action_late;
COMMIT;
SELECT trans_type, gid, branch_id, op, barrier_id, reason, create_time IS NOT NULL AS timed
FROM dtm_barrier.barrier ORDER BY id;

-- Messages: was the business committed?
BEGIN;
SELECT dtm.barrier('msg', 'msg-1', '00', 'msg');
COMMIT;
SELECT dtm.query_prepared('msg-1');
SELECT dtm.query_prepared('msg-2');		-- not, and never will be:
BEGIN;
SELECT dtm.barrier('msg', 'msg-2', '00', 'msg');
ROLLBACK;
SELECT dtm.query_prepared('msg-2');

-- The statement of dtm's SDKs works on the same table.
INSERT INTO dtm_barrier.barrier(trans_type, gid, branch_id, op, barrier_id, reason)
VALUES ('saga', 'order-5', '01', 'action', '01', 'action') ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
CALL deduct('order-5', '01', 'action');
SELECT n FROM stock;

-- Malformed.
\set VERBOSITY terse
BEGIN; SELECT dtm.barrier('sagas', 'g', '01', 'action'); ROLLBACK;
BEGIN; SELECT dtm.barrier('saga', 'g', '01', 'act'); ROLLBACK;
BEGIN; SELECT dtm.barrier('saga', '', '01', 'action'); ROLLBACK;
BEGIN; SELECT dtm.barrier('saga', 'g', NULL, 'action'); ROLLBACK;
BEGIN; SELECT dtm.barrier('saga', repeat('g', 129), '01', 'action'); ROLLBACK;
DROP PROCEDURE deduct;
DROP TABLE stock;
