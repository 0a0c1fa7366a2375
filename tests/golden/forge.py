#!/usr/bin/python3
"""Makes the model of a golden case: forge.py CASE_DIR OUT_DIR

Writes OUT_DIR/model.safetensors from CASE_DIR/tensors.json by the rule in README.md, and copies
config.json beside it. The weights are written last and by a rename: where they are, all is there.
"""

import json
import math
import os
import pathlib
import shutil
import sys

import numpy as np

GAMMA = 0x9E3779B97F4A7C15  # splitmix64's step


def name_hash(name):
    """64-bit FNV-1a of the name's UTF-8 bytes."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def uniform(name, count):
    """count float32 numbers in [-1, 1): the top 24 bits of splitmix64, seeded with the name."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA)
        z += np.uint64(name_hash(name))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def values(name, rule):
    count = math.prod(rule["shape"])
    if rule.get("dtype") == "I64":  # a counter
        return np.zeros(count, "<i8")
    x = np.float32(rule["offset"]) + np.float32(rule["scale"]) * uniform(name, count)
    return x.astype("<f4")


def main(case, out):
    rules = json.loads((case / "tensors.json").read_text())
    header, body = {}, []
    end = 0
    for name, rule in rules.items():
        same = rule.get("same_as", name)
        data = values(same, rules[same]).tobytes()
        header[name] = {"dtype": rule.get("dtype", "F32"), "shape": rule["shape"],
                        "data_offsets": [end, end + len(data)]}
        end += len(data)
        body.append(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(case / "config.json", out / "config.json")
    draft = out / f"model.safetensors.{os.getpid()}"
    draft.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(body))
    draft.rename(out / "model.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
