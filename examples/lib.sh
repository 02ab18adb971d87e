# examples/lib.sh: what the examples share. Sourced by examples/NAME/run, never run.
#
# An example is a tale whose claims are checked: it exits with 1 when one does not
# hold. It works in a temporary folder, with PostgreSQL servers and services of its
# own, as an ordinary user or as root (then all of it runs as postgres), and leaves
# nothing behind, unless it was started with --keep.
#
#   begin TITLE "$@"                      options, the folder, an installation with dtm
#   start_server [NAME]                   a PostgreSQL server; "main" without a name
#   service NAME SCRIPT [VARIABLE=VALUE]  a service in Python, with a port of its own
#   background NAME COMMAND...            any other program that has to be ended
#   hold NAME DATABASE QUERY              a transaction of somebody else, until release
#   claim WHAT DATABASE QUERY EXPECTED    told, and checked
#   finish TRY                            the end of the tale
#
# A DATABASE is a name, on the server "main", or NAME@SERVER.
#
# With DTM_PG_CONFIG, the path of a pg_config, nothing is built: dtm has to be in that
# installation already. script/test runs all examples on one build that way.
. "$(dirname "${BASH_SOURCE[0]}")/../script/common.sh"

example=$(cd "$(dirname "$0")" && pwd)
example=${example##*/}

bold= dim= green= red= plain=
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# --- telling ---

title() { printf '\n%s%s%s\n\n' "$bold" "$*" "$plain"; }
tell() { fold -s -w 84 <<<"$*" | sed 's/ *$//; s/^/  /'; }
step() { printf '  %s%s%s\n' "$dim" "$*" "$plain"; }
indent() { sed 's/^/      /'; }
ok() { printf '  %sok%s  %s\n' "$green" "$plain" "$*"; }

broken() {
	local log
	for log in "$dir"/server-*.log "$dir/services.log"; do
		[ -e "$log" ] || continue
		printf '  | --- %s\n' "${log##*/}"
		tail -n 20 "$log" | sed 's/^/  | /'
	done >&2
	printf '  %sNOT SO%s  %s\n' "$red" "$plain" "$*" >&2
	exit 1
}

# check WHAT GOT EXPECTED: what is told is true, or the example fails.
check() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		broken "$1: expected '$3', got '$2'"
	fi
}

claim() {
	local got
	got=$(sql "$2" "$3")
	check "$1" "$got" "$4"
}

# --- asking ---

