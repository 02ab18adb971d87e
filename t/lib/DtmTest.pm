# DtmTest: what the tests that drive whole servers share.
#
#   my $node = dtm_node('main');                 # a running server with dtm
#   my $stub = DtmTest::Stub->new;               # a branch service, see stub_server.py
#   $stub->program('/pay', { status => 409 });
#   $node->safe_psql('postgres', "SELECT dtm.saga('g1', ARRAY[dtm.step('" . $stub->url('/pay') . "')])");
#   wait_status($node, 'g1', 'failed');
#   is_deeply($stub->calls('g1'), ['01 action', '01 compensate'], 'undone');
#
# Nothing here sleeps and hopes: every wait polls a condition, has a deadline,
# and when that passes says what it saw last.
package DtmTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(dtm_node wait_until wait_for wait_status worker_pid wait_worker
  kill_process kill_postmaster start_again arm_point wait_point set_conf stub_saga);

my $timeout = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 120;

# A new server with dtm preloaded and created in "postgres". Options:
#   conf => text        more lines for postgresql.conf
#   extension => 0      do not create the extension
#   start => 0          only initialise (implies extension => 0)
#   init => [...]       arguments of PostgreSQL::Test::Cluster->init
sub dtm_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(@{ $opt{init} || [] });
	$node->append_conf('postgresql.conf', <<"CONF" . ($opt{conf} || ''));
shared_preload_libraries = 'dtm'
restart_after_crash = on
max_worker_processes = 32
max_connections = 60
fsync = on
log_line_prefix = '%m [%p] %b %q%d/%u '
log_statement = none
dtm.launcher_interval = '500ms'
CONF
	return $node if exists $opt{start} && !$opt{start};

	$node->start;
	return $node if exists $opt{extension} && !$opt{extension};

	$node->safe_psql('postgres', 'CREATE EXTENSION dtm');
	wait_worker($node);
	return $node;
}

# Poll until the code returns something true, which is returned. When the
# deadline passes: a failed test, and whatever $$last says.
sub wait_until
{
	my ($what, $code, $last) = @_;
	my $deadline = time + $timeout;
	my $pause = 0.01;

	while (1)
	{
		my $got = $code->();
		return $got if $got;
		last if time > $deadline;
		sleep($pause);
		$pause = $pause * 1.5 > 0.2 ? 0.2 : $pause * 1.5;
	}
	fail("waited $timeout s in vain: $what");
	diag("last seen: " . (defined $$last ? $$last : 'nothing')) if $last;
	return 0;
}

# Poll until the query answers so. A server that is just restarting is waited for.
sub wait_for
{
	my ($node, $query, $expected, %opt) = @_;
	my $seen;

	$expected = 't' unless defined $expected;
	return wait_until($query,
		sub {
			# psql may be gone before it has read its query.
			my ($rc, $out, $err) = eval {
				$node->psql($opt{dbname} || 'postgres', $query, timeout => $timeout);
			};
			($out, $err) = ('', $@) unless defined $out;
			$seen = ($out ne '' || $err eq '') ? $out : $err;
			return defined $rc && $rc == 0 && $out eq $expected;
		}, \$seen);
}

sub wait_status
{
	my ($node, $gid, $status, %opt) = @_;

	(my $quoted = $gid) =~ s/'/''/g;
	my $ok = wait_for($node, "SELECT dtm.status('$quoted')", $status, %opt);
	unless ($ok)
	{
		my ($rc, $out, $err) = $node->psql($opt{dbname} || 'postgres',
			"SELECT jsonb_pretty(dtm.query('$quoted'))");
		diag($out || $err);
	}
	return $ok;
}

# Pid of a process of dtm: 'dtm worker', 'dtm launcher', 'dtm executor'; 0: none.
sub worker_pid
{
	my ($node, $type, $dbname) = @_;

	$type ||= 'dtm worker';
	my $db = $dbname ? "AND datname = '$dbname'" : '';
	my ($rc, $out) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' $db ORDER BY pid LIMIT 1"
	);
	return ($out || '') =~ /^(\d+)$/ ? $1 : 0;
}

# Until a worker (another than $old, if given) is there; its pid.
sub wait_worker
{
	my ($node, $old, $dbname) = @_;

	return wait_until(
		'a dtm worker',
		sub {
			my $pid = worker_pid($node, 'dtm worker', $dbname);
			return $pid && (!$old || $pid != $old) ? $pid : 0;
		});
}

# kill -9 one process of the server; PostgreSQL restarts itself then.
sub kill_process
{
	my ($node, $pid) = @_;

	die "no such process" unless $pid && kill('KILL', $pid);
	wait_until("end of process $pid", sub { !kill(0, $pid) });
	return;
}

# kill -9 the postmaster, and wait until none of its children is left.
sub kill_postmaster
{
	my ($node) = @_;
	my $data = $node->data_dir;
	my ($pid) = -e "$data/postmaster.pid" ? slurp_file("$data/postmaster.pid") =~ /^(\d+)/ : ();

	$node->kill9;
	wait_until(
		'end of the children of the postmaster',
		sub {
			# All processes of a server live in its data directory; the dead,
			# buried or not, live nowhere.
			for my $link (glob('/proc/[0-9]*/cwd'))
			{
				my $cwd = readlink($link);
				return 0 if defined $cwd && $cwd eq $data;
			}

			# Where init is slow to bury the dead, the lock files' pid seems to live.
			return !$pid || !kill(0, $pid);
		});
	return;
}

