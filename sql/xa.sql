-- XA over HTTP: participants register, prepare, and are told to commit or not.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

SELECT dtm.xa_begin('xa-transfer-1');
SELECT dtm.xa_branch('xa-transfer-1', 'http://bank-a/xa');
SELECT dtm.xa_branch('xa-transfer-1', url => 'http://bank-b/xa', request_timeout => '1s', headers => '{"X-Bank": "b"}');
SELECT dtm.xa_branch('xa-transfer-1', 'http://bank-c/xa', parent => '02');
SELECT dtm.xa_branch('xa-transfer-1', 'http://bank-d/xa', branch_id => '03');
SELECT dtm.xa_branch('xa-transfer-1', 'http://bank-d/xa', branch_id => '03');	-- again: nothing
SELECT dtm.xa_branch('xa-transfer-1', 'http://bank-e/xa', branch_id => '03');
SELECT gid, trans_type, status, timeout_to_fail, deadline = created_at + timeout_to_fail AS exact FROM dtm.transactions WHERE gid = 'xa-transfer-1';
SELECT branch_id, op, status, address FROM dtm.branches WHERE gid = 'xa-transfer-1';

-- Repeats are safe; what comes too late is told so.
SELECT dtm.xa_begin('xa-transfer-1');
SELECT dtm.retry_now('xa-transfer-1');
SELECT dtm.submit('xa-transfer-1');
SELECT dtm.submit('xa-transfer-1');
SELECT dtm.status('xa-transfer-1');
SELECT dtm.retry_now('xa-transfer-1');
SELECT dtm.xa_begin('xa-transfer-1');
SELECT dtm.xa_branch('xa-transfer-1', 'http://late');
SELECT dtm.abort('xa-transfer-1');

SELECT length(dtm.xa_begin());
SELECT dtm.xa_begin('xa-transfer-3', timeout_to_fail => '1 min', retry_limit => 5);
SELECT dtm.xa_branch('xa-transfer-3', 'http://bank-a/xa');
SELECT dtm.abort('xa-transfer-3', 'account closed');
SELECT dtm.abort('xa-transfer-3');
SELECT status, reason, retry_limit FROM dtm.transactions WHERE gid = 'xa-transfer-3';
SELECT dtm.submit('xa-transfer-3');
SELECT dtm.xa_begin('xa-transfer-3');

-- The second phase has an address, and that over HTTP.
SELECT dtm.xa_begin('xa-transfer-2');
SELECT dtm.xa_branch('xa-transfer-2', NULL);
SELECT dtm.xa_branch('xa-transfer-2', '');
SELECT dtm.xa_branch('xa-transfer-2', 'sql:public.f');
SELECT dtm.xa_branch('xa-transfer-2', 'topic://t');
SELECT dtm.xa_branch('xa-transfer-2', 'http://');
SELECT dtm.xa_branch('xa-transfer-2', 'http://a', retry_limit => 0);
SELECT dtm.xa_branch('xa-transfer-2', 'http://a', headers => '{"Host": "b"}');
SELECT dtm.xa_branch('nobody', 'http://a');
SELECT dtm.tcc_branch('xa-transfer-2', 'http://a', 'http://b');
SELECT dtm.tcc_begin('xa-transfer-2');
SELECT jsonb_array_length(dtm.query('xa-transfer-2')->'branches');

-- 99 branches are enough.
SELECT count(dtm.xa_branch('xa-transfer-2', 'http://bank/' || n)) FROM generate_series(1, 99) AS n;
SELECT dtm.xa_branch('xa-transfer-2', 'http://bank/100');
SELECT max(branch_id) FROM dtm.branches WHERE gid = 'xa-transfer-2';

-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
