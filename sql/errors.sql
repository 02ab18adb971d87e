-- Every argument is checked before anything is stored, and the error names it.
\set VERBOSITY terse

-- gid
SELECT dtm.saga('', ARRAY[dtm.step('http://a')]);
SELECT dtm.saga(NULL, ARRAY[dtm.step('http://a')]);
SELECT dtm.saga(repeat('x', 129), ARRAY[dtm.step('http://a')]);
SELECT dtm.saga(E'a\nb', ARRAY[dtm.step('http://a')]);

-- steps
SELECT dtm.saga('x', NULL::dtm.step[]);
SELECT dtm.saga('x', '{}'::dtm.step[]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a'), NULL]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a'), ROW(NULL, '', NULL, NULL, NULL, NULL, NULL)::dtm.step]);
SELECT dtm.step(NULL);
SELECT dtm.step('http://a', payload => '{"a": }');
SELECT dtm.step('http://a', payload => '{}', body => '\x00');
SELECT dtm.step('http://a', retry_limit => 0);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a', request_timeout => '1 month')]);

-- addresses
SELECT dtm.saga('x', ARRAY[dtm.step('http://a'), dtm.step('http://a', 'ftp://a')]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://')]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://user:secret@a/')]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a:99999/')]);
SELECT dtm.saga('x', ARRAY[dtm.step(E'http://a/\r\nX: y')]);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a#b')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:nowhere.nothing')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:pg_catalog.count')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:pg_catalog.jsonb_each')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:nothing')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:pg_catalog.jsonb_typeof', body => '\x00')]);
SELECT dtm.saga('x', ARRAY[dtm.step('sql:pg_catalog.jsonb_typeof; DROP TABLE x')]);

-- options
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], timeout_to_fail => '1 month');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], timeout_to_fail => '0');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], timeout_to_fail => '-1 s');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], timeout_to_fail => '400000 days');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], retry_interval => '10 us');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], request_timeout => '-2 days');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], retry_limit => 0);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], no_such_option => 1);
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '[]');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '"x"');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"a": 1}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"a": {"b": "c"}}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"": "1"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"a b": "1"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"a:": "1"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"X-A": "1\r\nX-B: 2"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"hOST": "x"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a')], branch_headers => '{"Content-Length": "1"}');
SELECT dtm.saga('x', ARRAY[dtm.step('http://a', headers => '{"Transfer-Encoding": "chunked"}')]);

-- orders
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '[]');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"3": [1]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [0]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [1.5]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [-1]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [99999999999]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": 1}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [null]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [[1]]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [2]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"2": [1], "02": [1]}');
SELECT dtm.saga('x', ARRAY[dtm.step(''), dtm.step('')], orders => '{"1": [2], "2": [1]}');
SELECT dtm.saga('x', array_agg(dtm.step('')), orders => (SELECT jsonb_object_agg(s, w) FROM generate_series(401, 651) s, (SELECT jsonb_agg(n) AS w FROM generate_series(1, 400) n) w))
FROM generate_series(1, 700);

-- Nothing of all this is stored.
SELECT count(*) FROM dtm.transactions WHERE gid = 'x';
