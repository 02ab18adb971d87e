# Workflows: a client whose journal dtm keeps, killed in the middle and resumed; the
# times at which it is called and not called; two runs at once; and crashes of the
# server at every point of a run.
use strict;
use warnings FATAL => 'all';

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

my $node = dtm_node('workflow', conf => <<'CONF');
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '400ms'
dtm.request_timeout = '60s'
dtm.retention_interval = '200ms'
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

# Calls of resume, and of steps, as the stub has seen them.
sub resumes { my ($gid) = @_; return [ grep { $_->{branch_id} eq '00' } @{ $stub->journal($gid) } ]; }
sub steps { my ($gid) = @_; return [ grep { !/^00/ } @{ $stub->calls($gid) } ]; }

sub prepare
{
	my ($gid, $path, $options) = @_;

	return sprintf("SELECT max(run) FROM dtm.workflow_prepare('%s', 'trip', '%s'%s)", $gid,
		$path eq '' ? '' : $stub->url($path), $options ? ", $options" : '');
}

sub record
{
	my ($gid, $branch, $options) = @_;

	return "SELECT dtm.workflow_record('$gid', '$branch', 'action', 'succeed'" . ($options ? ", $options" : '') . ')';
}

sub finish
{
	my ($gid, $status, $options) = @_;

	return "SELECT dtm.workflow_finish('$gid', '$status'" . ($options ? ", $options" : '') . ')';
}

# What is expected of the worker's record of its calls of resume.
sub resuming
{
	my ($gid, $columns) = @_;

	return "SELECT $columns FROM dtm.branches WHERE gid = '$gid' AND branch_id = '00'";
}

# Its client shall be called now, not when it has been silent for long enough. Should
# the server just be dying, then once it is there again; if it has ended, never mind.
sub hurry
{
	my ($gid) = @_;

	return wait_until("retry_now of $gid", sub {
		my ($rc, $out, $err) = eval { $node->psql('postgres', "SELECT dtm.retry_now('$gid')") };

		return defined $rc && ($rc == 0 || $err =~ /cannot retry /);
	});
}

# The application: an ordinary role, one process that serves, others that execute.

sql(<<'SQL');
CREATE ROLE app LOGIN;
SELECT dtm.grant_usage('app'), dtm.allow('app', '*');
CREATE TABLE done (gid text, branch_id text, op text);
GRANT INSERT, SELECT ON done TO app;
SQL
my $app = dirname(__FILE__) . '/lib/workflow_app.py';
my $dsn = sprintf("host='%s' port=%d dbname=postgres user=app", $node->host, $node->port);
my $port_file = PostgreSQL::Test::Utils::tempdir_short() . '/port';
my ($server_pid, $server);

sub serve
{
	unlink $port_file;
	$server_pid = open($server, '|-', 'python3', '-u', $app, $dsn, 'serve', $port_file)
	  or die "cannot start the application: $!";
	wait_until('start of the application', sub { -s $port_file });
	return sprintf('http://127.0.0.1:%d/resume', slurp_file($port_file));
}

sub execute
{
	my ($url, $gid, @paths) = @_;
	my $data = sprintf('{"stub": "%s", "steps": [%s]}', $stub->url, join(', ', map { "\"$_\"" } @paths));
	my $pid = open(my $out, '-|', 'python3', $app, $dsn, 'execute', $url, $gid, $data)
	  or die "cannot start a client: $!";

	return { pid => $pid, out => $out };
}

sub outcome
{
	my ($client) = @_;
	my $line = readline($client->{out});

	local $?;
	close($client->{out});
	chomp $line if defined $line;
	return defined $line ? $line : '';
}

sub done { my ($gid) = @_; return sql("SELECT string_agg(branch_id || ' ' || op, ',' ORDER BY branch_id, op) FROM done WHERE gid = '$gid'"); }

my $url = serve();

is(outcome(execute($url, 'plain', '/a', 'local', '/b')), 'succeed ["/a", "local", "/b"]', 'a workflow, from beginning to end');
is_deeply($stub->calls('plain'), [ '01 action', '03 action' ], 'each step once, and nobody is resumed');
is(done('plain'), '02 action,02 commit', 'and so is the local one, with its commit');
is(sql("SELECT dtm.wait('plain')"), 'succeed', 'it has succeeded');
is(outcome(execute($url, 'plain', '/a', 'local', '/b')), 'succeed ["/a", "local", "/b"]', 'once more: the result, without a step');
is(scalar @{ $stub->journal('plain') }, 2, 'which are not done again');
is(sql("SELECT owner FROM dtm.transactions WHERE gid = 'plain'"), 'app', 'as an ordinary role');

