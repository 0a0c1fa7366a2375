#!/usr/bin/python3
"""Prints openapi.yaml as a C file that defines wire_openapi_json(): the same document as JSON."""
import json
import sys

import yaml


def main(path):
    with open(path, encoding="utf-8") as f:
        document = yaml.safe_load(f)
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    print(f"/* Made from {path} by openapi2c.py: change it there. */")
    print('#include "proto/wire.h"\n')
    print("static const char document[] =")
    for at in range(0, len(text), 80):
        piece = text[at : at + 80].replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
        print(f'    "{piece}"')
    print("    ;\n\nconst char *wire_openapi_json(void)\n{\n    return document;\n}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: openapi2c.py openapi.yaml")
    main(sys.argv[1])
