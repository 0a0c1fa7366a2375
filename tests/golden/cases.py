"""What the make_*.py scripts share: weights by rule, inputs by name, a case's files."""

import json
import math
import pathlib

import numpy as np

import forge

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {"float32": "F32", "int64": "I64", "bool": "BOOL", "uint8": "U8"}


def rules(shapes, same_as):
    """tensors.json for {name: shape}: numbers as large as trained ones, so that nothing vanishes and
    no softmax is one-hot. same_as: {name: the tensor it repeats}."""
    out = {}
    for name, shape in shapes.items():
        scale, offset = 0.35, 0.0
        if name in same_as:
            out[name] = {"shape": list(shape), "same_as": same_as[name]}
            continue
        if len(shape) == 1:
            offset = 1.0 if name.endswith("weight") else 0.0
        elif "emb" in name or "latents" in name or "_query" in name:
            scale = 1.7
        else:
            scale = 1.6 * math.sqrt(3 / math.prod(shape[1:]))
        out[name] = {"shape": list(shape), "scale": float(np.float32(scale)), "offset": offset}
    return out


def weights(table):
    """{name: array}, as forge.py writes them."""
    out = {}
    for name, rule in table.items():
        same = rule.get("same_as", name)
        out[name] = forge.values(same, table[same]).reshape(rule["shape"])
    return out


def numbers(name, *shape):
    """Inputs: the same on every run, of variance about 1."""
    return forge.uniform(name, math.prod(shape)).reshape(shape) * np.float32(1.7)


def integers(name, below, *shape):
    x = (forge.uniform(name, math.prod(shape)).astype(np.float64) + 1) / 2
    return np.minimum((x * below).astype(np.int64), below - 1).reshape(shape)


def save(path, tensors):
    header, body, end = {}, [], 0
    for name, array in tensors.items():
        array = np.ascontiguousarray(array)
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
        body.append(array.tobytes())
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(body))


def write(name, config, table, calls, about):
    """calls: one {"in.x": array, "out.y": array, "stage.z": array} each."""
    case = HERE / name
    case.mkdir(exist_ok=True)
    (case / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table.items()]
    (case / "tensors.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (case / "case.json").write_text(json.dumps({**about, "calls": len(calls)}, indent=2) + "\n")
    save(case / "vectors.safetensors",
         {f"{i}.{key}": value for i, call in enumerate(calls) for key, value in call.items()})
    size = sum(f.stat().st_size for f in case.iterdir())
    print(f"{name}: {len(table)} tensors, {len(calls)} calls, {size // 1024} KB")
