#!/usr/bin/env python3
"""Trains the Fashion-MNIST classifier of this folder and writes all its files.

    python3 etc/models/fashion/train.py [--data DIR] [--out DIR]

Needs PyTorch 2.9 or later, NumPy and safetensors (pip install torch numpy safetensors), and the
images: by default those of the Debian package dataset-fashion-mnist. Writes config.json,
preprocessor_config.json, model.safetensors and train.log into --out, by default this folder.

The model is a Perceiver IO in the layout of Hugging Face's PerceiverForImageClassificationFourier:
latents read the pixels by one cross-attention of one head, process themselves, and one learned
query reads the class from them. Training never makes keys and values of the pixels. A token is
[grey, grey, grey, position], its LayerNorm is gain (x - mean x) scale(x) + offset, and the queries
come from the learned latents alone, so with u = gain (Wk^T q) / sqrt(TOKEN), less its mean:

    score(latent, pixel)  = scale(pixel) u . token(pixel)  + what is the same for all pixels
    sum of weighted norms = gain (sum of softmax scale token, less its mean) + offset

u . position is one matrix for all images, and Wv is applied to the sums.
"""

import argparse
import gzip
import json
import math
import os
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
DATA = "/usr/share/datasets/fashion-mnist"
SIDE = 28
PIXEL_MEAN, PIXEL_STD = 0.5, 0.5
VALIDATION_IMAGES = 5000
SEED, THREADS = 1, 1

# The model. Bands and largest resolution are what the Hugging Face class always uses.
LATENTS, WIDTH, LAYERS, HEADS = 36, 128, 3, 4
BANDS, MAX_RESOLUTION = 64, 224
GREY = 3
POSITION = 2 + 4 * BANDS
TOKEN = GREY + POSITION
LN_EPS = 1e-5

# Where training starts: each latent looks at a spot of its own (standard deviation in pixels),
# more or less at its bright pixels, and grey counts for more than its 3 of 261 channels.
SPOT_SPREAD, GREY_SPREAD, GREY_GAIN = 2.6, 2.0, 6.0
LATENT_SPREAD = 0.25

# The training.
EPOCHS, BATCH, WARMUP_STEPS = 9, 128, 100
MUON_RATE, ADAM_RATE, PIXEL_RATE = 1e-2, 3e-3, 1e-4
WEIGHT_DECAY, CLIP, SMOOTHING = 0.05, 1.0, 0.05
AVERAGE_DECAY = 0.999
MAX_SHIFT = 1

# Names of Hugging Face's tensors.
ENCODER = "perceiver.encoder.cross_attention"
DECODER = "perceiver.decoder.decoder"
READER = DECODER + ".decoding_cross_attention"
LATENT_ARRAY = "perceiver.embeddings.latents"
QUERY_ARRAY = DECODER + ".output_position_encodings.position_embeddings"


def process_layer(i):
    return f"perceiver.encoder.self_attends.{i}"


# ---- data -------------------------------------------------------------------------------------

def read_idx(path):
    """An IDX file of unsigned bytes as a tensor."""
    with gzip.open(path) as f:
        raw = f.read()
    dims = raw[3]
    shape = struct.unpack_from(f">{dims}I", raw, 4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims)
    return torch.from_numpy(data.reshape(shape).copy())


def read_images(folder, part):
    """Images [n,28,28] and labels [n]; part is "train" or "t10k"."""
    images = read_idx(os.path.join(folder, f"{part}-images-idx3-ubyte.gz"))
    labels = read_idx(os.path.join(folder, f"{part}-labels-idx1-ubyte.gz"))
    return images, labels.long()


def normalised(images):
    """Bytes [n,28,28] to grey values [n,784], as preprocessor_config.json says."""
    return ((images.float() / 255 - PIXEL_MEAN) / PIXEL_STD).flatten(1)


def augmented(images):
    """Half of the images mirrored, all shifted by up to MAX_SHIFT pixels each way."""
    n, span = len(images), torch.arange(SIDE)
    padded = F.pad(images, (MAX_SHIFT,) * 4)
    shift = torch.randint(2 * MAX_SHIFT + 1, (2, n, 1))
    rows, columns = shift[0] + span, shift[1] + span
    columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def position_table():
    """Fourier features [784,258]: row, column, sines of both, cosines of both."""
    axis = torch.linspace(-1, 1, SIDE)
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    position = torch.stack([row, column], -1).reshape(-1, 2)
    frequency = torch.linspace(1, MAX_RESOLUTION / 2, BANDS)
    phase = math.pi * (position[:, :, None] * frequency).flatten(1)
    return torch.cat([position, phase.sin(), phase.cos()], 1)


