"""Inputs and questions for the model that sees, hears and reads; answers as numbers, and whether two
say the same.

Tolerance: numbers agree when they differ by at most TOLERANCE of the largest of their answer."""

import base64
import io
import json
import wave

import numpy as np
from PIL import Image

from daemon import b64, eventually, png, tensor

TOLERANCE = 1e-5
SIDE = 28    # a picture's, its reconstruction's
TOKENS = 14  # a picture's tokens stand on a grid of so many squared
RATE = SAMPLES = 8000
FRAMES = 100  # a sound's tokens
LATENTS, WIDTH = 64, 128
KINDS = ("image", "audio", "text")


def sound(seed=0, samples=SAMPLES, rate=RATE):
    """A WAV file of two tones, different for each seed."""
    t = np.arange(samples) / rate
    x = 0.3 * np.sin(2 * np.pi * (180 + 37 * seed) * t) + 0.2 * np.sin(2 * np.pi * 900 * t) * t
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(np.round(x * 32767).astype("<i2").tobytes())
    return out.getvalue()


def text(seed=0):
    """Two masks; the length depends on the seed."""
    return f"No. {seed}: a tr[MASK]e is green{' and tall' * (seed % 5)}, not bl[MASK]e"


def item(kind, seed=0):
    """An input of a native request."""
    if kind == "text":
        return {"text": text(seed)}
    return {kind: b64(png(SIDE, SIDE, seed) if kind == "image" else sound(seed))}


# What can be asked of each kind. All labels and candidates: the order of near ones may differ.
QUERIES = {
    "image": [{"task": "garment", "top_k": 10}, {"task": "digit", "top_k": 10},
              {"task": "reconstruct"}, {"task": "attention", "latents": [0, 5, 63]},
              {"task": "embed"}, {"task": "embed", "pool": "none"}],
    "audio": [{"task": "spoken-digit", "top_k": 10}, {"task": "attention", "latents": [7]},
              {"task": "embed"}],
    "text": [{"task": "fill-mask", "top_k": 262}, {"task": "spam", "top_k": 2},
             {"task": "fill-mask", "top_k": 262, "positions": [4, 0, 9]},
             {"task": "attention", "latents": [1, 2]}, {"task": "embed"}],
}
# Their output queries.
ROWS = {"garment": 1, "digit": 1, "reconstruct": SIDE * SIDE, "spoken-digit": 1, "spam": 1,
        "attention": 0, "embed": 0}
# One request asks all of this; every kind has its answers.
ALL = [{"task": "garment", "top_k": 10}, {"task": "reconstruct"}, {"task": "spoken-digit", "top_k": 10},
       {"task": "fill-mask", "top_k": 262}, {"task": "spam", "top_k": 2},
       {"task": "attention", "latents": [3, 40]}, {"task": "embed"}]
FRESH = {"cache": False, "share": False}


def rows_of(query):
    """Output queries that text(seed) or a picture has for it."""
    if query["task"] == "fill-mask":
        return len(query.get("positions", [0, 0]))  # two masks
    return ROWS[query["task"]]


def perceive(daemon, inputs, queries=None, **more):
    """The reply's JSON; anything but 200 is a failure."""
    reply = daemon.perceive("senses", inputs, queries, **more)
    assert reply.status == 200, reply.body[:500]
    return reply.json


# ---- answers as numbers ---------------------------------------------------------------------------

