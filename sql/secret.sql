-- Secrets in headers: named, not told. Branches are called by the worker; here
-- it rests.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
SET client_min_messages = error;
CREATE ROLE regress_shop;
CREATE ROLE regress_clerk;
CREATE ROLE regress_reader;
GRANT pg_read_all_data TO regress_reader;
GRANT regress_shop TO regress_clerk;
SELECT dtm.grant_usage('regress_shop'), dtm.grant_usage('regress_clerk'), dtm.allow('public', 'http://pay');
SET ROLE regress_shop;
RESET client_min_messages;

-- A role keeps a secret, and sees no more of it than its name.
SELECT dtm.set_secret('pay-token', 's3cr3t');
SELECT role, name, set_at <= now() + '1 day' AS set FROM dtm.secrets;
SELECT * FROM dtm.secret;

-- Headers name it, alone or after some other text.
SELECT dtm.saga('order-1', ARRAY[
	dtm.step('http://pay/charge', 'http://pay/refund', headers => '{"Authorization": {"secret": "pay-token", "prefix": "Bearer "}, "X-Plain": "1"}')],
	branch_headers => '{"X-Key": {"secret": "pay-token"}}');
SELECT branch_headers FROM dtm.transactions WHERE gid = 'order-1';
SELECT q -> 'branch_headers' AS branch_headers, q #> '{branches,0,headers}' AS headers FROM dtm.query('order-1') AS q;

-- The same saga again is a repeat, whatever the secret's value is by then.
SELECT dtm.set_secret('pay-token', 'an0ther');
SELECT dtm.saga('order-1', ARRAY[
	dtm.step('http://pay/charge', 'http://pay/refund', headers => '{"Authorization": {"secret": "pay-token", "prefix": "Bearer "}, "X-Plain": "1"}')],
	branch_headers => '{"X-Key": {"secret": "pay-token"}}');

-- It must be there, and one's own.
SELECT dtm.saga('order-2', ARRAY[dtm.step('')], branch_headers => '{"X-Key": {"secret": "nothing"}}');
SELECT dtm.saga('order-2', ARRAY[dtm.step(''), dtm.step('', headers => '{"X-Key": {"secret": "nothing"}}')]);
SELECT dtm.saga_begin('order-2', branch_headers => '{"X-Key": {"secret": "nothing"}}');
SET ROLE regress_clerk;
SELECT dtm.saga('order-2', ARRAY[dtm.step('')], branch_headers => '{"X-Key": {"secret": "pay-token"}}');
SELECT dtm.drop_secret('pay-token');

-- Who adds a branch to a team's saga uses the team's secrets.
SET ROLE regress_shop;
SELECT dtm.saga_begin('order-3');
SET ROLE regress_clerk;
SELECT dtm.saga_branch('order-3', 'http://pay/charge', headers => '{"X-Key": {"secret": "pay-token"}}');
SELECT dtm.saga_branch('order-3', 'http://pay/charge', headers => '{"X-Key": {"secret": "nothing"}}');
SELECT name FROM dtm.secrets;
RESET ROLE;

-- Nobody reads the table, not even who may read all data.
SET ROLE regress_reader;
SELECT count(*) FROM dtm.secret;
RESET ROLE;

-- What is no reference is refused, and so is what cannot be in a header.
\set VERBOSITY terse
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {"secret": 1}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {"prefix": "a"}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": ["secret", "prefix"]}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {"secret": "pay-token", "else": "b"}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {"secret": {"secret": "b"}}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"X": {"secret": "pay-token", "prefix": "a\r\nb"}}');
SELECT dtm.saga('x', ARRAY[dtm.step('')], branch_headers => '{"Host": {"secret": "pay-token"}}');
SELECT dtm.set_secret('', 'a');
SELECT dtm.set_secret(NULL, 'a');
SELECT dtm.set_secret('a', NULL);
SELECT dtm.set_secret('a', '');
SELECT dtm.set_secret(E'a\nb', 'a');
SELECT dtm.set_secret(repeat('a', 129), 'a');
SELECT dtm.set_secret('a', E's3cr3t\n');
SELECT dtm.set_secret('a', repeat('a', 8193));

-- Gone, with its role or by itself.
SET ROLE regress_shop;
SELECT dtm.drop_secret('pay-token'), dtm.drop_secret('pay-token');
SELECT dtm.set_secret('pay-token', 's3cr3t');
RESET ROLE;
SELECT count(dtm.force_stop(gid)) FROM dtm.transactions WHERE finished_at IS NULL;
SELECT dtm.revoke_usage('regress_shop'), dtm.revoke_usage('regress_clerk'), dtm.disallow('public', 'http://pay');
DROP ROLE regress_shop, regress_clerk, regress_reader;
SELECT role ~ '^unknown' AS unknown, name FROM dtm.secrets;
SELECT dtm.set_secret('mine', 'a');
SELECT name FROM dtm.secrets;
SELECT dtm.drop_secret('mine');
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
