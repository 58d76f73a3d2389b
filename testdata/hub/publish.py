#!/usr/bin/env python3
# publish.py TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY.
# $HUB is the public URL, as "url" in tandem.toml has it.
import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

hub, topic, data = os.environ["HUB"], sys.argv[1], sys.argv[2]


def b64(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=")


head = b64(json.dumps({"typ": "at+jwt", "alg": "HS256"}).encode())
body = b64(json.dumps({
    "aud": hub,
    "exp": int(time.time()) + 60,
    "authorization_details": [
        {"type": "mercure", "actions": ["publish"], "topics": [{"match": topic}]},
    ],
}).encode())
with open(os.environ["HUB_KEY"], "rb") as f:
    key = f.read().rstrip(b"\r\n")
sign = b64(hmac.new(key, head + b"." + body, hashlib.sha256).digest())
token = b".".join([head, body, sign]).decode()

request = urllib.request.Request(
    hub,
    data=urllib.parse.urlencode({"topic": topic, "data": data, "private": "on"}).encode(),
    headers={"Authorization": "Bearer " + token},
)
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(answer.read().decode())  # the event's id
except urllib.error.HTTPError as e:
    sys.exit(f"not published: {e}: {e.read().decode()}")
