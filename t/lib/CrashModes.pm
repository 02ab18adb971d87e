# CrashModes: what the crash tests begin, and what must have come of it.
#
# A mode says which effects a transaction leaves, a kind how one is begun and by
# whom, a group which kinds are begun together. For another mode: one entry in
# %mode, its kinds in kinds(), and a name in %group.
package CrashModes;

use strict;
use warnings FATAL => 'all';

# succeed: every branch has each of these effects, once, and no other. failed:
# each of these or none. order: by branch ids, up (1) or down (-1), for kinds that
# are not concurrent; where there is none, all go at once.
our %mode = (
	saga => {
		succeed => ['action'], failed => [ 'action', 'compensate' ],
		order => { action => 1, compensate => -1 }
	},
	tcc => {
		succeed => [ 'try', 'confirm' ], failed => [ 'try', 'cancel' ],
		order => { confirm => -1, cancel => -1 }
	},
	msg => { succeed => ['action'], failed => [], order => { action => 1 } },
	workflow => {
		succeed => ['action'], failed => [ 'action', 'rollback' ],
		order => { action => 1, rollback => -1 }
	},
	# Its effects have the time when they were prepared.
	xa => { succeed => ['commit'], failed => [], order => {} });

# What is begun together. Kinds may be in several groups.
our %group = (
	saga => [qw(ok refuse sqlfail rollback conc concrefuse twophase tworollback
		  steps abort stepsabort again wait maybe sqlmaybe maybewait)],
	tcc => [qw(tcc tccrefuse tccsqlfail tccconc tccmaybe tccsqlmaybe tccmaybewait
		  tccabort tccrollback tcctwophase tccagain tccwait)],
	own => [qw(own ownconc ownabort ownlost ownlate ownrefuse)],
	msg => [qw(msg msgconc msgdelay msgtopic msgtwophase msgrollback msgagain msgwait)],
	asked => [qw(asked askedyes askedno askedrace askedabort askednobody)],
	xa => [qw(xa xaabort xalost xalate)],
	remote => [qw(remote remotemaybe remotetcc remotetccmaybe remotemsg)],
	flow => [qw(flow flowlost flowmaybe flowlostmaybe)],
	# Branches that are told what the first has answered.
	result => [qw(result resultmaybe)],
	ending => [qw(ending endingrefuse endingtcc)],
	# What is decided, and not yet known, shows best when the next answer differs.
	sagamaybe => [qw(maybe maybewait sqlmaybe)],
	tccmaybe => [qw(tccmaybe tccmaybewait tccsqlmaybe tccabort)],
	# The same without SQL branches, whose commits make everything durable.
	sagaalone => ['maybewait'],
	tccalone => ['tccmaybewait'],
	resultalone => ['resultwait'],
	# These go one way only, so that it is clear which call is the first.
	confirm => ['own'],
	cancel => ['ownabort']);

