#!/usr/bin/python3
"""Writes the points-*, audio-* and spectrogram-* cases: inputs that perceiver-pytorch leaves to its callers,
through a Perceiver calculated here, in float64 and straight from the formulas. Needs numpy.
"""

import math

import numpy as np

import cases

erf = np.vectorize(math.erf)
MODEL = {"class": "Perceiver", "depth": 2, "num_latents": 10, "latent_dim": 16, "latent_heads": 2,
         "latent_dim_head": 5, "cross_heads": 1, "cross_dim_head": 12, "num_classes": 4}


# ---- a Perceiver ---------------------------------------------------------------------------------


def norm(x, w, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[name + ".weight"] + w[name + ".bias"]


def attend(x, y, w, name, heads):
    """x reads y, [rows, channels] both."""
    q = x @ w[name + ".fn.to_q.weight"].T
    k, v = np.split(y @ w[name + ".fn.to_kv.weight"].T, 2, axis=1)
    out = []
    for one in zip(*(np.split(m, heads, axis=1) for m in (q, k, v))):
        score = one[0] @ one[1].T / math.sqrt(one[0].shape[1])
        p = np.exp(score - score.max(1, keepdims=True))
        out.append(p / p.sum(1, keepdims=True) @ one[2])
    return np.concatenate(out, 1) @ w[name + ".fn.to_out.weight"].T + w[name + ".fn.to_out.bias"]


def mlp(x, w, name):
    h = norm(x, w, name + ".norm") @ w[name + ".fn.net.0.weight"].T + w[name + ".fn.net.0.bias"]
    value, gate = np.split(h, 2, axis=1)
    h = value * gate * (1 + erf(gate / math.sqrt(2))) / 2
    return h @ w[name + ".fn.net.2.weight"].T + w[name + ".fn.net.2.bias"]


def perceiver(config, w, tokens):
    """tokens [M, C]: latents after the first cross-attention layer, after all, and logits."""
    x, first = w["latents"], None
    for i in range(config["depth"]):
        name = f"layers.{i}"
        context = norm(tokens, w, f"{name}.0.norm_context")
        x = x + attend(norm(x, w, f"{name}.0.norm"), context, w, f"{name}.0", config["cross_heads"])
        x = x + mlp(x, w, f"{name}.1")
        first = x if first is None else first
        own = norm(x, w, f"{name}.2.0.0.norm")
        x = x + attend(own, own, w, f"{name}.2.0.0", config["latent_heads"])
        x = x + mlp(x, w, f"{name}.2.0.1")
    pooled = norm(x.mean(0), w, "to_logits.1")
    return first, x, pooled @ w["to_logits.2.weight"].T + w["to_logits.2.bias"]


def shapes(config, channels):
    n, d = config["num_latents"], config["latent_dim"]
    out = {"latents": (n, d)}

    def norms(name, width):
        out[name + ".weight"], out[name + ".bias"] = (width,), (width,)

    def attention(name, width, inner):
        out[name + ".fn.to_q.weight"] = (inner, d)
        out[name + ".fn.to_kv.weight"] = (2 * inner, width)
        out[name + ".fn.to_out.weight"], out[name + ".fn.to_out.bias"] = (d, inner), (d,)
        norms(name + ".norm", d)

    def feed_forward(name):
        out[name + ".fn.net.0.weight"], out[name + ".fn.net.0.bias"] = (8 * d, d), (8 * d,)
        out[name + ".fn.net.2.weight"], out[name + ".fn.net.2.bias"] = (d, 4 * d), (d,)
        norms(name + ".norm", d)

    for i in range(config["depth"]):
        attention(f"layers.{i}.0", channels, config["cross_heads"] * config["cross_dim_head"])
        norms(f"layers.{i}.0.norm_context", channels)
        feed_forward(f"layers.{i}.1")
        attention(f"layers.{i}.2.0.0", d, config["latent_heads"] * config["latent_dim_head"])
        feed_forward(f"layers.{i}.2.0.1")
    norms("to_logits.1", d)
    out["to_logits.2.weight"], out["to_logits.2.bias"] = (config["num_classes"], d), (config["num_classes"],)
    return out


# ---- tokens --------------------------------------------------------------------------------------


def fourier(x, bands, max_freq):
    """x [...]: [..., 2 bands + 1], sines, cosines, x itself."""
    angle = np.pi * x[..., None] * np.linspace(1, max_freq / 2, bands)
    return np.concatenate([np.sin(angle), np.cos(angle), x[..., None]], -1)


def points(config, data):
    """[n, coordinates]: Fourier features of every coordinate, one after another."""
    c = config["coordinates"]
    return fourier(data, c["num_freq_bands"], c["max_freq"]).reshape(len(data), -1)


def grid(config, data):
    """[axes.., channels]: patches, then Fourier features of each axis."""
    patch = config.get("patch", [1] * config["input_axis"])
    size = [s // p for s, p in zip(data.shape, patch)]
    split = [n for s, p in zip(size, patch) for n in (s, p)]
    axes = len(size)
    order = [2 * i for i in range(axes)] + [2 * i + 1 for i in range(axes)] + [2 * axes]
    tokens = data.reshape(*split, data.shape[-1]).transpose(order).reshape(*size, -1)
    at = np.meshgrid(*(np.linspace(-1, 1, s) for s in size), indexing="ij")
    position = [fourier(a, config["num_freq_bands"], config["max_freq"]) for a in at]
    return np.concatenate([tokens, *position], -1).reshape(math.prod(size), -1)


def make(name, adapt, extra, calls, about):
    """calls: [{"data": [b, ...], "mask": [b, ...]}]"""
    config = {**MODEL, **extra}
    adapted = [[adapt(config, row) for row in call["data"].astype(np.float64)] for call in calls]
    table = cases.rules(shapes(config, adapted[0][0].shape[1]), {})
    w = {k: v.astype(np.float64) for k, v in cases.weights(table).items()}
    done = []
    for call, rows in zip(calls, adapted):
        keep = call.get("mask", np.ones(1, bool))
        keep = np.broadcast_to(keep.reshape(len(keep), -1), (len(rows), len(rows[0])))
        first, last, logits = zip(*(perceiver(config, w, x[k]) for x, k in zip(rows, keep)))
        result = {"out.logits": logits, "stage.adapted_inputs": rows,
                  "stage.latents_after_encode": first, "stage.latents_after_process": last}
        done.append({f"in.{k}": v for k, v in call.items()}
                    | {k: np.array(v, np.float32) for k, v in result.items()})
    cases.write(name, config, table, done, {"upstream": "make_points.py", "note": about})


def main():
    make("points-coordinates", points,
         {"input_axis": 1, "input_channels": 3, "fourier_encode_data": False,
          "coordinates": {"num_freq_bands": 6, "max_freq": 16}},
         [{"data": cases.numbers("points/0", 2, 40, 3) / np.float32(1.7)},
          {"data": cases.numbers("points/1", 1, 25, 3) / np.float32(1.7),
           "mask": cases.integers("points/1m", 3, 1, 25) > 0}],
         "a point cloud: Fourier features of the coordinates themselves")
    make("audio-patches", grid,
         {"input_axis": 1, "input_channels": 16, "patch": [16], "num_freq_bands": 5, "max_freq": 12.0},
         [{"data": cases.numbers("audio/0", 2, 16 * 21, 1)},
          {"data": cases.numbers("audio/1", 1, 16 * 34, 1),
           "mask": cases.integers("audio/1m", 3, 1, 34) > 0}],
         "raw audio: 16 samples a token")
    make("spectrogram", grid,
         {"input_axis": 2, "input_channels": 1, "num_freq_bands": 4, "max_freq": 10.0},
         [{"data": cases.numbers("spectrogram/0", 1, 12, 9, 1)},
          {"data": cases.numbers("spectrogram/1", 2, 8, 11, 1)}],
         "mel values on a grid of frequency and time")
    make("spectrogram-patches", grid,
         {"input_axis": 2, "input_channels": 12, "patch": [3, 2], "num_freq_bands": 3, "max_freq": 6.0},
         [{"data": cases.numbers("patches/0", 1, 12, 10, 2)},
          {"data": cases.numbers("patches/1", 2, 6, 14, 2),
           "mask": cases.integers("patches/1m", 3, 2, 2, 7) > 0}],
         "two channels in patches of 3 x 2")


if __name__ == "__main__":
    main()
