# compile.sh: how pure files and their tests are compiled. Sourced, from the top
# of the tree; programs go to $out, which goes away at the end.
out=$(mktemp -d "${TMPDIR:-/tmp}/dtm-unit.XXXXXX")
trap 'rm -rf "$out"' EXIT
CC=${CC:-cc}
pure="src/decide.c src/attempts.c src/saga.c src/tcc.c src/msg.c src/xa_branch.c src/workflow.c src/ending.c src/saga_order.c src/retry.c src/names.c src/target.c src/address.c src/answer.c"
flags="-std=gnu99 -g -O1 -Wall -Wextra -Werror -Isrc -Itest/unit"

# Without them the tests still say much.
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"
echo 'int main(void) { return 0; }' >"$out/probe.c"
if ! $CC $sanitize "$out/probe.c" -o "$out/probe" 2>/dev/null || ! "$out/probe" 2>/dev/null; then
	echo "# $CC has no sanitizers here"
	sanitize=
fi

# compile NAME FILE...
compile() {
	local name=$1
	shift
	$CC $flags $sanitize "$@" $pure -o "$out/$name"
}