# A kind:
#
#   mode        its name in %mode
#   begin       SQL of the transaction that begins it, with an order of the same gid
#   manner      how the client does that, see crash_clients.py; default: plain
#   then        what the client does afterwards, one step after the other:
#                 sql => statement [, told => status]: and when it succeeds, so it must end
#                 shop => path, body => payload [, told => status]: a call of its own, until it is answered
#                 pause => seconds at most
#                 stop => 1: it has died
#   otherwise   SQL, when the shop refuses such a call
#   ends        as 'S' or 'F'; default: either
#   concurrent  effects come in any order
#   mentions    branches whose payload has the token that the first one answered
#   business    is in the shop: it is delivered if, and only if, that was committed
#   check       SQL: gids of LABEL, and what is wrong with each; default: nothing
#
# GID stands for the gid.
sub kinds
{
	my ($shop) = @_;
	my $options = "retry_interval => '100ms', request_timeout => '2s'";

	my $payload = sub {
		my ($account, $amount) = @_;
		return sprintf('{"account": "%s", "amount": %d}', $account =~ s/^r//r, $amount);
	};
	# Accounts a and b are in the shop, l is in this database; ra and rb are a and b
	# by way of their database.
	my $address = sub {
		my ($account) = @_;
		return $account eq 'l' ? 'sql:crash.move' : $account =~ /^r/ ? 'sql://shop/shop.move' : "$shop/move";
	};

	# Sagas

	my $step = sub {
		my ($account, $amount, $path) = @_;
		my $undo = $address->($account);
		my $do = $undo;

		$do =~ s/move/$path/ if $path;
		return sprintf(q(dtm.step('%s', '%s', '%s')), $do, $undo, $payload->($account, $amount));
	};
	my $saga = sub {
		my ($steps, $more) = @_;
		return sprintf("SELECT dtm.saga('GID', ARRAY[%s], %s)",
			join(', ', map { $step->(@$_) } @$steps), join(', ', $options, $more || ()));
	};
	my @move = ([ 'a', -5 ], [ 'l', 2 ], [ 'b', 3 ]);
	my @refused = ([ 'a', -5 ], [ 'l', 5 ], [ 'a', 1000, 'refuse' ]);
	my $plain = $saga->(\@move);
	my $begun = "SELECT dtm.saga_begin('GID', timeout_to_fail => '1s', $options)";
	my @pieces = map {
		my $arguments = $step->(@$_);
		$arguments =~ s/^dtm\.step\(/'GID', /;
		{ sql => "SELECT dtm.saga_branch($arguments" };
	} @move;
	my $abort = { sql => "SELECT dtm.abort('GID', 'second thoughts')", told => 'F' };

	my %kind = (
		ok => { begin => $plain, ends => 'S' },
		refuse => { begin => $saga->(\@refused), ends => 'F' },
		sqlfail => {
			begin => $saga->([ [ 'l', -5 ], [ 'a', 5 ], [ 'l', 1000, 'refuse' ] ]), ends => 'F'
		},
		conc => { begin => $saga->(\@move, q(orders => '{"3": [1, 2]}')), ends => 'S', concurrent => 1 },
		concrefuse => { begin => $saga->(\@refused, 'concurrent => true'), ends => 'F', concurrent => 1 },
		rollback => { begin => $plain, manner => 'rollback' },
		twophase => { begin => $plain, manner => 'twophase', ends => 'S' },
		tworollback => { begin => $plain, manner => 'tworollback' },
		again => { begin => $plain, manner => 'again', ends => 'S' },
		wait => { begin => $plain, manner => 'wait', ends => 'S' },
		abort => { begin => $plain, then => [ { pause => 0.05 }, $abort ] },
		maybe => { begin => $saga->([ [ 'a', -5 ], [ 'l', 2 ], [ 'b', 3, 'maybe' ] ]) },
		sqlmaybe => { begin => $saga->([ [ 'a', -5 ], [ 'b', 3 ], [ 'l', 2, 'maybe' ] ]) },
		maybewait => {
			begin => $saga->([ [ 'a', -5 ], [ 'b', 3, 'maybe' ], [ 'a', 2 ] ]), manner => 'wait'
		},
		# In its own transactions; if we never get to the end, its deadline does.
		steps => { begin => $begun, then => [ @pieces, { sql => "SELECT dtm.submit('GID')" } ] },
		stepsabort => { begin => $begun, then => [ @pieces, $abort ], ends => 'F' });

	# The first answers another token each time; what is kept is what others get.
	my $keep = sub {
		my ($amount) = @_;
		return sprintf(q(dtm.step('%s/move', '%s/move', '%s', keep_result => true)), $shop, $shop, $payload->('a', $amount));
	};
	my $mention = sub {
		my ($token) = ('{"$from": "01", "path": "$.token"}');
		my $step = $step->(@_);
		$step =~ s/\}'\)$/, "token": $token}')/ or die;
		return $step;
	};
	my $results = sub {
		return sprintf("SELECT dtm.saga('GID', ARRAY[%s], %s)", join(', ', @_), $options);
	};
	my %mentions = (mentions => { '02' => 1, '03' => 1 });
	@kind{qw(result resultmaybe resultwait)} = (
		{ begin => $results->($keep->(-5), $mention->('b', 3), $mention->('l', 2)), ends => 'S', %mentions },
		{ begin => $results->($keep->(-5), $mention->('b', 3), $mention->('l', 2, 'maybe')), %mentions },
		{
			begin => $results->($keep->(-5), $mention->('b', 3), $mention->('a', 2, 'maybe')),
			manner => 'wait', %mentions
		});
	$_->{mode} = 'saga' for values %kind;

	# Tries of ours

	my $tcc_step = sub {
		my ($account, $amount, $path) = @_;
		my $end = $address->($account);
		my $try = $end;

		$try =~ s/move/$path/ if $path;
		return sprintf(q(dtm.tcc_step('%s', '%s', '%s', '%s')), $try, $end, $end, $payload->($account, $amount));
	};
	my $tcc = sub {
		my ($steps, $more) = @_;
		return sprintf("SELECT dtm.tcc('GID', ARRAY[%s], %s)",
			join(', ', map { $tcc_step->(@$_) } @$steps), join(', ', $options, $more || ()));
	};
	my $tried = $tcc->(\@move);
	my %tcc = (
		tcc => { begin => $tried, ends => 'S' },
		tccrefuse => { begin => $tcc->(\@refused), ends => 'F' },
		tccsqlfail => {
			begin => $tcc->([ [ 'l', -5 ], [ 'a', 5 ], [ 'l', 1000, 'refuse' ] ]), ends => 'F'
		},
		tccconc => { begin => $tcc->(\@move, 'concurrent => true'), ends => 'S', concurrent => 1 },
		tccmaybe => { begin => $tcc->([ [ 'a', -5 ], [ 'l', 2 ], [ 'b', 3, 'maybe' ] ]) },
		tccsqlmaybe => { begin => $tcc->([ [ 'a', -5 ], [ 'b', 3 ], [ 'l', 2, 'maybe' ] ]) },
		tccmaybewait => { begin => $tcc->([ [ 'a', -3 ], [ 'b', 3, 'maybe' ] ]), manner => 'wait' },
		tccabort => { begin => $tried, then => [ { pause => 0.02 }, $abort ] },
		tccrollback => { begin => $tried, manner => 'rollback' },
		tcctwophase => { begin => $tried, manner => 'twophase', ends => 'S' },
		tccagain => { begin => $tried, manner => 'again', ends => 'S' },
		tccwait => { begin => $tried, manner => 'wait', ends => 'S' });

	# Tries of the application's: each is registered first; 0201 below 02

	my $branch = sub {
		my ($id, $account, $amount, $path) = @_;
		my $end = $account eq 'l' ? 'sql:crash.own' : "$shop/move";
		my $payload = $payload->($account, $amount);

		return (
			{
				sql => sprintf(q(SELECT dtm.tcc_branch('GID', '%s', '%s', '%s', branch_id => '%s')),
					$end, $end, $payload, $id)
			},
			$account eq 'l'
			? { sql => "SELECT crash.try('GID', '$id', '$payload')" }
			: {
				shop => '/' . ($path || 'move') . "?gid=GID&trans_type=tcc&branch_id=$id&op=try",
				body => $payload
			});
	};
	my $own = sub { return "SELECT dtm.tcc_begin('GID', timeout_to_fail => '$_[0]', $options)"; };
	my $submit = { sql => "SELECT dtm.submit('GID')", told => 'S' };
	my @three = ($branch->('01', 'a', -5), $branch->('02', 'l', 2), $branch->('0201', 'b', 3));
	my $give_up = "SELECT dtm.abort('GID', 'refused')";

	@tcc{qw(own ownconc ownabort ownlost ownlate ownrefuse)} = (
		{ begin => $own->('1s'), then => [ @three, $submit, $submit ] },
		{
			begin => "SELECT dtm.tcc_begin('GID', timeout_to_fail => '1s', $options, concurrent => true)",
			then => [ @three, $submit ], concurrent => 1
		},
		{ begin => $own->('1s'), then => [ @three, $abort, $abort ], ends => 'F' },
		{ begin => $own->('300ms'), then => [ @three, { stop => 1 } ], ends => 'F' },
		# The branch may have been cancelled before it is tried.
		{
			begin => $own->('150ms'),
			then => [ @three[ 0 .. 2 ], { pause => 0.4 }, @three[ 3 .. 5 ], $submit ]
		},
		{
			begin => $own->('1s'), ends => 'F',
			then => [ @three, $branch->('03', 'a', 1000, 'refuse'), $submit ]
		});
	$_->{mode} = 'tcc', $_->{otherwise} = $give_up for values %tcc;

	# Messages

	my $msg = sub {
		my ($steps, $more) = @_;
		return sprintf("SELECT dtm.msg('GID', ARRAY[%s], %s)",
			join(', ', @$steps), join(', ', $options, $more || ()));
	};
	my $send = sub {
		my ($address, @amount) = @_;
		return sprintf(q(dtm.step('%s', '', '%s')), $address, $payload->(@amount));
	};
	my @sent = (
		$send->('sql:crash.move', 'l', 2), $send->("$shop/move", 'a', -5), $send->("$shop/move", 'b', 3));
	my $message = $msg->(\@sent);
	my %msg = (
		msg => { begin => $message, ends => 'S' },
		msgconc => { begin => $msg->(\@sent, 'concurrent => true'), ends => 'S', concurrent => 1 },
		# The rest is sent after the first.
		msgdelay => {
			begin => $msg->(\@sent, "delay => '300ms'"), ends => 'S',
			check => "SELECT gid, 'called too early' FROM crash.effect JOIN dtm.trans USING (gid)"
			  . " WHERE at < created_at + '300ms'"
		},
		# Both subscribers get what is nothing in the end.
		msgtopic => {
			begin => $msg->([ $send->('topic://crash.news', 'l', 0), $send->('topic://crash.news', 'a', 0), @sent ]),
			ends => 'S'
		},
		msgtwophase => { begin => $message, manner => 'twophase', ends => 'S' },
		msgrollback => { begin => $message, manner => 'rollback' },
		msgagain => { begin => $message, manner => 'again', ends => 'S' },
		msgwait => { begin => $message, manner => 'wait', ends => 'S' });

	# Messages of which the shop knows whether they are true

	my $told_of = sub {
		return "SELECT dtm.msg_begin('GID', '$shop/asked', timeout_to_fail => '$_[0]', $options)";
	};
	my @join = (
		map { { sql => sprintf(q(SELECT dtm.msg_branch('GID', '%s', '%s')), $_->[0], $payload->(@$_[ 1, 2 ])) } }
		  [ 'sql:crash.move', 'l', 2 ], [ "$shop/move", 'a', -5 ], [ "$shop/move", 'b', 3 ]);
	my $business = { shop => '/business?gid=GID&trans_type=msg&branch_id=00&op=msg', body => '{}' };
	my $alone = { stop => 1 };
	my %asked = (
		asked => { begin => $told_of->('1s'), then => [ @join, $business, $submit, $submit ] },
		askedyes => { begin => $told_of->('200ms'), then => [ @join, $business, $alone ] },
		askedno => { begin => $told_of->('150ms'), then => [ @join, $alone ], ends => 'F' },
		askedrace => { begin => $told_of->('100ms'), then => [ @join, { pause => 0.3 }, $business, $alone ] },
		askedabort => { begin => $told_of->('1s'), then => [ @join, $abort, $abort ], ends => 'F' },
		askednobody => {
			begin => "SELECT dtm.msg_begin('GID', timeout_to_fail => '200ms', $options)",
			then => [ @join, $alone ], ends => 'F'
		});
	$_->{business} = 1, $_->{otherwise} = $give_up for values %asked;
	@msg{ keys %asked } = values %asked;
	$_->{mode} = 'msg' for values %msg;

	# XA: each branch is registered, and then prepared in the shop

	my $xa = sub { return "SELECT dtm.xa_begin('GID', timeout_to_fail => '$_[0]', $options)"; };
	my @prepared = map {
		(
			{ sql => "SELECT dtm.xa_branch('GID', '$shop/xa', branch_id => '$_->[0]')" },
			{
				shop => "/xa?gid=GID&trans_type=xa&branch_id=$_->[0]&op=prepare",
				body => $payload->(@$_[ 1, 2 ])
			})
	} [ '01', 'a', -5 ], [ '02', 'b', 5 ];
	my %xa = (
		xa => { begin => $xa->('1s'), then => [ @prepared, $submit, $submit ] },
		xaabort => { begin => $xa->('1s'), then => [ @prepared, $abort, $abort ], ends => 'F' },
		xalost => { begin => $xa->('300ms'), then => [ @prepared, $alone ], ends => 'F' },
		xalate => {
			begin => $xa->('150ms'),
			then => [ @prepared[ 0 .. 2 ], { pause => 0.4 }, $prepared[3], $submit ]
		});
	$_->{mode} = 'xa', $_->{otherwise} = $give_up for values %xa;

	# Branches in the shop's database, called by dtm itself

	my %remote = (
		remote => { mode => 'saga', begin => $saga->([ [ 'ra', -5 ], [ 'b', 3 ], [ 'rb', 2 ] ]), ends => 'S' },
		remotemaybe => { mode => 'saga', begin => $saga->([ [ 'ra', -5 ], [ 'l', 2 ], [ 'rb', 3, 'maybe' ] ]) },
		remotetcc => { mode => 'tcc', begin => $tcc->([ [ 'ra', -5 ], [ 'l', 2 ], [ 'rb', 3 ] ]), ends => 'S' },
		remotetccmaybe => { mode => 'tcc', begin => $tcc->([ [ 'ra', -5 ], [ 'b', 2 ], [ 'rb', 3, 'maybe' ] ]) },
		remotemsg => {
			mode => 'msg', ends => 'S',
			begin => $msg->([ $send->('sql://shop/shop.move', 'a', -3), $send->('sql://shop/shop.move', 'b', 3) ])
		});

	# Endings run once, with the final status

	my $endings = join(', ', map { "$_->[0] => 'INSERT INTO crash.ended VALUES (''GID'', ''$_->[1]'')'" }
		[ 'on_success', 'S' ], [ 'on_failure', 'F' ]);
	my %ending = (
		ending => { mode => 'saga', begin => $saga->(\@move, $endings), ends => 'S' },
		endingrefuse => { mode => 'saga', begin => $saga->(\@refused, $endings), ends => 'F' },
		endingtcc => { mode => 'tcc', begin => $tcc->(\@move, $endings), ends => 'S' });
	$_->{check} = "SELECT gid, 'its endings: ' || coalesce(ends, 'none') FROM dtm.trans t,"
	  . " LATERAL (SELECT string_agg(status, '') FROM crash.ended e WHERE e.gid = t.gid) AS l (ends)"
	  . " WHERE ends IS DISTINCT FROM t.status::text" for values %ending;

	# Workflows, of which the shop is the client: called by whom it may

	my $flow = sub {
		return "SELECT count(*) FROM dtm.workflow_prepare('GID', '$_[0]', '$shop/run', timeout_to_fail => '200ms', $options)";
	};
	my $run = sub {
		my ($name, @told) = @_;
		return { shop => "/run?gid=GID&trans_type=workflow&branch_id=00&op=$name", body => '{}', @told };
	};
	my %flow = (
		flow => { begin => $flow->('move'), then => [ $run->('move', told => 'S') ] },
		flowlost => { begin => $flow->('move'), then => [$alone], ends => 'S' },
		flowmaybe => { begin => $flow->('maybe'), then => [ $run->('maybe') ] },
		flowlostmaybe => { begin => $flow->('maybe'), then => [$alone] });
	$_->{mode} = 'workflow' for values %flow;

	return { %kind, %tcc, %msg, %xa, %remote, %ending, %flow };
}

1;
