# XA over HTTP, seen by its participants: who is told what, in which order, how
# often, and with the worker killed at its decisions.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('xa', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '30s'
CONF
my $stub = DtmTest::Stub->new;
my $debug = $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_settings WHERE name = 'dtm.debug_point'");

sub sql { return $node->safe_psql('postgres', @_); }

sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return ($err =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/);
}

sub begin
{
	my ($gid, $options, @paths) = @_;

	sql("SELECT dtm.xa_begin('$gid'" . ($options ? ", $options" : '') . ')');
	sql(sprintf("SELECT dtm.xa_branch('%s', '%s')", $gid, $stub->url($_))) for @paths;
	return;
}

# Submitted

begin('both', '', '/a?x=1', '/b', '/c');
is(sql(q(SELECT dtm.status('both'))), 'prepared', 'begun');
sql(q(SELECT dtm.submit('both')));
wait_status($node, 'both', 'succeed');
is_deeply($stub->calls('both'), [ map { "0$_ commit" } 1 .. 3 ], 'submitted: committed, in order of registration');
is_deeply([ map { "$_->{method} $_->{target} $_->{size}" } @{ $stub->journal('both') } ]->[0],
	'POST /a?x=1&gid=both&trans_type=xa&branch_id=01&op=commit 0', 'how a branch is told: POST, without a body');
is(sql(q(SELECT string_agg(branch_id || ' ' || op || ' ' || status, ', ' ORDER BY branch_id, op) FROM dtm.branches WHERE gid = 'both' AND attempts > 0)),
	'01 commit succeed, 02 commit succeed, 03 commit succeed', 'as people see it');

$stub->program('/deaf', { status => 409 }, { body => 'FAILURE' }, { status => 425 }, { status => 500 }, { manner => 'drop' }, { status => 200 });
begin('deaf', '', '/deaf', '/b');
sql(q(SELECT dtm.submit('deaf')));
wait_status($node, 'deaf', 'succeed');
is_deeply($stub->calls('deaf'), [ ('01 commit') x 6, '02 commit' ], 'a commit cannot be refused, and comes before the next');

# Aborted, or left alone

$stub->program('/deaf2', { status => 409 }, { body => 'FAILURE' }, { status => 200 });
begin('back', '', '/deaf2', '/b');
sql(q(SELECT dtm.abort('back', 'changed my mind')));
wait_status($node, 'back', 'failed');
is_deeply($stub->calls('back'), [ ('01 rollback') x 3, '02 rollback' ], 'aborted: rolled back, which cannot be refused either');
is(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'back')), 'changed my mind', 'with its reason');

begin('lost', q(timeout_to_fail => '400ms'), '/a', '/b');
wait_status($node, 'lost', 'failed');
is_deeply($stub->calls('lost'), [ '01 rollback', '02 rollback' ], 'left alone: rolled back when its time is over');
is(sql(q(SELECT reason FROM dtm.transactions WHERE gid = 'lost')), 'timeout_to_fail has passed', 'with its reason');

$stub->program('/slow', { status => 500, delay => 1.2 }, { status => 200 });
begin('late', q(timeout_to_fail => '1s'), '/slow');
sql(q(SELECT dtm.submit('late')));
wait_status($node, 'late', 'succeed');
pass('once submitted, there is no deadline');

begin('empty', '');
sql(q(SELECT dtm.submit('empty')));
wait_status($node, 'empty', 'succeed');
pass('nobody has registered: done');

# A branch that joins in the last moment: the worker's word of it comes too late

begin('joined', q(timeout_to_fail => '700ms'), '/a');
sql(sprintf(<<'SQL', ($stub->url('/b')) x 2));
INSERT INTO dtm.branch (id, branch, branch_id, forward, backward)
SELECT id, 1, '02', '%s', '%s' FROM dtm.trans WHERE gid = 'joined'
SQL
wait_status($node, 'joined', 'failed');
is_deeply($stub->calls('joined'), [ '01 rollback', '02 rollback' ], 'it is rolled back like the others');

# The same calls again, at every status

sql(q(SELECT dtm.xa_begin('again'); SELECT dtm.xa_begin('again')));
$stub->program('/held', { hold => 1 });
sql(sprintf("SELECT dtm.xa_branch('again', '%s')", $stub->url('/held')));
sql(q(SELECT dtm.submit('again'); SELECT dtm.submit('again')));
$stub->wait_calls('/held', 1);
is((error_of($_))[0], 'DT412', "$_: not when it is submitted")
  for q(SELECT dtm.xa_begin('again')), q(SELECT dtm.abort('again')), sprintf(q(SELECT dtm.xa_branch('again', '%s')), $stub->url('/a'));
$stub->release('/held', 1);
wait_status($node, 'again', 'succeed');
sql(q(SELECT dtm.submit('again')));
is((error_of(q(SELECT dtm.abort('again'))))[0], 'DT412', 'nor when it has succeeded');

begin('undo', '', '/held');
sql(q(SELECT dtm.abort('undo'); SELECT dtm.abort('undo')));
$stub->wait_calls('/held', 2);
is((error_of($_))[0], 'DT412', "$_: not when it is aborting")
  for q(SELECT dtm.xa_begin('undo')), q(SELECT dtm.submit('undo'));
$stub->release('/held');
wait_status($node, 'undo', 'failed');
sql(q(SELECT dtm.abort('undo')));
is_deeply($stub->calls('again'), ['01 commit'], 'committed once');
is_deeply($stub->calls('undo'), ['01 rollback'], 'rolled back once');

# Killed at every decision: all are told the same

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $n = 0;
	for my $point (qw(backend-command-written backend-after-commit worker-before-decision worker-change-written
		worker-after-decision worker-action-sent worker-action-answered worker-compensate-sent worker-compensate-answered))
	{
		for my $command (qw(submit abort))
		{
			next if $point =~ /action/ && $command eq 'abort' || $point =~ /compensate/ && $command eq 'submit';
			my $gid = 'point-' . ++$n;
			my $op = $command eq 'submit' ? 'commit' : 'rollback';

			begin($gid, q(timeout_to_fail => '60s'), '/a', '/b');
			my $token = arm_point($node, $point, 'self');
			$node->psql('postgres', "SELECT dtm.$command('$gid')");
			wait_point($node, $token);
			# Whoever died before the commit says it again.
			wait_for($node, "SELECT dtm.$command('$gid')", '');
			wait_status($node, $gid, $command eq 'submit' ? 'succeed' : 'failed');
			my %told = map { ($_ => 1) } @{ $stub->calls($gid) };
			is_deeply([ sort keys %told ], [ "01 $op", "02 $op" ], "$point, $command: all are told the same");
		}
	}
}

$node->stop;
done_testing();
