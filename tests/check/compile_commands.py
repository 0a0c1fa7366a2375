#!/usr/bin/python3
"""compile_commands.py 'CC FLAGS...' - prints compile_commands.json: how each C file is compiled.

`make compile_commands.json` calls it with what it compiles everything with. Editors (clangd) read
the file, and the checks take their flags from it. What a file for one instruction set gets in
addition is read from the Makefile."""
import json
import re
import shlex
import sys

import tree

ISA_RULE = re.compile(r"^\$\(B\)/obj/(\S+)%(\S+)\.o: ISA = (-m.*)$", re.M)


def main(command):
    isa = [(m.group(1), m.group(2) + ".c", m.group(3).split())
           for m in ISA_RULE.finditer(tree.read("Makefile"))]
    if not isa:
        sys.exit("the Makefile says nowhere which files get an instruction set: \"...: ISA = -m...\"")
    base = shlex.split(command)
    entries = []
    for source in tree.files(".c"):
        own = [f for folder, end, flags in isa for f in flags
               if source.startswith(folder) and source.endswith(end)]
        if source == "tests/check/public_header.c":
            own.append(f"-I{tree.BUILD}/include")  # where it has been installed, for once
        entries.append({"directory": tree.ROOT, "file": source,
                        "arguments": base + own + ["-c", source]})
    print(json.dumps(entries, indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: compile_commands.py 'CC FLAGS...'")
    main(sys.argv[1])
