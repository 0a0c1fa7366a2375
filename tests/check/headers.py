#!/usr/bin/python3
"""Every header compiles alone, twice over (it has a guard), with the flags of the Makefile."""
import tree

flags = tree.flags()
for path in tree.files(".h"):
    r = tree.run(*flags, "-fsyntax-only", "-x", "c", "-",
                 input=f'#include "{path}"\n#include "{path}"\n')
    if r.returncode:
        first = next((l for l in r.stderr.splitlines() if "error:" in l), r.stderr.strip())
        tree.bad(path, 0, f"does not compile alone: {first}")
tree.done()
