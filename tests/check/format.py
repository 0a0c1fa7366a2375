#!/usr/bin/python3
"""format.py [FILE...] - C files are as clang-format leaves them (`make format`)."""
import shutil
import sys

import tree

if not shutil.which("clang-format"):
    tree.skip("clang-format is not installed")
paths = sys.argv[1:] or tree.files(".c", ".h", ".inc")
wrong = {}
for at in range(0, len(paths), 50):
    r = tree.run("clang-format", "--dry-run", *paths[at: at + 50])
    for line in r.stderr.splitlines():
        if ": warning:" in line or ": error:" in line:
            path, row = line.split(":")[:2]
            wrong.setdefault(path, row)
    if r.returncode:
        tree.bad("clang-format", 0, r.stderr.strip())
for path, row in sorted(wrong.items()):
    tree.bad(path, row, "clang-format would change it")
tree.done()
