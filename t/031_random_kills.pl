# Clients begin transactions of all modes as fast as they can, while processes are
# killed, ended, frozen and restarted at random moments, and dtm is switched off and
# on.
#
# CRASH_SECONDS says for how long, CRASH_SEED repeats a choice of events.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use CrashTest;
use DtmTest;

my $seconds = $ENV{CRASH_SECONDS} || 25;
my $seed = $ENV{CRASH_SEED} || int(rand(1 << 31));
my $period = 10;

note("CRASH_SEED=$seed");
srand($seed);

my $crash = CrashTest->new('random', "dtm.workers_per_database = 2\n");
my $main = $crash->main;
my %happened;
my $enabled = 1;

# What may happen, and how often compared to the others.
my @events = (
	[ 4, 'kill worker' => sub { signal('KILL', 'dtm worker') } ],
	[ 4, 'kill executor' => sub { signal('KILL', 'dtm executor') } ],
	[ 3, 'kill client backend' => sub { signal('KILL', 'customer postgres') } ],
	[ 1, 'kill launcher' => sub { signal('KILL', 'dtm launcher') } ],
	[ 1, 'kill checkpointer' => sub { signal('KILL', 'checkpointer') } ],
	[ 3, 'kill postmaster' => sub { start_again($main); 1 } ],
	[ 5, 'end worker' => sub { signal('TERM', 'dtm worker') } ],
	[ 5, 'end executor' => sub { signal('TERM', 'dtm executor') } ],
	[ 3, 'end launcher' => sub { signal('TERM', 'dtm launcher') } ],
	[ 5, 'end client backend' => sub { signal('TERM', 'customer postgres') } ],
	[ 2, 'cancel executor' => sub { signal('INT', 'dtm executor') } ],
	[ 3, 'freeze worker' => sub { freeze('dtm worker') } ],
	[ 2, 'freeze executor' => sub { freeze('dtm executor') } ],
	[ 2, 'switch' => \&switch ],
	[ 2, 'reload' => sub { $crash->configure(settings(), "dtm.max_in_flight = " . (8 + int(rand(90)))); 1 } ],
	[ 1, 'restart' => sub { $main->restart; 1 } ],
	[ 1, 'immediate stop' => sub { $main->stop('immediate'); $main->start; 1 } ]);

my $end = time + $seconds;
my $n = 0;
while (time < $end)
{
	my $label = sprintf('f%d', ++$n);
	my $left = $end - time;
	my $length = $left < 1.5 * $period ? $left : $period;

	%happened = ();
	$crash->begin('flood', $label, sprintf('%.1f', $length));
	until ($crash->done(0.05 + rand(0.9)))
	{
		happen();
	}
	$enabled = 1;
	$crash->configure(settings());
	my $what = join(', ', map { "$_ x $happened{$_}" } sort keys %happened) || 'nothing';
	$crash->drain($what) or BAIL_OUT('what does not end would spoil the rest');
	$crash->check($label, $what);
}
$crash->conclude;
done_testing();

sub happen
{
	my $sum = 0;
	my $event;

	$sum += $_->[0] for @events;
	my $at = rand($sum);
	for (@events)
	{
		$event = $_;
		last if ($at -= $_->[0]) < 0;
	}
	$happened{ $event->[1] }++ if $event->[2]->();
	return;
}

sub settings
{
	return 'dtm.enabled = ' . ($enabled ? 'on' : 'off');
}

sub switch
{
	$enabled = !$enabled;
	$crash->configure(settings());
	return 1;
}

# Processes of the main server whose title says this. It may be dying: no SQL.
sub pids
{
	my ($title) = @_;
	my $data = $main->data_dir;
	my @pids;

	for my $dir (glob('/proc/[0-9]*'))
	{
		my $cwd = readlink("$dir/cwd");
		next unless defined $cwd && $cwd eq $data;
		open(my $in, '<', "$dir/cmdline") or next;
		my $line = readline($in) || '';
		push @pids, $dir =~ /(\d+)$/ if $line =~ /^postgres: .*$title/;
	}
	return @pids;
}

sub signal
{
	my ($signal, $title) = @_;
	my @pids = pids($title);

	return @pids ? kill($signal, $pids[ rand(@pids) ]) : 0;
}

sub freeze
{
	my ($title) = @_;
	my @pids = pids($title) or return 0;
	my $pid = $pids[ rand(@pids) ];

	kill('STOP', $pid) or return 0;
	sleep(rand(0.6));
	kill('CONT', $pid);
	return 1;
}
