# CrashTest: transactions of all kinds while processes are killed, and what must
# hold afterwards. Used by t/030_crash_points.pl and t/031_random_kills.pl. What
# there is to begin, and how it must end, is in CrashModes.pm.
#
#   my $crash = CrashTest->new('points');
#   $crash->begin('burst', 'p1', 24, 'tcc', 'xa');   # clients begin 24 of these groups
#   ... kill something ...
#   $crash->recover;                         # start the server if it died
#   $crash->finish;                          # the clients have done their part
#   $crash->drain;                           # every transaction has ended
#   $crash->check('p1', 'killed here');      # one test: all invariants of these
#
# Two servers: "main", which is killed, with dtm, clients and SQL branches; and
# "shop", which lives, with the database of an HTTP participant.
package CrashTest;

use strict;
use warnings FATAL => 'all';

use File::Basename;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use CrashModes;
use DtmTest;

my $drain_timeout = 60;

sub new
{
	my ($class, $name, $conf) = @_;
	my $self = bless { label => {}, journal_at => 0, calls => {}, log_at => 0, began => {} }, $class;

	# The short intervals are for the test to be short.
	$self->{main} = dtm_node("${name}_main", conf => <<'CONF' . ($conf || ''));
max_prepared_transactions = 20
shared_buffers = 32MB
wal_level = minimal
max_wal_senders = 0
# What is committed asynchronously is lost, unless somebody else's commit saves it.
wal_writer_delay = '10s'
include_if_exists = 'crash.conf'
dtm.launcher_interval = '200ms'
dtm.safety_interval = '500ms'
dtm.max_retry_interval = '1s'
dtm.retention_interval = '300ms'
dtm.max_in_flight_per_host = 16
CONF
	$self->{shop} = dtm_node("${name}_shop", conf => <<'CONF');
dtm.enabled = off
max_prepared_transactions = 100
CONF
	# Only who says a password may come from there.
	my $hba = $self->{shop}->data_dir . '/pg_hba.conf';
	my $rest = slurp_file($hba);
	unlink($hba);
	append_to_file($hba, "local all remote scram-sha-256\n$rest");
	$self->{shop}->reload;
	$self->{dir} = PostgreSQL::Test::Utils::tempdir_short();

	# A second database with dtm: its worker can be killed, too.
	$self->{main}->safe_psql('postgres', 'CREATE DATABASE other');
	$self->{main}->safe_psql('other', 'CREATE EXTENSION dtm');
	$self->{shop}->safe_psql('postgres', <<'SQL');
CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL, held bigint NOT NULL DEFAULT 0);
INSERT INTO account VALUES ('a', 1000000), ('b', 1000000);
-- What two phases write waits in nobody's way.
CREATE TABLE ledger (name text, amount bigint NOT NULL);
CREATE TABLE business (gid text PRIMARY KEY);
CREATE TABLE effect (gid text, branch_id text, op text, token text, at timestamptz DEFAULT clock_timestamp());
CREATE ROLE remote LOGIN PASSWORD 'open-sesame';
SELECT dtm.grant_usage('remote');
CREATE SCHEMA shop AUTHORIZATION remote;
GRANT ALL ON account, effect TO remote;
SET ROLE remote;
CREATE FUNCTION shop.move(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	mood float := random();
	amount bigint := payload->>'amount';
	now record;
BEGIN
	SELECT * INTO now FROM dtm.current_branch();
	IF mood < 0.03 THEN RAISE 'a bad day'; END IF;
	IF mood < 0.06 THEN PERFORM dtm.ongoing(); END IF;
	INSERT INTO public.effect (gid, branch_id, op) VALUES (now.gid, now.branch_id, now.op);
	UPDATE public.account a
	SET balance = balance + CASE WHEN now.op IN ('action', 'confirm') THEN amount WHEN now.op = 'compensate' THEN -amount ELSE 0 END,
		held = held + CASE WHEN now.op = 'try' THEN amount WHEN now.op IN ('confirm', 'cancel') THEN -amount ELSE 0 END
	WHERE a.name = payload->>'account';
	IF mood < 0.1 THEN RAISE 'a bad end'; END IF;
END $$;
CREATE FUNCTION shop.maybe(payload jsonb) RETURNS void LANGUAGE sql AS
	$$ SELECT dtm.fail('no') WHERE random() < 0.5; SELECT shop.move(payload) $$;
SQL
	$self->{python} = python_with_psycopg2();
	my $port_file = "$self->{dir}/port";
	my $lib = dirname(__FILE__);
	open($self->{service}, '|-', $self->{python}, '-u', "$lib/crash_shop.py", $port_file,
		dsn($self->{shop}), "$self->{dir}/journal", dsn($self->{main}) . ' user=customer')
	  or die "cannot start the shop: $!";
	wait_until('the shop', sub { -s $port_file }) or die 'no shop';
	my $url = 'http://127.0.0.1:' . slurp_file($port_file);

	$self->{main}->safe_psql('postgres', <<"SQL");
CREATE ROLE customer LOGIN;
-- Executors run with this, too: their commits may be lost, but only with all that follows.
ALTER ROLE customer SET synchronous_commit = off;
SELECT dtm.grant_usage('customer'), dtm.allow('customer', '$url');
CREATE EXTENSION postgres_fdw;
CREATE SERVER shop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (@{[ server_options($self->{shop}) ]});
GRANT USAGE ON FOREIGN SERVER shop TO customer;
CREATE USER MAPPING FOR customer SERVER shop OPTIONS (user 'remote', password 'open-sesame');
CREATE SCHEMA crash AUTHORIZATION customer;
SET ROLE customer;
CREATE TABLE crash.orders (gid text PRIMARY KEY);
CREATE TABLE crash.ended (gid text, status "char");
CREATE TABLE crash.account (name text PRIMARY KEY, balance bigint NOT NULL, held bigint NOT NULL DEFAULT 0);
INSERT INTO crash.account VALUES ('l', 1000000);
CREATE TABLE crash.effect (gid text, branch_id text, op text, token text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION crash.do(gid text, branch_id text, op text, payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	mood float := random();
	amount bigint := payload->>'amount';
BEGIN
	IF mood < 0.03 THEN RAISE 'a bad day'; END IF;
	IF mood < 0.06 THEN PERFORM dtm.ongoing(); END IF;
	INSERT INTO crash.effect (gid, branch_id, op, token) VALUES (gid, branch_id, op, payload->>'token');
	UPDATE crash.account a
	SET balance = balance + CASE WHEN op IN ('action', 'confirm') THEN amount WHEN op IN ('compensate', 'rollback') THEN -amount ELSE 0 END,
		held = held + CASE WHEN op = 'try' THEN amount WHEN op IN ('confirm', 'cancel') THEN -amount ELSE 0 END
	WHERE a.name = payload->>'account';
	IF mood < 0.1 THEN RAISE 'a bad end'; END IF;
END \$\$;
CREATE FUNCTION crash.move(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT crash.do(gid, branch_id, op, payload) FROM dtm.current_branch() \$\$;
CREATE FUNCTION crash.maybe(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT dtm.fail('no') WHERE random() < 0.5; SELECT crash.move(payload) \$\$;
CREATE FUNCTION crash.refuse(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT dtm.fail('no') \$\$;
-- Where the application tries, what comes when is not dtm's to know.
CREATE FUNCTION crash.behind_barrier(gid text, branch_id text, op text, payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF dtm.barrier('tcc', gid, branch_id, op) THEN
		PERFORM crash.do(gid, branch_id, op, payload);
	END IF;
END \$\$;
CREATE FUNCTION crash.own(payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT crash.behind_barrier(gid, branch_id, op, payload) FROM dtm.current_branch() \$\$;
CREATE FUNCTION crash.try(gid text, branch_id text, payload jsonb) RETURNS void LANGUAGE sql AS
	\$\$ SELECT crash.behind_barrier(gid, branch_id, 'try', payload) \$\$;
RESET ROLE;
SELECT dtm.subscribe('crash.news', 'sql:crash.move'), dtm.subscribe('crash.news', '$url/move');
SQL
	$self->{kind} = CrashModes::kinds($url);
	append_to_file("$self->{dir}/kinds", encode_json($self->{kind}));

	pipe(my $from, my $answers) or die;
	$self->{answers} = $from;
	open(my $stdout, '>&', \*STDOUT) or die;
	open(STDOUT, '>&', $answers) or die;
	open($self->{clients}, '|-', $self->{python}, '-u', "$lib/crash_clients.py",
		dsn($self->{main}) . ' user=customer', $url, "$self->{dir}/log", "$self->{dir}/kinds")
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

sub server_options
{
	my ($node) = @_;
	return sprintf("host '%s', port '%s', dbname 'postgres'", $node->host, $node->port);
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

# Let the clients begin something, see crash_clients.py: ('burst' or 'alone', label,
# number, group, ...) or ('flood', label, seconds, group, ...); without a group: all
# kinds.
sub begin
{
	my ($self, $command, $label, $number, @groups) = @_;
	my %chosen = map { $_ => 1 } map { @{ $CrashModes::group{$_} } } @groups;
	my @kinds = sort keys %{ @groups ? \%chosen : $self->{kind} };

	print { $self->{clients} } "$command $label $number " . join(',', @kinds) . "\n";
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

# Until everything that was committed has ended.
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
	fail("$what: all end within $drain_timeout s");
	diag("left: " . ($left // '?') . ' ' . ($error // ''));
	($rc, $left, $error) = $self->{main}->psql('postgres',
		"SELECT now(), jsonb_pretty(dtm.query(gid)) FROM dtm.trans WHERE finished_at IS NULL ORDER BY id LIMIT 3");
	diag(($left // '') . ($error // ''));
	($rc, $left, $error) = $self->{main}->psql('postgres',
		"SELECT pid, datname, backend_type, state, wait_event, query FROM pg_stat_activity WHERE backend_type LIKE 'dtm%'");
	diag(($left // '') . ($error // ''));
	return 0;
}

# One test: everything that must hold for what has this label, now that it has
# ended.
sub check
{
	my ($self, $label, $what) = @_;
	my $main = $self->{main};
	my (%seen, @wrong);

	$self->read_log;
	$self->read_journal;
	my %began = map { $_ => $self->{began}{$_} } grep { /^\Q$label\E-/ } keys %{ $self->{began} };
	push @wrong, grep { /^broken \Q$label\E / } @{ $self->{broken} || [] };

	$seen{$_}{calls} = $self->{calls}{$_} || 0 for keys %began;
	$self->read_tables($label, \%seen);
	push @{ $seen{ $_->[0] }{problems} }, $_->[1] for $self->own_checks($label, \%began);

	push @wrong, "$_: nobody began it" for grep { !$began{$_} } sort keys %seen;
	for my $gid (sort keys %began)
	{
		my $kind = $self->{kind}{ $began{$gid}{kind} };
		my @problems = (problems($kind, $began{$gid}{state}, $seen{$gid}), @{ $seen{$gid}{problems} || [] });
		push @wrong, "$gid ($began{$gid}{kind}, $began{$gid}{state}): " . join('; ', @problems)
		  if @problems;
	}
	my $of = sub { my ($which) = @_; return scalar grep { $_->{state} =~ $which } values %began; };
	is(scalar @wrong, 0, sprintf('%s: %d acknowledged, %d perhaps, %d rolled back; %s; all right', $what,
			$of->(qr/acked|S|F/), $of->(qr/try/), $of->(qr/rolledback/), ends(values %seen)));
	diag(join("\n", @wrong > 20 ? (@wrong[ 0 .. 19 ], '...') : @wrong)) if @wrong;
	if (my ($gid) = @wrong ? $wrong[0] =~ /^(\S+) \(/ : ())
	{
		diag("$_->{at} $_->{branch} $_->{op}") for sort { $a->{at} <=> $b->{at} } @{ $seen{$gid}{effects} || [] };
		my ($rc, $out) = $main->psql('postgres', "SELECT jsonb_pretty(dtm.query('$gid'))");
		diag($out);
	}
	return @wrong == 0;
}

# What is in the tables of both servers, for each gid of this label.
sub read_tables
{
	my ($self, $label, $seen) = @_;
	my $like = "gid LIKE '$label-%'";
	my $effects = "SELECT 'effect', gid, branch_id, op, extract(epoch FROM at), token FROM";
	my @main = (
		"SELECT 'trans', gid, status, (SELECT string_agg(branch_id, ' ' ORDER BY branch) FROM dtm.branch b WHERE b.id = t.id),"
		  . " (SELECT count(*) FROM dtm.op o WHERE o.id = t.id AND phase = 0 AND branch >= 0 AND o.status = 'S'),"
		  . " (SELECT convert_from(result, 'UTF8')::jsonb->>'token' FROM dtm.op o WHERE o.id = t.id AND branch = 0 AND phase = 0)"
		  . " FROM dtm.trans t WHERE $like",
		"SELECT 'order', gid FROM crash.orders WHERE $like",
		"$effects crash.effect WHERE $like");
	my @shop = (
		"SELECT 'business', gid FROM business WHERE $like",
		"SELECT 'prepared', split_part(gid, ' ', 1), split_part(gid, ' ', 2) FROM pg_prepared_xacts WHERE $like",
		"$effects effect WHERE $like");

	for (rows($self->{main}, join('; ', @main)), rows($self->{shop}, join('; ', @shop)))
	{
		my ($what, $gid, @values) = @$_;
		my $one = $seen->{$gid} ||= {};

		if ($what eq 'trans')
		{
			@$one{qw(status recorded token)} = @values[ 0, 2, 3 ];
			$one->{branches} = [ split / /, $values[1] || '' ];
		}
		elsif ($what eq 'effect')
		{
			push @{ $one->{effects} },
			  { branch => $values[0], op => $values[1], at => $values[2], token => $values[3] || '' };
		}
		elsif ($what eq 'prepared')
		{
			push @{ $one->{problems} }, "branch $values[0] is left prepared";
		}
		else
		{
			$one->{$what} = 1;
		}
	}
	return;
}

sub rows
{
	my ($node, $query) = @_;
	return map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', $query);
}

# What the queries of those kinds that have one say: [gid, problem] each.
sub own_checks
{
	my ($self, $label, $began) = @_;
	my @found;

	for my $kind (grep { $self->{kind}{$_}{check} } sort keys %{ $self->{kind} })
	{
		push @found, grep { exists $began->{ $_->[0] } && $began->{ $_->[0] }{kind} eq $kind }
		  rows($self->{main},
			"SELECT * FROM ($self->{kind}{$kind}{check}) AS c (gid, problem) WHERE gid LIKE '$label-%'");
	}
	return @found;
}

# "12 succeeded, 4 failed"
sub ends
{
	my $succeeded = grep { ($_->{status} || '') eq 'S' } @_;
	my $failed = grep { ($_->{status} || '') eq 'F' } @_;
	return "$succeeded succeeded, $failed failed";
}

# What is wrong with one transaction; nothing, one hopes.
sub problems
{
	my ($kind, $state, $seen) = @_;
	my $mode = $CrashModes::mode{ $kind->{mode} };
	my @effects = sort { $a->{at} <=> $b->{at} } @{ $seen->{effects} || [] };
	my $status = $seen->{status};
	my (@wrong, %count);

	push @wrong, 'acknowledged, and lost' if $state =~ /acked|S|F/ && !$status;
	push @wrong, 'rolled back, and there' if $state eq 'rolledback' && $status;
	push @wrong, 'one of the order and the transaction is there without the other'
	  if !$seen->{order} != !$status;
	unless ($status)
	{
		push @wrong, "$seen->{calls} calls of what was never committed" if $seen->{calls};
		push @wrong, @effects . ' effects of what was never committed' if @effects;
		return @wrong;
	}

	my $end = $state =~ /^[SF]$/ ? $state : $kind->{ends};
	push @wrong, "ended as $status" if $status !~ /^[SF]$/ || ($end && $status ne $end);
	push @wrong, $seen->{business} ? 'failed, but its business is there' : 'succeeded without its business'
	  if $kind->{business} && !$seen->{business} != ($status ne 'S');

	# Each effect once, or none.
	my @ops = @{ $mode->{ $status eq 'S' ? 'succeed' : 'failed' } };
	my %known = map { $_ => 1 } @{ $seen->{branches} };
	$count{ $_->{branch} }{ $_->{op} }++ for @effects;
	push @wrong, "branch $_ was called, and never registered" for grep { !$known{$_} } sort keys %count;
	for my $branch (@{ $seen->{branches} })
	{
		my %here = %{ $count{$branch} || {} };
		my %wanted = map { $_ => 1 } %here || $status eq 'S' ? @ops : ();

		push @wrong, "branch $branch: " . (join(', ', map { "$here{$_} $_" } sort keys %here) || 'nothing')
		  if join(' ', map { "$_ $here{$_}" } sort keys %here) ne join(' ', map { "$_ 1" } sort keys %wanted);
	}
	push @wrong, "branch $_->{branch} $_->{op}: token $_->{token}, kept is " . ($seen->{token} || 'none')
	  for grep { $_->{token} ne ($kind->{mentions}{ $_->{branch} } ? $seen->{token} || '?' : '') } @effects;
	push @wrong, "$seen->{recorded} of " . @{ $seen->{branches} } . ' ops are recorded'
	  if $status eq 'S' && $seen->{recorded} != @{ $seen->{branches} };

	return (@wrong, $kind->{concurrent} ? () : out_of_order($mode, @effects));
}

# Nothing goes forward after something went back, nor is confirmed before all is
# tried; and each op takes the branches in its order.
sub out_of_order
{
	my ($mode, @effects) = @_;
	my %rank = (try => 0, action => 0);
	my ($rank, %last, @wrong) = (0);

	for my $effect (@effects)
	{
		my ($branch, $op) = @$effect{qw(branch op)};
		my $order = $mode->{order}{$op};
		my $this = $rank{$op} // 1;

		# A try that comes late is in the way of its own cancel only.
		push @wrong, "branch $branch: $op after what comes later"
		  if $this < $rank && ($op ne 'try' || grep { $_->{op} eq 'confirm' } @effects);
		$rank = $this if $this > $rank;
		push @wrong, "branch $branch: $op after that of $last{$op}"
		  if $order && defined $last{$op} && ($branch cmp $last{$op}) != $order;
		$last{$op} = $branch;
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
		$self->{began}{$gid} = { state => $state, kind => $kind };
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
	$money += $self->{shop}->safe_psql('postgres', 'SELECT coalesce(sum(amount), 0) FROM ledger');
	is($money, 3000000, 'the money adds up');
	is($main->safe_psql('postgres', 'SELECT count(*) FROM crash.account WHERE held <> 0')
		  + $self->{shop}->safe_psql('postgres', 'SELECT count(*) FROM account WHERE held <> 0'),
		0, 'nothing is held');
	is($_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0,
		'no prepared transaction is left in ' . $_->name) for $main, $self->{shop};

	my $all = $main->safe_psql('postgres', 'SELECT count(*) FROM dtm.trans');
	$main->safe_psql('postgres', <<'SQL');
UPDATE dtm.trans SET created_at = created_at - interval '8 days', finished_at = finished_at - interval '8 days';
SQL
	ok( wait_for($main, <<'SQL', '0'), "$all old transactions are deleted with all their rows");
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
