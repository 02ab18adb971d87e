-- Workflows: the client runs the steps, dtm keeps the journal.
-- Clients are called by the worker; here it rests, so nobody is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

-- A run: prepare, a record after each step, and at last the outcome.
SELECT * FROM dtm.workflow_prepare('wf-refund-7', 'refund', 'http://shop/resume', '{"order": 7}');
SELECT dtm.workflow_record('wf-refund-7', '01', 'action', 'succeed', '{"money": "back"}', run => 1);
SELECT dtm.workflow_record('wf-refund-7', '02', 'action', 'succeed', run => 1);
SELECT trans_type, status, workflow, resume, query_prepared, timeout_to_fail, deadline > created_at + '33s' AS silence_is_over_then FROM dtm.transactions WHERE gid = 'wf-refund-7';
SELECT branch_id, op, status, address, attempts, last_attempt IS NOT NULL AS dated, next_attempt IS NOT NULL AS resumed_then FROM dtm.branches WHERE gid = 'wf-refund-7' ORDER BY branch_id, op;

-- The client has died, and somebody goes on: this is what is known.
SELECT branch_id, op, status, convert_from(result, 'UTF8') AS result, run FROM dtm.workflow_prepare('wf-refund-7', 'refund', 'http://shop/resume', '{"order": 7}');
SELECT (dtm.query('wf-refund-7')->'workflow') - 'next_attempt'::text AS workflow;
-- It was only slow, and comes back: the other run goes on, not this one.
SELECT dtm.workflow_record('wf-refund-7', '03', 'action', 'succeed', run => 1);
SELECT dtm.workflow_finish('wf-refund-7', 'succeed', run => 1);
SELECT dtm.workflow_record('wf-refund-7', '03', 'action', 'failed', 'the parcel is lost', run => 2);
SELECT dtm.workflow_record('wf-refund-7', '01', 'rollback', 'succeed', run => 2);
SELECT dtm.workflow_record('wf-refund-7', '02', 'commit', 'succeed', run => 2);
SELECT dtm.workflow_finish('wf-refund-7', 'failed', '{"parcel": null}'::jsonb, 'the parcel is lost', run => 2);
SELECT status, reason, submitted_at, finished_at IS NOT NULL AS finished FROM dtm.transactions WHERE gid = 'wf-refund-7';
-- Who asks again is told how it has ended. No new run begins.
SELECT branch_id, op, status, convert_from(result, 'UTF8') AS result, run FROM dtm.workflow_prepare('wf-refund-7', 'refund', 'http://shop/resume', '{"order": 7}');
SELECT dtm.wait('wf-refund-7');

