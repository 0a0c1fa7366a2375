#!/usr/bin/python3
"""A model in the project's own layout (perceiver.json, lib/layout/perceiver.schema.json) calculated plainly, in
float64 and straight from the schema's words. Needs numpy.

    make_native.py                               writes the native-* cases
    make_native.py MODEL_DIR INPUTS RESULTS      all stages of one call: reads and writes safetensors

Inputs by their names in perceiver.json, all with a batch axis first: text int64 ids [b, n], CLS and SEP included;
image float32 [b, height, width, channels], after mean and std; audio float32 samples [b, n]; array float32
[b, axes.., channels]; and `queries` [b, rows, channels] for tasks whose caller brings them. Results: `tokens`,
`encoded`, `latents`, and `logits.TASK` of every task that has an answer for the input.
"""

import json
import math
import pathlib
import sys

import numpy as np

import cases

erf = np.vectorize(math.erf, otypes=[np.float64])
DTYPES = {v: k for k, v in cases.DTYPES.items()}


# ---- layers --------------------------------------------------------------------------------------


class Net:
    """A model: its description m and weights w."""

    def __init__(self, m, w):
        self.m = m
        self.w = {k: v.astype(np.float64) for k, v in w.items()}
        self.inputs = {i["name"]: i for i in m["inputs"]}

    def linear(self, name, x):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, name, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / np.sqrt(var + self.m.get("epsilon", 1e-5))
        return x * self.w[name + ".weight"] + self.w[name + ".bias"]

    def gelu(self, x):
        if self.m.get("activation") == "gelu_tanh":
            return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        return x * (1 + erf(x / math.sqrt(2))) / 2

    def attend(self, name, q, kv, heads):
        """What q [a, c] reads of kv [b, d], both after their norms."""
        parts = (self.linear(name + ".query", q), self.linear(name + ".key", kv), self.linear(name + ".value", kv))
        out = []
        for query, key, value in zip(*(np.split(p, heads, axis=1) for p in parts)):
            score = query @ key.T / math.sqrt(query.shape[1])
            p = np.exp(score - score.max(1, keepdims=True))
            out.append(p / p.sum(1, keepdims=True) @ value)
        return self.linear(name + ".out", np.concatenate(out, 1))

    def plus_mlp(self, name, part, x):
        if part.get("widening", 1) == 0:
            return x
        h = self.gelu(self.linear(name + ".mlp1", self.norm(name + ".norm_mlp", x)))
        return x + self.linear(name + ".mlp2", h)

    def cross(self, name, part, x, memory):
        """An encoder or a decoder."""
        read = self.attend(name, self.norm(name + ".norm_q", x), self.norm(name + ".norm_kv", memory), part["heads"])
        return self.plus_mlp(name, part, x + read if part.get("residual", True) else read)

    # ---- stages ----

    def content(self, entry, x):
        """Numbers of the tokens before positions [axes.., channels], of one input that is not text."""
        if entry["kind"] == "image":
            x = patches(x, entry.get("patch", [1, 1]))
        elif entry["kind"] == "audio" and "spectrum" in entry:
            x = spectrum(entry["spectrum"], entry["rate"], x)
        elif entry["kind"] == "audio":
            size = entry.get("patch", 1)
            x = np.pad(x, (0, -len(x) % size)).reshape(-1, size)
        return self.linear(f"inputs.{entry['name']}.lift", x) if "lift" in entry else x

    def positions(self, entry, axes):
        """Position channels [tokens, channels] of an input as large as `axes`."""
        position, full = entry["position"], full_size(entry)
        if position["kind"] == "none":
            return np.zeros((math.prod(axes), 0))
        if position["kind"] == "learned":
            table = self.w[f"inputs.{entry['name']}.positions"]
        else:
            table = fourier(full, position)
        table = table.reshape(*full, -1)[tuple(slice(n) for n in axes)]
        return table.reshape(math.prod(axes), -1)

    def tokens(self, name, x):
        """[tokens, channels] of one input."""
        entry = self.inputs[name]
        if entry["kind"] == "text":
            t = self.w[f"inputs.{name}.bytes"][x] + self.w[f"inputs.{name}.positions"][:len(x)]
        else:
            x = self.content(entry, x.astype(np.float64))
            axes, x = x.shape[:-1], x.reshape(-1, x.shape[-1])
            t = np.concatenate([x, self.positions(entry, axes)], 1)
        padding = self.w.get(f"inputs.{name}.padding", np.zeros(0))
        return np.concatenate([t, np.tile(padding, (len(t), 1))], 1)

    def encode(self, encoder, tokens):
        return self.cross(f"encoders.{encoder}", self.m["encoders"][encoder], self.w["latents"], tokens)

    def process(self, x):
        part = self.m["process"]
        for _ in range(part.get("repeats", 1)):
            for i in range(part["layers"]):
                h = self.norm(f"process.{i}.norm", x)
                x = self.plus_mlp(f"process.{i}", part, x + self.attend(f"process.{i}", h, h, part["heads"]))
        return x

    def queries(self, task, tokens, caller):
        name, query = f"tasks.{task['name']}", task.get("query", {"kind": "learned"})
        if task["kind"] == "fill-mask":
            return self.w[name + ".query"][:len(tokens)]
        if query["kind"] == "fourier":
            table = fourier(query["size"], query)
            padding = self.w.get(name + ".padding", np.zeros(0))
            return np.concatenate([table, np.tile(padding, (len(table), 1))], 1)
        return {"learned": self.w.get(name + ".query"), "input": tokens, "caller": caller}[query["kind"]]

    def decode(self, task, latents, tokens, caller=None):
        """A task's numbers [rows, channels]; of classes, names and embeddings one row [channels]."""
        if "decoder" not in task:
            return latents.mean(0)
        name, decoder = f"tasks.{task['name']}", task["decoder"]
        query = self.queries(task, tokens, caller)
        x = self.cross(f"decoders.{decoder}", self.m["decoders"][decoder], query, latents)
        if task["kind"] == "fill-mask":
            return x @ self.w[f"inputs.{task['for'][0]}.bytes"].T + self.w[name + ".head.bias"]
        if task["kind"] != "tensor" or "channels" in task:
            x = self.linear(name + ".head", x)
        return x[0] if task["kind"] in ("classify", "regression", "embedding") else x

    def run(self, given):
        """All stages for the inputs of one request: {name: array}, `queries` too if there are."""
        names = [n for n in self.inputs if n in given]
        tokens = np.concatenate([self.tokens(n, given[n]) for n in names])
        encoded = self.encode(self.inputs[names[0]]["encoder"], tokens)
        out = {"tokens": tokens, "encoded": encoded, "latents": self.process(encoded)}
        for task in self.m["tasks"]:
            missing = task.get("query", {}).get("kind") == "caller" and "queries" not in given
            if not missing and set(task.get("for", names)) & set(names):
                answer = self.decode(task, out["latents"], tokens, given.get("queries"))
                out["logits." + task["name"]] = answer
        return out


