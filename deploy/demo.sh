#!/bin/sh
# demo.sh - serves the shipped model on 127.0.0.1:$PORT, asks it two pictures, shows the answers, and
# keeps serving until Ctrl-C (ONCE=1: stops). Called by `make demo`.
set -u
: "${B:=build}" "${PORT:=8080}" "${ONCE:=}"
url=http://127.0.0.1:$PORT
model=etc/models/fashion
log=$B/demo.log

case $PORT in
'' | *[!0-9]*) echo "demo: PORT=$PORT is not a port" >&2; exit 2 ;;
esac
"$B/perceiverd" --listen "127.0.0.1:$PORT" --model "fashion=$model" 2>"$log" &
pid=$!
trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null' EXIT
trap 'exit 0' INT TERM

n=0
while ! curl -fs -o /dev/null "$url/v2/health/ready" || ! kill -0 "$pid" 2>/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null; then
        echo "demo: perceiverd did not start:" >&2
        cat "$log" >&2
        exit 1
    fi
    n=$((n + 1))
    if [ "$n" -gt 100 ]; then
        echo "demo: perceiverd is not ready after 10 seconds:" >&2
        cat "$log" >&2
        exit 1
    fi
    sleep 0.1
done

echo "perceiverd serves $model on $url"
echo
for picture in $model/samples/ankle-boot.png $model/samples/trouser.png; do
    "$B/perceiverctl" perceive --url "$url" fashion "$picture" --top-k 3 || exit 1
    echo
done
[ -z "$ONCE" ] || exit 0
cat <<TXT
Try it yourself:

  curl $url/v1/models
  curl --data-binary @$model/samples/bag.png -H 'Content-Type: image/png' \\
       '$url/v1/models/fashion/perceive?task=classify&top_k=3'
  curl -F image=@$model/samples/pullover.png $url/v1/models/fashion/perceive
  $B/perceiverctl bench --url $url fashion --clients 16 --seconds 5

Ctrl-C ends the server. Its log is in $log.
TXT
wait "$pid"
