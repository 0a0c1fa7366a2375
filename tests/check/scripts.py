#!/usr/bin/python3
"""Scripts are ones: Python compiles, shell parses (and shellcheck, where there is one, finds
nothing), what begins with #! may be run, and what may be run begins with #!."""
import os
import shutil
import warnings

import tree

warnings.simplefilter("error")  # a bad escape in a string is one
shell = []
for path in tree.files():
    full = os.path.join(tree.ROOT, path)
    with open(full, "rb") as f:
        first = f.readline(200)
    script, runs = first.startswith(b"#!"), os.access(full, os.X_OK)
    if script and not runs:
        tree.bad(path, 1, "begins with #! and may not be executed: chmod +x")
    if runs and not script:
        tree.bad(path, 0, "may be executed and is no script: chmod -x")
    if path.endswith(".py") or (script and b"python" in first):
        try:
            compile(tree.read(path), path, "exec", dont_inherit=True)
        except (SyntaxError, Warning, ValueError) as error:
            tree.bad(path, getattr(error, "lineno", 0), f"does not compile: {error}")
    if path.endswith(".sh") or (script and first.split()[0].endswith((b"/sh", b"/bash"))):
        shell.append(path)
        r = tree.run("bash" if b"bash" in first else "sh", "-n", path)
        if r.returncode:
            tree.bad(path, 0, r.stderr.strip())
if shell and shutil.which("shellcheck"):
    r = tree.run("shellcheck", "--format=gcc", *shell)
    for line in r.stdout.splitlines():
        tree.bad("shellcheck", 0, line)
tree.done()