# ---- tokens --------------------------------------------------------------------------------------


def full_size(entry):
    """Tokens along each axis of the largest input."""
    if entry["kind"] == "array":
        return entry["size"]
    if entry["kind"] == "image":
        return [n // p for n, p in zip((entry["height"], entry["width"]), entry.get("patch", [1, 1]))]
    step = entry["spectrum"]["hop"] if "spectrum" in entry else entry.get("patch", 1)
    return [-(-entry["samples"] // step)]


def fourier(size, how):
    """[points, axes (1 + 2 bands)]"""
    axes = [np.linspace(-1, 1, n) for n in size]
    at = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(size))
    f = [np.linspace(1, r / 2, how["bands"]) for r in how["max_resolution"]]
    phase = np.concatenate([np.pi * at[:, i, None] * f[i] for i in range(len(size))], 1)
    return np.concatenate([at, np.sin(phase), np.cos(phase)], 1)


def patches(x, size):
    """[h, w, c]: [h / rows, w / columns, rows columns c]"""
    (h, w, c), (rows, columns) = x.shape, size
    x = x.reshape(h // rows, rows, w // columns, columns, c).transpose(0, 2, 1, 3, 4)
    return x.reshape(h // rows, w // columns, -1)


def triangles(s, rate):
    """W [bands, window / 2 + 1]"""
    mel = np.linspace(*(2595 * math.log10(1 + s[k] / 700) for k in ("low", "high")), s["bands"] + 2)
    edge = 700 * (10 ** (mel / 2595) - 1)
    f = np.arange(s["window"] // 2 + 1) * rate / s["window"]
    low, top, high = edge[:-2, None], edge[1:-1, None], edge[2:, None]
    return np.maximum(0, np.minimum((f - low) / (top - low), (high - f) / (high - top)))


def spectrum(s, rate, x):
    """Samples [n]: [frames, bands]"""
    loudness = math.sqrt(np.mean(x**2))
    if s.get("rms", 0) and loudness:
        x = x * s["rms"] / loudness
    k = np.arange(s["window"])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * k / s["window"])
    wave = np.exp(-2j * np.pi * np.outer(np.arange(len(k) // 2 + 1), k) / len(k))
    rows = []
    for i in range(-(-len(x) // s["hop"])):
        at = math.floor(i * s["hop"] + s["hop"] / 2 - s["window"] / 2) + k
        frame = np.where((at >= 0) & (at < len(x)), x[np.clip(at, 0, len(x) - 1)], 0)
        rows.append(np.abs(wave @ (hann * frame)) ** 2)
    y = np.log(s.get("floor", 1e-6) + np.array(rows) @ triangles(s, rate).T)
    return (y - s.get("mean", 0)) / s.get("std", 1)


# ---- tensors of a description --------------------------------------------------------------------


def content_channels(entry):
    if "lift" in entry:
        return entry["lift"]
    return raw_channels(entry)


def raw_channels(entry):
    if entry["kind"] == "image":
        return math.prod(entry.get("patch", [1, 1])) * entry.get("channels", 3)
    if entry["kind"] == "array":
        return entry["channels"]
    return entry["spectrum"]["bands"] if "spectrum" in entry else entry.get("patch", 1)


def token_channels(entry):
    """Of one token, before it is filled up."""
    if entry["kind"] == "text":
        return entry["channels"]
    position = entry["position"]
    if position["kind"] == "fourier":
        return content_channels(entry) + len(full_size(entry)) * (1 + 2 * position["bands"])
    return content_channels(entry) + position.get("channels", 0)


class Shapes(dict):
    """{name: shape} of all tensors of a description."""

    def __init__(self, m):
        super().__init__()
        width = m["latents"]["channels"]
        self["latents"] = (m["latents"]["count"], width)
        for name, part in m["encoders"].items():
            users = [i for i in m["inputs"] if i["encoder"] == name]
            channels = part.get("channels", max(map(token_channels, users)))
            self.block(f"encoders.{name}", part, width, width, channels)
            for entry in users:
                self.input(entry, channels)
        for i in range(m["process"]["layers"]):
            self.block(f"process.{i}", m["process"], width, width, None)
        for name, part in m["decoders"].items():
            self.block(f"decoders.{name}", part, part["channels"], part["channels"], width)
        for task in m["tasks"]:
            if "decoder" in task:
                self.task(task, m["decoders"][task["decoder"]]["channels"], m["inputs"])

    def linear(self, name, inputs, outputs):
        self[name + ".weight"], self[name + ".bias"] = (outputs, inputs), (outputs,)

    def norm(self, name, width):
        self[name + ".weight"], self[name + ".bias"] = (width,), (width,)

    def block(self, name, part, width, qk, tokens):
        """tokens: channels of what is read, or None for the block's own rows."""
        qk = part.get("qk", qk)
        v = part.get("v", qk)
        for norm in ("norm",) if tokens is None else ("norm_q", "norm_kv"):
            self.norm(f"{name}.{norm}", tokens if norm == "norm_kv" else width)
        self.linear(name + ".query", width, qk)
        self.linear(name + ".key", tokens or width, qk)
        self.linear(name + ".value", tokens or width, v)
        self.linear(name + ".out", v, width)
        wide = width * part.get("widening", 1)
        if wide:
            self.norm(name + ".norm_mlp", width)
            self.linear(name + ".mlp1", width, wide)
            self.linear(name + ".mlp2", wide, width)

    def input(self, entry, channels):
        name, own = f"inputs.{entry['name']}", token_channels(entry)
        if entry["kind"] == "text":
            self[name + ".bytes"] = (262, entry["channels"])
            self[name + ".positions"] = (entry["positions"], entry["channels"])
        elif entry["position"]["kind"] == "learned":
            self[name + ".positions"] = (math.prod(full_size(entry)), entry["position"]["channels"])
        if "lift" in entry:
            self.linear(name + ".lift", raw_channels(entry), entry["lift"])
        if own < channels:
            self[name + ".padding"] = (channels - own,)

    def task(self, task, channels, inputs):
        name, query = f"tasks.{task['name']}", task.get("query", {"kind": "learned"})
        if task["kind"] == "fill-mask":
            text = next(i for i in inputs if i["name"] == task["for"][0])
            self[name + ".query"], self[name + ".head.bias"] = (text["positions"], channels), (262,)
            return
        if query["kind"] == "learned":
            self[name + ".query"] = (query.get("rows", 1), channels)
        elif query["kind"] == "fourier":
            own = len(query["size"]) * (1 + 2 * query["bands"])
            if own < channels:
                self[name + ".padding"] = (channels - own,)
        outputs = len(task.get("labels", task.get("names", ()))) or task.get("channels", 0)
        outputs = outputs or (3 if task["kind"] == "pixels" else 0)
        if outputs:
            self.linear(name + ".head", channels, outputs)


def weights(case, m):
    """As large as trained ones, so that nothing vanishes and no softmax is one-hot."""
    out = {}
    for name, shape in Shapes(m).items():
        x = cases.numbers(f"{case}/{name}", *shape)
        if len(shape) == 2 and name.endswith(".weight"):
            x *= np.float32(1.6 / math.sqrt(shape[1]))
        elif ".norm" in name or name.endswith(".bias"):
            x = x * np.float32(0.2) + np.float32(name.endswith(".weight"))
        out[name] = x
    return out


# ---- cases ---------------------------------------------------------------------------------------


def calls_of(net, calls):
    """[{input: [b, ...]}]: what the net makes of them, {"0.in.x": ..., "0.tokens": ...}."""
    done = {}
    for i, call in enumerate(calls):
        rows = [net.run({k: v[r] for k, v in call.items()}) for r in range(len(next(iter(call.values()))))]
        done |= {f"{i}.in.{k}": v for k, v in call.items()}
        done |= {f"{i}.{k}": np.array([row[k] for row in rows], np.float32) for k in rows[0]}
    return done


def make(name, m, calls):
    case = cases.HERE / name
    case.mkdir(exist_ok=True)
    m = {"format": "perceiver-1", "name": name, **m}
    w = weights(name, m)
    (case / "perceiver.json").write_text(json.dumps(m, indent=2) + "\n")
    cases.save(case / "model.safetensors", w)
    cases.save(case / "vectors.safetensors", calls_of(Net(m, w), calls))
    sizes = {f.name: f.stat().st_size // 1024 for f in sorted(case.iterdir())}
    print(f"{name}: {len(w)} tensors, {len(calls)} calls, KB {sizes}")


def ids(name, *shape):
    """Texts between CLS and SEP, a MASK among their bytes."""
    x = cases.integers(name, 256, *shape) + 6
    x[:, 0], x[:, -1], x[:, shape[1] // 2] = 4, 5, 3
    return x


def senses():
    """In small what etc/models/senses is."""
    image = {"name": "image", "kind": "image", "encoder": "see", "height": 8, "width": 12, "channels": 1,
             "patch": [2, 2], "mean": [0.5], "std": [0.5],
             "position": {"kind": "fourier", "bands": 3, "max_resolution": [4, 6]}}
    audio = {"name": "audio", "kind": "audio", "encoder": "hear", "rate": 8000, "samples": 1600,
             "spectrum": {"window": 64, "hop": 80, "bands": 7, "low": 80, "high": 3900, "rms": 0.1,
                          "floor": 0.001, "mean": 0, "std": 4},
             "position": {"kind": "fourier", "bands": 4, "max_resolution": [20]}}
    text = {"name": "text", "kind": "text", "encoder": "read", "positions": 21, "channels": 8}
    m = {"latents": {"count": 5, "channels": 12},
         "encoders": {"see": {"heads": 2, "qk": 8, "v": 12, "widening": 2},
                      "hear": {"heads": 3, "qk": 6, "v": 9}, "read": {"heads": 4, "qk": 12, "v": 8}},
         "process": {"layers": 2, "heads": 3, "qk": 12, "v": 12, "widening": 2},
         "decoders": {"judge": {"channels": 10, "heads": 2, "qk": 8, "v": 12},
                      "spell": {"channels": 8, "heads": 2, "qk": 8, "v": 8, "widening": 2, "residual": False},
                      "paint": {"channels": 14, "heads": 2, "qk": 6, "v": 10, "residual": False}},
         "inputs": [image, audio, text],
         "tasks": [{"name": "garment", "kind": "classify", "for": ["image"], "decoder": "judge",
                    "labels": ["shoe", "bag", "coat"]},
                   {"name": "digit", "kind": "classify", "for": ["image"], "decoder": "judge",
                    "labels": ["0", "1", "2", "3"]},
                   {"name": "reconstruct", "kind": "pixels", "for": ["image"], "decoder": "paint", "channels": 1,
                    "query": {"kind": "fourier", "size": [8, 12], "bands": 3, "max_resolution": [8, 12]},
                    "mean": [0.5], "std": [0.5]},
                   {"name": "spoken-digit", "kind": "classify", "for": ["audio"], "decoder": "judge",
                    "labels": ["zero", "one"]},
                   {"name": "fill-mask", "kind": "fill-mask", "for": ["text"], "decoder": "spell"},
                   {"name": "spam", "kind": "classify", "for": ["text"], "decoder": "judge",
                    "labels": ["ham", "spam"]},
                   {"name": "embed", "kind": "embedding"}]}
    make("native-senses", m,
         [{"image": cases.numbers("senses/0", 3, 8, 12, 1)}, {"audio": cases.numbers("senses/1", 2, 1600)},
          {"audio": cases.numbers("senses/2", 1, 713)}, {"text": ids("senses/3", 1, 21)},
          {"text": ids("senses/4", 2, 9)}])


def shared():
    """Inputs of three kinds by one encoder, filled up; learned positions, lifts; GELU by tanh; blocks without MLP."""
    image = {"name": "photo", "kind": "image", "encoder": "all", "height": 6, "width": 9, "patch": [2, 3],
             "lift": 19, "position": {"kind": "learned", "channels": 4}}
    audio = {"name": "sound", "kind": "audio", "encoder": "all", "rate": 8000, "samples": 150, "patch": 11,
             "position": {"kind": "learned", "channels": 5}}
    array = {"name": "wind", "kind": "array", "encoder": "all", "size": [3, 5], "channels": 2, "lift": 3,
             "position": {"kind": "fourier", "bands": 2, "max_resolution": [3, 5]}}
    text = {"name": "note", "kind": "text", "encoder": "all", "positions": 14, "channels": 8}
    m = {"activation": "gelu_tanh", "epsilon": 0.001, "latents": {"count": 7, "channels": 10},
         "encoders": {"all": {"channels": 25, "heads": 5, "residual": False}},
         "process": {"layers": 2, "repeats": 3, "heads": 2, "v": 6, "widening": 0},
         "decoders": {"plain": {"channels": 6, "heads": 3, "widening": 0},
                      "wide": {"channels": 9, "heads": 1, "qk": 4, "widening": 3, "residual": False}},
         "inputs": [image, audio, array, text],
         "tasks": [{"name": "label", "kind": "classify", "decoder": "plain", "labels": ["a", "b", "c"]},
                   {"name": "measure", "kind": "regression", "for": ["sound", "wind"], "decoder": "plain",
                    "names": ["speed", "angle"]},
                   {"name": "vector", "kind": "embedding", "decoder": "wide", "channels": 5},
                   {"name": "mean", "kind": "embedding"},
                   {"name": "rows", "kind": "tensor", "decoder": "wide", "query": {"kind": "learned", "rows": 4}}]}
    make("native-shared", m,
         [{"photo": cases.numbers("shared/0", 2, 6, 9, 3)}, {"sound": cases.numbers("shared/1", 1, 150)},
          {"sound": cases.numbers("shared/2", 2, 45)}, {"wind": cases.numbers("shared/3", 2, 3, 5, 2)},
          {"wind": cases.numbers("shared/4", 1, 2, 4, 2)}, {"note": ids("shared/5", 1, 11)}])


def together():
    """A request is all inputs at once; Fourier queries filled up, queries of the caller."""
    image = {"name": "frame", "kind": "image", "encoder": "all", "height": 4, "width": 6, "channels": 1,
             "position": {"kind": "fourier", "bands": 2, "max_resolution": [4, 6]}}
    audio = {"name": "track", "kind": "audio", "encoder": "all", "rate": 16000, "samples": 96, "patch": 8,
             "position": {"kind": "fourier", "bands": 3, "max_resolution": [12]}}
    array = {"name": "pose", "kind": "array", "encoder": "all", "size": [7], "channels": 13,
             "position": {"kind": "none"}}
    m = {"together": True, "latents": {"count": 6, "channels": 8},
         "encoders": {"all": {"channels": 16, "heads": 2, "qk": 6, "v": 10, "widening": 0}},
         "process": {"layers": 1, "repeats": 2, "heads": 4},
         "decoders": {"points": {"channels": 15, "heads": 3, "qk": 9, "v": 6, "residual": False},
                      "asked": {"channels": 5, "heads": 1}},
         "inputs": [image, audio, array],
         "tasks": [{"name": "flow", "kind": "tensor", "decoder": "points", "channels": 2,
                    "query": {"kind": "fourier", "size": [3, 4], "bands": 2, "max_resolution": [4, 6]}},
                   {"name": "picture", "kind": "pixels", "decoder": "points",
                    "query": {"kind": "fourier", "size": [2, 5], "bands": 3, "max_resolution": [8, 6]}},
                   {"name": "answers", "kind": "tensor", "decoder": "asked", "channels": 4,
                    "query": {"kind": "caller", "rows": 9}},
                   {"name": "state", "kind": "regression", "decoder": "asked", "names": ["x", "y", "z"]}]}
    make("native-together", m,
         [{"frame": cases.numbers("together/0", 2, 4, 6, 1), "track": cases.numbers("together/1", 2, 96),
           "pose": cases.numbers("together/2", 2, 7, 13), "queries": cases.numbers("together/3", 2, 9, 5)},
          {"frame": cases.numbers("together/4", 1, 4, 6, 1), "track": cases.numbers("together/5", 1, 37),
           "pose": cases.numbers("together/6", 1, 4, 13), "queries": cases.numbers("together/7", 1, 3, 5)}])


def tokens_asked():
    """Output queries are the input's tokens, on three axes and of a spectrum; no process layers."""
    grid = {"name": "volume", "kind": "array", "encoder": "grid", "size": [2, 3, 4], "channels": 2,
            "position": {"kind": "fourier", "bands": 1, "max_resolution": [2, 3, 4]}}
    audio = {"name": "speech", "kind": "audio", "encoder": "ear", "rate": 11025, "samples": 700,
             "spectrum": {"window": 50, "hop": 33, "bands": 6, "low": 0, "high": 5500, "mean": -2.5, "std": 1.5},
             "lift": 9, "position": {"kind": "learned", "channels": 3}}
    m = {"latents": {"count": 4, "channels": 9},
         "encoders": {"grid": {"heads": 1, "qk": 5, "v": 7}, "ear": {"heads": 3}},
         "process": {"layers": 0, "heads": 1},
         "decoders": {"voxels": {"channels": 11, "heads": 1}, "frames": {"channels": 12, "heads": 4}},
         "inputs": [grid, audio],
         "tasks": [{"name": "density", "kind": "tensor", "for": ["volume"], "decoder": "voxels", "channels": 1,
                    "query": {"kind": "input"}},
                   {"name": "state", "kind": "tensor", "for": ["speech"], "decoder": "frames",
                    "query": {"kind": "input"}},
                   {"name": "mean", "kind": "embedding"}]}
    make("native-tokens", m,
         [{"volume": cases.numbers("tokens/0", 2, 2, 3, 4, 2)}, {"volume": cases.numbers("tokens/1", 1, 2, 2, 3, 2)},
          {"speech": cases.numbers("tokens/2", 1, 700)}, {"speech": cases.numbers("tokens/3", 2, 100)}])


# ---- files ---------------------------------------------------------------------------------------


def load(path):
    """All tensors of a safetensors file."""
    raw = pathlib.Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    out = {}
    for name, t in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + o for o in t["data_offsets"])
            out[name] = np.frombuffer(raw[begin:end], DTYPES[t["dtype"]]).reshape(t["shape"])
    return out


def read_net(folder):
    folder = pathlib.Path(folder)
    return Net(json.loads((folder / "perceiver.json").read_text()), load(folder / "model.safetensors"))


def main(args):
    if not args:
        for case in (senses, shared, together, tokens_asked):
            case()
    elif len(args) == 3:
        done = calls_of(read_net(args[0]), [load(args[1])])
        cases.save(pathlib.Path(args[2]), {k[2:]: v for k, v in done.items() if not k.startswith("0.in.")})
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
