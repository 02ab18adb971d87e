-- Messages: in the transaction of the business, or prepared and asked about.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

-- The cache is deleted if, and only if, the update committed.
CREATE TABLE product (id integer PRIMARY KEY, price numeric);
INSERT INTO product VALUES (7, 10);
BEGIN;
UPDATE product SET price = 9 WHERE id = 7;
SELECT dtm.msg(ARRAY[dtm.step('http://cache/delete', payload => '{"key": "product:7"}')]) AS gid \gset
COMMIT;
SELECT trans_type, status, timeout_to_fail, deadline FROM dtm.transactions WHERE gid = :'gid';
SELECT branch_id, op, status, address FROM dtm.branches WHERE gid = :'gid';
BEGIN;
UPDATE product SET price = 8 WHERE id = 7;
SELECT dtm.msg('never', ARRAY[dtm.step('http://cache/delete', payload => '{"key": "product:7"}')]);
ROLLBACK;
SELECT dtm.status('never');

-- With a gid of one's own it is sent once, however often one tries.
SELECT dtm.msg('msg-mail-1', ARRAY[dtm.step('http://mail/send', '{"to": 1}'::jsonb), dtm.step('http://log/append')], delay => '1 hour', concurrent => true);
SELECT dtm.msg('msg-mail-1', ARRAY[dtm.step('http://mail/send', '{"to": 1}'::jsonb), dtm.step('http://log/append')], delay => '1 hour', concurrent => true);
SELECT dtm.msg('msg-mail-1', ARRAY[dtm.step('http://mail/send', '{"to": 1}'::jsonb), dtm.step('http://log/append')], delay => '2 hours', concurrent => true);
SELECT status, not_before = created_at + '1 hour' AS later, concurrent FROM dtm.transactions WHERE gid = 'msg-mail-1';
SELECT due = not_before AS later FROM dtm.trans WHERE gid = 'msg-mail-1';
SELECT dtm.submit('msg-mail-1');
SELECT dtm.abort('msg-mail-1');
SELECT dtm.retry_now('msg-mail-1');
SELECT dtm.force_stop('msg-mail-1', 'obsolete');
SELECT status, reason FROM dtm.transactions WHERE gid = 'msg-mail-1';
SELECT dtm.submit('msg-mail-1');

-- Business that is elsewhere: begin, then that business, then submit.
SELECT dtm.msg_begin('msg-order-7', 'http://orders/query');
SELECT dtm.msg_branch('msg-order-7', 'http://stock/deduct', '{"sku": 1}');
SELECT dtm.msg_branch('msg-order-7', 'http://mail/send', to_jsonb(1));
SELECT dtm.msg_branch('msg-order-7', 'http://log/append', '1'::json, request_timeout => '1s');
SELECT dtm.msg_branch('msg-order-7', 'http://bin/append', body => '\x00');
SELECT trans_type, status, timeout_to_fail, deadline = created_at + '33s' AS asked_then, query_prepared FROM dtm.transactions WHERE gid = 'msg-order-7';
SELECT branch_id, op, status, address, attempts FROM dtm.branches WHERE gid = 'msg-order-7';
SELECT dtm.query('msg-order-7')->'query_prepared';
SELECT dtm.msg_begin('msg-order-7', 'http://orders/query');
SELECT dtm.retry_now('msg-order-7');	-- nobody is asked yet
SELECT dtm.submit('msg-order-7');
SELECT dtm.submit('msg-order-7');
SELECT status, deadline FROM dtm.transactions WHERE gid = 'msg-order-7';
SELECT dtm.msg_begin('msg-order-7');
SELECT dtm.msg_branch('msg-order-7', 'http://late');
SELECT dtm.abort('msg-order-7');

-- When its time is over, somebody may have it asked at once.
SELECT dtm.msg_begin('msg-order-8', 'http://orders/query', timeout_to_fail => '1 ms', delay => '1 min') IS NOT NULL AND pg_sleep(0.01) IS NOT NULL;
SELECT dtm.retry_now('msg-order-8');
-- Nothing was called for it, so it fails at once.
SELECT dtm.abort('msg-order-8', 'no order');
SELECT dtm.abort('msg-order-8');
SELECT status, reason, finished_at IS NOT NULL AS finished FROM dtm.transactions WHERE gid = 'msg-order-8';
SELECT dtm.submit('msg-order-8');

-- The delay counts from the beginning; nobody is asked for what has no address.
SELECT dtm.msg_begin('msg-order-9', delay => '1 min', timeout_to_fail => '5s');
SELECT dtm.submit('msg-order-9');
SELECT due = created_at + '1 min' AS later FROM dtm.trans WHERE gid = 'msg-order-9';
SELECT query_prepared IS NULL AS nobody FROM dtm.transactions WHERE gid = 'msg-order-9';