$stub->program('/refuses', { status => 409, body => 'no seat' });
is(outcome(execute($url, 'refused', '/a', 'local', '/b', '/refuses', '/c')), 'failed no seat', 'a step refuses');
is_deeply($stub->calls('refused'), [ '01 action', '03 action', '04 action', '03 rollback', '01 rollback' ],
	'those before it are undone, the last first');
is(done('refused'), '02 action,02 rollback', 'the local one too');
is(sql("SELECT status || ': ' || reason FROM dtm.transactions WHERE gid = 'refused'"), 'failed: no seat', 'it has failed, and says why');

# The client dies, and is resumed

for my $refused (0, 1)
{
	my $gid = "killed-$refused";
	my @more = $refused ? ('/refuses') : ();

	$stub->program("/slow-$gid", { hold => 1 }, { status => 200 });
	my $client = execute($url, $gid, '/a', 'local', "/slow-$gid", '/b', @more);
	$stub->wait_calls("/slow-$gid", 1);
	kill('KILL', $client->{pid});
	is(outcome($client), '', "$gid: killed in its third step");
	my $silent_at = sql("SELECT extract(epoch FROM deadline) FROM dtm.transactions WHERE gid = '$gid'");
	wait_status($node, $gid, $refused ? 'failed' : 'succeed');
	$stub->release("/slow-$gid");
	is_deeply(steps($gid),
		$refused
		? [ '01 action', '03 action', '03 action', '04 action', '05 action', '04 rollback', '03 rollback', '01 rollback' ]
		: [ '01 action', '03 action', '03 action', '04 action' ],
		"$gid: it goes on: what is in the journal is not done again, what is in doubt is");
	cmp_ok($stub->journal($gid)->[2]{began}, '>=', $silent_at, "$gid: not before its time is over");
	is(sql("SELECT (dtm.query('$gid')->'workflow'->>'run')"), '2', "$gid: by a second run");
	is(done($gid), $refused ? '02 action,02 rollback' : '02 action,02 commit', "$gid: the local step happened once");
}

# Nobody but the client dies: all of the application does, and comes back elsewhere.

$stub->program('/slow-down', { hold => 1 }, { status => 200 });
{
	my $client = execute($url, 'down', '/a', '/slow-down');

	$stub->wait_calls('/slow-down', 1);
	kill('KILL', $client->{pid}, $server_pid);
	outcome($client);
	{ local $SIG{PIPE} = 'IGNORE'; local $?; close($server); }
	hurry('down');
	wait_for($node, resuming('down', 'attempts >= 3'), 't');
	like(sql(resuming('down', 'last_error')), qr/refused|connect/, 'nobody answers: it is called again');
	$url = serve();
	is(outcome(execute($url, 'down', '/a', '/slow-down')), 'succeed ["/a", "/slow-down"]', 'another process goes on');
	is_deeply(steps('down'), [ '01 action', '02 action', '02 action' ], 'where it was cut off');
	$stub->release('/slow-down');
}

# How it is called, and what an answer means

sql(prepare('call', '/call', q(data => '{"a":  1}', timeout_to_fail => '300ms')));
$stub->wait_calls('/call', 3);
{
	my ($first, $second) = @{ $stub->journal('call') };
	my $row = sql("SELECT extract(epoch FROM created_at) + 0.3 FROM dtm.transactions WHERE gid = 'call'");

	is("$first->{method} $first->{target}", 'POST /call?gid=call&trans_type=workflow&branch_id=00&op=trip', 'how it is resumed');
	is($first->{body}, '{"a":  1}', 'with its data');
	cmp_ok($first->{began}, '>=', $row, 'not before its time is over');
	cmp_ok($second->{began}, '>=', $first->{ended} + 0.1, 'answered, and not finished: again after the interval');
	wait_for($node, resuming('call', "status || ' ' || last_error || ' ' || stuck"),
		'prepared it has answered, and was not finished false');
}
sql(finish('call', 'succeed'));
is(sql(q(SELECT dtm.wait('call', '20s'))), 'succeed', 'finished');
is(sql(resuming('call', 'status, next_attempt IS NULL')), 'succeed|t', 'and shown so');

