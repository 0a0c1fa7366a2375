#!/usr/bin/python3
"""Every folder has a README.md that says what belongs there, and what READMEs point to exists.

Folders that mirror the tree or hold data are spoken for by the README.md above them."""
import fnmatch
import os
import re

import tree

# Folders that the README.md above them speaks for, with all below.
SPOKEN_FOR = ["tests/unit/?*", "tests/golden/?*", "tests/fuzz/?*", "etc/models/",
              "etc/models/*/samples/"]
# What a README may name in backquotes without a folder, to be found anywhere in the tree.
NAME = re.compile(r"`([\w.-]+\.(?:c|h|def|py|sh|service|socket))`")
PATH = re.compile(r"`((?:\.ci|deploy|etc|lib|proto|server|tests)/[\w./-]*[\w/])`")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)")

paths = tree.files()
folders = {""}
for path in paths:
    parts = path.split("/")[:-1]
    folders |= {"/".join(parts[: n + 1]) + "/" for n in range(len(parts))}
for folder in sorted(folders):
    if folder.startswith(".") or any(fnmatch.fnmatch(folder, s) for s in SPOKEN_FOR):
        continue
    if not tree.exists(folder + "README.md"):
        tree.bad(folder or "./", 0, "has no README.md")

names = {os.path.basename(p) for p in paths}
for path in paths:
    if not path.endswith(".md"):
        continue
    text = tree.read(path)
    here = os.path.dirname(path)
    for m in NAME.finditer(text):
        if m.group(1) not in names:
            tree.bad(path, tree.line_of(text, m.start()), f"{m.group(1)} is not in the tree")
    for m in PATH.finditer(text):
        if not tree.exists(m.group(1)):
            tree.bad(path, tree.line_of(text, m.start()), f"{m.group(1)} is not in the tree")
    for m in LINK.finditer(text):
        if not tree.exists(os.path.normpath(os.path.join(here, m.group(1)))):
            tree.bad(path, tree.line_of(text, m.start()), f"the link to {m.group(1)} leads nowhere")
tree.done()