def pixels(data):
    """Of a PNG, int [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def floats(encoded):
    return np.frombuffer(base64.b64decode(encoded), "<f4")


def numbers(result):
    """Of a result its tensor, values, or reconstruction as an array."""
    if "shape" in result:
        return floats(result["b64"]).reshape(result["shape"])
    if "files" in result:
        return np.stack([pixels(base64.b64decode(f["b64"])) for f in result["files"]])
    return np.array(result["embedding"], np.float32)


def scores(labels):
    """By class, and they come best first."""
    got = [c["score"] for c in labels]
    assert got == sorted(got, reverse=True), got
    return {c["index"]: c["score"] for c in labels}


def parts(result):
    """A result as (what must be equal, numbers that must be close, how far they may be off)."""
    fixed = {k: v for k, v in result.items()
             if k not in ("labels", "masks", "files", "b64", "embedding", "text", "bytes")}
    if "labels" in result or "masks" in result:
        groups = [m["candidates"] for m in result["masks"]] if "masks" in result else [result["labels"]]
        by_class = [scores(g) for g in groups]
        fixed["classes"] = [sorted(s) for s in by_class]
        fixed["names"] = [sorted((c["index"], c["label"]) for c in g) for g in groups]
        # Characters are counted in the text itself, which is not kept with its latents.
        fixed["places"] = [(m["position"], m["byte_offset"]) for m in result.get("masks", [])]
        x = np.array([s[i] for s in by_class for i in sorted(s)])
        return fixed, x, TOLERANCE * x.max()
    x = numbers(result)
    if "files" in result:  # rounded to bytes
        fixed["files"] = [(f["index"], f["type"]) for f in result["files"]]
        return fixed, x, 1
    return fixed, x, TOLERANCE * np.abs(x).max()


def close(got, want):
    """Fails unless two arrays agree."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()


def same(got, want):
    """Fails unless two results, or lists of them, say the same."""
    if isinstance(got, list):
        assert len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w)
        return
    (fixed, x, room), (wanted, y, _) = parts(got), parts(want)
    assert fixed == wanted
    assert x.shape == y.shape and np.abs(x - y).max() <= room, (got["task"], np.abs(x - y).max(), room)


def differ(got, want):
    """Whether two results say something clearly different."""
    (_, x, room), (_, y, _) = parts(got), parts(want)
    return x.shape != y.shape or np.abs(x - y).max() > 100 * room


def refused(reply, status, path=None, *words):
    """An error of the native API, at a place, whose message has the words."""
    assert reply.status == status, (reply.status, reply.body[:500])
    error = reply.json["error"]
    assert error["code"] and error["request_id"]
    assert path is None or error["path"] == path, error
    for w in words:
        assert w in error["message"], error


# ---- metrics --------------------------------------------------------------------------------------

class Counted:
    """How much metrics have grown since; counted(NAME, label=VALUE)."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.before = self.read()

    def read(self):
        out = {}
        for line in self.daemon.get("/metrics").body.decode().splitlines():
            if not line.startswith("#"):
                head, _, value = line.rpartition(" ")
                out[head] = float(value)
        return out

    def __call__(self, name, **labels):
        now = self.read()
        return sum(v - self.before.get(k, 0) for k, v in now.items()
                   if k.split("{")[0] == f"perceiverd_{name}"
                   and all(f'{label}="{value}"' in k for label, value in labels.items()))


# ---- requests on their way -----------------------------------------------------------------------

def busy(daemon):
    """A connection whose answer keeps the only lane busy."""
    assert eventually(lambda: daemon.metric("perceiverd_lanes_busy") == 0, 60)
    c = daemon.connect()
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    body = {"inputs": [tensor("inputs", "FP32", x.shape, x.reshape(-1).tolist())],
            "parameters": FRESH}
    c.request("POST", "/v2/models/slow/infer", json.dumps(body))
    assert eventually(lambda: daemon.metric("perceiverd_lanes_busy") == 1)
    return c


def post(daemon, inputs, queries, model="senses", **more):
    """A request on its way, on a connection of its own."""
    c = daemon.connect()
    body = {"inputs": inputs, **({"queries": queries} if queries else {}), **more}
    c.request("POST", f"/v1/models/{model}/perceive", json.dumps(body))
    return c


def in_flight(daemon, n):
    """All have arrived; those that wait for others are in no queue."""
    assert eventually(lambda: daemon.metric("perceiverd_in_flight") == n), daemon.get("/metrics").body


def answer(connection):
    r = connection.getresponse()
    body = json.loads(r.read())
    connection.close()
    assert r.status == 200, body
    return body
