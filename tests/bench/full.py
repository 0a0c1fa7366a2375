"""The published configurations at real size: their models, inputs and reference results."""

import json
import pathlib
import struct
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent / "golden" / "full"
sys.path.insert(0, str(HERE.parent / "golden"))
import forge  # noqa: E402

DTYPES = {"F32": "<f4", "I64": "<i8"}
NAMES = {v: k for k, v in DTYPES.items()}


def read(path):
    """All tensors of a safetensors file."""
    raw = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    body = raw[8 + n:]
    return {name: np.frombuffer(body[slice(*t["data_offsets"])], DTYPES[t["dtype"]])
            .reshape(t["shape"])
            for name, t in json.loads(raw[8:8 + n]).items() if name != "__metadata__"}


def write(path, tensors):
    head, body, end = {}, [], 0
    for name, t in tensors.items():
        data = np.ascontiguousarray(t).tobytes()
        head[name] = {"dtype": NAMES[t.dtype.str], "shape": list(t.shape),
                      "data_offsets": [end, end + len(data)]}
        body.append(data)
        end += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))


def uniform(name, *shape):
    return forge.uniform("input." + name, int(np.prod(shape))).reshape(shape)


def text(length, masks):
    """Bytes in a fixed pattern between [CLS] and [SEP], [MASK] where asked."""
    ids = np.array([6 + (i * 7919) % 256 for i in range(length)], "<i8")
    ids[masks] = 3
    ids[0], ids[-1] = 4, 5
    return {"inputs": ids[None]}


def inputs(name):
    if name == "language":
        return text(2048, np.arange(13, 2048, 50))
    if name == "optical-flow":
        return {"inputs": uniform("inputs", 1, 2, 27, 368, 496)}
    if name == "multimodal":
        return {"inputs.audio": uniform("audio", 1, 30720, 1),
                "inputs.image": uniform("image", 1, 16, 3, 224, 224),
                "subsampled_output_points.image": np.arange(6272, 2 * 6272, dtype="<i8"),
                "subsampled_output_points.audio": np.arange(15, 30, dtype="<i8")}
    return {"inputs": uniform("inputs", 1, 3, 224, 224)}


def pictures(count):
    """Random pictures for the shipped model, and one pixel of each to be painted."""
    return {"image": uniform("image", count, 28, 28, 1),
            "reconstruct.positions": np.array([400], "<i8")}


def prepare(name, folder):
    """Model and input of a case under folder, made once."""
    folder = pathlib.Path(folder) / name
    if not (folder / "model.safetensors").exists():
        print(f"forging {name} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, HERE.parent / "golden" / "forge.py", CASES / name, folder],
                       check=True)
    write(folder / "in.safetensors", inputs(name))
    return folder


def error(name, out):
    """The largest difference to the reference, relative to its largest value."""
    kept = json.loads((CASES / name / "case.json").read_text())
    worst = 0.0
    for key, want in read(CASES / name / "vectors.safetensors").items():
        field = key.split(".", 2)[2]
        got, step = out[field], kept["latent_rows_kept"]
        if field.startswith("logits"):
            step = kept["logit_rows_kept"].get(field.partition(".")[2] or "logits", 1)
        got = got.reshape(-1, want.shape[-1])[::step]
        want = want.reshape(-1, want.shape[-1])
        assert got.shape == want.shape, (key, got.shape, want.shape)
        worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    return worst
