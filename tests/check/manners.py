#!/usr/bin/python3
"""What a library does not do to its host.

lib/ and proto/ never end the process, print, read the environment, start programs, touch signals or
the locale, and keep no state outside the objects that their callers hold: no mutable variable at
file scope, none static in a function. Global names begin with pcv_ in lib/, wire_ in proto/, srv_ or ctl_
in server/. Looked at twice: in the sources, to say the line, and in the objects, where macros and
what the compiler made of them show."""
import os
import re

import tree

FORBIDDEN = {
    "ends the process": "exit _exit _Exit quick_exit abort atexit assert __assert_fail raise",
    "reads the environment": "getenv secure_getenv setenv unsetenv putenv clearenv environ",
    "prints": "printf vprintf fprintf vfprintf dprintf vdprintf puts fputs fputc putc putchar perror "
              "psignal syslog vsyslog stdout stderr stdin",
    "starts programs": "system popen fork vfork posix_spawn execv execve execvp execl execlp",
    "touches the host's signals": "signal sigaction sigprocmask pthread_sigmask alarm",
    "changes the process": "setlocale uselocale chdir umask setrlimit prlimit",
    "keeps state in libc": "strtok rand srand random srandom drand48 localtime gmtime asctime ctime "
                           "gets getopt getopt_long",
    "takes what is no number for one": "atoi atol atoll atof",
}
# These hold for the server as well.
EVERYWHERE = set("atoi atol atoll atof gets strtok system popen".split())
WHAT = {name: what for what, names in FORBIDDEN.items() for name in names.split()}
PREFIX = {"lib": "pcv_", "proto": "wire_", "server": ("srv_", "ctl_")}
# Mutable variables that there are good reasons for: {"symbol": "reason"}.
STATE = {}

_CALL = re.compile(r"\b(" + "|".join(map(re.escape, WHAT)) + r")\b")


def check_source(path):
    text = tree.code(tree.read(path))
    for m in _CALL.finditer(text):
        before, after = text[: m.start()].rstrip(), text[m.end():].lstrip()
        if before.endswith((".", "->")):
            continue  # somebody's field
        if path.startswith("server/") and m.group() not in EVERYWHERE:
            continue
        if m.group() in ("stdout", "stderr", "stdin", "environ") or after.startswith("("):
            tree.bad(path, tree.line_of(text, m.start()), f"{m.group()}: this code never {WHAT[m.group()]}")


def plain(symbol):
    """The name as written: without glibc's variants and the compiler's numbers."""
    m = re.fullmatch(r"__(\w+)_chk", symbol) or re.fullmatch(r"__isoc\d+_(\w+)", symbol)
    return m.group(1) if m else symbol.split("@")[0]


def check_object(path):
    layer = path.split("/")[0]
    r = tree.run("objdump", "-tw", os.path.join(tree.BUILD, "obj", path[:-2] + ".o"))
    if r.returncode:
        tree.bad(path, 0, f"cannot look at its object: {r.stderr.strip()}: run make build")
        return
    for line in r.stdout.splitlines():
        m = re.match(r"^([0-9a-f]{16}) (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$", line)
        if not m:
            continue
        flags, section, symbol = m.group(2), m.group(3), m.group(4)
        if section == "*UND*":
            if layer != "server" and plain(symbol) in WHAT:
                tree.bad(path, 0, f"calls {symbol}: this code never {WHAT[plain(symbol)]}")
            continue
        if "d" in flags or "f" in flags:
            continue  # the section itself, the file's name
        if layer != "server" and symbol not in STATE and \
                re.match(r"\.(data|bss|tdata|tbss|lbss|ldata)\b(?!\.rel\.ro)|\*COM\*", section):
            tree.bad(path, 0, f"{symbol} is a mutable variable outside all objects ({section})")
        if flags[0] in "gu!" and not symbol.startswith(PREFIX[layer]) and symbol != "main":
            tree.bad(path, 0, f"{symbol}: global names of {layer}/ begin with {PREFIX[layer]}")


for path in tree.files(".c", ".h", ".inc", under=("lib/", "proto/", "server/")):
    check_source(path)
for path in tree.files(".c", under=("lib/", "proto/", "server/")):
    check_object(path)
tree.done()
