# Records of what people have done go when they are old, but not before the
# transaction that they are about.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('oplog', conf => "dtm.retention_interval = '100ms'\ndtm.retention = '1h'\n");

sub sql { return $node->safe_psql('postgres', @_); }

# One saga that cannot end, one that has, changes of rights in great number, and
# all of it long ago.

sql(<<'SQL');
SELECT dtm.saga('stays', ARRAY[dtm.step('', 'http://127.0.0.1:1/'), dtm.step('http://127.0.0.1:1/')]);
SELECT dtm.abort('stays', 'enough');
SELECT dtm.saga_begin('ends');
SELECT dtm.abort('ends', 'enough');
SELECT count(dtm.allow('public', 'http://h' || n)) FROM generate_series(1, 1200) AS n;
SQL
is(sql(q(SELECT count(*) FROM dtm.operation_log)), '1202', 'everything is recorded');
sql(q(UPDATE dtm.operation_log SET at = at - interval '2 hours'; UPDATE dtm.trans SET finished_at = finished_at - interval '2 hours', created_at = created_at - interval '2 hours'));
sql(q(SELECT dtm.disallow('public', 'http://h1')));
ok(wait_for($node, q(SELECT string_agg(command || coalesce(' ' || gid, ''), ', ' ORDER BY id) FROM dtm.operation_log), 'abort stays, disallow'), 'old records go, young ones stay, and so do those of what is unfinished');
is(sql(q(SELECT count(*) FROM dtm.transactions WHERE gid = 'ends')), '0', 'together with their transactions');
sql(q(SELECT dtm.force_stop('stays', 'enough'); UPDATE dtm.operation_log SET at = at - interval '2 hours'; UPDATE dtm.trans SET finished_at = finished_at - interval '2 hours'));
ok(wait_for($node, q(SELECT count(*) FROM dtm.operation_log), '0'), 'in the end, all');

$node->stop;
done_testing();
