#!/usr/bin/python3
"""systemd-analyze verify has nothing to say about deploy/systemd/: with the daemon just built in the
place of the installed one, and manual pages not looked for."""
import os
import re
import shutil
import tempfile

import tree

if not shutil.which("systemd-analyze"):
    tree.skip("systemd-analyze is not installed")
daemon = tree.built("perceiverd")
units = tree.files(".service", ".socket", ".timer", ".slice", under=("deploy/systemd/",))
if not units:
    tree.bad("deploy/systemd", 0, "has no units")
with tempfile.TemporaryDirectory() as folder:
    copies = []
    for path in units:
        copies.append(os.path.join(folder, os.path.basename(path)))
        with open(copies[-1], "w", encoding="utf-8") as f:
            f.write(re.sub(r"^(ExecStart=[@:+!-]*)\S+/perceiverd\b", rf"\g<1>{daemon}",
                           tree.read(path), flags=re.M))
    r = tree.run("systemd-analyze", "verify", "--man=no", *copies) if copies else None
    for line in r.stderr.splitlines() if r else ():
        tree.bad("deploy/systemd", 0, line.replace(folder + "/", ""))
    if r and r.returncode and not r.stderr:
        tree.bad("deploy/systemd", 0, f"systemd-analyze verify exits with {r.returncode}")
tree.done()
