# Secrets in headers reach the service, and nobody else: not the log, not a
# view, not a dump. They are read for each call, so a changed one counts at once.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $node = dtm_node('secrets', conf => <<'CONF');
dtm.retry_interval = '200ms'
log_statement = all
log_min_messages = debug1
log_parameter_max_length_on_error = -1
CONF
my $stub = DtmTest::Stub->new;

sub sql { return $node->safe_psql('postgres', @_); }

# As a role that is no superuser. Its own words are in the log, rightly: so the
# values come from files, which a statement only names.
sub file_with
{
	my ($name, $value) = @_;
	my $file = $node->basedir . "/$name";

	append_to_file($file, $value);
	chmod(0644, $file);
	return $file;
}
my $first = file_with('first', 'tell-nobody-1');
my $second = file_with('second', 'tell-nobody-2');

sql(<<"SQL");
CREATE ROLE shop LOGIN;
GRANT pg_read_server_files TO shop;
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO shop;
SELECT dtm.grant_usage('shop'), dtm.allow('shop', '*');
SET ROLE shop;
SELECT dtm.set_secret('pay-token', pg_read_file('$first'));
SQL

my $headers = q(headers => '{"Authorization": {"secret": "pay-token", "prefix": "Bearer "}, "X-Plain": "1"}');

sub saga
{
	my ($gid, $path, @more) = @_;
	return "SET ROLE shop; SELECT dtm.saga('$gid', ARRAY[dtm.step('" . $stub->url($path) . "', '"
	  . $stub->url('/undo') . "', '{}', $headers)], branch_headers => '{\"X-Key\": {\"secret\": \"pay-token\"}}'"
	  . join('', map { ", $_" } @more) . ")";
}

# It arrives, with what stands before it

sql(saga('one', '/pay'));
wait_status($node, 'one', 'succeed');
{
	my $seen = $stub->journal('one')->[0]{headers};

	is($seen->{Authorization}, 'Bearer tell-nobody-1', 'a secret behind its prefix');
	is($seen->{'X-Key'}, 'tell-nobody-1', 'a secret alone, in branch_headers');
	is($seen->{'X-Plain'}, '1', 'an ordinary header beside it');
	is($seen->{'Content-Type'}, 'application/json', 'and the content type');
}

# Large payloads are read for the call as well

sql("SET ROLE shop; SELECT dtm.saga('large', ARRAY[dtm.step('" . $stub->url('/pay') . "', '', to_json(repeat('x', 100000))::text, $headers)])");
wait_status($node, 'large', 'succeed');
is($stub->journal('large')->[0]{headers}{Authorization}, 'Bearer tell-nobody-1', 'beside a large payload');
is($stub->journal('large')->[0]{size}, 100002, 'which is complete');

# A new value counts with the next call, not with the next transaction

$stub->program('/strict', { status => 401 });
sql(saga('changed', '/strict'));
$stub->wait_calls('/strict', 2);
sql("SET ROLE shop; SELECT dtm.set_secret('pay-token', pg_read_file('$second'))");
wait_until('a call with the new value', sub { grep { $_->{headers}{Authorization} eq 'Bearer tell-nobody-2' } @{ $stub->journal('changed') } });
$stub->program('/strict', { status => 200 });
wait_status($node, 'changed', 'succeed');
{
	is($stub->journal('changed')->[0]{headers}{Authorization}, 'Bearer tell-nobody-1', 'the first call has the old value');
	sql(saga('after', '/pay'));
	wait_status($node, 'after', 'succeed');
	is($stub->journal('after')->[0]{headers}{Authorization}, 'Bearer tell-nobody-2', 'later ones have the new value');
}

# Gone: the call fails and says so, nothing is sent; set again, it goes on

$stub->program('/slow', { status => 503 });
sql(saga('gone', '/slow'));
$stub->wait_calls('/slow', 1);
sql("SET ROLE shop; SELECT dtm.drop_secret('pay-token')");
ok(wait_for($node, q(SELECT last_error ~ 'has no secret "pay-token" any more' FROM dtm.branches WHERE gid = 'gone' AND op = 'action')), 'a secret that is gone is an error of the call');
ok(!(grep { !exists $_->{headers}{Authorization} } @{ $stub->journal('gone') }), 'no call goes out without its header');
$stub->program('/slow', { status => 200 });
sql("SET ROLE shop; SELECT dtm.set_secret('pay-token', pg_read_file('$second')); SELECT dtm.retry_now('gone')");
wait_status($node, 'gone', 'succeed');

# Another role's secret of the same name is another secret

sql("CREATE ROLE other; SELECT dtm.grant_usage('other'), dtm.allow('other', '*')");
my ($rc, $out, $err) = $node->psql('postgres', saga('theft', '/pay') =~ s/ROLE shop/ROLE other/r);
like($err, qr/role "other" has no secret "pay-token"/, 'one role cannot send the secret of another');

# A compensation has its secret too, and a refusal shows none

$stub->program('/refuse', { status => 409, body => 'no' });
sql(saga('back', '/refuse'));
wait_status($node, 'back', 'failed');
is($stub->journal('back')->[1]{headers}{Authorization}, 'Bearer tell-nobody-2', 'a compensation has its secret');

# Nobody else has seen it

unlike(slurp_file($node->logfile), qr/tell-nobody/, 'the server log does not show it');
is(sql(q(SELECT count(*) FROM dtm.transactions t, dtm.query(t.gid) q WHERE q::text ~ 'tell-nobody' OR t::text ~ 'tell-nobody')), '0', 'nor does a query');
is(sql(q(SELECT count(*) FROM dtm.operation_log l WHERE l::text ~ 'tell-nobody')), '0', 'nor the operation log');
my ($dump) = run_command([ 'pg_dumpall', '-h', $node->host, '-p', $node->port ]);
like($dump, qr/dtm\.allowed/, 'a dump has the configuration');
unlike($dump, qr/tell-nobody/, 'but no secrets');

$node->stop;
done_testing();
