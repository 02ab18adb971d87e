# Databases in other encodings than UTF-8: services are spoken to in UTF-8, and
# what they answer is kept as well as the database can.
use strict;
use warnings FATAL => 'all';

use Encode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

$ENV{PGCLIENTENCODING} = 'UTF8';
my $node = dtm_node('encodings', init => [ extra => [ '--locale=C', '--encoding=UTF8' ] ], conf => "dtm.retry_interval = '100ms'\n");
my $stub = DtmTest::Stub->new;

my $umlaut = "\xc3\xbc";
my $euro = "\xe2\x82\xac";
my $chinese = "\xe4\xbd\xa0";
my $smile = "\xf0\x9f\x98\x80";

# Octets, not characters: the stub's control channel encodes its JSON itself.
$stub->program('/refuse', { status => 409, body => decode('UTF-8', "sold out: $umlaut $euro $chinese $smile.") });
$stub->program('/broken', { status => 500, body => decode('UTF-8', $chinese x 2000) });

# What the texts become, by the database's encoding
my %kept = (
	UTF8 => "sold out: $umlaut $euro $chinese $smile.",
	LATIN1 => "sold out: $umlaut ? ? ?.",
	LATIN9 => "sold out: $umlaut $euro ? ?.",
	EUC_CN => "sold out: $umlaut ? $chinese ?.",
	SQL_ASCII => "sold out: $umlaut $euro $chinese $smile.");

for my $encoding (sort keys %kept)
{
	my $db = lc("in_$encoding");

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($db, 'CREATE EXTENSION dtm');
	wait_worker($node, undef, $db);
	my $worker = worker_pid($node, 'dtm worker', $db);
	my $sql = sub { return $node->safe_psql($db, ($encoding eq 'SQL_ASCII' ? '' : "SET client_encoding = 'UTF8'; ") . $_[0]); };

	# There and back: gid, address, payload, header, and the reason
	my $gid = "$encoding-$umlaut";
	my $seen = decode('UTF-8', $gid);
	$sql->("SELECT dtm.set_secret('$umlaut', 'secret-$umlaut'); SELECT dtm.saga('$gid', ARRAY[dtm.step('"
		  . $stub->url("/ok?x=$umlaut") . "', '" . $stub->url('/undo') . "', '{\"a\": \"$umlaut\"}', headers => '{\"X-A\": \"$umlaut\", \"X-B\": {\"secret\": \"$umlaut\"}}'), dtm.step('"
		  . $stub->url('/refuse') . "')])");
	wait_status($node, $gid, 'failed', dbname => $db);
	is_deeply($stub->calls($seen), [ '01 action', '02 action', '01 compensate' ], "$encoding: the service knows the gid");
	my ($call) = @{ $stub->journal($seen) };
	is($call->{size}, length("{\"a\": \"$umlaut\"}"), "$encoding: the payload");
	# The stub, as usual, takes the request's head for ISO 8859-1.
	is(encode('ISO-8859-1', $call->{query}{x}), $umlaut, "$encoding: the address");
	is(encode('ISO-8859-1', $call->{headers}{'X-A'}), $umlaut, "$encoding: a header");
	is(encode('ISO-8859-1', $call->{headers}{'X-B'}), "secret-$umlaut", "$encoding: a secret");
	is($sql->("SELECT reason FROM dtm.transactions WHERE gid = '$gid'"), "branch 02 refused: HTTP 409: $kept{$encoding}", "$encoding: the reason is kept");
	like($sql->("SELECT dtm.query('$gid') ->> 'gid'"), qr/^\Q$gid\E$/, "$encoding: and everything can be asked for");

	# A long text is cut between characters
	$sql->("SELECT dtm.saga('long', ARRAY[dtm.step('" . $stub->url('/broken') . "')], retry_limit => 1)");
	wait_status($node, 'long', 'failed', dbname => $db);
	my $reason = $sql->("SELECT reason FROM dtm.transactions WHERE gid = 'long'");
	like($reason, qr/^branch 01 failed 1 times: HTTP 500: (?:$chinese|\?)+$/, "$encoding: a long text is cut well");

	# SQL branches speak the database's own language
	$sql->("CREATE FUNCTION f(jsonb) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM dtm.fail('$umlaut' || (\$1 ->> 'a')); END \$\$");
	$sql->("SELECT dtm.saga('local', ARRAY[dtm.step('sql:public.f', '', '{\"a\": \"$umlaut\"}')])");
	wait_status($node, 'local', 'failed', dbname => $db);
	is($sql->("SELECT reason FROM dtm.transactions WHERE gid = 'local'"), "branch 01 refused: $umlaut$umlaut", "$encoding: a SQL branch");
	is(worker_pid($node, 'dtm worker', $db), $worker, "$encoding: the worker has not been replaced");
	$node->safe_psql('postgres', "DROP DATABASE $db");
}

$node->stop;
done_testing();
