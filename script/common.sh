# script/common.sh: what the other scripts share. Sourced, never run.

set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LANG=C.UTF-8
unset LC_ALL LANGUAGE PGDATA PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS || true

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# The server's version: what this Debian ships, unless DTM_PG_MAJOR says otherwise.
pg_major() {
	if [ -n "${DTM_PG_MAJOR:-}" ]; then
		echo "$DTM_PG_MAJOR"
		return
	fi
	case "$(. /etc/os-release 2>/dev/null && echo "${ID:-}${VERSION_ID:-}")" in
		debian12) echo 15 ;;
		debian13) echo 17 ;;
		*) pg_config --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p' ;;
	esac
}

# Debian's /usr/bin/pg_config speaks of the newest version; we want this one.
system_pg_config() {
	local config=/usr/lib/postgresql/$(pg_major)/bin/pg_config
	if [ -x "$config" ]; then
		echo "$config"
	else
		command -v pg_config || die "no pg_config found; run script/setup"
	fi
}

# A PostgreSQL server refuses to run as root: then everything near one runs as
# postgres, and the folders are given to it.
as_server() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=postgres --regid=postgres --init-groups --reset-env \
			env PATH="$PATH" LANG="$LANG" "$@"
	else
		"$@"
	fi
}

give_to_server() {
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres:postgres "$@"
	fi
}

# copy_tree DIR: the sources without history and without anything built.
copy_tree() {
	mkdir -p "$1"
	tar -C "$tree" --exclude=./.git --exclude=./build --exclude='*.o' \
		--exclude='*.so' --exclude='*.bc' --exclude=./results \
		--exclude=./tmp_check --exclude=./log --exclude=./output_iso \
		--exclude=__pycache__ -cf - . | tar -C "$1" -xf -
}