# ---- initial weights --------------------------------------------------------------------------

def add_linear(w, name, inputs, outputs, gain=1.0):
    w[name + ".weight"] = torch.randn(outputs, inputs) * gain / math.sqrt(inputs)
    w[name + ".bias"] = torch.zeros(outputs)


def add_norm(w, name, width):
    w[name + ".weight"] = torch.ones(width)
    w[name + ".bias"] = torch.zeros(width)


def add_layer(w, name, inputs, cross):
    """One attention, as wide as its inputs, and its MLP; cross: keys come from elsewhere."""
    add_norm(w, name + ".attention.self.layernorm1", WIDTH)
    if cross:
        add_norm(w, name + ".attention.self.layernorm2", inputs)
    add_linear(w, name + ".attention.self.query", WIDTH, inputs)
    add_linear(w, name + ".attention.self.key", inputs, inputs)
    add_linear(w, name + ".attention.self.value", inputs, inputs)
    add_linear(w, name + ".attention.output.dense", inputs, WIDTH, gain=0.5)
    add_norm(w, name + ".layernorm", WIDTH)
    add_linear(w, name + ".mlp.dense1", WIDTH, WIDTH)
    add_linear(w, name + ".mlp.dense2", WIDTH, WIDTH, gain=0.5)


def spot_scores():
    """Scores [LATENTS,784] with which every latent looks at its place in a square grid."""
    across = math.isqrt(LATENTS)
    centre = (torch.arange(across) + 0.5) * SIDE / across - 0.5
    near = -(torch.arange(SIDE) - centre[:, None]).square() / (2 * SPOT_SPREAD ** 2)
    return (near[:, None, :, None] + near[None, :, None, :]).reshape(LATENTS, -1)


def aim_at_spots(w):
    """Sets gain and keys of the encoder's attention so that it starts from spot_scores()."""
    u_position = spot_scores() @ torch.linalg.pinv(centred(position_table()), rtol=1e-4).T
    u_grey = (torch.randn(LATENTS, 1) * GREY_SPREAD / GREY).expand(-1, GREY)
    gain = w[ENCODER + ".attention.self.layernorm2.weight"]
    gain[:GREY] = GREY_GAIN
    u = torch.cat([u_grey, u_position], 1) / gain * math.sqrt(TOKEN)
    w[ENCODER + ".attention.self.key.weight"] = torch.linalg.pinv(encoder_query(w)) @ u


def new_weights():
    """All tensors by their Hugging Face names."""
    w = {LATENT_ARRAY: LATENT_SPREAD * torch.randn(LATENTS, WIDTH)}
    add_layer(w, ENCODER, TOKEN, cross=True)
    aim_at_spots(w)
    for i in range(LAYERS):
        add_layer(w, process_layer(i), WIDTH, cross=False)
    w[QUERY_ARRAY] = torch.randn(1, WIDTH)
    add_layer(w, READER, WIDTH, cross=True)
    add_linear(w, DECODER + ".final_layer", WIDTH, len(LABELS))
    return {name: t.requires_grad_() for name, t in w.items()}


# ---- model ------------------------------------------------------------------------------------

def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], LN_EPS)


def plus_mlp(w, name, x):
    h = F.gelu(linear(w, name + ".mlp.dense1", norm(w, name + ".layernorm", x)))
    return x + linear(w, name + ".mlp.dense2", h)


def centred(x):
    return x - x.mean(-1, keepdim=True)


def token_scale(grey, table):
    """1 / standard deviation of every token: [n,784]."""
    total = GREY * grey + table.sum(1)
    squares = GREY * grey.square() + table.square().sum(1)
    return torch.rsqrt(squares / TOKEN - (total / TOKEN).square() + LN_EPS)