sql(sprintf("SELECT run FROM dtm.workflow_prepare('get', 'my code/1', '%s', timeout_to_fail => '10ms')", $stub->url('/get?x=1')));
$stub->wait_calls('/get', 1);
sql(finish('get', 'failed'));
{
	my $call = $stub->journal('get')->[0];

	is("$call->{method} $call->{target}", 'GET /get?x=1&gid=get&trans_type=workflow&branch_id=00&op=my%20code%2F1',
		'without data; the name is encoded');
	is($call->{op}, 'my code/1', 'and arrives');
}

$stub->program('/errors', { status => 500 }, { status => 409, body => 'FAILURE' }, { status => 503 }, { manner => 'hang' }, { status => 200 });
sql(prepare('errors', '/errors', q(timeout_to_fail => '10ms', retry_limit => 4, request_timeout => '500ms', retry_interval => '50ms')));
wait_for($node, resuming('errors', 'attempts >= 4 AND stuck'), 't');
{
	my @calls = @{ $stub->journal('errors') };

	cmp_ok($calls[1]{began} - $calls[0]{ended}, '>=', 0.05, 'an error: again after the interval');
	cmp_ok($calls[2]{began} - $calls[1]{ended}, '>=', 0.1, 'FAILURE is one too: after the double');
	cmp_ok($calls[3]{began} - $calls[2]{ended}, '>=', 0.2, 'and so on');
	is(sql(q(SELECT op, trans_type, status FROM dtm.stuck WHERE gid = 'errors')), 'trip|workflow|prepared', 'its limit makes it stuck, and nothing else');
}
wait_for($node, resuming('errors', 'attempts >= 5 AND NOT stuck'), 't');
is(sql(q(SELECT dtm.status('errors'))), 'prepared', 'an answer takes the flag away');
sql(finish('errors', 'succeed'));

$stub->program('/stuck', { status => 500 });
sql(prepare('stuck', '/stuck', q(timeout_to_fail => '10ms', retry_limit => 1)));
set_conf($node, 'dtm.max_retry_interval' => '1h');
sql(q(SELECT dtm.retry_now('stuck')));
wait_for($node, resuming('stuck', q(next_attempt > now() + '30 min')), 't');
my $calls = @{ resumes('stuck') };
sql(q(SELECT dtm.retry_now('stuck')));
$stub->wait_calls('/stuck', $calls + 1);
pass('retry_now calls it at once');
is(sql(prepare('stuck', '/stuck')), '2', 'it comes back by itself');
wait_for($node, resuming('stuck', q(attempts >= 1)), 't');
$stub->wait_calls('/stuck', $calls + 2);
pass('and falls silent: called when its time is over, not in an hour');
sql(finish('stuck', 'failed'));

# Failures do not add up over its life: it answers, or its client comes back by itself,
# and what failed before is forgotten. It has left memory by then, as the next call of
# what is stuck is far away.
$stub->program('/again', ({ status => 500 }) x 3, { status => 200 }, { status => 500 }, { hold => 1 }, { status => 200 });
sql(prepare('again', '/again', q(timeout_to_fail => '1h', retry_limit => 2, retry_interval => '50ms')));
sql(q(SELECT dtm.retry_now('again')));
wait_for($node, resuming('again', q(attempts = 2 AND stuck AND next_attempt > now() + '30 min')), 't');
is(sql(prepare('again', '/again')), '2', 'one that is stuck comes back by itself');
wait_for($node, q(SELECT count(*) FROM dtm.stuck WHERE gid = 'again'), '0');
pass('and is not shown as stuck');
sql(q(SELECT dtm.retry_now('again')));
$stub->wait_calls('/again', 6);
is(sql(resuming('again', q(attempts || ' ' || stuck))), '5 false', 'an error, an answer, an error: none makes it stuck');
sql(finish('again', 'succeed'));
$stub->release('/again');
set_conf($node, 'dtm.max_retry_interval' => '400ms');

# The lease: who tells of itself is not called, who does not is.

# Each call must have begun after the deadline that was in force. One may have been
# on its way when a sign came that was itself too late.
sub called_in_time
{
	my ($gid, $what, @signs) = @_;
	my $wrong = 0;

	for my $call (@{ resumes($gid) })
	{
		my ($sign, $before) = ({ at => 0, deadline => 0 });

		for my $next (@signs)
		{
			($sign, $before) = ($next, $sign) if $next->{at} <= $call->{began};
		}
		next if $call->{began} >= $sign->{deadline};
		next if $sign->{at} > $before->{deadline} && $call->{began} < $sign->{at} + 1;
		$wrong++;
	}
	return is($wrong, 0, $what);
}

