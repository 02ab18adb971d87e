# TCCs, messages and XAs of all kinds, begun as fast as they go, while processes
# are killed at random: whatever was committed ends, and ends right.
#
# MODES_SECONDS says for how long, MODES_SEED repeats a choice of events.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use DtmTest;

my $seconds = $ENV{MODES_SECONDS} || 12;
my $seed = $ENV{MODES_SEED} || int(rand(1 << 31));

note("MODES_SEED=$seed");
srand($seed);

my $node = dtm_node('killed', conf => <<'CONF');
dtm.launcher_interval = '200ms'
dtm.safety_interval = '500ms'
dtm.retry_interval = '100ms'
dtm.max_retry_interval = '500ms'
dtm.request_timeout = '2s'
CONF
my $stub = DtmTest::Stub->new;

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE noted (gid text, branch_id text, op text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF random() < 0.1 THEN RAISE 'a bad day'; END IF;
	INSERT INTO noted SELECT gid, branch_id, op FROM dtm.current_branch();
	IF random() < 0.1 THEN RAISE 'a bad end'; END IF;
END $$;
SQL

# A participant that has its days, and one that never wants to; whom to ask.
my @days = map { (
		{ status => 200 }, { status => 200 }, { status => 200 }, { status => 200 },
		{ status => 500 }, { status => 500, effect => 1 }, { status => 425 }, { manner => 'drop' }
	)[ rand(8) ] } 1 .. 2000;
$stub->program('/any', @days, { status => 200 });
$stub->program('/full', { status => 409 });
$stub->program('/yes', (map { $_->{effect} ? { status => 500 } : $_ } @days[ 0 .. 500 ]), { status => 200 });
$stub->program('/no', { status => 425 }, { status => 500 }, { status => 409 });

my $any = $stub->url('/any');
my $sql_step = "dtm.tcc_step('sql:public.note', 'sql:public.note', 'sql:public.note', '{}'::jsonb)";
my $http_step = "dtm.tcc_step('$any', '$any', '$any')";
my $own = "SELECT dtm.tcc_begin(g, timeout_to_fail => '1500ms') FROM %s;"
  . " SELECT dtm.tcc_branch(g, '$any', '$any') FROM %s; SELECT dtm.tcc_branch(g, 'sql:public.note', 'sql:public.note') FROM %s;";
my $xa = "SELECT dtm.xa_begin(g, timeout_to_fail => '1500ms') FROM %s;"
  . " SELECT dtm.xa_branch(g, '$any') FROM %s; SELECT dtm.xa_branch(g, '$any') FROM %s;";
my $begun = "SELECT dtm.msg_begin(g, '%s', timeout_to_fail => '500ms') FROM %%s;"
  . " SELECT dtm.msg_branch(g, '$any') FROM %%s; SELECT dtm.msg_branch(g, 'sql:public.note') FROM %%s;";

# How each kind is begun, in one transaction; a second one; and how it ends.
my %kind = (
	tcc => [ "SELECT dtm.tcc(g, ARRAY[$http_step, $sql_step, $http_step], timeout_to_fail => '1h') FROM %s", '', 'succeed' ],
	tccno => [ "SELECT dtm.tcc(g, ARRAY[$http_step, $sql_step, dtm.tcc_step('" . $stub->url('/full') . "', '$any', '$any')]) FROM %s", '', 'failed' ],
	tccstop => [ "SELECT dtm.tcc(g, ARRAY[$http_step, $sql_step], concurrent => true) FROM %s", 'abort', '' ],
	own => [ $own, 'submit', '' ],
	ownlost => [ $own, '', 'failed' ],
	msg => [ "SELECT dtm.msg(g, ARRAY[dtm.step('$any'), dtm.step('sql:public.note', payload => '{}'::jsonb)]) FROM %s", '', 'succeed' ],
	yes => [ sprintf($begun, $stub->url('/yes')), '', 'succeed' ],
	no => [ sprintf($begun, $stub->url('/no')), '', 'failed' ],
	xa => [ $xa, 'submit', '' ],
	xastop => [ $xa, 'abort', 'failed' ]);

my %killed;
my @events = (
	sub { kill_one('dtm worker') }, sub { kill_one('dtm executor') }, sub { kill_one('dtm worker') },
	sub { end_one('dtm worker') }, sub { end_one('dtm executor') },
	sub { start_again($node); $killed{'killed postmaster'}++ });
my @gids;
my $n = 0;
my $end = time + $seconds;

while (time < $end)
{
	for my $kind (sort keys %kind)
	{
		my ($first, $second) = @{ $kind{$kind} };
		my @new = map { "$kind-" . ++$n } 1 .. 4;
		my $rows = "unnest('{" . join(',', @new) . "}'::text[]) AS g";

		push @gids, @new;
		(my $text = $first) =~ s/%s/$rows/g;
		# Who dies before the commit does not know, and need not.
		ask("BEGIN; $text; COMMIT");
		$events[ rand(@events) ]->() if rand() < 0.2;
		next unless $second;
		sleep(rand(0.02));
		for my $gid (@new)
		{
			ask("SELECT dtm.$second('$gid')");
		}
	}
}

wait_for($node, 'SELECT count(*) FROM dtm.trans WHERE finished_at IS NULL', '0');

my %status = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT gid, status FROM dtm.transactions');
my %noted;
$noted{ $_->[0] }{ $_->[1] } = $_->[2]
  for map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', 'SELECT gid, op, count(*) FROM noted GROUP BY 1, 2');
my $effects = $stub->effects;
my (%calls, %ended, @wrong);
push @{ $calls{ $_->{gid} } }, $_->{op} for @{ $stub->journal };

for my $gid (@gids)
{
	my ($kind) = $gid =~ /^([a-z]+)/;
	my $status = $status{$gid};
	my %op = map { ($_ => 1) } @{ $calls{$gid} || [] }, keys %{ $noted{$gid} || {} };
	my @wrong_here = wrong($kind, $status, \%op, $effects->{$gid} || {}, $noted{$gid} || {});

	$ended{ $status || 'never begun' }++;
	push @wrong, "$gid (" . ($status || 'none') . '): ' . join('; ', @wrong_here) if @wrong_here;
}
is(scalar @wrong, 0, sprintf('%d of all kinds, %s; %s: all right', scalar @gids,
	join(', ', map { "$ended{$_} $_" } sort keys %ended), join(', ', map { "$_ $killed{$_} times" } sort keys %killed)));
diag(join("\n", @wrong > 20 ? (@wrong[ 0 .. 19 ], '...') : @wrong)) if @wrong;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal (4|6|7|8|11)/, 'nobody died but by our hand');

