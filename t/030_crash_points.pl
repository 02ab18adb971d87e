# Each process dies at each named point, and nothing is lost, nothing done twice.
#
# A point is armed, clients begin sagas of all kinds until it goes off, the server
# recovers (by itself, or started again when the postmaster was the victim), the
# clients go on meanwhile, and every saga must end right.
#
# CRASH_POINTS and CRASH_VICTIMS (regular expressions) choose some of them;
# CRASH_ROUNDS repeats.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use CrashTest;
use DtmTest;

my @points = qw(
  backend-before-insert backend-after-insert backend-before-commit
  backend-after-commit backend-after-send backend-after-prepare
  backend-after-commit-prepared backend-command-written
  worker-after-load worker-action-sent worker-job-given worker-action-answered
  worker-change-written worker-before-marks worker-after-marks
  worker-before-decision worker-after-decision worker-compensate-sent
  worker-compensate-answered worker-before-telling
  worker-before-retention-commit worker-after-retention-commit
  executor-job-taken executor-op-locked executor-function-done
  executor-before-commit executor-after-commit executor-result-told
  launcher-before-start launcher-after-start);
my @victims = qw(worker executor backend postmaster);

@points = grep { /$ENV{CRASH_POINTS}/ } @points if $ENV{CRASH_POINTS};
@victims = grep { /$ENV{CRASH_VICTIMS}/ } @victims if $ENV{CRASH_VICTIMS};

my $crash = CrashTest->new('points');
my $main = $crash->main;
my $n = 0;

for my $round (1 .. $ENV{CRASH_ROUNDS} || 1)
{
	for my $point (@points)
	{
		crash_at($point, $_) for @victims;
	}
}
for my $point (grep { /after-load|action-answered|before-decision|function-done|executor-after-commit|before-start/ } @points)
{
	crash_often($point, $_) for grep { /worker/ } @victims;
}
$crash->conclude;
done_testing();

sub crash_at
{
	my ($point, $victim) = @_;
	my $label = sprintf('r%d', ++$n);
	my $deadline = time + 60;
	my $began = time;
	my $launched = 0;
	my $early = rand() < 0.5;
	my @burst = ('burst', $label, 32);

	# What is decided, and not yet known, shows best when the next answer differs.
	push @burst, 'maybe,maybewait,sqlmaybe' if $point =~ /decision|compensate|change|telling/;


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
			fail("$point kills $victim: it never went off");
			last;
		}
		$crash->begin(@burst) if $crash->done(0.01);
	}
	my $fired = time;
	$crash->recover($victim);
	$crash->finish;
	my $finished = time;
	$crash->drain("$point kills $victim") or BAIL_OUT('sagas that do not end would spoil the rest');
	my $drained = time;
	$crash->check($label, "$point kills $victim");
	note(sprintf('fired %.1f, finished %.1f, drained %.1f, checked %.1f',
		$fired - $began, $finished - $fired, $drained - $finished, time - $drained));
	return;
}

# Every time that anybody gets there, so also during what follows a crash.
sub crash_often
{
	my ($point, $victim) = @_;
	my $label = sprintf('r%d', ++$n);

	$crash->configure("dtm.debug_point = '$point:$victim'");
	$crash->begin('burst', $label, 32);
	sleep(2);
	$crash->configure('');
	$crash->finish;
	$crash->drain("$point kills $victim for two seconds")
	  or BAIL_OUT('sagas that do not end would spoil the rest');
	$crash->check($label, "$point kills $victim for two seconds");
	return;
}
