# examples/redis.sh: a throw-away Redis for an example. Sourced after lib.sh.
#
#   start_redis          on a socket in the example's folder, on no port, nothing on disk
#   redis COMMAND...     ask it
#   cut_off_redis        it neither answers nor refuses, as behind a broken network
#   let_redis_answer     it goes on; whatever arrived meanwhile is carried out now
#
# Debian's package redis-server is a service for the whole machine, which nobody
# here needs, and a link to the program in redis-tools. So the link is made here.

redis_socket() { printf '%s' "$dir/redis.sock"; }

start_redis() {
	local program
	program=$(command -v redis-server || command -v redis-check-rdb) ||
		die "there is no redis-server; run script/setup"
	step "starting Redis"
	as_server ln -sfn "$program" "$dir/redis-server"
	background redis "$dir/redis-server" --port 0 --unixsocket "$(redis_socket)" --unixsocketperm 700 \
		--save '' --appendonly no --dir "$dir" --logfile "$dir/redis.log"
	wait_until 30 "the start of Redis" redis_answers
}

redis() { as_server redis-cli -s "$(redis_socket)" "$@"; }

redis_answers() { [ "$(redis PING)" = PONG ] && echo t; }

# redis_is WHAT EXPECTED COMMAND...: told, and checked.
redis_is() {
	local what=$1 expected=$2
	shift 2
	check "$what" "$(redis "$@")" "$expected"
}

cut_off_redis() {
	step "Redis is cut off: kill -STOP $(cat "$dir/pid/redis")"
	kill -STOP "$(cat "$dir/pid/redis")"
}

let_redis_answer() {
	step "Redis answers again"
	kill -CONT "$(cat "$dir/pid/redis")"
}
