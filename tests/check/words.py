#!/usr/bin/python3
"""Text in the tree speaks of the project alone: no paths of the machine it was written on, no notes
to finish later, no package registries, no conflicts of merges. No line ends in blanks."""
import re

import tree

# Written so that this file does not hold them itself.
WORDS = [
    (r"(?<![\w.])/wor[k]\b", "a path of one machine"),
    (r"(?<![\w.])/(hom[e]|roo[t])/\w", "a path of one machine"),
    (r"\.\./share[d]\b", "a path outside the tree"),
    (r"\b(TO[D]O|FIX[M]E|X[X]X|HAC[K])\b", "a note to finish later"),
    (r"\b((test\.)?pyp[i]|files\.pythonhoste[d])\.org\b|\bpythonhoste[d]\b", "a package registry"),
    (r"\bregistry\.npmj[s]\.(org|com)|\bcrate[s]\.io\b|\bproxy\.golan[g]\.org|\brubygem[s]\.org",
     "a package registry"),
    (r"\bdeb\.debia[n]\.org|\barchive\.ubunt[u]\.com|\brepo1?\.mave[n]\.", "a package registry"),
    (r"^(<{7} |={7}$|>{7} )", "a conflict of a merge"),
]
PATTERNS = [(re.compile(p, re.M), what) for p, what in WORDS]
# Not text, or not ours to change.
BINARY = (".png", ".jpg", ".jpeg", ".safetensors", ".gz", ".bin", ".npz")
FOREIGN = ("LICENSE",)

for path in tree.files():
    if path.endswith(BINARY) or path in FOREIGN:
        continue
    text = tree.read(path)
    if "\0" in text:
        continue
    for pattern, what in PATTERNS:
        for m in pattern.finditer(text):
            tree.bad(path, tree.line_of(text, m.start()), f"\"{m.group().strip()}\": {what}")
    if path.endswith((".c", ".h", ".inc", ".def", ".py", ".sh", ".md", ".yaml", ".conf", "Makefile")):
        m = re.search(r"[ \t]+$", text, re.M)
        if m:
            tree.bad(path, tree.line_of(text, m.start()), "the line ends in blanks")
        if text and not text.endswith("\n"):
            tree.bad(path, text.count("\n") + 1, "the last line has no end")
tree.done()