$node->stop;
done_testing();

# What is wrong with one of them; nothing, one hopes.
sub wrong
{
	my ($kind, $status, $op, $http, $sql) = @_;
	my %wanted = (succeed => [], failed => []);
	my @wrong;

	return %$op ? ('called, and never committed') : () unless $status;
	push @wrong, "ended as $status" if $status ne ($kind{$kind}[2] || $status);
	my $good = $status eq 'succeed';

	# Forward and back never meet; the numbers of effects are exact.
	push @wrong, join(' and ', sort keys %$op)
	  if grep { $op->{$_} } $good ? qw(cancel rollback compensate) : qw(confirm commit action);
	if ($kind =~ /^tcc/)
	{
		for my $branch (sort keys %$http)
		{
			push @wrong, "HTTP $branch: @{ $http->{$branch} }"
			  unless "@{ $http->{$branch} }" eq ($good ? '2 0' : '1 1');
		}
		push @wrong, 'not all HTTP effects' if $good && keys %$http != ($kind eq 'tcc' ? 2 : 1);
		my $try = $sql->{try} || 0;
		push @wrong, 'SQL: ' . join(', ', map { "$_ $sql->{$_}" } sort keys %$sql)
		  if $try > 1 || ($good && !$try) || ($sql->{ $good ? 'confirm' : 'cancel' } || 0) != $try;
		return @wrong;
	}
	my @branches = grep { $_ ne '00' } sort keys %$http;
	my $wanted = $good ? ($kind =~ /^xa/ ? '01 02' : '01') : '';
	push @wrong, "HTTP effects of '@branches'" if "@branches" ne $wanted;
	push @wrong, "HTTP $_: @{ $http->{$_} }" for grep { "@{ $http->{$_} }" ne '1 0' } @branches;
	return @wrong if $kind =~ /^xa/;
	my $done = $good ? ($kind =~ /^own/ ? 'confirm' : 'action') : ($kind =~ /^own/ ? 'cancel' : '');
	push @wrong, 'SQL: ' . join(', ', map { "$_ $sql->{$_}" } sort keys %$sql)
	  if join(' ', map { "$_ $sql->{$_}" } sort keys %$sql) ne ($done ? "$done 1" : '');
	return @wrong;
}

# The server may be dying: then there is no answer.
sub ask
{
	my ($query) = @_;

	return (eval { ($node->psql('postgres', $query, timeout => 60))[1] }) // '';
}

sub kill_one { return signal('KILL', 'killed', @_); }
sub end_one { return signal('TERM', 'ended', @_); }

sub signal
{
	my ($signal, $what, $type) = @_;
	my @pids = split /\n/, ask("SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' ORDER BY pid");

	$killed{"$what $type"}++ if @pids && kill($signal, $pids[ rand(@pids) ]);
	return;
}