# Start a server that died, by kill_postmaster or by itself.
sub start_again
{
	my ($node) = @_;

	kill_postmaster($node);
	$node->start;
	return;
}

# set_conf($node, 'dtm.enabled' => 'off', ...): reload, and wait until it holds.
sub set_conf
{
	my ($node, %settings) = @_;

	for my $name (sort keys %settings)
	{
		$node->safe_psql('postgres',
			defined $settings{$name}
			? "ALTER SYSTEM SET $name = '$settings{$name}'"
			: "ALTER SYSTEM RESET $name");
	}
	$node->reload;
	for my $name (grep { defined $settings{$_} } sort keys %settings)
	{
		# Units differ in writing; what counts is that no change is outstanding.
		wait_for($node,
			"SELECT count(*) FROM pg_file_settings f JOIN pg_settings s USING (name) WHERE f.name = '$name' AND f.applied AND s.source = 'configuration file'",
			'1');
	}
	return;
}

# Crash points, see src/debug_point.h: the first process to pass it kills the
# victim (self, worker, executor, backend, postmaster), once.
my $token = 0;

sub arm_point
{
	my ($node, $point, $victim) = @_;

	$token++;
	set_conf($node, 'dtm.debug_point' => "$point:$victim:$token");
	return $token;
}

sub wait_point
{
	my ($node, $token) = @_;

	return wait_until("crash point $token",
		sub { -e $node->data_dir . "/dtm_point.$token" });
}

# A saga of n steps against a stub, as SQL text: /1, /1/undo, /2, /2/undo, ...
sub stub_saga
{
	my ($stub, $gid, $n, $options) = @_;
	my @steps = map {
		sprintf("dtm.step('%s', '%s', '{\"step\": %d}')",
			$stub->url("/$_"), $stub->url("/$_/undo"), $_)
	} 1 .. $n;

	return sprintf("SELECT dtm.saga('%s', ARRAY[%s]%s)",
		$gid, join(', ', @steps), $options ? ", $options" : '');
}

package DtmTest::Stub;

use strict;
use warnings FATAL => 'all';

use File::Basename;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);

my @running;

# Options: certificate => file, key => file (then it speaks https).
sub new
{
	my ($class, %opt) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my @command = ('python3', '-u', dirname(__FILE__) . '/stub_server.py', "$dir/port");

	push @command, $opt{certificate}, $opt{key} if $opt{certificate};

	# It ends with our end of this pipe, that is, with us at the latest.
	my $pid = open(my $pipe, '|-', @command) or die "cannot start the stub: $!";
	my $deadline = time + 60;
	until (-s "$dir/port")
	{
		die "the stub did not start" if time > $deadline;
		sleep(0.01);
	}
	my $port = PostgreSQL::Test::Utils::slurp_file("$dir/port");
	my $self = bless {
		pid => $pid, pipe => $pipe, port => $port, dir => $dir,
		scheme => $opt{certificate} ? 'https' : 'http',
		http => HTTP::Tiny->new(timeout => 60, verify_SSL => 0, proxy => undef,
			http_proxy => undef, https_proxy => undef)
	}, $class;
	push @running, $self;
	return $self;
}

sub port { return $_[0]->{port}; }

sub url
{
	my ($self, $path) = @_;
	return "$self->{scheme}://127.0.0.1:$self->{port}" . (defined $path ? $path : '');
}

sub _control
{
	my ($self, $path, $data) = @_;
	my $answer = $self->{http}->request(
		$data ? 'POST' : 'GET',
		$self->url($path),
		$data ? { content => encode_json($data) } : {});

	die "the stub says $answer->{status}: $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content});
}

# program('/path', {status => 409}, {...}): in order; the last one stays. The
# path '*' is for all that have no program of their own.
sub program
{
	my ($self, $path, @answers) = @_;
	return $self->_control('/_program', { path => $path, answers => \@answers });
}

# Let calls that are held go on: n of them, or all, now and later.
sub release
{
	my ($self, $path, $calls) = @_;
	return $self->_control('/_release',
		{ path => $path, ($calls ? (calls => $calls) : ()) });
}

sub reset { return $_[0]->_control('/_reset', {}); }

# Calls as they arrived, each a hash; of one gid, if given.
sub journal
{
	my ($self, $gid) = @_;
	return $self->_control('/_journal' . (defined $gid ? '?' . $self->{http}->www_form_urlencode({ gid => $gid }) : ''));
}

# The same, short: ['01 action', '02 action', ...].
sub calls
{
	my ($self, $gid) = @_;
	return [ map { "$_->{branch_id} $_->{op}" } @{ $self->journal($gid) } ];
}

# {gid => {branch_id => [actions, compensations]}}, behind the barrier; or of one gid.
sub effects
{
	my ($self, $gid) = @_;
	my $all = $self->_control('/_effects');
	return defined $gid ? $all->{$gid} || {} : $all;
}

# Until n calls of the path have arrived.
sub wait_calls
{
	my ($self, $path, $n) = @_;
	my $seen;

	return DtmTest::wait_until(
		"$n calls of $path",
		sub {
			$seen = $self->_control('/_count?' . $self->{http}->www_form_urlencode({ path => $path }))->{calls};
			return $seen >= $n;
		}, \$seen);
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pipe};
	local $?;
	kill('KILL', $self->{pid});
	close(delete $self->{pipe});
	@running = grep { $_ != $self } @running;
	return;
}

END
{
	my $status = $?;
	$_->stop for @running;
	$? = $status;
}

1;
