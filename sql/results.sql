-- Results: what a branch answers is kept, and later branches may use it.
-- Branches are called by the worker; here it rests, so nothing is called.
\getenv srcdir PG_ABS_SRCDIR
\set rest :srcdir '/test/rest.sql'
\i :rest
\set VERBOSITY default

-- Book a flight, then a car where it lands. The second step needs what the
-- first has answered: {"$from": branch, "path": jsonpath} stands for that.
SELECT dtm.saga('res-trip', ARRAY[
         dtm.step('http://flight/book', 'http://flight/cancel', '{"to": "VIE"}', keep_result => true),
         dtm.step('http://car/rent', 'http://car/return',
                  '{"from": {"$from": "01", "path": "$.flight.lands"}, "days": 3}')]);
SELECT b->'branch_id' AS branch, b->'keep_result' AS keeps, b->'payload' AS payload
FROM jsonb_array_elements(dtm.query('res-trip')->'branches') AS b;
SELECT branch_id, op, result FROM dtm.branches WHERE gid = 'res-trip';
SELECT branch, keep_result, uses FROM dtm.branch JOIN dtm.trans USING (id) WHERE gid = 'res-trip' ORDER BY 1;

-- The same again is the same; without keep_result it is not.
SELECT dtm.saga('res-trip', ARRAY[
         dtm.step('http://flight/book', 'http://flight/cancel', '{"to": "VIE"}', keep_result => true),
         dtm.step('http://car/rent', 'http://car/return',
                  '{"from": {"$from": "01", "path": "$.flight.lands"}, "days": 3}')]);
SELECT dtm.saga('res-trip', ARRAY[
         dtm.step('http://flight/book', 'http://flight/cancel', '{"to": "VIE"}', keep_result => true),
         dtm.step('http://car/rent', 'http://car/return',
                  '{"from": {"$from": "01", "path": "$.flight.lands"}, "days": 3}', keep_result => true)]);

-- Whose result may be used? Of one that is there, earlier, and kept.
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "03", "path": "$"}')]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "1", "path": "$"}')]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', payload => '{"$from": "01", "path": "$"}', keep_result => true)]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', payload => '[{"$from": "02", "path": "$"}]'),
                      dtm.step('http://b', keep_result => true)]);
SELECT dtm.saga(ARRAY[dtm.step('http://a'),
                      dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')]);
SELECT dtm.saga(ARRAY[dtm.step('', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')]);

-- Where steps run at once: only of one that the step waits for.
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')], concurrent => true);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true), dtm.step('http://b'), dtm.step('http://c', keep_result => true),
                      dtm.step('http://d', payload => '[{"$from": "01", "path": "$"}, {"$from": "03", "path": "$"}]')],
                orders => '{"2": [1], "4": [2]}');
SELECT dtm.saga(ARRAY[dtm.step('http://a', payload => '{"$from": "03", "path": "$"}'), dtm.step('http://b'),
                      dtm.step('http://c', keep_result => true)],
                orders => '{"2": [3], "1": [2]}') IS NOT NULL AS "the order counts, not the number";
SELECT dtm.msg(ARRAY[dtm.step('http://a', keep_result => true),
                     dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')], concurrent => true);
SELECT dtm.msg(ARRAY[dtm.step('http://a', keep_result => true),
                     dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')]) IS NOT NULL AS "one after the other";
SELECT dtm.tcc(ARRAY[dtm.tcc_step('http://a', '', '', keep_result => true),
                     dtm.tcc_step('http://b', '', '', payload => '{"$from": "01", "path": "$"}')]);

-- Paths go down, and do nothing else.
SELECT p, dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                         dtm.step('http://b', payload => jsonb_build_object('$from', '01', 'path', p))]) IS NOT NULL AS taken
FROM unnest(ARRAY['$', '$.a', '$."$from"', '$.a[0].b', '$[last]', '$[*].a.*', '$[99999999999]', ' $ . "a b" ']) AS p;
CREATE FUNCTION pg_temp.path_error(p text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	state text;
BEGIN
	PERFORM dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
		dtm.step('http://b', payload => jsonb_build_object('$from', '01', 'path', p))]);
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
	RETURN state || ' ' || replace(message, 'step 2: payload: ', '');
END $$;
SELECT pg_temp.path_error(p) FROM unnest(ARRAY['$.a ? (@ > 1)', '$.**', '$.**{2}', '$.a.size()', '$.a.keyvalue()', '$[0, 0]', '$[0 to 1]',
	'$[last - 1]', '$[-1]', '$[$.a]', '$.a + 1', '-$', '$x', '"a"', '1', 'true', '$ == 1', 'exists($)', 'strict $.a', '$[1.5]',
	'$.a like_regex "(x+x+)+y"', '$[(0).type()]', '$ ? (@.a[*] == 1).b', '@']) AS p;
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "01", "path": "$.a ? (@ > 1)"}')]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": "01", "path": "$."}')]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => '{"$from": 1, "path": "$"}')]);

-- Not too many, not too long.
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => (SELECT jsonb_agg('{"$from": "01", "path": "$"}'::jsonb) FROM generate_series(1, 64)))]) IS NOT NULL AS taken;
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => (SELECT jsonb_agg('{"$from": "01", "path": "$"}'::jsonb) FROM generate_series(1, 65)))]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => jsonb_build_object('$from', '01', 'path', '$' || repeat('[0]', 255) || '.a'))]) IS NOT NULL AS taken;
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => jsonb_build_object('$from', '01', 'path', '$' || repeat('[0]', 256) || '.a'))]);
SELECT dtm.saga(ARRAY[dtm.step('http://a', keep_result => true),
                      dtm.step('http://b', payload => jsonb_build_object('a', '{"$from": "01", "path": "$"}'::jsonb, 'b', repeat('x', 1024 * 1024))) ]);

