#!/usr/bin/python3
"""Makes the golden cases dm-image-conv and dm-image-learned: make_deepmind.py

Where DeepMind's code and Hugging Face's port of it differ (padding of the stem, residual of the
learned-position classifier), no vectors of another implementation exist here: this file is an
independent calculation of DeepMind's formulas, in float64 and as plainly as NumPy allows.

    make_deepmind.py CASE_DIR OUT_DIR     only writes the checkpoint of a case: OUT_DIR/model.pystate
"""

import json
import math
import pathlib
import pickle
import shutil
import sys

import numpy as np

import cases
import forge

HERE = pathlib.Path(__file__).resolve().parent
LATENTS, WIDTH, HEADS, BLOCKS, LAYERS, CLASSES = 20, 48, 4, 2, 2, 7
CONV, BANDS, LEARNED, SIDE = 64, 64, 256, 12
STEM = "image_preprocessor/~/conv2_d_downsample/~/"
BUILD = "image_preprocessor/~_build_network_inputs/"
ENCODER, DECODER = "perceiver_encoder/~/", "classification_decoder/~/basic_decoder/"


# ---- parameters ----------------------------------------------------------------------------------

def linear(name, into, out):
    return {name + "/w": (into, out), name + "/b": (out,)}


def norm(name, n):
    return {name + "/scale": (n,), name + "/offset": (n,)}


def layer(name, q, kv, cross):
    """An attention layer: keys and values as wide as what they come from."""
    shapes = norm(name + "/layer_norm", q)
    if cross:
        shapes |= norm(name + "/layer_norm_1", kv)
    shapes |= norm(name + ("/layer_norm_2" if cross else "/layer_norm_1"), q)
    shapes |= linear(name + "/attention/linear", q, kv)
    shapes |= linear(name + "/attention/linear_1", kv, kv)
    shapes |= linear(name + "/attention/linear_2", kv, kv)
    shapes |= linear(name + "/attention/linear_3", kv, q)
    return shapes | linear(name + "/mlp/linear", q, q) | linear(name + "/mlp/linear_1", q, q)


def shapes_of(kind):
    if kind == "conv":
        channels = CONV + 2 * (1 + 2 * BANDS)
        shapes = {STEM + "conv/w": (7, 7, 3, CONV), STEM + "batchnorm/scale": (1, 1, 1, CONV),
                  STEM + "batchnorm/offset": (1, 1, 1, CONV),
                  "state:" + STEM + "batchnorm/~/mean_ema/average": (1, 1, 1, CONV),
                  "state:" + STEM + "batchnorm/~/var_ema/average": (1, 1, 1, CONV)}
    else:
        channels = 2 * LEARNED
        shapes = {"image_preprocessor/~/conv2_d/w": (1, 1, 3, LEARNED),
                  "image_preprocessor/~/conv2_d/b": (LEARNED,),
                  BUILD + "trainable_position_encoding/pos_embs": (SIDE * SIDE, LEARNED)}
        shapes |= linear(BUILD + "position_encoding_projector/linear", LEARNED, LEARNED)
    shapes[ENCODER + "trainable_position_encoding/pos_embs"] = (LATENTS, WIDTH)
    shapes |= layer(ENCODER + "cross_attention", WIDTH, channels, True)
    for i in range(LAYERS):
        shapes |= layer(ENCODER + "self_attention" + (f"_{i}" if i else ""), WIDTH, WIDTH, False)
    shapes[DECODER + "~/trainable_position_encoding/pos_embs"] = (1, WIDTH)
    shapes |= layer(DECODER + "cross_attention", WIDTH, WIDTH, True)
    return shapes | linear(DECODER + "output", WIDTH, CLASSES)


def rules_of(kind):
    rules = {}
    for name, shape in shapes_of(kind).items():
        scale, offset = 0.3, 0.0
        if name.endswith(("/scale", "var_ema/average")):
            offset = 1.0
        elif name.endswith("/w"):
            scale = 1.6 * math.sqrt(3 / math.prod(shape[:-1]))
        elif name.endswith("pos_embs"):
            scale = 1.5
        rules[name] = {"shape": list(shape), "scale": float(np.float32(scale)), "offset": offset}
    return rules


def arrays(rules):
    return {name: forge.values(name, rule).reshape(rule["shape"]) for name, rule in rules.items()}


def write_checkpoint(rules, path):
    """{"params": {module: {array}}, "state": ...} of NumPy arrays, as DeepMind pickles them."""
    tree = {"params": {}, "state": {}}
    for name, array in arrays(rules).items():
        part = "state" if name.startswith("state:") else "params"
        module, _, leaf = name.removeprefix("state:").rpartition("/")
        tree[part].setdefault(module, {})[leaf] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as f:
        pickle.dump(tree, f, protocol=4)


# ---- DeepMind's formulas ----------------------------------------------------------------------------

def layer_norm(x, p, name):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * p[name + "/scale"] + p[name + "/offset"]


