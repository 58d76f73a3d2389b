#!/usr/bin/env python3
# Sends back each message in capitals. For framing = "json": {"data":"hello"}
# is a text message, {"data64":"aGVsbG8="} a binary one.
import base64
import json
import sys

for line in sys.stdin:
    message = json.loads(line)
    if "data" in message:
        answer = {"data": message["data"].upper()}
    else:
        data = base64.b64decode(message["data64"])
        answer = {"data64": base64.b64encode(data.upper()).decode()}
    print(json.dumps(answer), flush=True)