class ReadPixels(torch.autograd.Function):
    """Sums over pixels of softmax(score) scale token, with score = scale (u_map + u_grey grey).

    u_grey [LATENTS,1], u_map [LATENTS,784], grey and scale [n,784], table [784,258] to sums of
    grey [n,LATENTS,1] and position [n,LATENTS,258]. Takes a few images at a time, so that their
    scores stay in the processor's cache. The weights, softmax scale, are kept and multiplied in
    the table's type, which may be bfloat16.
    """

    CHUNK = 8

    @staticmethod
    def forward(ctx, u_grey, u_map, grey, scale, table):
        weight = table.new_empty(len(grey), *u_map.shape)
        for part, g, s in ReadPixels.chunks(weight, grey, scale):
            score = torch.addcmul(u_map, u_grey, g).mul_(s)
            part.copy_(F.softmax(score, -1).mul_(s))
        ctx.save_for_backward(weight, grey, scale, table)
        sum_grey = weight @ grey[:, :, None].to(table.dtype)
        return sum_grey.float(), (weight @ table).float()

    @staticmethod
    def backward(ctx, d_grey, d_position):
        weight, grey, scale, table = ctx.saved_tensors
        d_position = d_position.to(table.dtype)
        d_map = grey.new_zeros(weight.shape[1:])
        d_u_grey = grey.new_zeros(len(d_map), 1)
        for part, g, s, dg, dp in ReadPixels.chunks(weight, grey, scale, d_grey, d_position):
            part = part.float()
            d = torch.addcmul((dp @ table.T).float(), dg, g)
            inner = (part * d).sum(-1, keepdim=True)
            d.mul_(s).sub_(inner).mul_(part)
            d_map += d.sum(0)
            d_u_grey += (d @ g.mT).sum(0)
        return d_u_grey, d_map, None, None, None

    @staticmethod
    def chunks(weight, grey, scale, *others):
        rows = (weight, grey[:, None, :], scale[:, None, :], *others)
        return zip(*(t.split(ReadPixels.CHUNK) for t in rows))


def encoder_query(w):
    """Queries [LATENTS,TOKEN] of the encoder's attention: the same for all images."""
    attention = ENCODER + ".attention.self"
    return linear(w, attention + ".query", norm(w, attention + ".layernorm1", w[LATENT_ARRAY]))


def encode(w, grey, table):
    """Latents [n,LATENTS,WIDTH] of grey values [n,784]."""
    attention = ENCODER + ".attention.self"
    gain, offset = w[attention + ".layernorm2.weight"], w[attention + ".layernorm2.bias"]
    u = gain * (encoder_query(w) @ w[attention + ".key.weight"]) / math.sqrt(TOKEN)
    u = centred(u)
    u_grey, u_map = u[:, :GREY].sum(1, keepdim=True), u[:, GREY:] @ table.T
    scale = token_scale(grey, table)
    sum_grey, sum_position = ReadPixels.apply(u_grey, u_map, grey, scale, table)
    sums = torch.cat([sum_grey.expand(-1, -1, GREY), sum_position], -1)
    value = linear(w, attention + ".value", gain * centred(sums) + offset)
    x = w[LATENT_ARRAY] + linear(w, ENCODER + ".attention.output.dense", value)
    return plus_mlp(w, ENCODER, x)


def attend(w, name, x, memory, heads):
    """x [n,a,WIDTH] reads memory [n,b,WIDTH]; both come normalised."""
    def split(t):
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    query = split(linear(w, name + ".self.query", x))
    key = split(linear(w, name + ".self.key", memory))
    value = split(linear(w, name + ".self.value", memory))
    weight = F.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
    out = (weight @ value).transpose(1, 2).flatten(2)
    return linear(w, name + ".output.dense", out)


def process(w, x):
    for i in range(LAYERS):
        name = process_layer(i)
        h = norm(w, name + ".attention.self.layernorm1", x)
        x = plus_mlp(w, name, x + attend(w, name + ".attention", h, h, HEADS))
    return x


def decode(w, latents):
    """Logits [n,10]: one learned query reads the latents."""
    attention = READER + ".attention"
    query = w[QUERY_ARRAY].expand(len(latents), 1, WIDTH)
    h = norm(w, attention + ".self.layernorm1", query)
    memory = norm(w, attention + ".self.layernorm2", latents)
    x = plus_mlp(w, READER, query + attend(w, attention, h, memory, 1))
    return linear(w, DECODER + ".final_layer", x)[:, 0]


def logits(w, grey, table):
    return decode(w, process(w, encode(w, grey, table)))


# ---- training ---------------------------------------------------------------------------------

