#!/bin/sh
# The chat program of docs/programs.md, in POSIX shell.
# Output: printf and echo are built in and write at once. What a pipeline's other
# commands write would wait in their buffers.
name=${REMOTE_USER:-guest}
n=0
bye() {
	printf 'Bye, %s, after %d.\n' "$name" "$n"
	exit 0
}

printf 'Hello, %s. Say something; /quit ends.\n' "$name"
# IFS= keeps blanks at the ends, -r keeps backslashes.
while IFS= read -r line; do
	[ "$line" = /quit ] && bye
	n=$((n + 1))
	# Not echo: some shells' echo changes backslashes.
	printf '%d: %s\n' "$n" "$line"
done
bye
