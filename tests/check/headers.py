#!/usr/bin/python3
"""Every header compiles alone, twice over (it has a guard), with the flags of the Makefile: one for
an instruction set with those of its C files."""
import tree

for path in tree.files(".h"):
    ending = path[path.rindex("_"):-1] + "c" if "_avx" in path else ".c"
    r = tree.run(*tree.flags(ending), "-fsyntax-only", "-x", "c", "-",
                 input=f'#include "{path}"\n#include "{path}"\n')
    if r.returncode:
        first = next((l for l in r.stderr.splitlines() if "error:" in l), r.stderr.strip())
        tree.bad(path, 0, f"does not compile alone: {first}")
tree.done()
