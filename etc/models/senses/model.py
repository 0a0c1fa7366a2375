"""The model of perceiver.json in PyTorch: its initial weights, and its stages.

Weights are one dictionary by the names of perceiver.schema.json. What makes learning fast is where
it starts. Finding out which latent should look where is the slow part, so that every cross-attention
starts as a place-by-place reading:

    read    head h of latent i reads token 4 i + h - 1: its own four bytes, and two on either side
    see     the latents are an 8 x 8 grid over the picture, each head reads a spot of its own
    hear    the latents are a row over the time, two heads read sharply, two widely
    spell   the query of a byte reads the latent that holds it, by the two heads of its place in it
    paint   the query of a pixel reads latents around it, each head in another direction

Scores are of two kinds. A Gaussian, -(a - b)^2 / 2 s^2, is a product of (1, a, a^2) and a few numbers
of b. A comb, sum over j of cos(w[j] (a - b)) with w falling by a constant factor, is highest by far
at a = b. Queries and keys for them come by least squares from what the layer really gets.
"""

import math

import torch
import torch.nn.functional as F

LN_EPS = 1e-5

# Channels of latents that say where a latent is, and which nothing writes to in the beginning.
COMB, PLACES = 16, 22
# Falling frequencies of the combs, over bytes and over latents.
BYTE_FALL, LATENT_FALL = 0.47, 0.55
# Bands of the audio's position that make its combs, and how strong they are.
HEAR_NARROW, HEAR_WIDE = ((0, 1, 2, 4, 7, 10, 13, 15), 1.0), ((0, 1, 1, 2, 2, 3, 4, 5), 0.3)


# ---- geometry ----------------------------------------------------------------------------------

def fourier(size, bands, max_resolution):
    """Features [points, axes (1 + 2 bands)]: positions, sines axis by axis, cosines."""
    axes = [torch.linspace(-1, 1, n) for n in size]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    f = torch.stack([torch.linspace(1, r / 2, bands) for r in max_resolution])
    phase = math.pi * (at[:, :, None] * f).flatten(1)
    return torch.cat([at, phase.sin(), phase.cos()], 1)


