#!/usr/bin/env python3
# subscribe.py TOPIC: prints the events of the hub $HUB, with the token $TOKEN if there is one. Where the connection is
# lost it goes on behind the last event.
import http.client
import os
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

url = os.environ["HUB"] + "?" + urllib.parse.urlencode({"match": sys.argv[1]})
last = os.environ.get("LAST_EVENT_ID", "")


def stream():
    global last
    request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
    if "TOKEN" in os.environ:
        request.add_header("Authorization", "Bearer " + os.environ["TOKEN"])
    if last:
        request.add_header("Last-Event-ID", last)
    # The hub sends something every 15 s: silence of a minute is a dead connection.
    with urllib.request.urlopen(request, timeout=60) as answer:
        event, data = "", []
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(":")
            if name == "id":
                event = value.removeprefix(" ")
            elif name == "data":
                data.append(value.removeprefix(" "))
            elif line == b"\n" and event:
                print(event, "\n".join(data), flush=True)
                last, event, data = event, "", []


while True:
    try:
        stream()
    except urllib.error.HTTPError as e:
        if e.code < 500:
            sys.exit(f"refused: {e}: {e.read().decode()}")
        print("lost:", e, file=sys.stderr)
    except (OSError, http.client.HTTPException) as e:
        print("lost:", e, file=sys.stderr)
    time.sleep(1 + random.random())
