"""The language configuration when only masked bytes are asked.

Its upstream answers every position, so the forged model is written once more in the project's own format
(lib/layout/README.md), the same numbers under other names: there a tensor names the rows that are asked.
"""

import json
import shutil
import struct

import numpy as np

import full
from common import THREADS, WORK, evaluate, say

LONG = 2048
ROWS = {  # bytes, and the positions asked, which are masked
    "language, 10 masks": (LONG, np.arange(100, LONG, 200)),
    "language, 128 bytes, 5 masks": (128, np.arange(20, 120, 20)),
}
LAYER = {"channels": 768, "heads": 8, "qk": 256, "v": 768, "widening": 1}
DESCRIPTION = {
    "format": "perceiver-1", "name": "language", "epsilon": 1e-12,
    "latents": {"count": 256, "channels": 1280},
    "encoders": {"read": {**LAYER, "v": 1280}},
    "process": {"layers": 26, "heads": 8, "qk": 256, "v": 1280, "widening": 1},
    "decoders": {"spell": {**LAYER, "residual": False}},
    "inputs": [{"name": "text", "kind": "text", "encoder": "read", "positions": LONG, "channels": 768}],
    "tasks": [{"name": "fill-mask", "kind": "fill-mask", "for": ["text"], "decoder": "spell"}]}
PLACES = [("perceiver.input_preprocessor.embeddings.weight", "inputs.text.bytes"),
          ("perceiver.input_preprocessor.position_embeddings.weight", "inputs.text.positions"),
          ("perceiver.embeddings.latents", "latents"),
          ("perceiver.encoder.cross_attention.", "encoders.read."),
          ("perceiver.encoder.self_attends.", "process."),
          ("perceiver.decoder.decoding_cross_attention.", "decoders.spell."),
          ("perceiver.decoder.output_position_encodings.position_embeddings", "tasks.fill-mask.query"),
          ("embedding_decoder.bias", "tasks.fill-mask.head.bias")]
PARTS = [("attention.self.layernorm1.", "norm_q."), ("attention.self.layernorm2.", "norm_kv."),
         ("attention.self.", ""), ("attention.output.dense.", "out."), ("layernorm.", "norm_mlp."),
         ("mlp.dense1.", "mlp1."), ("mlp.dense2.", "mlp2.")]


def renamed(name):
    before, after = next(p for p in PLACES if name.startswith(p[0]))
    place = after + name[len(before):]
    for part, ours in PARTS:
        if part in place:
            place = place.replace(part, ours)
            break
    return place.replace("norm_q", "norm") if place.startswith("process.") else place


def prepare():
    """The model in the project's own format, made once."""
    folder = WORK / "language-native"
    if (folder / "model.safetensors").exists():
        return folder
    source = full.prepare("language", WORK) / "model.safetensors"
    folder.mkdir(exist_ok=True)
    (folder / "perceiver.json").write_text(json.dumps(DESCRIPTION, indent=1) + "\n")
    draft = folder / "draft"
    with open(source, "rb") as old, open(draft, "wb") as new:
        head = json.loads(old.read(struct.unpack("<Q", old.read(8))[0]))
        text = json.dumps({renamed(k): v for k, v in head.items()}).encode()
        text += b" " * (-len(text) % 8)
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(old, new, 1 << 24)
    draft.rename(folder / "model.safetensors")
    return folder


def plain(ids, positions):
    """What peers do, by the plain algorithm: the text filled up to 2048, every position decoded.
    Returns the asked rows, and multiply-adds that do not depend on how much of it is filling."""
    upstream = full.prepare("language", WORK)
    count = ids.shape[1]
    padded = np.zeros((1, LONG), "<i8")
    padded[:, :count] = ids
    given = WORK / "padded.safetensors"
    full.write(given, {"inputs": padded, "attention_mask": np.array([np.arange(LONG) < count], "<i8")})
    rows = full.read(evaluate(upstream, given, THREADS[-1], 1, "--dense")[1])["logits"][0, positions]
    full.write(given, {"inputs": padded})
    return rows, evaluate(upstream, given, THREADS[-1], 1, "--dense")[0]["gmac"]["dense"]


class Case:
    """One row: its model and input, and what it is held to."""

    def __init__(self, name):
        count, self.positions = ROWS[name]
        self.folder, self.given = prepare(), WORK / "asked.safetensors"
        ids = full.text(count, self.positions)["inputs"]
        say(f"{name}: the plain algorithm ...")
        self.want, self.dense = plain(ids, self.positions)
        full.write(self.given, {"text": ids, "fill-mask.positions": self.positions.astype("<i8")})

    def error(self, out):
        got = full.read(out)["fill-mask"][0]
        return float(np.abs(got - self.want).max() / np.abs(self.want).max())