sub sign
{
	my ($session, $gid, $sql) = @_;

	$session->query_safe($sql);
	my ($at, $deadline) = split /\|/, $session->query_safe(
		"SELECT extract(epoch FROM clock_timestamp()), extract(epoch FROM deadline) FROM dtm.transactions WHERE gid = '$gid'");
	return { at => $at, deadline => $deadline };
}

{
	my $session = $node->background_psql('postgres');
	my @signs = sign($session, 'slow', prepare('slow', '/slow', q(timeout_to_fail => '1s')));
	my $fell_silent = sub { my $last = resumes('slow')->[-1]; return $last && $last->{began} >= $signs[-1]{deadline}; };

	for my $n (1 .. 8)
	{
		sleep(0.2);				# it works
		push @signs, sign($session, 'slow', record('slow', sprintf('%02d', $n)));
	}
	ok(wait_until('a call of slow', $fell_silent), 'a client that has fallen silent is called');
	called_in_time('slow', 'but not while it is only slow, and records its steps', @signs);
	$session->query_safe(finish('slow', 'succeed'));

	# Its transaction is still open: it will tell of itself when that commits.
	$session->query_safe(prepare('open', '/open', q(timeout_to_fail => '300ms')));
	$session->query_safe('BEGIN; ' . record('open', '01'));
	wait_for($node, q(SELECT clock_timestamp() > deadline + '500ms' FROM dtm.transactions WHERE gid = 'open'), 't');
	is_deeply(resumes('open'), [], 'nor one whose transaction is still open');
	$session->query_safe(finish('open', 'succeed') . '; COMMIT');
	$session->quit;
}

# Our call is given up, but its client works: it is not called a second time before
# it has been silent again.

$stub->program('/late', { hold => 1 }, { status => 200 });
{
	my $session = $node->background_psql('postgres');

	sql(prepare('late', '/late', q(timeout_to_fail => '3s', request_timeout => '1s')));
	hurry('late');
	$stub->wait_calls('/late', 1);
	my @signs = sign($session, 'late', prepare('late', '/late'));

	wait_for($node, resuming('late', 'attempts > 0'), 't');
	push @signs, sign($session, 'late', record('late', '01'));
	ok(wait_until('a second call of late', sub { return resumes('late')->[-1]{began} >= $signs[-1]{deadline}; }),
		'a call that was given up is followed by another one');
	called_in_time('late', 'but not before its client is silent again', @signs);
	$session->query_safe(finish('late', 'succeed'));
	$session->quit;
	$stub->release('/late');
}

# Our call is under way for long: no second one, whatever time passes, and whatever
# the row says meanwhile.

$stub->program('/long', { hold => 1 });
sql(prepare('long', '/long', q(timeout_to_fail => '100ms')));
$stub->wait_calls('/long', 1);
for my $n (1 .. 3)
{
	sql(record('long', "0$n"));
	wait_for($node, q(SELECT clock_timestamp() > deadline + '200ms' FROM dtm.transactions WHERE gid = 'long'), 't');
}
sql(q(SELECT dtm.retry_now('long')));
sql(record('long', '04'));
wait_for($node, q(SELECT clock_timestamp() > deadline + '500ms' FROM dtm.transactions WHERE gid = 'long'), 't');
is(scalar @{ resumes('long') }, 1, 'while our call is under way there is no other');
$stub->release('/long');
$stub->wait_calls('/long', 2);
pass('it has answered, and not finished: called again');
sql(q(SELECT dtm.force_stop('long', 'enough')));
is(sql(q(SELECT dtm.wait('long', '20s'))), 'failed', 'force_stop ends it');
is((error_of(record('long', '05')))[0], 'DT412', 'and its client is told');
is((error_of(finish('long', 'succeed')))[0], 'DT412', 'whatever it says');

# Work stops and goes on, and the worker has forgotten that its call is under way.

