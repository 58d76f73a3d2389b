#!/usr/bin/env -S awk -W interactive -f
# The chat program of docs/programs.md, in awk.
# Output: fflush() after each print. Input: mawk, which is Debian's awk, waits
# for 4 KiB of it unless told -W interactive. (gawk does not wait; it writes
# to stderr that it ignores the option.)
function say(s) {
	print s
	fflush()
}

BEGIN {
	name = ENVIRON["REMOTE_USER"]
	if (name == "") name = "guest"
	n = 0
	say("Hello, " name ". Say something; /quit ends.")
}

$0 == "/quit" { exit 0 }
{ say(++n ": " $0) }

END { say("Bye, " name ", after " n ".") }
