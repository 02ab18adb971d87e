# CrashTest: sagas of all kinds while processes are killed, and what must hold
# afterwards. Used by t/030_crash_points.pl and t/031_random_kills.pl.
#
#   my $crash = CrashTest->new('points');
#   $crash->begin('burst', 'p1', 24);        # clients begin 24 sagas
#   ... kill something ...
#   $crash->recover;                         # start the server if it died
#   $crash->finish;                          # the clients have done their part
#   $crash->drain;                           # every saga has ended
#   $crash->check('p1', 'killed here');      # one test: all invariants of these sagas
#
# Two servers: "main", which is killed, with dtm, clients and SQL branches; and
# "shop", which lives, with the database of an HTTP participant.
package CrashTest;

use strict;
use warnings FATAL => 'all';

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

# How each kind of saga must end; the others may end either way.
my %ends = (
	ok => 'S', again => 'S', wait => 'S', conc => 'S', twophase => 'S',
	'told S' => 'S', 'told F' => 'F',
	refuse => 'F', sqlfail => 'F', concrefuse => 'F', stepsabort => 'F');
my %concurrent = (conc => 1, concrefuse => 1);

my $drain_timeout = 60;

sub new
{
	my ($class, $name, $conf) = @_;
	my $self = bless { label => {}, journal_at => 0, calls => {}, log_at => 0, saga => {} }, $class;

	# The short intervals are for the test to be short.
	$self->{main} = dtm_node("${name}_main", conf => <<'CONF' . ($conf || ''));
max_prepared_transactions = 20
shared_buffers = 32MB
wal_level = minimal
max_wal_senders = 0
include_if_exists = 'crash.conf'
dtm.launcher_interval = '200ms'
dtm.safety_interval = '500ms'
dtm.max_retry_interval = '1s'
dtm.retention_interval = '300ms'
dtm.max_in_flight_per_host = 16
CONF
	$self->{shop} = dtm_node("${name}_shop", conf => "dtm.enabled = off\n");
	$self->{dir} = PostgreSQL::Test::Utils::tempdir_short();

	# A second database with dtm: its worker can be killed, too.
	$self->{main}->safe_psql('postgres', 'CREATE DATABASE other');
	$self->{main}->safe_psql('other', 'CREATE EXTENSION dtm');
	$self->{shop}->safe_psql('postgres', <<'SQL');
CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO account VALUES ('a', 1000000), ('b', 1000000);
CREATE TABLE effect (gid text, branch_id text, op text, at timestamptz DEFAULT clock_timestamp());
SQL
	$self->{python} = python_with_psycopg2();
	my $port_file = "$self->{dir}/port";
	my $lib = dirname(__FILE__);
	open($self->{service}, '|-', $self->{python}, '-u', "$lib/crash_shop.py", $port_file,
		dsn($self->{shop}), "$self->{dir}/journal")
	  or die "cannot start the shop: $!";
	wait_until('the shop', sub { -s $port_file }) or die 'no shop';
	my $url = 'http://127.0.0.1:' . slurp_file($port_file);

	$self->{main}->safe_psql('postgres', <<"SQL");
CREATE ROLE customer LOGIN;
-- Executors run with this, too: their commits may be lost, but only with all that follows.
ALTER ROLE customer SET synchronous_commit = off;
SELECT dtm.grant_usage('customer'), dtm.allow('customer', '$url');
CREATE SCHEMA crash AUTHORIZATION customer;
SET ROLE customer;
CREATE TABLE crash.orders (gid text PRIMARY KEY);
CREATE TABLE crash.account (name text PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO crash.account VALUES ('l', 1000000);
CREATE TABLE crash.effect (gid text, branch_id text, op text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION crash.do_move(name text, amount bigint) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE mood float := random();
BEGIN
	IF mood < 0.03 THEN RAISE 'a bad day'; END IF;
	IF mood < 0.06 THEN PERFORM dtm.ongoing(); END IF;
	INSERT INTO crash.effect (gid, branch_id, op) SELECT gid, branch_id, op FROM dtm.current_branch();
	UPDATE crash.account a SET balance = balance + amount WHERE a.name = do_move.name;
	IF mood < 0.1 THEN RAISE 'a bad end'; END IF;
END \$\$;
CREATE FUNCTION crash.move(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT crash.do_move(payload->>'account', (payload->>'amount')::bigint) \$\$;
CREATE FUNCTION crash.maybe(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT dtm.fail('no') WHERE random() < 0.5; SELECT crash.move(payload) \$\$;
CREATE FUNCTION crash.move_back(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT crash.do_move(payload->>'account', -(payload->>'amount')::bigint) \$\$;
CREATE FUNCTION crash.refuse(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT dtm.fail('no') \$\$;
SQL

	pipe(my $from, my $answers) or die;
	$self->{answers} = $from;
	open(my $stdout, '>&', \*STDOUT) or die;
	open(STDOUT, '>&', $answers) or die;
	open($self->{clients}, '|-', $self->{python}, '-u', "$lib/crash_clients.py",
		dsn($self->{main}) . ' user=customer', $url, "$self->{dir}/log")
	  or die "cannot start the clients: $!";
	open(STDOUT, '>&', $stdout) or die;
	close($answers);
	$self->{clients}->autoflush(1);
	return $self;
}

sub dsn
{
	my ($node) = @_;
	return sprintf('host=%s port=%s dbname=postgres', $node->host, $node->port);
}

# The first python in the path need not be the one that has Debian's packages.
sub python_with_psycopg2
{
	for my $python ('python3', '/usr/bin/python3')
	{
		return $python if system("$python -c 'import psycopg2' 2>/dev/null") == 0;
	}
	die "no python3 has psycopg2: run script/setup";
}

sub main { return $_[0]->{main}; }

# Let the clients begin sagas, see crash_clients.py: ('burst', label, number) or
# ('flood', label, seconds).
sub begin
{
	my ($self, @command) = @_;

	print { $self->{clients} } "@command\n";
	$self->{busy} = 1;
	return;
}

# Have the clients done what they were told? Waits so many seconds for it.
sub done
{
	my ($self, $seconds) = @_;

	return 1 unless $self->{busy};
	my $bits = '';
	vec($bits, fileno($self->{answers}), 1) = 1;
	return 0 unless select($bits, undef, undef, $seconds);
	die "the clients have died" unless defined readline($self->{answers});
	$self->{busy} = 0;
	return 1;
}

sub finish
{
	my ($self) = @_;

	return if $self->done(150);
	fail('the clients came to no end');
	die 'giving up';
}

# Arm a crash point without asking the server, which may be dying.
my $token = 0;

sub arm
{
	my ($self, $point, $victim) = @_;

	$token++;
	$self->configure("dtm.debug_point = '$point:$victim:$token'");
	$self->{fired_file} = $self->{main}->data_dir . "/dtm_point.$token";
	return;
}

sub fired { return -e $_[0]->{fired_file}; }

sub configure
{
	my ($self, @lines) = @_;
	my $file = $self->{main}->data_dir . '/crash.conf';

	open(my $out, '>', "$file.new") or die;
	print $out map { "$_\n" } @lines;
	close($out);
	rename("$file.new", $file) or die;
	if (my $pid = $self->postmaster)
	{
		kill('HUP', $pid);
	}
	return;
}

sub postmaster
{
	my ($self) = @_;
	my $file = $self->{main}->data_dir . '/postmaster.pid';

	open(my $in, '<', $file) or return 0;
	my $pid = readline($in) || '';
	close($in);
	return $pid =~ /^(\d+)/ && kill(0, $1) ? $1 : 0;
}

# Start the server if its postmaster has died, by the test's hand or a point's.
sub recover
{
	my ($self, $victim) = @_;

	start_again($self->{main}) if $victim eq 'postmaster';
	return;
}

# Until every saga that was committed has ended.
sub drain
{
	my ($self, $what) = @_;
	my $deadline = time + $drain_timeout;
	my ($rc, $left, $error);

	while (time < $deadline)
	{
		($rc, $left, $error) = $self->{main}->psql('postgres',
			'SELECT count(*) FROM dtm.trans WHERE finished_at IS NULL');
		return 1 if defined $rc && $rc == 0 && $left eq '0';
		sleep(0.05);
	}
	fail("$what: all sagas end within $drain_timeout s");
	diag("left: " . ($left // '?') . ' ' . ($error // ''));
	($rc, $left, $error) = $self->{main}->psql('postgres',
		"SELECT now(), jsonb_pretty(dtm.query(gid)) FROM dtm.trans WHERE finished_at IS NULL ORDER BY id LIMIT 3");
	diag(($left // '') . ($error // ''));
	($rc, $left, $error) = $self->{main}->psql('postgres',
		"SELECT pid, datname, backend_type, state, wait_event, query FROM pg_stat_activity WHERE backend_type LIKE 'dtm%'");
	diag(($left // '') . ($error // ''));
	return 0;
}

# One test: everything that must hold for the sagas of this label, now that they
# have ended.
sub check
{
	my ($self, $label, $what) = @_;
	my $main = $self->{main};
	my (%saga, %row, %order, %effect, @wrong);

	$self->read_log;
	$self->read_journal;
	%saga = map { $_ => $self->{saga}{$_} } grep { /^\Q$label\E-/ } keys %{ $self->{saga} };
	push @wrong, grep { /^broken \Q$label\E / } @{ $self->{broken} || [] };

	$row{ $_->[0] } = $_ for rows($main,
		"SELECT t.gid, t.status, (SELECT count(*) FROM dtm.branch b WHERE b.id = t.id),"
		  . " (SELECT count(*) FROM dtm.op o WHERE o.id = t.id AND o.phase = 0 AND o.status = 'S')"
		  . " FROM dtm.trans t WHERE t.gid LIKE '$label-%'");
	$order{ $_->[0] } = 1 for rows($main, "SELECT gid FROM crash.orders WHERE gid LIKE '$label-%'");
	for my $node ($main, $self->{shop})
	{
		my $table = $node == $main ? 'crash.effect' : 'effect';
		push @{ $effect{ $_->[0] } }, $_ for rows($node,
			"SELECT gid, branch_id, op, extract(epoch FROM at) FROM $table WHERE gid LIKE '$label-%' ORDER BY at");
	}

	push @wrong, "$_: nobody began it" for grep { !$saga{$_} } keys %row, keys %effect;
	for my $gid (sort keys %saga)
	{
		my @problems = problems($saga{$gid}, $row{$gid}, $order{$gid}, $effect{$gid} || [],
			$self->{calls}{$gid} || 0);
		push @wrong, "$gid ($saga{$gid}{kind}, $saga{$gid}{state}): " . join('; ', @problems)
		  if @problems;
	}
	my $acked = grep { $_->{state} eq 'acked' } values %saga;
	my $unknown = grep { $_->{state} eq 'try' } values %saga;
	my $rolledback = grep { $_->{state} eq 'rolledback' } values %saga;

	is(scalar @wrong, 0,
		"$what: $acked sagas acknowledged, $unknown perhaps, $rolledback rolled back; all right");
	diag(join("\n", @wrong > 20 ? (@wrong[ 0 .. 19 ], '...') : @wrong)) if @wrong;
	if (my ($gid) = @wrong ? $wrong[0] =~ /^(\S+) \(/ : ())
	{
		diag(join("\n", map { "@$_" } sort { $a->[3] <=> $b->[3] } @{ $effect{$gid} || [] }));
		my ($rc, $out) = $main->psql('postgres', "SELECT jsonb_pretty(dtm.query('$gid'))");
		diag($out);
	}
	return @wrong == 0;
}

sub rows
{
	my ($node, $query) = @_;
	return map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', $query);
}

# What is wrong with one saga; nothing, one hopes.
sub problems
{
	my ($saga, $row, $order, $effects, $calls) = @_;
	my (@wrong, %count, %last);

	push @wrong, 'acknowledged, and lost' if $saga->{state} eq 'acked' && !$row;
	push @wrong, 'rolled back, and there' if $saga->{state} eq 'rolledback' && $row;
	push @wrong, 'one of the order and the saga is there without the other' if !$order != !$row;
	unless ($row)
	{
		push @wrong, "$calls calls of what was never committed" if $calls;
		push @wrong, scalar(@$effects) . ' effects of what was never committed' if @$effects;
		return @wrong;
	}

	my ($gid, $status, $branches, $succeeded) = @$row;
	my $end = $ends{ $saga->{kind} };
	# It may have been cut short before all its branches were there.
	$end = undef if $saga->{kind} =~ /^steps/;
	push @wrong, "ended as $status" if $status !~ /^[SF]$/ || ($end && $status ne $end);

	$count{"$_->[1] $_->[2]"}++ for @$effects;
	for my $i (1 .. $branches)
	{
		my $branch = sprintf('%02d', $i);
		my $done = $count{"$branch action"} || 0;
		my $undone = $count{"$branch compensate"} || 0;

		push @wrong, "branch $branch: $done times done, $undone times undone"
		  unless $status eq 'S' ? ($done == 1 && $undone == 0) : ($done <= 1 && $undone == $done);
	}
	push @wrong, "$succeeded of $branches ops are recorded" if $status eq 'S' && $succeeded != $branches;

	return @wrong if $concurrent{ $saga->{kind} };
	my ($back, $branch) = (0, '');
	for my $effect (sort { $a->[3] <=> $b->[3] } @$effects)
	{
		if ($effect->[2] eq 'action')
		{
			push @wrong, 'done after something was undone' if $back;
			push @wrong, "branch $effect->[1] done after $branch" if $effect->[1] le $branch;
		}
		else
		{
			push @wrong, "branch $effect->[1] undone after $branch"
			  if $back && $effect->[1] ge $branch;
			$back = 1;
		}
		$branch = $effect->[1];
	}
	return @wrong;
}

# What the clients know.
sub read_log
{
	my ($self) = @_;

	for my $line ($self->new_lines('log', \$self->{log_at}))
	{
		my ($state, $gid, $kind) = split / /, $line, 3;
		if ($state eq 'broken')
		{
			push @{ $self->{broken} }, $line;
			next;
		}
		$self->{saga}{$gid} = { state => $state, kind => $kind };
	}
	return;
}

# Whom the participant saw.
sub read_journal
{
	my ($self) = @_;

	$self->{calls}{ (split / /)[1] }++ for $self->new_lines('journal', \$self->{journal_at});
	return;
}

sub new_lines
{
	my ($self, $name, $at) = @_;

	open(my $in, '<', "$self->{dir}/$name") or return;
	seek($in, $$at, 0);
	my @lines = <$in>;
	$$at = tell($in);
	close($in);
	chomp(@lines);
	return @lines;
}

# The last tests: the sums, retention, the server's log.
sub conclude
{
	my ($self) = @_;
	my $main = $self->{main};
	my $money = 0;

	$money += $main->safe_psql('postgres', 'SELECT sum(balance) FROM crash.account');
	$money += $self->{shop}->safe_psql('postgres', 'SELECT sum(balance) FROM account');
	is($money, 3000000, 'the money adds up');
	is($main->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0,
		'no prepared transaction is left');

	my $sagas = $main->safe_psql('postgres', 'SELECT count(*) FROM dtm.trans');
	$main->safe_psql('postgres', <<'SQL');
UPDATE dtm.trans SET created_at = created_at - interval '8 days', finished_at = finished_at - interval '8 days';
SQL
	ok( wait_for($main, <<'SQL', '0'), "$sagas old sagas are deleted with all their rows");
SELECT (SELECT count(*) FROM dtm.trans) + (SELECT count(*) FROM dtm.branch) + (SELECT count(*) FROM dtm.op)
SQL
	unlike(slurp_file($main->logfile), qr/PANIC|TRAP|terminated by signal (4|6|7|8|11)/,
		'nobody died but by our hand');
	close($self->{clients});
	close($self->{service});
	$main->stop;
	$self->{shop}->stop;
	return;
}

1;
