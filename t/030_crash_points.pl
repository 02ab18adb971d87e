# Each process dies at each named point, and nothing is lost, nothing done twice.
#
# A point is armed, clients begin transactions until it goes off, the server
# recovers (by itself, or started again when the postmaster was the victim), the
# clients go on meanwhile, and everything must end right.
#
# Which group of kinds is begun (see CrashModes.pm) goes round with points and
# victims, so that each point meets most groups that get there, and each group
# most points. CRASH_MODES=all begins each of them in turn, another value those
# that match.
#
# CRASH_POINTS and CRASH_VICTIMS (regular expressions) choose some of them;
# CRASH_ROUNDS repeats; three rounds let every victim die at every point.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use CrashTest;
use DtmTest;

# Each point, and the groups that get there.
my @all = qw(saga tcc own msg asked xa result remote);
my @begun = (@all, 'flow');
my @executor = qw(saga confirm tcc cancel msg asked result);
my @points = (
	[ 'backend-before-insert', @begun ], [ 'backend-after-insert', qw(saga tcc msg result flow remote) ],
	[ 'backend-before-commit', @begun ], [ 'backend-after-commit', @begun ], [ 'backend-after-send', @begun ],
	[ 'backend-after-prepare', qw(saga tcc msg) ], [ 'backend-after-commit-prepared', qw(tcc msg saga) ],
	[ 'backend-command-written', qw(own asked xa saga tcc flow) ],
	[ 'worker-after-load', @begun ],
	[ 'worker-try-sent', 'tcc' ], [ 'worker-try-answered', 'tcc' ],
	[ 'worker-check-sent', qw(asked flow) ], [ 'worker-check-answered', qw(flow asked) ],
	[ 'worker-action-sent', @all ], [ 'worker-job-given', @executor ], [ 'worker-action-answered', @all ],
	[ 'worker-change-written', @all ], [ 'worker-before-marks', @all ], [ 'worker-after-marks', @all ],
	[ 'worker-before-decision', @all ], [ 'worker-after-decision', @all ],
	[ 'worker-compensate-sent', qw(saga tcc own xa result) ], [ 'worker-compensate-answered', qw(result xa own tcc saga) ],
	[ 'worker-ending-answered', 'ending' ],
	[ 'worker-before-telling', @all ],
	[ 'worker-before-retention-commit', @all ], [ 'worker-after-retention-commit', @all ],
	[ 'executor-job-taken', @executor ], [ 'executor-op-locked', @executor ],
	[ 'executor-function-done', @executor ], [ 'executor-before-commit', @executor ],
	[ 'executor-ending-run', 'ending' ],
	[ 'executor-after-commit', @executor ], [ 'executor-result-told', @executor ],
	[ 'launcher-before-start', @all ], [ 'launcher-after-start', @all ]);
my @victims = qw(worker executor backend postmaster);

# A point that is in the code, and not in this list, would never be tried.
my %in_code = map { $_ => 1 } map { slurp_file($_) =~ /"((?:backend|worker|executor|launcher)-[a-z-]+)"/g } glob('src/*.c');
is_deeply([ sort map { $_->[0] } @points ], [ sort keys %in_code ], 'every point of the code is in the list');
my $modes = $ENV{CRASH_MODES} || '';
my @often = grep { $_->[0] =~ /after-load|action-answered|before-decision|function-done|executor-after-commit|before-start/ } @points;

@points = grep { $_->[0] =~ /$ENV{CRASH_POINTS}/ } @points if $ENV{CRASH_POINTS};
@often = grep { $_->[0] =~ /$ENV{CRASH_POINTS}/ } @often if $ENV{CRASH_POINTS};
@victims = grep { /$ENV{CRASH_VICTIMS}/ } @victims if $ENV{CRASH_VICTIMS};

my $crash = CrashTest->new('points');
my $main = $crash->main;
my $n = 0;