# psql ROLE DATABASE ARGUMENT...
psql() {
	local role=$1 database=$2 server=main
	shift 2
	[[ $database != *@* ]] || server=${database#*@}
	as_server env PGHOST="$dir/$server" PGDATABASE="${database%@*}" PGUSER="$role" \
		"$bin/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

# sql DATABASE QUERY: as administrator; bare values.
sql() { psql postgres "$1" -At -c "$2"; }

# table DATABASE QUERY: the same, to be looked at.
table() { psql postgres "$1" -P footer=off -c "$2" | indent | sed '/^ *$/d'; }

# sql_file DATABASE FILE [NAME=VALUE...]: a script of this example, with variables.
sql_file() {
	local database=$1 file=$2 variable arguments=()
	shift 2
	for variable in "$@"; do
		arguments+=(-v "$variable")
	done
	psql postgres "$database" "${arguments[@]}" -f "$here/$file" >/dev/null
}

# app QUERY: what the application says, printed with the answer. It is the ordinary
# role $app_role in the database $app_database.
app() {
	printf '    %s=> %s\n' "$app_database" "$1"
	psql "$app_role" "$app_database" -c "$1" | indent | sed '/^ *$/d;/^ *([0-9]* rows\{0,1\})$/d'
}

# dsn DATABASE ROLE: how a service connects.
dsn() {
	local server=main
	[[ $1 != *@* ]] || server=${1#*@}
	printf 'host=%s dbname=%s user=%s' "$dir/$server" "${1%@*}" "$2"
}

# hold NAME DATABASE QUERY: somebody else's transaction, which has run the query and
# goes on to hold what it has locked, until release NAME.
declare -A held
hold() {
	local way
	as_server mkfifo "$dir/hold-$1"
	psql postgres "$2" -At <"$dir/hold-$1" >"$dir/held-$1" &
	exec {way}>"$dir/hold-$1"
	held[$1]=$way
	printf 'BEGIN; %s;\n\\echo held\n' "$3" >&"$way"
	wait_until 30 "the lock $1" sh -c "grep -qx held '$dir/held-$1' && echo t"
}

# A service that was started meanwhile has inherited this end of the fifo, so closing
# it is not enough.
release() {
	local way=${held[$1]}
	printf 'ROLLBACK;\n\\q\n' >&"$way"
	exec {way}>&-
	rm "$dir/hold-$1" "$dir/held-$1"
}

# wait_until SECONDS WHAT COMMAND...: until its output is t.
wait_until() {
	local until=$((SECONDS + $1)) what=$2
	shift 2
	while [ "$("$@" 2>/dev/null)" != t ]; do
		[ $SECONDS -lt $until ] || broken "$what did not happen in time"
		sleep 0.05
	done
}

# --- starting and stopping ---

# begin TITLE [--keep]: $dir is the folder, $here this example's files in it, and
# $bin where PostgreSQL's programs are.
begin() {
	local config
	keep=
	case ${2:-} in
		'') ;;
		--keep) keep=yes ;;
		*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
	esac
	title "$1"
	[ -n "${DTM_PG_CONFIG:-}" ] || "$tree/script/setup" </dev/null | sed 's/^/  /'

	dir=$(mktemp -d "${TMPDIR:-/tmp}/dtm-$example.XXXXXX")
	here=$dir/tree/examples/$example
	trap stop EXIT
	trap 'exit 130' INT TERM
	chmod 755 "$dir"
	copy_tree "$dir/tree"
	mkdir "$dir/run" "$dir/pid"
	give_to_server "$dir"
	write_stop

	if [ -n "${DTM_PG_CONFIG:-}" ]; then
		config=$DTM_PG_CONFIG
		[ -e "$("$config" --sharedir)/extension/dtm.control" ] ||
			die "DTM_PG_CONFIG: dtm is not in this installation; make install PG_CONFIG=$config"
	else
		step "building dtm for PostgreSQL $(pg_major) in $dir"
		config=$(as_server "$dir/tree/script/private-pg" "$dir/install" "$(system_pg_config)")
		if ! as_server make -C "$dir/tree" install "PG_CONFIG=$config" >"$dir/build.log" 2>&1 </dev/null; then
			tail -n 20 "$dir/build.log" >&2
			exit 1
		fi
	fi
	bin=$("$config" --bindir)
	# Connections are made by sockets in a folder that only its owner can enter.
	chmod 700 "$dir"
}

write_stop() {
	cat >"$dir/stop" <<-STOP
		#!/bin/sh
		# Stops what this example has started, and removes its folder.
		# One that was stopped by kill -STOP does not hear that it shall end.
		for file in "$dir"/pid/*; do
			[ -e "\$file" ] && kill "\$(cat "\$file")" && kill -CONT "\$(cat "\$file")"
		done
		for file in "$dir"/*/data/postmaster.pid; do
			[ -e "\$file" ] && kill -QUIT "\$(head -n 1 "\$file")"
		done
		for file in "$dir"/*/data/postmaster.pid; do
			while [ -e "\$file" ]; do sleep 0.05; done
		done
		for file in "$dir"/pid/*; do
			while [ -e "\$file" ] && kill -0 "\$(cat "\$file")" 2>/dev/null; do sleep 0.05; done
		done
		rm -rf "$dir"
	STOP
	chmod 755 "$dir/stop"
}

stop() { "$dir/stop" >/dev/null 2>&1 || true; }

# start_server [NAME [LINE OF pg_hba.conf...]]: for the first time, or once more
# after stop_server. Everybody in the folder is trusted, but for what the lines say.
start_server() {
	local name=${1:-main}
	local home=$dir/$name
	if [ ! -d "$home" ]; then
		step "starting a PostgreSQL server${1:+: $1}"
		as_server mkdir "$home"
		as_server "$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --no-locale -N >"$dir/initdb-$name.log"
		as_server cp "$dir/tree/test/server.conf" "$home/data/dtm.conf"
		as_server tee -a "$home/data/postgresql.conf" >/dev/null <<-CONF
			include 'dtm.conf'
			unix_socket_directories = '$home'
			fsync = on
		CONF
		if [ $# -gt 1 ]; then
			{ printf '%s\n' "${@:2}"; as_server cat "$home/data/pg_hba.conf"; } >"$dir/hba"
			as_server tee "$home/data/pg_hba.conf" <"$dir/hba" >/dev/null
		fi
	fi
	as_server setsid "$bin/pg_ctl" -D "$home/data" -l "$dir/server-$name.log" -w start >/dev/null </dev/null ||
		broken "the server $name starts"
}

# stop_server [NAME]: as an administrator would.
stop_server() {
	as_server "$bin/pg_ctl" -D "$dir/${1:-main}/data" -m fast -w stop >/dev/null </dev/null
}

# new_database NAME[@SERVER] [ROLE]: with an owner, an ordinary role of that name.
new_database() {
	local role=${2:-${1%@*}} at=postgres
	[[ $1 != *@* ]] || at=postgres@${1#*@}
	sql "$at" "DO \$\$ BEGIN IF pg_catalog.to_regrole('$role') IS NULL THEN CREATE ROLE $role LOGIN; END IF; END \$\$"
	sql "$at" "CREATE DATABASE ${1%@*} OWNER $role"
}

# background NAME COMMAND...: its output goes to services.log. It is ended with the
# example, or before that by end NAME.
background() {
	local name=$1
	shift
	as_server setsid sh -c 'echo $$ >"$0"; exec "$@"' "$dir/pid/$name" "$@" >>"$dir/services.log" 2>&1 </dev/null &
	disown
	wait_until 30 "the start of $name" sh -c "test -s '$dir/pid/$name' && echo t"
}

# end NAME [SIGNAL]: returns when it has ended.
end() {
	local pid
	pid=$(cat "$dir/pid/$1")
	rm -f "$dir/pid/$1" "$dir/run/$1"
	kill "-${2:-TERM}" "$pid"
	wait_until 30 "the end of $1" sh -c "kill -0 $pid || echo t"
}

# service NAME SCRIPT [VARIABLE=VALUE...]: a script of this example, which gets the
# name of the file that it must write its port to, once it listens.
service() {
	local name=$1 script=$2
	shift 2
	background "$name" env "PYTHONPATH=$dir/tree/examples" "$@" \
		python3 "$here/$script" "$dir/run/$name"
	wait_until 30 "the start of the service $name" sh -c "test -s '$dir/run/$name' && echo t"
	step "starting the service $name: $(url "$name")"
}

# url NAME: of a service; ends with a slash.
url() { printf 'http://127.0.0.1:%s/' "$(cut -d' ' -f1 "$dir/run/$1")"; }

# --- dtm ---

worker_pid() {
	sql "$1" "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm worker' AND datname = current_database()"
}

# worker_runs DATABASE [PID]: returns when there is one (other than PID).
worker_runs() {
	wait_until 30 "the start of dtm's worker" sql "$1" "SELECT count(*) > 0 FROM pg_stat_activity
		WHERE backend_type = 'dtm worker' AND datname = current_database() AND pid <> ${2:-0}"
}

# kill_worker DATABASE: kill -9. Returns when the server is back, with a new worker.
kill_worker() {
	local pid
	pid=$(worker_pid "$1")
	[ -n "$pid" ] || broken "there is a worker to be killed"
	step "kill -9 $pid"
	kill -9 "$pid"
	worker_runs "$1" "$pid"
	step "the server is back, with a new worker: it reads its tables and goes on"
}

# --- the end ---

# finish TRY: what to try, for those who kept it.
finish() {
	if [ -z "$keep" ]; then
		title "All of it holds."
		tell "examples/$example/run --keep leaves this running, to look around. The example is in examples/$example/."
		echo
		return
	fi
	trap - EXIT
	title "It is left running"
	if [ "$(id -u)" = 0 ]; then
		tell "connect (as root, the folder is private):"
	else
		tell "connect:"
	fi
	local server=main
	[[ $app_database != *@* ]] || server=${app_database#*@}
	printf '    %s/psql -h %s -U %s %s      the application\n' "$bin" "$dir/$server" "$app_role" "${app_database%@*}"
	printf '    %s/psql -h %s -U postgres %s      the administrator\n' "$bin" "$dir/$server" "${app_database%@*}"
	tell "and try $1"
	tell "stop it, and remove all of it:"
	printf '    %s/stop\n\n' "$dir"
}