-- Bad input stores nothing.
SELECT dtm.msg('bad', ARRAY[dtm.step('http://a', 'http://undo')]);
SELECT dtm.msg('bad', ARRAY[dtm.step('ftp://a')]);
SELECT dtm.msg('bad', ARRAY[]::dtm.step[]);
SELECT dtm.msg('bad', NULL::dtm.step[]);
SELECT dtm.msg('bad', ARRAY[dtm.step('http://a')], delay => '-1s');
SELECT dtm.msg('ok', ARRAY[dtm.step('http://a')], delay => '0');
SELECT dtm.msg_begin(NULL);
SELECT dtm.msg_begin('bad', 'sql:public.f');
SELECT dtm.msg_begin('bad', 'nonsense');
SELECT dtm.msg_begin('bad', timeout_to_fail => '-1s');
SELECT dtm.msg_begin('msg-order-10', '');
SELECT dtm.msg_branch('msg-order-10', NULL);
SELECT dtm.msg_branch('msg-order-10', 'http://a', '{');
SELECT dtm.saga_branch('msg-order-10', 'http://a');
SELECT dtm.saga_begin('msg-order-10');
SELECT dtm.status('bad');

-- A changed row becomes a message: one statement, once.
CREATE TRIGGER tell_cache AFTER INSERT OR UPDATE OR DELETE ON product
FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('http://cache/delete');
CREATE TRIGGER tell_cache_of_all AFTER TRUNCATE ON product
FOR EACH STATEMENT EXECUTE FUNCTION dtm.msg_trigger('http://cache/clear');
CREATE VIEW told AS
SELECT b.forward AS address, convert_from(b.payload, 'UTF8')::json AS payload, t.status
FROM dtm.trans AS t JOIN dtm.branch AS b ON b.id = t.id
WHERE b.forward LIKE 'http://cache/%' AND b.payload IS NOT NULL AND b.payload::text <> convert_to('{"key": "product:7"}', 'UTF8')::text ORDER BY t.id;
INSERT INTO product VALUES (8, 1.50);
UPDATE product SET price = NULL WHERE id = 8;
UPDATE product SET id = 9 WHERE id = 8;
DELETE FROM product WHERE id = 9;
BEGIN;
DELETE FROM product;
ROLLBACK;
TRUNCATE product;
SELECT * FROM told;
SELECT DISTINCT trans_type FROM dtm.transactions AS t JOIN dtm.branches AS b USING (gid) WHERE b.address = 'http://cache/clear';
SELECT payload->'key'->>'id' FROM told WHERE payload->>'op' = 'DELETE';

-- Any columns may be the key; names and values may be difficult.
CREATE TABLE "odd ""table""" ("a ""b""" text, n numeric, d date, j jsonb);
CREATE TRIGGER tell AFTER INSERT ON "odd ""table""" FOR EACH ROW
EXECUTE FUNCTION dtm.msg_trigger('http://cache/odd', 'a "b"', 'j', 'n');
INSERT INTO "odd ""table""" VALUES (E'x"y\\z\n', 'NaN', '2026-01-01', '{"k": [1, null]}'), (NULL, NULL, NULL, NULL);
SELECT payload FROM told WHERE address LIKE '%odd';
DROP TRIGGER tell ON "odd ""table""";
CREATE TRIGGER tell AFTER INSERT ON "odd ""table""" FOR EACH ROW
EXECUTE FUNCTION dtm.msg_trigger('http://cache/keyless');
INSERT INTO "odd ""table""" VALUES ('a');
SELECT payload->'key' AS key FROM told WHERE address LIKE '%keyless';

-- A trigger that is made wrongly says so.
CREATE TABLE wrong (id integer);
CREATE TRIGGER t BEFORE INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('http://a');
INSERT INTO wrong VALUES (1);
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH STATEMENT EXECUTE FUNCTION dtm.msg_trigger('http://a');
INSERT INTO wrong VALUES (1);
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger();
INSERT INTO wrong VALUES (1);
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('http://a', 'nothing');
INSERT INTO wrong VALUES (1);
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('nonsense', 'id');
INSERT INTO wrong VALUES (1);
DROP TRIGGER t ON wrong;
SELECT dtm.msg_trigger();
SELECT count(*) FROM wrong;

-- The message is of whoever changes the row, with that role's rights.
CREATE ROLE regress_clerk;
SELECT dtm.grant_usage('regress_clerk');
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('http://cache/wrong', 'id');
GRANT INSERT ON wrong TO regress_clerk;
SET ROLE regress_clerk;
INSERT INTO wrong VALUES (1);
RESET ROLE;
SELECT dtm.allow('regress_clerk', 'http://cache/');
SET ROLE regress_clerk;
INSERT INTO wrong VALUES (1);
SELECT owner, status FROM dtm.transactions;
SELECT dtm.msg_begin('msg-order-11', 'http://orders/query');
RESET ROLE;

DROP VIEW told;
DROP TABLE wrong, product, "odd ""table""";
SELECT dtm.disallow('regress_clerk', 'http://cache/');
SELECT dtm.revoke_usage('regress_clerk');
-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
DROP ROLE regress_clerk;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
