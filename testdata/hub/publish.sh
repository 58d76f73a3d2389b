#!/bin/sh
# publish.sh TOPIC DATA: publishes at the hub $HUB, with a token made of the key in the file $HUB_KEY, by curl and openssl.
# $HUB is the public URL, as "url" in tandem.toml has it. TOPIC without " and \, which JSON would have to escape.
# openssl has the key among its arguments: other users of this machine can see it while that runs.
set -eu
b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
head=$(printf '{"typ":"at+jwt","alg":"HS256"}' | b64)
body=$(printf '{"aud":"%s","exp":%d,"authorization_details":[{"type":"mercure","actions":["publish"],"topics":[{"match":"%s"}]}]}' \
	"$HUB" "$(($(date +%s) + 60))" "$1" | b64)
sign=$(printf '%s.%s' "$head" "$body" | openssl dgst -sha256 -hmac "$(cat "$HUB_KEY")" -binary | b64)

# curl takes the header from stdin, for the same reason.
echo "Authorization: Bearer $head.$body.$sign" |
	curl -sS --fail-with-body -H @- \
		--data-urlencode "topic=$1" --data-urlencode "data=$2" -d private=on "$HUB"
echo # behind the event's id