$stub->program('/twice', { hold => 1 }, { status => 200 });
sql(prepare('twice', '/twice', q(timeout_to_fail => '10ms')));
$stub->wait_calls('/twice', 1);
set_conf($node, 'dtm.enabled' => 'off');
wait_for($node, q(SELECT query FROM pg_stat_activity WHERE backend_type = 'dtm worker'), 'idle: dtm.enabled is off');
set_conf($node, 'dtm.enabled' => 'on');
wait_for($node, resuming('twice', 'last_error'), 'an earlier call has not ended yet');
sql(q(SELECT dtm.retry_now('twice')));
wait_for($node, q(SELECT clock_timestamp() > deadline + '300ms' FROM dtm.transactions WHERE gid = 'twice'), 't');
is(scalar @{ resumes('twice') }, 1, 'dtm.enabled off and on: there is no second call beside the first');
$stub->release('/twice');
$stub->wait_calls('/twice', 2);
cmp_ok(resumes('twice')->[1]{began}, '>=', resumes('twice')->[0]{ended}, 'but when that has ended');
sql(finish('twice', 'succeed'));

# Its ending: a statement that runs when it has ended, whoever is being called then.

sql('CREATE TABLE ended (what text)');
$stub->program('/ending', { hold => 1 });
my $note = q('INSERT INTO ended SELECT gid || $$ $$ || op FROM dtm.current_branch()');
for my $status (qw(succeed failed stopped))
{
	sql(prepare("ending-$status", '/ending', "timeout_to_fail => '10ms', on_success => $note, on_failure => $note"));
	wait_until("a call for ending-$status", sub { return @{ resumes("ending-$status") } > 0; });
	sql($status eq 'stopped' ? "SELECT dtm.force_stop('ending-$status')" : finish("ending-$status", $status));
	wait_for($node, "SELECT what FROM ended WHERE what LIKE 'ending-$status %'",
		"ending-$status " . ($status eq 'succeed' ? 'on_success' : 'on_failure'));
	is(scalar @{ resumes("ending-$status") }, 1, "$status: its statement has run, and it is not called again");
}
$stub->release('/ending');

# Two runs at once: one goes on.

{
	my $one = $node->background_psql('postgres');
	my $two = $node->background_psql('postgres', on_error_stop => 0);

	sql(prepare('two', ''));
	is($one->query_safe('BEGIN; ' . prepare('two', '')), '2', 'a second run begins');
	$two->query_until(qr/started/, "\\echo started\n" . prepare('two', '') . ";\n\\echo third\n");
	wait_for($node, q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'), '1');
	$one->query_safe("INSERT INTO done VALUES ('two', '01', 'action'); " . record('two', '01', 'run => 2') . '; COMMIT');
	like($two->query_until(qr/third/, ''), qr/\b3\b/, 'a third waits for its transaction');
	is($two->query(q(SELECT string_agg(branch_id || ' ' || op, ',') FROM dtm.workflow_prepare('two', 'trip', '') WHERE branch_id <> '00')), '01 action', 'and knows what that has done');
	my ($code, $error) = error_of("BEGIN; INSERT INTO done VALUES ('two', '02', 'action'); " . record('two', '02', 'run => 2') . '; COMMIT');
	is($code, 'DT412', 'the older one is refused');
	like($error, qr/run 2 was superseded by run 4/, 'and told why');
	is((error_of(finish('two', 'succeed', 'run => 3')))[0], 'DT412', 'so it cannot finish either');
	is($two->query(record('two', '02', 'run => 4')), 't', 'the youngest goes on');
	$two->query(finish('two', 'succeed', 'run => 4'));
	is((error_of(finish('two', 'succeed', 'run => 2')))[0], 'DT412', 'at no time is the older one heard');
	is(sql(q(SELECT dtm.wait('two', '20s'))), 'succeed', 'finished');
	is(done('two'), '01 action', 'what was refused has done nothing');
	$one->quit;
	$two->quit;
}

# Two clients with one gid: each step happens once, whoever does it.

{
	my @clients = map { execute($url, 'both', 'local', '/a', 'local', '/b', 'local') } 1 .. 4;
	my @outcomes = map { outcome($_) } @clients;

	ok((grep { /^succeed/ } @outcomes) >= 1, 'of four at once, one succeeds');
	is((grep { !/^(succeed|superseded)/ } @outcomes), 0, 'others are told') or diag(join("\n", @outcomes));
	is(done('both'), '01 action,01 commit,03 action,03 commit,05 action,05 commit', 'each local step happened once');
	is_deeply($stub->effects('both'), { '02' => [ 1, 0 ], '04' => [ 1, 0 ] }, 'the others, behind their barriers, too');
}

# The worker dies while it calls

$stub->program('/dies', { hold => 1 }, { status => 200 });
sql(prepare('dies', '/dies', q(timeout_to_fail => '3s')));
hurry('dies');
$stub->wait_calls('/dies', 1);
sql(prepare('dies', '/dies'));
{
	my $pid = worker_pid($node);

	kill_process($node, $pid);
	wait_worker($node, $pid);
	wait_for($node, q(SELECT 1), '1');
	$stub->wait_calls('/dies', 2);
	my ($deadline) = sql(q(SELECT extract(epoch FROM deadline) FROM dtm.transactions WHERE gid = 'dies'));

	cmp_ok(resumes('dies')->[1]{began}, '>=', $deadline, 'killed while it called: its successor waits for the client which has begun');
	$stub->release('/dies');
	sql(finish('dies', 'succeed'));
}

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $n = 0;

	# The client is killed in its third step, so that it must be resumed; the
	# server is killed once more, at each point of that.
	for my $point (qw(backend-before-commit backend-after-commit backend-command-written
		worker-after-load worker-check-sent worker-before-marks worker-after-marks))
	{
		for my $refused (0, 1)
		{
			my $gid = "point-" . ++$n;

			$stub->program("/$gid", { hold => 1 }, { status => 200 });
			my $client = execute($url, $gid, 'local', '/a', "/$gid", 'local', $refused ? '/refuses' : '/b');
			$stub->wait_calls("/$gid", 1);
			my $token = arm_point($node, $point, 'self');
			kill('KILL', $client->{pid});
			outcome($client);
			hurry($gid) if $point =~ /^worker/;
			wait_point($node, $token);
			hurry($gid);
			wait_for($node, "SELECT dtm.status('$gid')", $refused ? 'failed' : 'succeed');
			$stub->release("/$gid");
			is(done($gid), $refused ? '01 action,01 rollback,04 action,04 rollback' : '01 action,01 commit,04 action,04 commit',
				"$point, refused: $refused: local steps happened once");
			is_deeply($stub->effects($gid),
				$refused ? { '02' => [ 1, 1 ], '03' => [ 1, 1 ] } : { '02' => [ 1, 0 ], '03' => [ 1, 0 ], '05' => [ 1, 0 ] },
				"$point, refused: $refused: the others once behind the barrier");
		}
	}
}

