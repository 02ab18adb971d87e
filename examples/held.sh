# examples/held.sh: programs that stop where the tale wants them. Sourced after lib.sh.
#
#   held NAME COMMAND...  a program that waits for a line of input before it goes on
#   heard NAME WORDS      returns when it has said a line that matches WORDS
#   let_go NAME           it goes on
#   last_words NAME       the last line that it has said
#   ended NAME            returns when it has ended by itself
#
# end NAME KILL (lib.sh) kills it where it stands.

declare -A held_input

held() {
	local name=$1 input
	shift
	as_server mkfifo "$dir/$name.in"
	background "$name" env "PYTHONPATH=$dir/tree/examples" sh -c \
		'in=$0 out=$1; shift; exec "$@" <"$in" >"$out"' "$dir/$name.in" "$dir/$name.out" "$@"
	exec {input}>"$dir/$name.in"
	held_input[$name]=$input
}

heard() {
	wait_until 30 "what $1 should say ($2)" sh -c "grep -Eq '^($2)' '$dir/$1.out' && echo t"
}

let_go() {
	local input=${held_input[$1]}
	echo >&"$input"
	exec {input}>&-
}

last_words() { tail -n 1 "$dir/$1.out"; }

ended() {
	wait_until 30 "the end of $1" sh -c "kill -0 $(cat "$dir/pid/$1") || echo t"
	rm -f "$dir/pid/$1"
}
