#!/usr/bin/python3
"""Prints perceiver.schema.json as a C file that defines pcv_model_schema(): the text as it is."""
import sys


def main(path):
    with open(path, encoding="ascii") as f:
        lines = f.read().split("\n")
    print(f"/* Made from {path} by schema2c.py: change it there. */")
    print('#include "lib/perceiver.h"\n')
    print("static const char document[] =")
    for line in lines[:-1]:
        piece = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
        print(f'    "{piece}\\n"')
    print("    ;\n\nconst char *pcv_model_schema(void)\n{\n    return document;\n}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: schema2c.py perceiver.schema.json")
    main(sys.argv[1])