SKIP:
{
	skip 'built without DTM_DEBUG', 1 unless $debug;

	my $token = arm_point($node, 'worker-check-answered', 'self');
	sql(prepare('answered', '/answered', q(timeout_to_fail => '10ms')));
	wait_point($node, $token);
	wait_for($node, resuming('answered', 'attempts > 0'), 't');
	cmp_ok(scalar @{ resumes('answered') }, '>=', 2, 'killed with an answer that says nothing: called again');
	sql(finish('answered', 'succeed'));
}

# Each is counted once, at its beginning and at its end, though the worker takes it up
# many times, or never: those whose time is not near are not in memory.

{
	my $counted = q(SELECT begun, succeeded, failed FROM dtm.stats);
	my ($begun, $succeeded, $failed) = split /\|/, sql($counted);

	sql(prepare("count-$_", '/never', q(timeout_to_fail => '1h'))) for 1 .. 3;
	sql(record('count-1', "0$_")) for 1 .. 3;
	sql(prepare('count-1', '/never'));
	sql(finish('count-1', 'succeed') . '; ' . finish('count-1', 'succeed'));
	sql(finish('count-1', 'succeed'));
	sql(finish('count-2', 'failed'));
	sql(q(SELECT dtm.force_stop('count-3')));
	sql('BEGIN; SAVEPOINT s; ' . prepare('count-4', '') . '; ' . finish('count-4', 'succeed') . '; ROLLBACK TO s; COMMIT');
	is(sql($counted), sprintf('%d|%d|%d', $begun + 3, $succeeded + 1, $failed + 2), 'stats count each once');
}

# What it leaves behind

is(sql(q(SELECT count(*) FROM dtm.transactions WHERE trans_type = 'workflow' AND finished_at IS NULL)), '0', 'all have ended');
set_conf($node, 'dtm.retention' => '1s');
wait_for($node, q(SELECT (SELECT count(*) FROM dtm.trans) + (SELECT count(*) FROM dtm.workflow) + (SELECT count(*) FROM dtm.branch) + (SELECT count(*) FROM dtm.op)), '0');
pass('and nothing is left when they are old');

{ local $?; close($server); }
$node->stop;
done_testing();
