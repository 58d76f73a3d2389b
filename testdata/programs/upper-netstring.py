#!/usr/bin/env python3
# Sends back each message in capitals. For framing = "netstring": `5:hello,`.
import sys

stdin, stdout = sys.stdin.buffer, sys.stdout.buffer


def receive():
    """The next message as bytes, None at the end of input."""
    length = b""
    while (c := stdin.read(1)) != b":":
        if c == b"":
            return None
        length += c
    data = stdin.read(int(length))
    stdin.read(1)  # the comma
    return data


def send(data):
    stdout.write(b"%d:%b," % (len(data), data))
    stdout.flush()


while (message := receive()) is not None:
    send(message.upper())
