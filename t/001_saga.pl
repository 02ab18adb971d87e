# A saga from end to end, on every version: success, refusal, delay, deadline,
# rollback of the caller, and the worker, the server and a service dying.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $stub = DtmTest::Stub->new;
my $node = dtm_node('main', conf => "dtm.retry_interval = '100ms'\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# start(GID, STEPS, OPTIONS)
sub start { return sql(stub_saga($stub, @_)); }

is($stub->calls('nobody') && sql('SELECT count(*) FROM dtm.doctor() WHERE problem LIKE \'%preload%\''),
	'0', 'the library is preloaded');

# --- to its end ---

start('plain', 3);
wait_status($node, 'plain', 'succeed');
is_deeply($stub->calls('plain'), [ '01 action', '02 action', '03 action' ],
	'actions are called in turn');
my ($first) = @{ $stub->journal('plain') };
is("$first->{method} $first->{trans_type} $first->{body}",
	'POST saga {"step": 1}', 'with method, parameters and payload as agreed');
is($first->{headers}{'Content-Type'}, 'application/json', 'and as JSON');

# --- refused ---

$stub->program('/3', { status => 409, body => 'sold out' });
start('refused', 4);
wait_status($node, 'refused', 'failed');
is_deeply(
	$stub->calls('refused'),
	[
		'01 action', '02 action', '03 action',
		'03 compensate', '02 compensate', '01 compensate'
	],
	'a refused saga is undone in reverse');
is_deeply(
	$stub->effects('refused'),
	{ '01' => [ 1, 1 ], '02' => [ 1, 1 ] },
	'every effect is undone, and only what was done');
like(sql("SELECT reason FROM dtm.transactions WHERE gid = 'refused'"),
	qr/03.*sold out/, 'it says why');
$stub->program('/3', {});

# --- not yet, and not at all ---

$stub->program('/2', { status => 425 }, { body => 'ONGOING' }, { status => 500 }, {});
start('slow', 2, "retry_interval => '50ms'");
wait_status($node, 'slow', 'succeed');
is_deeply(
	$stub->calls('slow'),
	[ '01 action', ('02 action') x 4 ],
	'ONGOING and errors are asked again');
is(sql("SELECT attempts FROM dtm.branches WHERE gid = 'slow' AND branch_id = '02' AND op = 'action'"),
	'4', 'attempts are counted');

$stub->program('/1', { status => 500 });
start('limited', 2, "retry_interval => '20ms', retry_limit => 3");
wait_status($node, 'limited', 'failed');
is_deeply(
	$stub->calls('limited'),
	[ ('01 action') x 3, '01 compensate' ],
	'at the retry limit it turns back, the action in doubt included');

start('late', 2, "retry_interval => '100ms', timeout_to_fail => '1s'");
wait_status($node, 'late', 'failed');
cmp_ok(sql("SELECT extract(epoch FROM finished_at - created_at) < 3 FROM dtm.transactions WHERE gid = 'late'"),
	'eq', 't', 'at its deadline it turns back');
$stub->program('/1', {});

# --- the caller decides ---

sql('BEGIN; ' . stub_saga($stub, 'never', 2) . '; ROLLBACK');
start('after', 1);
wait_status($node, 'after', 'succeed');
is_deeply($stub->calls('never'), [], 'a saga whose begin is rolled back calls nobody');

$stub->program('/2', { hold => JSON::PP::true });
start('aborted', 2);
$stub->wait_calls('/2', 1 + grep { $_->{path} eq '/2' && $_->{gid} ne 'aborted' } @{ $stub->journal });
sql("SELECT dtm.abort('aborted', 'changed my mind')");
wait_status($node, 'aborted', 'aborting');
is_deeply($stub->calls('aborted'), [ '01 action', '02 action' ],
	'no compensation while an action is running');
$stub->release('/2');
$stub->program('/2', {});
wait_status($node, 'aborted', 'failed');
is_deeply(
	$stub->calls('aborted'),
	[ '01 action', '02 action', '02 compensate', '01 compensate' ],
	'abort undoes what was done');

# --- processes die ---

$stub->reset;
$stub->program('/2', { hold => JSON::PP::true });
start('killed', 3);
$stub->wait_calls('/2', 1);
my $worker = worker_pid($node);
kill_process($node, $worker);
$stub->release('/2');
$stub->program('/2', {});
wait_status($node, 'killed', 'succeed');
is_deeply(
	$stub->effects('killed'),
	{ map { $_ => [ 1, 0 ] } '01', '02', '03' },
	'the worker killed in the middle: every effect once');

$stub->reset;
$stub->program('/2', { hold => JSON::PP::true }, { status => 409 });
start('crashed', 3);
$stub->wait_calls('/2', 1);
start_again($node);
$stub->release('/2');
wait_status($node, 'crashed', 'failed');
is_deeply($stub->effects('crashed')->{'01'}, [ 1, 1 ],
	'the server killed in the middle: what was done is undone');
my ($done, $undone) = @{ $stub->effects('crashed')->{'02'} || [ 0, 0 ] };
is($done, $undone, 'so is what was in doubt');

# --- many at once ---

$stub->reset;
sql(sprintf(
	"SELECT dtm.saga('many-' || i, ARRAY[dtm.step('%s', payload => '{}')]) FROM generate_series(1, 300) i",
	$stub->url('/many')));
wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%' AND status = 'succeed'", '300');
is(scalar(grep { $_->{'01'} && $_->{'01'}[0] == 1 } values %{ $stub->effects }),
	300, 'hundreds at once, each effect once');

is(sql("SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')"),
	'0', 'every saga has ended');

$node->stop;
done_testing();