def rate(step, steps):
    """Part of the peak learning rate: linear warm-up, then half a cosine."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS))


def new_optimizers(w):
    """Muon for matrices, Adam for the rest.

    The reading of pixels learns slowly and by Adam: scores add 258 channels of all frequencies,
    and a fast change of them changes every pixel's weight at random.
    """
    pixel = [n for n in w if n.startswith(ENCODER + ".attention.self.")]
    matrix = [n for n in w if n not in pixel and n.endswith(".weight") and w[n].dim() == 2]
    other = [n for n in w if n not in pixel and n not in matrix]
    muon = torch.optim.Muon([w[n] for n in matrix], lr=MUON_RATE, weight_decay=WEIGHT_DECAY,
                            adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam([{"params": [w[n] for n in pixel], "lr": PIXEL_RATE},
                             {"params": [w[n] for n in other], "lr": ADAM_RATE}],
                            betas=(0.9, 0.98))
    return muon, adam


def train_step(w, optimizers, images, labels, table):
    """One batch, products in bfloat16. Returns the loss."""
    with torch.autocast("cpu", torch.bfloat16):
        out = logits(w, normalised(augmented(images)), table.bfloat16())
    loss = F.cross_entropy(out.float(), labels, label_smoothing=SMOOTHING)
    for t in w.values():
        t.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(w.values(), CLIP)
    for o in optimizers:
        o.step()
    return loss.item()


@torch.no_grad()
def follow(average, w, step):
    """Moves the averaged weights towards w, faster in the beginning."""
    decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
    for name, t in average.items():
        t.lerp_(w[name], 1 - decay)


@torch.no_grad()
def accuracy(w, images, labels, table):
    """Part of the images whose likeliest class is their label; in float32."""
    right = 0
    for x, y in zip(images.split(500), labels.split(500)):
        right += (logits(w, normalised(x), table).argmax(1) == y).sum().item()
    return right / len(images)


def train(images, labels, validation, table, log):
    """The averaged weights after EPOCHS passes."""
    w = new_weights()
    average = {name: t.detach().clone() for name, t in w.items()}
    optimizers = new_optimizers(w)
    per_epoch = len(images) // BATCH
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda i: rate(i, EPOCHS * per_epoch))
                 for o in optimizers]
    log(f"{sum(t.numel() for t in w.values())} parameters, {len(images)} training images")
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))[:per_epoch * BATCH].view(per_epoch, BATCH)
        total = 0.0
        for i, batch in enumerate(order):
            total += train_step(w, optimizers, images[batch], labels[batch], table)
            follow(average, w, epoch * per_epoch + i)
            for s in schedules:
                s.step()
        log(f"epoch {epoch + 1:2d} of {EPOCHS}: loss {total / per_epoch:.4f}, "
            f"validation accuracy {accuracy(average, *validation, table):.4f}")
    return average


# ---- files ------------------------------------------------------------------------------------

def config():
    return {
        "architectures": ["PerceiverForImageClassificationFourier"],
        "model_type": "perceiver",
        "num_latents": LATENTS,
        "d_latents": WIDTH,
        "d_model": TOKEN,
        "num_blocks": 1,
        "num_self_attends_per_block": LAYERS,
        "num_self_attention_heads": HEADS,
        "num_cross_attention_heads": 1,
        "qk_channels": None,
        "v_channels": None,
        "cross_attention_shape_for_attention": "kv",
        "self_attention_widening_factor": 1,
        "cross_attention_widening_factor": 1,
        "hidden_act": "gelu",
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": LN_EPS,
        "use_query_residual": True,
        "image_size": SIDE,
        "torch_dtype": "float32",
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }


def preprocessor_config():
    side = {"height": SIDE, "width": SIDE}
    return {
        "image_processor_type": "PerceiverImageProcessor",
        "do_center_crop": True,
        "crop_size": side,
        "do_resize": True,
        "size": side,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [PIXEL_MEAN] * GREY,
        "image_std": [PIXEL_STD] * GREY,
    }


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def save(folder, w):
    write_json(os.path.join(folder, "config.json"), config())
    write_json(os.path.join(folder, "preprocessor_config.json"), preprocessor_config())
    save_file(w, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def new_log(path):
    """A function that prints a line, after the seconds since now, and keeps it in the file."""
    start, file = time.monotonic(), open(path, "w")

    def log(line):
        line = f"{time.monotonic() - start:6.0f} s  {line}"
        print(line, flush=True)
        print(line, file=file, flush=True)

    return log


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", default=DATA, help="folder with *-ubyte.gz")
    p.add_argument("--out", default=here, help="folder to write to")
    args = p.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    log = new_log(os.path.join(args.out, "train.log"))
    log(f"PyTorch {torch.__version__}, {THREADS} thread, seed {SEED}")
    images, labels = read_images(args.data, "train")
    order = torch.randperm(len(images))
    held, used = order[:VALIDATION_IMAGES], order[VALIDATION_IMAGES:]
    table = position_table()
    w = train(images[used], labels[used], (images[held], labels[held]), table, log)
    save(args.out, w)
    log(f"{time.process_time():.0f} s of processor time")
    log(f"test accuracy {accuracy(w, *read_images(args.data, 't10k'), table):.4f}")


if __name__ == "__main__":
    main()