for my $round (1 .. $ENV{CRASH_ROUNDS} || 1)
{
	for my $p (0 .. $#points)
	{
		my ($point, @groups) = @{ $points[$p] };

		for my $v (victims_of($p + $round - 1))
		{
			crash_at($point, $victims[$v], $_) for whom($p + $v + $round - 1, @groups);
		}
	}
}
for my $p (grep { $victims[0] eq 'worker' } 0 .. $#often)
{
	my ($point, @groups) = @{ $often[$p] };

	crash_often($point, 'worker', 'burst', 32, $_) for whom($p, @groups);
}

# With nobody else to make it durable, a decision or a result that a call has
# followed is there again, although those who were asked for it would now say
# something else.
for (grep { $victims[0] eq 'worker' && (!$ENV{CRASH_POINTS} || $_->[0] =~ /$ENV{CRASH_POINTS}/) }
	[ 'worker-compensate-answered', 'sagaalone' ], [ 'worker-compensate-answered', 'tccalone' ],
	[ 'worker-action-answered', 'tccalone' ], [ 'worker-before-decision', 'resultalone' ])
{
	crash_often($_->[0], 'worker', 'alone', 6, $_->[1]) if $modes eq '' || $modes eq 'all' || $_->[1] =~ /$modes/;
}
$crash->conclude;
done_testing();

# The worker dies at every point, and one of the others in turn; all of them when
# anything is chosen. Any of these deaths restarts the whole server.
sub victims_of
{
	my ($turn) = @_;

	return 0 .. $#victims if $modes ne '' || $ENV{CRASH_POINTS} || $ENV{CRASH_VICTIMS};
	return (0, 1 + $turn % $#victims);
}

# The turn of one of these groups, or whom CRASH_MODES names.
sub whom
{
	my ($turn, @groups) = @_;

	return $groups[ $turn % @groups ] if $modes eq '';
	return grep { $modes eq 'all' || /$modes/ } @groups;
}

sub crash_at
{
	my ($point, $victim, $group) = @_;
	my $what = "$point kills $victim, $group";
	my $label = sprintf('r%d', ++$n);
	my $deadline = time + 60;
	my $began = time;
	my $launched = 0;
	my $early = rand() < 0.5;
	my @burst = ('burst', $label, 32);
	my $maybe = "${group}maybe";

	# What is decided, and not yet known, shows best when the next answer differs.
	push @burst, $point =~ /decision|compensate|change|telling/ && $CrashModes::group{$maybe} ? $maybe : $group;
	# There is no executor to be killed without a branch that needs one.
	push @burst, 'msg' if $victim eq 'executor' && $group =~ /^(xa|flow)$/;

	# At the first of it, or in the middle of many.
	$crash->arm($point, $victim) if $early;
	$crash->begin(@burst);
	unless ($early)
	{
		sleep(rand(0.1));
		$crash->arm($point, $victim);
	}
	until ($crash->fired)
	{
		# A worker that is started is what the launcher's points need.
		if ($point =~ /^launcher/ && time > $launched + 0.5)
		{
			$main->psql('other', <<'SQL');
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND datname = current_database();
SQL
			$launched = time;
		}
		if (time > $deadline)
		{
			fail("$what: it never went off");
			last;
		}
		$crash->begin(@burst) if $crash->done(0.01);
	}
	my $fired = time;
	$crash->recover($victim);
	$crash->finish;
	my $finished = time;
	$crash->drain($what) or BAIL_OUT('what does not end would spoil the rest');
	my $drained = time;
	$crash->check($label, $what);
	note(sprintf('fired %.1f, finished %.1f, drained %.1f, checked %.1f',
		$fired - $began, $finished - $fired, $drained - $finished, time - $drained));
	return;
}

# Every time that anybody gets there, so also during what follows a crash.
sub crash_often
{
	my ($point, $victim, $command, $number, $group) = @_;
	my $what = "$point kills $victim for two seconds, $group";
	my $label = sprintf('r%d', ++$n);

	$crash->configure("dtm.debug_point = '$point:$victim'");
	$crash->begin($command, $label, $number, $group);
	sleep(2);
	$crash->configure('');
	$crash->finish;
	$crash->drain($what) or BAIL_OUT('what does not end would spoil the rest');
	$crash->check($label, $what);
	return;
}
