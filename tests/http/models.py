"""Models for the tests of the daemon: golden cases, and one that takes its time."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("PERCEIVER_BUILD", "build")
GOLDEN = ROOT / "tests" / "golden"


def forge(case, out):
    """The model directory of a case, made on demand."""
    if not (out / "model.safetensors").exists():
        subprocess.run([sys.executable, GOLDEN / "forge.py", case, out], check=True)
    return out


def golden(name):
    return forge(GOLDEN / name, ROOT / "build" / "golden" / name)


def slow():
    """A Fourier image classifier of 1024 latents that runs 320 layers: 52 GMAC an image, a second or
    more, with weights of a megabyte. With a sanitizer 40 layers take as long."""
    blocks = 20 if "san" in BUILD.name else 160
    case = ROOT / "build" / "golden" / f"slow-{blocks}.case"
    case.mkdir(parents=True, exist_ok=True)
    config = json.loads((GOLDEN / "hf-image-fourier" / "config.json").read_text())
    tensors = json.loads((GOLDEN / "hf-image-fourier" / "tensors.json").read_text())
    config.update(num_latents=1024, num_blocks=blocks)
    tensors["perceiver.embeddings.latents"]["shape"][0] = 1024
    (case / "config.json").write_text(json.dumps(config))
    (case / "tensors.json").write_text(json.dumps(tensors))
    return forge(case, ROOT / "build" / "golden" / f"slow-{blocks}")


def senses():
    """The shipped model that sees, hears and reads."""
    return ROOT / "etc" / "models" / "senses"


def other_weights(model, out, tensor="latents"):
    """A copy of a model directory in which one number of a tensor is another."""
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("*.py", "*.log", "samples"))
    path = out / "model.safetensors"
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + size])
    name = tensor if tensor in head else sorted(k for k in head if k != "__metadata__")[0]
    at = 8 + size + head[name]["data_offsets"][0]
    data[at:at + 4] = struct.pack("<f", struct.unpack("<f", data[at:at + 4])[0] + 0.25)
    path.write_bytes(data)
    return out
