#!/usr/bin/env python3
# The chat program of docs/programs.md, in Python.
# Output: flush=True with each print (or python3 -u, or PYTHONUNBUFFERED=1 in env).
import os
import sys

name = os.environ.get("REMOTE_USER", "guest")
n = 0


def say(text):
    print(text, flush=True)


say(f"Hello, {name}. Say something; /quit ends.")
for line in sys.stdin:
    line = line.removesuffix("\n")
    if line == "/quit":
        break
    n += 1
    say(f"{n}: {line}")
say(f"Bye, {name}, after {n}.")
