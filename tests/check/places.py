#!/usr/bin/python3
"""Libraries appear in their named places only, so that each can be replaced or updated there.

Every <header> is either of C and POSIX, or stands in PLACES with the files that may include it.
Tests may include anything."""
import fnmatch
import re

import tree

PLACES = {
    # HTTP and the event loop
    "microhttpd.h": ["server/http.c", "server/http_*.c"],
    "uv.h": ["server/loop.[ch]", "server/http*.[ch]", "server/lanes.[ch]", "server/flow*.[ch]"],
    "sys/epoll.h": ["server/http_watch.c", "server/ctl_http.c"],
    "systemd/*": ["server/notify.c"],
    "zlib.h": ["server/body.c"],
    "sodium.h": ["server/digest.c"],
    "ini.h": ["server/config*.c"],
    "curl/*": ["server/ctl_http.c"],
    # files and media
    "jansson.h": ["proto/*", "lib/load/*", "lib/layout/*"],
    "zip.h": ["lib/load/torch_zip.c"],
    "spng.h": ["lib/input/media_*.c"],
    "jpeglib.h": ["lib/input/media_*.c"],
    "sndfile.h": ["lib/input/media_*.c"],
    "samplerate.h": ["lib/input/media_*.c"],
    "jerror.h": ["lib/input/media_*.c"],
    # numbers
    "cblas.h": ["lib/kernel/gemm.c"],
    "*intrin.h": ["lib/kernel/*_sse*.[ch]", "lib/kernel/*_avx*.[ch]"],
    "arm_*.h": ["lib/kernel/*_neon*.c", "lib/kernel/*_sve*.c"],
    "cpuid.h": ["lib/base/cpu.c"],
    # the system: no sockets and no threads but there
    "pthread.h": ["lib/base/pool.c", "server/lanes.c"],
    "sys/socket.h": ["server/*"],
    "sys/un.h": ["server/*"],
    "netinet/*": ["server/*"],
    "arpa/*": ["server/*"],
    "netdb.h": ["server/*"],
    "sys/mman.h": ["lib/load/*", "lib/base/mem.c"],
    "sys/resource.h": ["server/*"],
    "signal.h": ["server/*"],
    "dirent.h": ["server/*", "lib/load/weights_files.c"],
    "locale.h": ["proto/wire_numbers.c", "server/ctl_text.c"],
    "langinfo.h": ["server/ctl_text.c"],
    "wchar.h": ["server/ctl_text.c"],
}
ANYWHERE = set("""
    assert ctype errno fcntl fenv float inttypes limits locale math sched setjmp stdalign stdarg
    stdatomic stdbool stddef stdint stdio stdlib string strings time unistd sys/param sys/stat
    sys/types sys/uio sys/wait""".split())

# Functions of these libraries, used without their header.
CALLS = [
    (r"\b(cblas|openblas)_\w+\s*\(", ["lib/kernel/gemm.c"], "cblas"),
    (r"\b_mm(256|512)?_\w+\s*\(", PLACES["*intrin.h"], "intrinsics"),
    (r"\b__builtin_ia32_(?!pause\b)\w+", PLACES["*intrin.h"], "intrinsics"),
    (r"#\s*pragma\s+(GCC|clang)\s+(target|push_options|optimize)\b", [],
     "compiler flags in the source"),
    (r"\b__attribute__\s*\(\s*\(\s*(__)?target\b", [], "compiler flags in the source"),
]


def allowed(path, places):
    return any(fnmatch.fnmatch(path, p) for p in places)


def check_include(path, line, name):
    for header, places in PLACES.items():
        if fnmatch.fnmatch(name, header):
            if not allowed(path, places):
                tree.bad(path, line, f"<{name}> belongs in {', '.join(places)}")
            return
    if not name.endswith(".h") or name[:-2] not in ANYWHERE:
        tree.bad(path, line, f"<{name}>: a library that has no place in tests/check/places.py")


for path in tree.files(".c", ".h", ".inc", ".def", under=("lib/", "proto/", "server/")):
    for line, kind, name in tree.includes(path):
        if kind == "<":
            check_include(path, line, name)
    text = tree.code(tree.read(path))
    for pattern, places, what in CALLS:
        for m in re.finditer(pattern, text):
            if not allowed(path, places):
                tree.bad(path, tree.line_of(text, m.start()),
                         f"{m.group().strip()}: {what} belong in {', '.join(places) or 'the Makefile'}")
tree.done()