def project(x, p, name):
    return x @ p[name + "/w"] + p[name + "/b"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(q, k, v, heads):
    out = []
    for a, b, c in zip(np.split(q, heads, -1), np.split(k, heads, -1), np.split(v, heads, -1)):
        s = a @ b.T / math.sqrt(a.shape[-1])
        e = np.exp(s - s.max(-1, keepdims=True))
        out.append(e / e.sum(-1, keepdims=True) @ c)
    return np.concatenate(out, -1)


def run_layer(x, y, p, name, heads, cross, residual=True):
    q_in = layer_norm(x, p, name + "/layer_norm")
    kv_in = layer_norm(y, p, name + "/layer_norm_1") if cross else q_in
    a = name + "/attention/linear"
    context = attention(project(q_in, p, a), project(kv_in, p, a + "_1"),
                        project(kv_in, p, a + "_2"), heads)
    out = project(context, p, a + "_3")
    x = x + out if residual else out
    h = layer_norm(x, p, name + ("/layer_norm_2" if cross else "/layer_norm_1"))
    return x + project(gelu(project(h, p, name + "/mlp/linear")), p, name + "/mlp/linear_1")


def same(n, window, stride):
    """Outputs and padding before of TensorFlow's SAME."""
    out = -(-n // stride)
    return out, max((out - 1) * stride + window - n, 0) // 2


def windows(image, window, stride, fill):
    """[h, w, c] to [h', w', window, window, c] with SAME padding."""
    h, top = same(image.shape[0], window, stride)
    w, left = same(image.shape[1], window, stride)
    padded = np.pad(image, ((top, window), (left, window), (0, 0)), constant_values=fill)
    return np.array([[padded[y * stride:y * stride + window, x * stride:x * stride + window]
                      for x in range(w)] for y in range(h)])


def stem(image, p):
    x = np.einsum("yxijc,ijco->yxo", windows(image, 7, 2, 0.0), p[STEM + "conv/w"])
    mean = p["state:" + STEM + "batchnorm/~/mean_ema/average"][0, 0, 0]
    var = p["state:" + STEM + "batchnorm/~/var_ema/average"][0, 0, 0]
    x = (x - mean) / np.sqrt(var + 1e-5) * p[STEM + "batchnorm/scale"][0, 0, 0]
    x = np.maximum(x + p[STEM + "batchnorm/offset"][0, 0, 0], 0)
    return windows(x, 3, 2, -np.inf).max((2, 3))


def fourier(h, w, resolution):
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij"), -1)
    position = grid.reshape(-1, 2)
    bands = np.linspace(1, resolution / 2, BANDS)
    angle = (position[:, :, None] * bands * math.pi).reshape(len(position), -1)
    return np.concatenate([position, np.sin(angle), np.cos(angle)], -1)


def tokens(kind, image, p):
    if kind == "conv":
        x = stem(image, p)
        return np.concatenate([x.reshape(-1, CONV), fourier(*x.shape[:2], 56)], -1)
    x = image.reshape(-1, 3) @ p["image_preprocessor/~/conv2_d/w"][0, 0]
    x = x + p["image_preprocessor/~/conv2_d/b"]
    position = project(p[BUILD + "trainable_position_encoding/pos_embs"], p,
                       BUILD + "position_encoding_projector/linear")
    return np.concatenate([x, position], -1)


def forward(kind, image, p):
    """Stages and logits for one picture [h, w, 3]."""
    y = tokens(kind, image, p)
    x = run_layer(p[ENCODER + "trainable_position_encoding/pos_embs"], y, p,
                  ENCODER + "cross_attention", 1, True)
    stages = {"stage.adapted_inputs": y, "stage.latents_after_encode": x}
    for _ in range(BLOCKS):
        for i in range(LAYERS):
            x = run_layer(x, x, p, ENCODER + "self_attention" + (f"_{i}" if i else ""), HEADS, False)
    query = p[DECODER + "~/trainable_position_encoding/pos_embs"]
    out = run_layer(query, x, p, DECODER + "cross_attention", 1, True, residual=kind == "conv")
    stages["stage.latents_after_process"] = x
    stages["out.logits"] = project(out, p, DECODER + "output")[0]
    return stages


# ---- the cases ----------------------------------------------------------------------------------------

def make(kind, classes, sizes):
    case = HERE / f"dm-image-{kind}"
    case.mkdir(exist_ok=True)
    rules = rules_of(kind)
    params = {n: a.astype(np.float64) for n, a in arrays(rules).items()}
    vectors = {}
    for call, (h, w) in enumerate(sizes):
        image = cases.numbers(f"dm.{kind}.{call}", h, w, 3)
        vectors[f"{call}.in.inputs"] = image.transpose(2, 0, 1)[None].copy()
        for name, value in forward(kind, image.astype(np.float64), params).items():
            vectors[f"{call}.{name}"] = value.astype(np.float32)[None]
    cases.save(case / "vectors.safetensors", vectors)
    (case / "haiku.json").write_text(json.dumps(rules, indent=1) + "\n")
    (case / "config.json").write_text(json.dumps({
        "architectures": [classes], "model_type": "perceiver", "num_latents": LATENTS,
        "d_latents": WIDTH, "num_blocks": BLOCKS, "num_self_attends_per_block": LAYERS,
        "num_self_attention_heads": HEADS, "num_cross_attention_heads": 1, "image_size": SIDE,
        "num_labels": CLASSES}, indent=1) + "\n")
    (case / "case.json").write_text(json.dumps({
        "upstream": "deepmind-research/perceiver", "class": classes, "calls": len(sizes),
        "note": "an independent float64 calculation of DeepMind's formulas: make_deepmind.py"},
        indent=1) + "\n")


def main(arguments):
    if arguments:
        case, out = map(pathlib.Path, arguments)
        write_checkpoint(json.loads((case / "haiku.json").read_text()), out / "model.pystate")
        shutil.copyfile(case / "config.json", out / "config.json")
        return
    make("conv", "PerceiverForImageClassificationConvProcessing", [(32, 32), (45, 37)])
    make("learned", "PerceiverForImageClassificationLearned", [(SIDE, SIDE), (SIDE, SIDE)])


if __name__ == "__main__":
    main(sys.argv[1:])