def comb(x, fall):
    """[..., COMB]: the code whose products are combs."""
    phase = x[..., None] * math.pi * fall ** torch.arange(COMB // 2)
    return torch.stack([phase.cos(), phase.sin()], -1).flatten(-2)


def bowl(x):
    """[n, 2 + axes] of points [n, axes]: 1, |x|^2, x, so that a Gaussian is a product."""
    return torch.cat([torch.ones(len(x), 1), x.square().sum(1, keepdim=True), x], 1)


def at_bowl(c, spread):
    """What bowl(x) is multiplied with for -|x - c|^2 / 2 spread^2, [n, 2 + axes]."""
    parts = (-c.square().sum(1, keepdim=True), -torch.ones(len(c), 1), 2 * c)
    return torch.cat(parts, 1) / (2 * spread ** 2)


def grid(rows, columns, step=1.0, start=0.0):
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([r, c], -1).reshape(-1, 2) * step + start


# ---- weights -----------------------------------------------------------------------------------

def solve(x, target, ridge=1e-4):
    """W [outputs, inputs] with x W^T near target."""
    n = x.shape[1]
    gram = x.double().T @ x.double() / len(x)
    right = x.double().T @ target.double() / len(x)
    return torch.linalg.solve(gram + ridge * gram.trace() / n * torch.eye(n), right).T.float()


def balanced(query, key, per_head, heads):
    """Both with `per_head` channels for each head, scaled so that neither has the large numbers;
    products of a head are multiplied by sqrt(per_head), which the attention divides by."""
    out = []
    factor = (key.square().mean(0) / query.square().mean(0).clamp(min=1e-9)) ** 0.25
    for t, f in ((query, factor), (key, 1 / factor)):
        t = (t * f * per_head ** 0.25).unflatten(1, (heads, -1))
        out.append(F.pad(t, (0, per_head - t.shape[2])).flatten(1))
    return out


class Maker:
    """Makes all tensors for a model description."""

    def __init__(self, model):
        self.model, self.w = model, {}

    def linear(self, name, inputs, outputs, gain=1.0):
        self.w[name + ".weight"] = torch.randn(outputs, inputs) * gain / math.sqrt(inputs)
        self.w[name + ".bias"] = torch.zeros(outputs)

    def norm(self, name, width):
        self.w[name + ".weight"], self.w[name + ".bias"] = torch.ones(width), torch.zeros(width)

    def block(self, name, x, tokens, part, cross=True):
        """x: channels of what reads, tokens: of what is read."""
        for n, width in (("norm_q", x), ("norm_kv", tokens)) if cross else (("norm", x),):
            self.norm(f"{name}.{n}", width)
        self.linear(name + ".query", x, part["qk"])
        self.linear(name + ".key", tokens, part["qk"])
        self.linear(name + ".value", tokens, part["v"])
        self.linear(name + ".out", part["v"], x, 0.5)
        self.norm(name + ".norm_mlp", x)
        self.linear(name + ".mlp1", x, x * part["widening"])
        self.linear(name + ".mlp2", x * part["widening"], x, 0.5)

    def free_places(self, name):
        """Nothing is written to the channels of places."""
        for part in (".out.weight", ".mlp2.weight"):
            self.w[name + part][:PLACES] = 0

    def latents(self):
        count, width = self.model["latents"]["count"], self.model["latents"]["channels"]
        side = math.isqrt(count)
        t = torch.linspace(-1, 1, count)[:, None]
        places = grid(side, side, 2 / (side - 1), -1)
        x = 0.25 * torch.randn(count, width)
        x[:, :COMB] = comb(torch.arange(count), LATENT_FALL)
        x[:, COMB:PLACES] = torch.cat([bowl(places), bowl(t)[:, 1:]], 1)
        self.w["latents"] = x

    def everything(self):
        m, w = self.model, self.w
        width = m["latents"]["channels"]
        self.latents()
        for entry in m["inputs"]:
            name = f"encoders.{entry['encoder']}"
            self.block(name, width, token_channels(entry), m["encoders"][entry["encoder"]])
            self.free_places(name)
            if entry["kind"] == "text":
                w["inputs.text.bytes"] = 0.25 * torch.randn(262, entry["channels"])
                w["inputs.text.positions"] = 0.02 * torch.randn(entry["positions"], entry["channels"])
        for i in range(m["process"]["layers"]):
            self.block(f"process.{i}", width, width, m["process"], cross=False)
            self.free_places(f"process.{i}")
        for name, part in m["decoders"].items():
            self.block(f"decoders.{name}", part["channels"], width, part)
        for task in m["tasks"]:
            name = f"tasks.{task['name']}"
            channels = m["decoders"][task["decoder"]]["channels"] if "decoder" in task else 0
            if task["kind"] == "classify":
                w[name + ".query"] = torch.randn(1, channels)
                self.linear(name + ".head", channels, len(task["labels"]))
            elif task["kind"] == "pixels":
                self.linear(name + ".head", channels, task["channels"])
            elif task["kind"] == "fill-mask":
                w[name + ".query"] = 0.02 * torch.randn(m["inputs"][2]["positions"], channels)
                w[name + ".head.bias"] = torch.zeros(262)
        return w

    # Aiming: everything() first, then these, the decoders' last.

    def queries(self, name, target):
        x = norm(self.w, name + ".norm_q", self.w["latents"])
        self.w[name + ".query.weight"] = solve(x, target, 1e-6)

    def neighbours(self):
        """In the first two layers, half of the heads read the latents before, after, above, below."""
        angle = math.pi * LATENT_FALL ** torch.arange(COMB // 2)
        for i, offsets in ((0, (-1, 1, -2, 2)), (1, (-1, 1, -8, 8))):
            query, key = (self.w[f"process.{i}.{n}.weight"] for n in ("query", "key"))
            for h, offset in enumerate(offsets):
                rows = slice(COMB * h, COMB * (h + 1))
                query[rows], key[rows] = query[rows] * 0.1, key[rows] * 0.1
                c, s = (angle * offset).cos(), (angle * offset).sin()
                turn = torch.block_diag(*torch.stack([c, -s, s, c], -1).view(-1, 2, 2))
                query[rows, :COMB] = 2.0 * turn
                key[rows, :COMB] = 2.0 * torch.eye(COMB)

    def aim_read(self, sharpness=2.5):
        name, w = "encoders.read", self.w
        heads, count = self.model["encoders"]["read"]["heads"], len(w["latents"])
        w["inputs.text.bytes"][:, :COMB] *= 0.1
        w["inputs.text.positions"][:, :COMB] = 0.6 * comb(torch.arange(258), BYTE_FALL)
        w[name + ".key.weight"] = 0.05 * w[name + ".key.weight"]
        for h in range(heads):
            w[name + ".key.weight"][COMB * h:COMB * (h + 1), :COMB] = torch.eye(COMB)
        at = 4 * torch.arange(count)[:, None] + torch.arange(heads) - 1
        sample = w["inputs.text.positions"] + w["inputs.text.bytes"][torch.randint(97, 122, (258,))]
        scale = 0.6 * torch.rsqrt(sample.var(1).mean())
        self.queries(name, (4 * sharpness / scale) * comb(at, BYTE_FALL).flatten(1))

    def aim_gaussians(self, encoder, tokens, key_points, centres, spreads, content, gain):
        """tokens [n,t,c]: real ones. centres [heads][latents, axes], in the units of key_points."""
        name, part = f"encoders.{encoder}", self.model["encoders"][encoder]
        self.w[name + ".norm_kv.weight"][:content] = gain
        x = norm(self.w, name + ".norm_kv", tokens)
        scale = torch.rsqrt(tokens.var(-1, correction=0) + LN_EPS)
        heads = part["heads"]
        key = bowl(key_points).repeat(1, heads)
        query = torch.cat([at_bowl(c, s) for c, s in zip(centres, spreads)], 1)
        query, key = balanced(query, key, part["qk"] // heads, heads)
        # The scale of a token's norm multiplies its score, whose top is 0: only widths change.
        target = key * scale[:, :, None] / scale.mean()
        self.w[name + ".key.weight"] = solve(x.flatten(0, 1), target.flatten(0, 1), 1e-5)
        self.queries(name, query)

    def aim_see(self, tokens):
        c = grid(8, 8, 14 / 8, 0.5 * 14 / 8 - 0.5) - 6.5
        shifts = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
        self.aim_gaussians("see", tokens, (grid(14, 14) - 6.5) / 7, [(c + s) / 7 for s in shifts],
                           [0.75 / 7] * 4, content=4, gain=3.0)

    def aim_hear(self, tokens, real):
        """tokens [n,100,c], real [n,100]: which of them are frames of a sound.

        Gaussians as narrow as that need more digits than a fit has. The combs are made of Fourier
        features of the tokens themselves: all of them for a narrow one, the low ones for a wide one.
        """
        name, audio = "encoders.hear", self.model["inputs"][1]
        self.w[name + ".norm_kv.weight"][:audio["spectrum"]["bands"]] = 1.5
        f = torch.linspace(1, audio["position"]["max_resolution"][0] / 2, audio["position"]["bands"])

        def code(frame, wide):
            pick, strength = HEAR_WIDE if wide else HEAR_NARROW
            phase = math.pi * f[list(pick)] * (2 * frame[:, None] / 99 - 1)
            return torch.cat([phase.cos(), phase.sin()], 1) * 2 * math.sqrt(strength)

        centre = (torch.arange(64) + 0.5) * 100 / 64 - 0.5
        heads = [(-0.5, False), (0.5, False), (-3.0, True), (3.0, True)]
        key = torch.cat([code(torch.arange(100.0), wide) for _, wide in heads], 1)
        scale = torch.rsqrt(tokens.var(-1, correction=0) + LN_EPS)
        target = (key * scale[:, :, None] / scale[real].mean())[real]
        x = norm(self.w, name + ".norm_kv", tokens)[real]
        self.w[name + ".key.weight"] = solve(x, target, 1e-6)
        self.queries(name, torch.cat([code(centre + s, wide) for s, wide in heads], 1))

    def aim_spell(self, gain=1.7):
        """Each place of the four in a latent has two heads, whose queries are 0 for other places."""
        name, query = "decoders.spell", self.w["tasks.fill-mask.query"]
        for n in (".query.weight", ".key.weight"):
            self.w[name + n] *= 0.05
            for h in range(8):
                rows = slice(COMB * h, COMB * (h + 1))
                columns = rows if n == ".query.weight" else slice(0, COMB)
                self.w[name + n][rows, columns] = gain * torch.eye(COMB)
        for p in range(1, 257):
            i, place = divmod(p - 1, 4)
            code = comb(torch.tensor([float(i)] * 2), LATENT_FALL).flatten()
            query[p, 2 * COMB * place:2 * COMB * (place + 1)] = code

    def aim_paint(self, query_table, latents, spread=2.2):
        """latents [n,count,c]: processed ones of real pictures."""
        name, part = "decoders.paint", self.model["decoders"]["paint"]
        heads = part["heads"]
        pixel = (grid(28, 28) - 13.5) / 14
        angle = torch.arange(heads) * 2 * math.pi / heads
        ring = torch.stack([angle.cos(), angle.sin()], 1) * 2.2 / 14
        spot = (grid(8, 8, 3.5, 1.25) - 13.5) / 14
        query = torch.cat([at_bowl(pixel + s, spread / 14) for s in ring], 1)
        query, key = balanced(query, bowl(spot).repeat(1, heads), part["qk"] // heads, heads)
        self.w[name + ".query.weight"] = solve(norm(self.w, name + ".norm_q", query_table), query, 1e-6)
        x = norm(self.w, name + ".norm_kv", latents)
        scale = torch.rsqrt(latents.var(-1, correction=0) + LN_EPS)
        target = key * scale[:, :, None] / scale.mean()
        self.w[name + ".key.weight"] = solve(x.flatten(0, 1), target.flatten(0, 1), 1e-5)


def token_channels(entry):
    if entry["kind"] == "text":
        return entry["channels"]
    axes = len(entry["position"]["max_resolution"])
    content = math.prod(entry["patch"]) if entry["kind"] == "image" else entry["spectrum"]["bands"]
    return content + axes * (1 + 2 * entry["position"]["bands"])


def new_weights(model, tables, images, frames, real):
    """All tensors; images [n,196,c] and frames [n,100,c] are tokens to aim by."""
    maker = Maker(model)
    w = maker.everything()
    maker.neighbours()
    maker.aim_read()
    maker.aim_see(images)
    maker.aim_hear(frames, real)
    maker.aim_spell()
    x = process(w, model, encode(w, model, "see", images))
    maker.aim_paint(tables["paint"], x)
    return w


# ---- stages ------------------------------------------------------------------------------------

def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], LN_EPS)


def attend(w, name, q, kv, heads, mask=None):
    """Attention of q [n|1,a,c], already normalised, to kv [n,b,d]; mask [n,b], true where read."""
    def split(t):
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    query = split(linear(w, name + ".query", q).expand(len(kv), -1, -1))
    key, value = split(linear(w, name + ".key", kv)), split(linear(w, name + ".value", kv))
    if mask is not None:
        mask = mask[:, None, None]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return linear(w, name + ".out", out.transpose(1, 2).flatten(2))


def plus_mlp(w, name, x):
    h = F.gelu(linear(w, name + ".mlp1", norm(w, name + ".norm_mlp", x)))
    return x + linear(w, name + ".mlp2", h)


def encode(w, model, encoder, tokens, mask=None):
    name = f"encoders.{encoder}"
    q = norm(w, name + ".norm_q", w["latents"])[None]
    kv = norm(w, name + ".norm_kv", tokens)
    x = w["latents"] + attend(w, name, q, kv, model["encoders"][encoder]["heads"], mask)
    return plus_mlp(w, name, x)


def process(w, model, x):
    for i in range(model["process"]["layers"]):
        name = f"process.{i}"
        h = norm(w, name + ".norm", x)
        x = plus_mlp(w, name, x + attend(w, name, h, h, model["process"]["heads"]))
    return x


def decode(w, model, decoder, query, latents):
    """query [n|1,rows,c]"""
    name, part = f"decoders.{decoder}", model["decoders"][decoder]
    q = norm(w, name + ".norm_q", query)
    kv = norm(w, name + ".norm_kv", latents)
    x = attend(w, name, q, kv, part["heads"])
    return plus_mlp(w, name, x + query if part.get("residual", True) else x)


def classify(w, model, task, latents):
    x = decode(w, model, "judge", w[f"tasks.{task}.query"][None], latents)
    return linear(w, f"tasks.{task}.head", x)[:, 0]


def spell(w, model, latents, where):
    """Logits [n,k,262] of the positions where [n,k]."""
    x = decode(w, model, "spell", w["tasks.fill-mask.query"][where], latents)
    return F.linear(x, w["inputs.text.bytes"], w["tasks.fill-mask.head.bias"])


def paint(w, model, table, latents):
    """Numbers [n,points] of the pixels whose queries are table [n|1,points,c]."""
    return linear(w, "tasks.reconstruct.head", decode(w, model, "paint", table, latents))[..., 0]


# ---- tokens ------------------------------------------------------------------------------------

def tables(model):
    """Fourier features of the image's and audio's tokens, and of the pixels asked for."""
    image, audio, _ = model["inputs"]
    query = next(t["query"] for t in model["tasks"] if t["name"] == "reconstruct")
    frames = -(-audio["samples"] // audio["spectrum"]["hop"])
    p, a = image["position"], audio["position"]
    return {"see": fourier([14, 14], p["bands"], p["max_resolution"]),
            "hear": fourier([frames], a["bands"], a["max_resolution"]),
            "paint": fourier(query["size"], query["bands"], query["max_resolution"])}


def see_tokens(tables, pixels):
    """pixels [n,28,28], 0 to 255."""
    x = (pixels.float() / 255 - 0.5) / 0.5
    x = x.unflatten(1, (14, 2)).unflatten(3, (14, 2)).transpose(2, 3).reshape(len(x), 196, 4)
    return torch.cat([x, tables["see"].expand(len(x), -1, -1)], 2)


def hear_tokens(tables, frames):
    table = tables["hear"][:frames.shape[1]]
    return torch.cat([frames, table.expand(len(frames), -1, -1)], 2)


def read_tokens(w, ids):
    return w["inputs.text.bytes"][ids] + w["inputs.text.positions"][:ids.shape[1]]


def first(lengths, most):
    """Mask [n,most], true for the first `lengths` tokens; None where all are."""
    mask = torch.arange(most) < lengths[:, None]
    return None if mask.all() else mask
