-- Topics: a message to many, who come and go without its sender's knowledge.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

SELECT dtm.subscribe('order.paid', 'http://mail/send');
SELECT dtm.subscribe('order.paid', 'http://stock/ship');
SELECT dtm.subscribe('order.paid', 'http://mail/send');		-- again: nothing
SELECT dtm.subscribe('order.sent', 'http://mail/send');
SELECT topic, url, subscribed_by = current_user AS mine FROM dtm.topics ORDER BY topic, subscribed_at;

-- Every subscriber gets it.
SELECT dtm.msg('paid-1', ARRAY[dtm.step('http://first'), dtm.step('topic://order.paid', payload => '{"order": 1}'), dtm.step('topic://order.sent'), dtm.step('http://last')]);
SELECT branch_id, op, address FROM dtm.branches WHERE gid = 'paid-1';

-- Those who subscribe later do not get it; a repeat is one all the same.
SELECT dtm.subscribe('order.paid', 'http://report/count');
SELECT dtm.msg('paid-1', ARRAY[dtm.step('http://first'), dtm.step('topic://order.paid', payload => '{"order": 1}'), dtm.step('topic://order.sent'), dtm.step('http://last')]);
SELECT count(*) FROM dtm.branches WHERE gid = 'paid-1';

-- Branch by branch.
SELECT dtm.msg_begin('paid-2');
SELECT dtm.msg_branch('paid-2', 'topic://order.paid');
SELECT dtm.msg_branch('paid-2', 'http://last');
SELECT dtm.msg_branch('paid-2', 'topic://order.sent');
SELECT branch_id, address FROM dtm.branches WHERE gid = 'paid-2';

-- Nobody there is an error, before anything is stored.
SELECT dtm.unsubscribe('order.sent', 'http://mail/send');
SELECT dtm.unsubscribe('order.sent', 'http://mail/send');
SELECT dtm.msg('paid-3', ARRAY[dtm.step('topic://order.sent')]);
SELECT dtm.msg_branch('paid-2', 'topic://order.sent');
SELECT dtm.msg('paid-3', ARRAY[dtm.step('topic://')]);
SELECT dtm.msg('paid-3', ARRAY[dtm.step('topic://a/b')]);
SELECT dtm.status('paid-3');
SELECT dtm.saga('paid-3', ARRAY[dtm.step('topic://order.paid')]);

-- A changed row, told to all who want to know.
CREATE TABLE orders (id integer PRIMARY KEY, status text);
CREATE TRIGGER tell AFTER UPDATE ON orders FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status = 'PAID')
EXECUTE FUNCTION dtm.msg_trigger('topic://order.paid');
INSERT INTO orders VALUES (42, 'PENDING');
UPDATE orders SET status = 'PAID';
UPDATE orders SET status = 'PAID';
SELECT branch_id, forward, convert_from(payload, 'UTF8') FROM dtm.branch WHERE payload IS NOT NULL AND id = (SELECT max(id) FROM dtm.branch) ORDER BY branch;
DROP TABLE orders;

SELECT dtm.subscribe('', 'http://a');
SELECT dtm.subscribe('a b', 'http://a');
SELECT dtm.subscribe('t', '');
SELECT dtm.subscribe('t', 'topic://other');
SELECT dtm.subscribe('t', 'nonsense');
SELECT dtm.subscribe('t', 'sql:no.function');

-- Only administrators subscribe; whoever uses dtm may send, without a grant of
-- the addresses. A SQL function runs as the sender, who must be allowed to.
CREATE ROLE regress_sender;
SELECT dtm.grant_usage('regress_sender');
CREATE SCHEMA regress_post;
CREATE FUNCTION regress_post.note(payload jsonb) RETURNS void LANGUAGE sql RETURN NULL;
REVOKE ALL ON FUNCTION regress_post.note(jsonb) FROM PUBLIC;
SELECT dtm.subscribe('note', 'sql:regress_post.note');
SET ROLE regress_sender;
SELECT topic, url FROM dtm.topics ORDER BY 1, 2;
SELECT dtm.subscribe('order.paid', 'http://evil');
SELECT dtm.unsubscribe('order.paid', 'http://mail/send');
SELECT dtm.msg('sent-1', ARRAY[dtm.step('topic://order.paid')]);
SELECT dtm.msg('sent-2', ARRAY[dtm.step('http://mail/send')]);
SELECT dtm.msg('sent-3', ARRAY[dtm.step('topic://note', '{}'::jsonb)]);
SELECT branch_id, address FROM dtm.branches ORDER BY 1;
RESET ROLE;
GRANT USAGE ON SCHEMA regress_post TO regress_sender;
GRANT EXECUTE ON FUNCTION regress_post.note(jsonb) TO regress_sender;
SET ROLE regress_sender;
SELECT dtm.msg('sent-3', ARRAY[dtm.step('topic://note', '{}'::jsonb)]);
SELECT dtm.msg('sent-4', ARRAY[dtm.step('topic://note', body => '\xff')]);
RESET ROLE;

-- A function that is gone is found by the doctor.
SELECT problem, remedy FROM dtm.doctor() WHERE problem LIKE '%topics%';
BEGIN;
DROP FUNCTION regress_post.note(jsonb);
SELECT problem, remedy FROM dtm.doctor() WHERE problem LIKE '%topics%';
SELECT dtm.unsubscribe(topic, url) FROM dtm.topics WHERE url LIKE 'sql:%' AND to_regprocedure(substr(url, 5) || '(jsonb)') IS NULL;
ROLLBACK;

SELECT command, reason FROM dtm.operation_log WHERE reason ~ '^(order|note|regress_sender)' ORDER BY id;
SELECT dtm.revoke_usage('regress_sender');
DROP SCHEMA regress_post CASCADE;
SELECT count(dtm.unsubscribe(topic, url)) FROM dtm.topics;
-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
DROP OWNED BY regress_sender;
DROP ROLE regress_sender;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
