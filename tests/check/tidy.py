#!/usr/bin/python3
"""tidy.py [FILE...] - clang-tidy finds nothing; what it looks for stands in .clang-tidy files.

One process for each file, as many at a time as there are processors (JOBS= says otherwise): several
files in one process confuse its analyzer about va_list. A file in which nothing was found is not
looked at again until it, a header of it or what is looked for changes: build/tidy/ remembers."""
import concurrent.futures
import hashlib
import os
import re
import shutil
import sys

import tree

FINDING = re.compile(r"^(.*?):(\d+):\d+: (?:warning|error): (.*)$")
# Told to the analyzer, which sees one file at a time, about functions of other files.
HINTS = "tests/check/analyzer.h"
HINTED = re.compile(r"^#ifndef DEFINES_(\w+)$", re.M)


def stamp(path, hints):
    """A file that exists once this text, with all that it includes, was found clean."""
    flags = [h.removeprefix("--extra-arg=") for h in hints]
    arguments = known[path][1:known[path].index("-c")]
    r = tree.run(known[path][0], *arguments, *flags, "-E", "-dD", "-C", path)
    if r.returncode:
        return None
    key = hashlib.sha256()
    for part in (version, tree.read(".clang-tidy"), tree.read("tests/.clang-tidy"), path, *arguments,
                 r.stdout):
        key.update(part.encode(errors="surrogateescape") + b"\0")
    return os.path.join(tree.ROOT, tree.BUILD, "tidy", key.hexdigest())


def look(path):
    text = tree.read(path)
    hints = [f"--extra-arg=-DDEFINES_{name}" for name in HINTED.findall(tree.read(HINTS))
             if re.search(rf"^int {name}\(", text, re.M)]
    hints += [f"--extra-arg=-DLAYER_{path.split('/')[0]}", "--extra-arg=-include",
              "--extra-arg=" + os.path.join(tree.ROOT, HINTS)]
    clean = stamp(path, hints)
    if clean and os.path.exists(clean):
        return []
    r = tree.run("clang-tidy", "--quiet", "-p", tree.ROOT, *hints, path)
    found = []
    for line in r.stdout.splitlines():
        m = FINDING.match(line)
        if m:
            found.append((os.path.relpath(os.path.join(tree.ROOT, m.group(1)), tree.ROOT),
                          int(m.group(2)), m.group(3)))
    if r.returncode and not found:
        found.append((path, 0, f"clang-tidy: {(r.stderr or r.stdout).strip()}"))
    if clean and not found:
        os.makedirs(os.path.dirname(clean), exist_ok=True)
        with open(clean, "w", encoding="utf-8"):
            pass
    return found


if not shutil.which("clang-tidy"):
    tree.skip("clang-tidy is not installed")
known = tree.commands()
paths = sys.argv[1:] or sorted(p for p in known if tree.exists(p))
for path in paths:
    if path not in known:
        sys.exit(f"{path} is not in compile_commands.json: run make compile_commands.json")
tree.built("version.h")
version = tree.run("clang-tidy", "--version").stdout
jobs = int(os.environ.get("JOBS", 0)) or len(os.sched_getaffinity(0))
with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    findings = {f for found in pool.map(look, paths) for f in found}
for path, line, message in sorted(findings):
    tree.bad(path, line, message)
tree.done()
