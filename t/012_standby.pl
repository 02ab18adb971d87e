# A standby has no processes of dtm; promoted, it has them at once.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use DtmTest;

my $primary = dtm_node('primary', init => [ allows_streaming => 1 ]);
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', 'CREATE DATABASE shop');
$primary->safe_psql('shop', 'CREATE EXTENSION dtm');
$primary->wait_for_catchup($standby);
is( $standby->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dtm %'"),
	0, 'no process of dtm on a standby');
ok(wait_worker($primary, undef, 'shop'), 'but on the primary');

# What a primary does to its databases, a standby repeats without trouble.
$primary->safe_psql('postgres', 'CREATE DATABASE gone TEMPLATE shop');
$primary->safe_psql('postgres', 'DROP DATABASE gone');
$primary->wait_for_catchup($standby);

$primary->stop('immediate');
$standby->promote;
ok(wait_worker($standby, undef, 'postgres'), 'a worker after promotion');
ok(wait_worker($standby, undef, 'shop'), 'in every database that has the extension');
is( $standby->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm worker'"),
	2, 'and no more');

$standby->stop;
done_testing();