-- What only looks like one is data, and sent as it is.
SELECT count(dtm.saga('res-data-' || n, ARRAY[dtm.step('http://a', keep_result => true), dtm.step('http://b', payload => p)]))
FROM unnest(ARRAY['{"$from": "01"}', '{"$from": "01", "path": "$", "more": 1}', '"$from"', '{"a": "\"$from\""}', '["$from", "path"]',
                  '{"path": "$", "from": "01"}']) WITH ORDINALITY AS x(p, n);
SELECT convert_from(payload, 'UTF8'), uses FROM dtm.branch JOIN dtm.trans USING (id)
WHERE gid LIKE 'res-data-%' AND branch = 1 ORDER BY gid;
SELECT dtm.saga(ARRAY[dtm.step('http://b', body => '\xff22' || convert_to('"$from"', 'UTF8'))]) IS NOT NULL AS "bytes of another kind";
SELECT dtm.saga(ARRAY[dtm.step('http://b', payload => '{"$from": "01", "path": "$", "a": "\u0000"}')]);

-- Piece by piece it is checked when the branch is added.
SELECT dtm.saga_begin('res-pieces');
SELECT dtm.saga_branch('res-pieces', 'http://a', 'http://a/undo', '1'::jsonb, keep_result => true);
SELECT dtm.saga_branch('res-pieces', 'http://b', payload => '{"a": {"$from": "01", "path": "$.id"}}'::jsonb);
SELECT dtm.saga_branch('res-pieces', 'http://c', payload => '{"a": {"$from": "02", "path": "$.id"}}'::jsonb);
SELECT dtm.saga_branch('res-pieces', 'http://c', payload => '{"a": {"$from": "03", "path": "$.id"}}'::jsonb);
SELECT dtm.saga_branch('res-pieces', 'http://c', payload => '{"a": {"$from": "04", "path": "$.id"}}'::jsonb);
SELECT branch_id, uses FROM dtm.branch JOIN dtm.trans USING (id) WHERE gid = 'res-pieces' ORDER BY branch;

SELECT dtm.saga_begin('res-order', concurrent => true);
SELECT dtm.saga_branch('res-order', 'http://a', '', '1'::jsonb, keep_result => true);
SELECT dtm.saga_branch('res-order', 'http://b', payload => '{"$from": "01", "path": "$.id"}'::jsonb);
SELECT dtm.saga_branch('res-order', 'http://b', payload => '2'::jsonb, after => ARRAY[1]);
SELECT dtm.saga_branch('res-order', 'http://c', payload => '{"$from": "01", "path": "$.id"}'::jsonb, after => ARRAY[2]);

SELECT dtm.msg_begin('res-msg', 'http://asked');
SELECT dtm.msg_branch('res-msg', 'http://a', '1'::jsonb, keep_result => true);
SELECT dtm.msg_branch('res-msg', 'http://b', '{"$from": "01", "path": "$"}'::jsonb);
SELECT dtm.msg_branch('res-msg', 'http://b', '{"$from": "07", "path": "$"}'::jsonb);

SELECT dtm.tcc_begin('res-tcc');
SELECT dtm.tcc_branch('res-tcc', 'http://a', 'http://b', '1'::jsonb, keep_result => true, branch_id => '01');
SELECT dtm.tcc_branch('res-tcc', 'http://a', 'http://b', '1'::jsonb, keep_result => true, branch_id => '01');
SELECT dtm.tcc_branch('res-tcc', 'http://a', 'http://b', '1'::jsonb, branch_id => '01');
SELECT dtm.tcc_branch('res-tcc', 'http://a', 'http://b', '{"$from": "01", "path": "$"}'::jsonb);

-- To a topic: each subscriber is a branch, and keeps its own.
SELECT dtm.subscribe('res.one', 'http://s1'), dtm.subscribe('res.two', 'http://s1'), dtm.subscribe('res.two', 'http://s2');
SELECT dtm.msg('res-topic', ARRAY[dtm.step('topic://res.two', keep_result => true), dtm.step('topic://res.one', keep_result => true),
         dtm.step('http://b', payload => '[{"$from": "01-02", "path": "$"}, {"$from": "02", "path": "$"}]')]);
SELECT branch_id, keep_result, uses FROM dtm.branch JOIN dtm.trans USING (id) WHERE gid = 'res-topic' ORDER BY branch;
SELECT dtm.msg(ARRAY[dtm.step('topic://res.two', keep_result => true), dtm.step('http://b', payload => '{"$from": "01", "path": "$"}')]);

-- A trigger sends rows, whatever is in them.
CREATE TABLE res_row (id integer PRIMARY KEY, data jsonb);
CREATE TRIGGER res_row_changed AFTER INSERT ON res_row FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger('http://cache/delete');
INSERT INTO res_row VALUES (1, '{"$from": "01", "path": "$"}');
SELECT convert_from(payload, 'UTF8'), uses FROM dtm.branch WHERE payload IS NOT NULL ORDER BY id DESC, branch DESC LIMIT 1;

DROP TABLE res_row;
SELECT dtm.unsubscribe(topic, url) FROM dtm.topics WHERE topic LIKE 'res.%';
-- Nothing of this shall be called when the worker goes on.
SELECT count(dtm.force_stop(gid)) > 0 AS stopped FROM dtm.transactions WHERE finished_at IS NULL;
ALTER SYSTEM RESET dtm.enabled;
SELECT pg_reload_conf();
