#!/usr/bin/python3
"""What `make install` installs is complete: a program that has the public header alone compiles,
links with the shared and with the static library, and runs; the header declares what the shared
library exports, all of it and nothing else."""
import os
import re
import tempfile

import tree

PROGRAM = "tests/check/public_header.c"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
# A declared function: what stands before the parameters of a declaration at the line's beginning.
DECLARED = re.compile(r"^(?:PCV_CHECK )?(?:const )?[a-z]\w*(?: \w+)* \**(pcv_\w+)\(", re.M)


def packages():
    m = re.search(r"^PKGS\s*:?=\s*(.*)$", tree.read("Makefile"), re.M)
    r = tree.run("pkg-config", "--libs", *m.group(1).split())
    return r.stdout.split() + ["-lm", "-pthread"]


def must(what, *command, **how):
    r = tree.run(*command, **how)
    if r.returncode:
        tree.bad(PROGRAM, 0, f"{what}: {(r.stderr or r.stdout or f'exit {r.returncode}').strip()}")
    return r


def check_names(header, library):
    r = must("nm", "nm", "-D", "--defined-only", library)
    exported = {line.split()[-1] for line in r.stdout.splitlines()}
    with open(header, encoding="utf-8") as f:
        text = f.read()
    if re.search(r'^\s*#\s*include\s*"', text, re.M):
        tree.bad("include/perceiver.h", 0, "includes a header that is not installed")
    declared = set(DECLARED.findall(tree.code(text)))
    for name in sorted(exported - declared):
        tree.bad("libperceiver.so", 0, f"exports {name}, which perceiver.h does not declare")
    for name in sorted(declared - exported):
        tree.bad("perceiver.h", 0, f"declares {name}, which libperceiver.so does not export")


with tempfile.TemporaryDirectory() as folder:
    for name in ("perceiverd", "perceiverctl", "libperceiver.a", "libperceiver.so", "include/perceiver.h"):
        tree.built(name)
    installed = must("install", "deploy/install.sh",
                     env={**os.environ, "B": tree.BUILD, "PREFIX": "/usr", "DESTDIR": folder})
    at = os.path.join(folder, "usr")
    if installed.returncode == 0:
        compiler = ["gcc", *STRICT, "-I" + os.path.join(at, "include"), os.path.join(tree.ROOT, PROGRAM)]
        lib = os.path.join(at, "lib")
        links = {"shared": ["-L" + lib, "-lperceiver"],
                 "static": [os.path.join(lib, "libperceiver.a"), *packages()]}
        said = {}
        for how, arguments in links.items():
            program = os.path.join(folder, how)
            if must(f"{how} link", *compiler, *arguments, "-o", program, cwd=folder).returncode == 0:
                said[how] = must(f"{how} run", program, cwd=folder,
                                 env={**os.environ, "LD_LIBRARY_PATH": lib}).stdout
        if len(said) == 2 and said["shared"] != said["static"]:
            tree.bad(PROGRAM, 0, f"shared says {said['shared']!r}, static {said['static']!r}: "
                                 "run make build")
        check_names(os.path.join(at, "include", "perceiver.h"), os.path.join(lib, "libperceiver.so"))
tree.done()
