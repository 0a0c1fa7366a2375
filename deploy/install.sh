#!/bin/sh
# install.sh - copies what `make build` made to $DESTDIR$PREFIX. Called by `make install`.
set -eu
: "${B:=build}" "${PREFIX:=/usr/local}" "${DESTDIR:=}"
to=$DESTDIR$PREFIX

put() { # mode, target folder, files...
    mode=$1 folder=$2
    shift 2
    install -d "$folder"
    install -m "$mode" "$@" "$folder"
}

put 755 "$to/bin" "$B/perceiverd" "$B/perceiverctl"
put 644 "$to/include" "$B/include/perceiver.h"
put 644 "$to/lib" "$B/libperceiver.a"
install -m 755 "$B/libperceiver.so" "$to/lib/libperceiver.so.0"
ln -sf libperceiver.so.0 "$to/lib/libperceiver.so"
put 644 "$to/share/man/man8" deploy/man/perceiverd.8
put 644 "$to/share/man/man1" deploy/man/perceiverctl.1
senses=etc/models/senses
put 644 "$to/share/perceiverd/models/senses" $senses/perceiver.json $senses/model.safetensors $senses/README.md
put 644 "$to/share/perceiverd/models/senses/samples" $senses/samples/*

# A configuration that a person has edited stays. A new one serves what is installed.
conf=$DESTDIR/etc/perceiverd/perceiverd.conf
[ "$PREFIX" = /usr ] || conf=$to/etc/perceiverd.conf
install -d "$(dirname "$conf")"
if [ ! -e "$conf" ]; then
    sed "s|^# models_dir =.*|models_dir = $PREFIX/share/perceiverd/models|" etc/perceiverd.conf >"$conf"
    chmod 644 "$conf"
fi

# The unit names the paths of this installation.
install -d "$to/lib/systemd/system"
for unit in perceiverd.service perceiverd.socket; do
    sed -e "s|/usr/bin/perceiverd|$PREFIX/bin/perceiverd|g" \
        -e "s|/etc/perceiverd/perceiverd.conf|${conf#"$DESTDIR"}|g" \
        "deploy/systemd/$unit" >"$to/lib/systemd/system/$unit"
    chmod 644 "$to/lib/systemd/system/$unit"
done