-- Business in this database, in the transaction that records it, happens once.
CREATE TABLE account (owner text PRIMARY KEY, balance integer);
INSERT INTO account VALUES ('ann', 0);
CREATE FUNCTION pay_back(gid text, run integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF NOT dtm.workflow_record(gid, '01', 'action', 'succeed', run => run) THEN
		RETURN false;
	END IF;
	UPDATE account SET balance = balance + 10 WHERE owner = 'ann';
	RETURN true;
END $$;
SELECT run FROM dtm.workflow_prepare('wf-once', 'refund', '');
SELECT pay_back('wf-once', 1);
SELECT pay_back('wf-once', 1);
SELECT max(run) FROM dtm.workflow_prepare('wf-once', 'refund', '');
SELECT pay_back('wf-once', 1);
SELECT pay_back('wf-once', 2);
SELECT * FROM account;
BEGIN;
SELECT dtm.workflow_record('wf-once', '02', 'action', 'succeed');
ROLLBACK;
SELECT dtm.workflow_record('wf-once', '02', 'action', 'failed');
-- Nobody is to be called, so nobody is awaited.
SELECT address, next_attempt FROM dtm.branches WHERE gid = 'wf-once' AND op = 'refund';
SELECT dtm.retry_now('wf-once');

-- Every form of data and of results comes back as it was.
SELECT branch_id FROM dtm.workflow_prepare('wf-json', 'n', 'http://shop/resume', '{"a":  1}'::json);
SELECT branch_id FROM dtm.workflow_prepare('wf-jsonb', 'n', 'http://shop/resume', '{"a":  1}'::jsonb);
SELECT branch_id FROM dtm.workflow_prepare('wf-body', 'n', 'http://shop/resume', body => '\x00ff');
SELECT branch_id FROM dtm.workflow_prepare('wf-none', 'any name, & more', 'http://shop/resume');
SELECT name, data, run FROM dtm.workflow WHERE name LIKE '%n%' ORDER BY id;
SELECT dtm.workflow_record('wf-json', '1', 'action', 'succeed', 'any text');
SELECT dtm.workflow_record('wf-json', '2', 'action', 'succeed', '{"a":  1}'::json);
SELECT dtm.workflow_record('wf-json', '3', 'action', 'succeed', '{"a":  1}'::jsonb);
SELECT dtm.workflow_record('wf-json', '4', 'action', 'succeed', '\x00ff'::bytea);
SELECT dtm.workflow_record('wf-json', '5', 'action', 'succeed', '');
SELECT dtm.workflow_record('wf-json', 'parcel-1.a_B', 'action', 'succeed');
SELECT branch_id, result FROM dtm.workflow_prepare('wf-json', 'n', 'http://ignored/now');
SELECT dtm.workflow_finish('wf-json', 'succeed', 'any text'), dtm.workflow_finish('wf-jsonb', 'succeed', '{"a":  1}'::json), dtm.workflow_finish('wf-body', 'succeed', '\x00ff'::bytea);
SELECT w.name, result, t.submitted_at = t.finished_at AS dated FROM dtm.trans AS t JOIN dtm.workflow AS w USING (id) WHERE status = 'S' ORDER BY id;
SELECT resume FROM dtm.transactions WHERE gid = 'wf-json';

-- The same calls again, at every status: to repeat is harmless, to contradict is not.
SELECT dtm.workflow_finish('wf-none', 'failed');
SELECT reason FROM dtm.transactions WHERE gid = 'wf-none';
SELECT dtm.workflow_finish('wf-none', 'failed', 'late', 'another reason');
SELECT reason, (SELECT result FROM dtm.workflow AS w WHERE w.name = t.workflow) AS result FROM dtm.transactions AS t WHERE gid = 'wf-none';
SELECT dtm.workflow_finish('wf-none', 'succeed');
SELECT dtm.workflow_record('wf-none', '01', 'action', 'succeed');
SELECT dtm.retry_now('wf-none');
SELECT dtm.force_stop('wf-none');
SELECT dtm.force_stop('wf-json');
SELECT dtm.workflow_finish('wf-json', 'succeed');
SELECT dtm.workflow_record('wf-json', '1', 'action', 'succeed');
SELECT dtm.workflow_record('wf-once', '01', 'action', 'failed', run => 2);
SELECT dtm.workflow_record('wf-once', '02', 'action', 'failed', run => 2);
SELECT dtm.retry_now('wf-once');
SELECT deadline <= clock_timestamp() AS silent FROM dtm.transactions WHERE gid = 'wf-once';
SELECT dtm.force_stop('wf-once', 'nobody goes on with it');
SELECT dtm.workflow_finish('wf-once', 'succeed', run => 2);
SELECT dtm.workflow_finish('wf-once', 'failed', run => 2);
SELECT status, reason, forced FROM dtm.transactions WHERE gid = 'wf-once';
SELECT status FROM dtm.workflow_prepare('wf-once', 'refund', '') WHERE branch_id = '00';

-- Its outcome is its client's to say.
SELECT run FROM dtm.workflow_prepare('wf-own', 'refund', 'http://shop/resume', timeout_to_fail => '1h', retry_interval => '1s', request_timeout => '2s', retry_limit => 3, branch_headers => '{"X-Tenant": "7"}');
SELECT timeout_to_fail, retry_interval, request_timeout, retry_limit, branch_headers FROM dtm.transactions WHERE gid = 'wf-own';
SELECT dtm.submit('wf-own');
SELECT dtm.abort('wf-own');
CALL dtm.submit('wf-own', wait_result => true);
BEGIN;
SELECT dtm.workflow_finish('wf-own', 'succeed');
SELECT dtm.wait('wf-own');
ROLLBACK;
SELECT dtm.status('wf-own');
BEGIN;
SELECT run FROM dtm.workflow_prepare('wf-rolled-back', 'refund', 'http://shop/resume');
SELECT dtm.workflow_record('wf-rolled-back', '01', 'action', 'succeed');
ROLLBACK;
SELECT dtm.workflow_record('wf-rolled-back', '01', 'action', 'succeed');
SELECT dtm.workflow_finish('wf-rolled-back', 'succeed');

-- Bad input stores nothing.
SELECT run FROM dtm.workflow_prepare(NULL, 'n', '');
SELECT run FROM dtm.workflow_prepare('', 'n', '');
SELECT run FROM dtm.workflow_prepare('wf-bad', NULL, '');
SELECT run FROM dtm.workflow_prepare('wf-bad', '', '');
SELECT run FROM dtm.workflow_prepare('wf-bad', repeat('n', 129), '');
SELECT run FROM dtm.workflow_prepare('wf-bad', E'a\nb', '');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', NULL);
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', 'sql:public.pay_back');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', 'nonsense');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', 'topic://news');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', '', '{');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', '', '{}', body => '\x00');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', '', timeout_to_fail => '0');
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', '', retry_limit => 0);
SELECT run FROM dtm.workflow_prepare('wf-bad', 'n', '', branch_headers => '{"Host": "x"}');
SELECT dtm.status('wf-bad');
SELECT run FROM dtm.workflow_prepare('wf-own', 'another', 'http://shop/resume');
SELECT dtm.saga_begin('wf-own');
SELECT dtm.saga_branch('wf-own', 'http://a');
SELECT dtm.saga_begin('wf-saga');
SELECT run FROM dtm.workflow_prepare('wf-saga', 'n', '');
SELECT dtm.workflow_record('wf-saga', '01', 'action', 'succeed');
SELECT dtm.workflow_finish('wf-saga', 'succeed');
SELECT dtm.workflow_record('wf-nobody', '01', 'action', 'succeed');
SELECT dtm.workflow_record(NULL, '01', 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', NULL, 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', '', 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', '00', 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', '0 1', 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', repeat('1', 129), 'action', 'succeed');
SELECT dtm.workflow_record('wf-own', '01', 'confirm', 'succeed');
SELECT dtm.workflow_record('wf-own', '01', NULL, 'succeed');
SELECT dtm.workflow_record('wf-own', '01', 'action', 'prepared');
SELECT dtm.workflow_record('wf-own', '01', 'action', NULL);
SELECT dtm.workflow_record('wf-own', '01', 'action', 'succeed', repeat('x', 65537));
SELECT dtm.workflow_record('wf-own', '01', 'action', 'succeed', run => 0);
SELECT dtm.workflow_record('wf-own', '01', 'action', 'succeed', run => 2);
SELECT dtm.workflow_finish('wf-own', NULL);
SELECT dtm.workflow_finish('wf-own', 'aborted');
SELECT dtm.workflow_finish('wf-own', 'succeed', reason => 'all is well');
SELECT dtm.workflow_finish('wf-own', 'failed', reason => repeat('x', 1025));
SELECT dtm.workflow_finish('wf-own', 'failed', repeat('x', 65537));
SELECT dtm.workflow_finish('wf-own', 'failed', run => 7);
SELECT branch_id, op, status, result, run FROM dtm.workflow_prepare('wf-own', 'refund', 'http://shop/resume');
SELECT dtm.workflow_record('wf-own', '01', 'action', 'succeed', repeat('x', 65536));

-- A journal is its owner's.
CREATE ROLE regress_clerk;
CREATE ROLE regress_other;
SELECT dtm.grant_usage('regress_clerk'), dtm.grant_usage('regress_other');
SET ROLE regress_clerk;
SELECT run FROM dtm.workflow_prepare('wf-clerk', 'n', 'http://shop/resume');
RESET ROLE;
SELECT dtm.allow('regress_clerk', 'http://shop/');
SET ROLE regress_clerk;
SELECT run FROM dtm.workflow_prepare('wf-clerk', 'n', 'http://shop/resume', '{"secret": 1}');
SELECT dtm.workflow_record('wf-clerk', '01', 'action', 'succeed', run => 1);
SET ROLE regress_other;
SELECT run FROM dtm.workflow_prepare('wf-clerk', 'n', '');
SELECT dtm.workflow_record('wf-clerk', '02', 'action', 'succeed');
SELECT dtm.workflow_finish('wf-clerk', 'succeed');
SELECT dtm.query('wf-clerk');
SELECT count(*) FROM dtm.branches;
SELECT * FROM dtm.workflow;
RESET ROLE;
GRANT regress_clerk TO regress_other;
SET ROLE regress_other;
SELECT run FROM dtm.workflow_prepare('wf-clerk', 'n', '');	-- what it calls is called as its owner
SELECT dtm.workflow_record('wf-clerk', '02', 'action', 'succeed', run => 1);
SELECT dtm.workflow_finish('wf-clerk', 'succeed', run => 1);
RESET ROLE;
SELECT status, owner FROM dtm.transactions WHERE gid = 'wf-clerk';

SELECT dtm.disallow('regress_clerk', 'http://shop/');
SELECT dtm.revoke_usage('regress_clerk'), dtm.revoke_usage('regress_other');
-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
DROP ROLE regress_clerk, regress_other;
DROP FUNCTION pay_back;
DROP TABLE account;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
