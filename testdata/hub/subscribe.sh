#!/bin/bash
# subscribe.sh TOPIC: prints the events of the hub $HUB, with the token $TOKEN if there is one, by curl. Where the
# connection is lost, or silent for a minute (the hub says something every 15 s), it goes on behind the last event.
set -u
last=${LAST_EVENT_ID-}
while :; do
	id='' data=()
	while IFS= read -r line; do
		case $line in
			'id: '*) id=${line#id: } ;;
			'data:'*) line=${line#data:} data+=("${line# }") ;;
			'status: 4'*) echo "refused, $line" >&2; exit 1 ;;
			'') [[ -n $id ]] || continue
				(IFS=$'\n'; printf '%s %s\n' "$id" "${data[*]}")
				last=$id id='' data=() ;;
		esac
	done < <(printf '%s\n' "Accept: text/event-stream" ${TOKEN:+"Authorization: Bearer $TOKEN"} ${last:+"Last-Event-ID: $last"} |
		curl -sSNG --speed-limit 1 --speed-time 60 -w '\nstatus: %{response_code}\n' -H @- --data-urlencode "match=$1" "$HUB")
	sleep "1.$RANDOM"
done
