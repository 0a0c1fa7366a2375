#!/bin/sh
# demo.sh - serves the shipped model on 127.0.0.1:$PORT and shows what one latent stack does: a picture, a
# sound and a sentence, several tasks each, and a handle that is asked twice. Keeps serving until Ctrl-C
# (ONCE=1: stops). Called by `make demo`.
set -u
: "${B:=build}" "${PORT:=8080}" "${ONCE:=}"
url=http://127.0.0.1:$PORT
model=etc/models/senses
samples=$model/samples
log=$B/demo.log
out=$B/demo

case $PORT in
'' | *[!0-9]*) echo "demo: PORT=$PORT is not a port" >&2; exit 2 ;;
esac
"$B/perceiverd" --listen "127.0.0.1:$PORT" --model "senses=$model" 2>"$log" &
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
mkdir -p "$out"

ctl() { # command, then its operands and options
    command=$1
    shift
    "$B/perceiverctl" "$command" --url "$url" "$@" || exit 1
}
say() { printf '\n== %s\n\n' "$*"; }

echo "perceiverd serves $model on $url"

say "A picture, encoded once: what is it, what would it be as a digit? Its latents stay for ten minutes."
seen=$(ctl perceive senses $samples/ankle-boot.png --task garment --top-k 3 --task digit --top-k 1 --keep 10m)
echo "$seen"
handle=$(echo "$seen" | sed -n 's/.*\(lat_[0-9a-f]*\).*/\1/p')

say "Two questions to those latents, later: nothing is encoded again."
ctl ask "$handle" --task reconstruct --region 0,14,28,14
ctl ask "$handle" --task garment --classes "Ankle boot,Sneaker,Sandal"

say "Painted from the latents, and what one of them looks at: $out/*.png"
ctl ask "$handle" --task reconstruct --format png -o "$out/reconstruction.png"
ctl ask "$handle" --task attention --latents 27 --format png -o "$out/attention.png"

say "A sound and a sentence in one request, through the same stack."
ctl perceive senses $samples/spoken-seven.wav "And God said, Let there be li[MASK]ht: and there was l[MASK]ght." \
    --top-k 3

[ -z "$ONCE" ] || exit 0
cat <<TXT

Try it yourself:

  curl $url/v1/models/senses
  curl --data-binary @$samples/bag.png -H 'Content-Type: image/png' \\
       '$url/v1/models/senses/perceive?task=garment&top_k=3&keep=10m'
  curl --data-binary @$samples/spoken-four.wav -H 'Content-Type: audio/wav' $url/v1/models/senses/perceive
  $B/perceiverctl bench --url $url senses --input $samples/bag.png --clients 16 --seconds 5 --no-cache

Ctrl-C ends the server. Its log is in $log.
TXT
wait "$pid"
