#!/usr/bin/env python3
"""Trains the model of this folder: pictures, sounds and texts at once, from nothing.

    python3 etc/models/senses/train.py --work DIR [--out DIR] [--minutes N]

Needs PyTorch 2.4 or later, NumPy, SciPy, safetensors and Pillow (pip install torch numpy scipy
safetensors pillow), npm, and the Debian packages espeak-ng, flite, dataset-fashion-mnist, bible-kjv,
bible-kjv-text and, for one of the tests, asterisk-core-sounds-en-wav. Fetches and makes the data in
--work, and writes model.safetensors and train.log into --out, by default this folder. Stopped, it
goes on at its last checkpoint when it is started again.

Every step takes a batch of each kind of input. Each is read by its own encoder; from there on the
latents of all of them are one batch, and go through the process stack together. Two processes share
the work: each takes half of every batch, and gradients are averaged.

    data.py    pictures, texts, mails        sounds.py    spoken digits and their spectra
    model.py   initial weights, the model    perceiver.json    its description
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file

import data
import model as M
import sounds

HERE = os.path.dirname(os.path.abspath(__file__))
SEED, PROCESSES = 1, 2

# Of one process, in one step.
BATCH = {"garment": 72, "digit": 8, "sound": 8, "verse": 12, "mail": 4}
PAINTED, POINTS = 8, 80  # pictures of each kind to be painted, and pixels of each
FLITE_SHARE = 0.25  # of the sounds; only two voices, but natural ones

MINUTES, WARMUP = 98, 60
MUON_RATE, ADAM_RATE, AIM_RATE = 1e-2, 2e-3, 3e-4
WEIGHT_DECAY, CLIP, SMOOTHING = 0.05, 2.0, 0.05
AVERAGE_DECAY = 0.996
WEIGHT = {"garment": 1.0, "digit": 1.0, "paint": 3.0, "sound": 1.0, "verse": 1.5, "mail": 0.5}
MASKED = (0.10, 0.25)  # of a text, while training
LOG_EVERY, CHECK_EVERY = 50, 200
VERSES = {"validation": 200, "test": 790}  # windows


# ---- one step ----------------------------------------------------------------------------------

def encode_all(w, m, tables, pixels, frames, lengths, verses, mails, mail_lengths):
    """Processed latents of pictures, sounds, verses and mails."""
    mask = M.first(lengths, frames.shape[1])
    mail_mask = M.first(mail_lengths, mails.shape[1])
    x = [M.encode(w, m, "see", M.see_tokens(tables, pixels)),
         M.encode(w, m, "hear", M.hear_tokens(tables, frames), mask),
         M.encode(w, m, "read", M.read_tokens(w, verses)),
         M.encode(w, m, "read", M.read_tokens(w, mails), mail_mask)]
    return M.process(w, m, torch.cat(x)).split([len(t) for t in x])


def paint_loss(w, m, tables, pixels, latents):
    """Mean squared error of some pixels of some of the pictures, both kinds alike."""
    n = BATCH["garment"]
    some = torch.cat([torch.arange(PAINTED), torch.arange(n, n + PAINTED)])
    at = torch.randint(784, (len(some), POINTS))
    out = M.paint(w, m, tables["paint"][at], latents[some])
    return F.mse_loss(out, pixels[some].flatten(1).gather(1, at) / 255 * 2 - 1)


def losses(w, m, tables, sets, rng):
    """{task: mean loss of a new batch}"""
    pixels, garment, digit = data.picture_batch(sets["garments"]["train"], BATCH["garment"],
                                                sets["digits"]["train"], BATCH["digit"])
    frames, lengths, spoken = sounds.train_batch(sets["spectrum"], *sets["sounds"]["train"],
                                                 BATCH["sound"], FLITE_SHARE, rng)
    verses, where, wanted = data.verse_batch(sets["verses"]["train"], BATCH["verse"], MASKED, rng)
    mails, mail_lengths, spam = data.train_mails(*sets["mails"]["train"], BATCH["mail"], rng)
    seen, heard, read, mail = encode_all(w, m, tables, pixels, frames, lengths, verses, mails,
                                         mail_lengths)
    n = BATCH["garment"]

    def class_loss(task, latents, labels):
        return F.cross_entropy(M.classify(w, m, task, latents), labels, label_smoothing=SMOOTHING)

    spelled = M.spell(w, m, read, where)
    return {"garment": class_loss("garment", seen[:n], garment),
            "digit": class_loss("digit", seen[n:], digit),
            "paint": paint_loss(w, m, tables, pixels, seen),
            "sound": class_loss("spoken-digit", heard, spoken),
            "verse": F.cross_entropy(spelled.flatten(0, 1), wanted.flatten()),
            "mail": class_loss("spam", mail, spam)}


# ---- optimisation ------------------------------------------------------------------------------

def is_aimed(name):
    """Tensors that say where attention looks; they begin near the right place and go slowly."""
    cross = name.startswith(("encoders.", "decoders.spell", "decoders.paint"))
    part = name.split(".")[-2] if name.count(".") else ""
    return (cross and part in ("query", "key", "norm_q", "norm_kv")
            or name in ("latents", "inputs.text.positions", "tasks.fill-mask.query"))


def orthogonal(g):
    """Matrices [n,a,b] with the singular vectors of g, and singular values near 1."""
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    turn = x.shape[1] > x.shape[2]
    x = x.mT if turn else x
    for _ in range(5):
        s = x @ x.mT
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return x.mT if turn else x


class Optimizer:
    """Muon for matrices, as many of a shape at once as there are, and Adam for the rest."""

    def __init__(self, w):
        shapes, self.adam = {}, []
        for name, t in w.items():
            matrix = t.dim() == 2 and name.endswith(".weight") and min(t.shape) > 2
            if matrix and not is_aimed(name):
                shapes.setdefault(tuple(t.shape), []).append(name)
            else:
                self.adam.append(name)
        self.groups = list(shapes.values())
        self.momentum = [torch.zeros(len(g), *w[g[0]].shape) for g in self.groups]
        self.m1 = {n: torch.zeros_like(w[n]) for n in self.adam}
        self.m2 = {n: torch.zeros_like(w[n]) for n in self.adam}
        self.steps = 0

    def state(self):
        return {"momentum": self.momentum, "m1": self.m1, "m2": self.m2, "steps": self.steps}

    def load(self, state):
        self.__dict__.update(state)

    def step_matrices(self, w, part):
        """Every process makes its share of the updates, and sends them to the others."""
        rank, share = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        updates = []
        for names, momentum in zip(self.groups, self.momentum):
            g = torch.stack([w[n].grad for n in names])
            momentum.lerp_(g, 0.05)
            update = torch.zeros_like(g)
            if rank < len(g):
                update[rank::share] = orthogonal(g.lerp(momentum, 0.95)[rank::share])
            updates.append(update)
        flat = torch.cat([u.flatten() for u in updates])
        if share > 1:
            dist.all_reduce(flat)
        for names, u in zip(self.groups, flat.split([u.numel() for u in updates])):
            size = 0.2 * math.sqrt(max(w[names[0]].shape)) * MUON_RATE * part
            for n, update in zip(names, u.view(len(names), *w[names[0]].shape)):
                w[n].mul_(1 - MUON_RATE * part * WEIGHT_DECAY).add_(update, alpha=-size)

    @torch.no_grad()
    def step(self, w, part):
        """part: of the peak rates."""
        self.steps += 1
        self.step_matrices(w, part)
        for n in self.adam:
            g = w[n].grad
            self.m1[n].lerp_(g, 0.1)
            self.m2[n].lerp_(g.square(), 0.02)
            mean = self.m1[n] / (1 - 0.9 ** self.steps)
            square = self.m2[n] / (1 - 0.98 ** self.steps)
            rate = (AIM_RATE if is_aimed(n) else ADAM_RATE) * part
            w[n].sub_(rate * mean / (square.sqrt() + 1e-8))


def rate(step, progress):
    """Part of the peak rates: a linear rise, then half a cosine down to a hundredth, by the part of
    the time that has passed. So training ends in time, however busy the machine is."""
    fall = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1, progress)))
    return min((step + 1) / WARMUP, fall)


def agreed(value):
    """The mean of a number over the processes."""
    value = torch.tensor([value], dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value.item()


def average_gradients(w):
    """Over the processes; their norm at most CLIP."""
    flat = torch.cat([t.grad.flatten() for t in w.values()])
    if dist.is_initialized():
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
    flat *= min(1.0, CLIP / (flat.norm().item() + 1e-6))
    for t, g in zip(w.values(), flat.split([t.numel() for t in w.values()])):
        t.grad = g.view_as(t)


def train_step(w, optimizer, m, tables, sets, step, progress, rank):
    """Returns the losses. The step's number gives all its randomness, so that it can be resumed."""
    torch.manual_seed(SEED * 1_000_000 + 2 * step + rank)
    rng = np.random.default_rng((SEED, step, rank))
    for t in w.values():
        t.grad = None
    parts = losses(w, m, tables, sets, rng)
    sum(WEIGHT[k] * v for k, v in parts.items()).backward()
    average_gradients(w)
    optimizer.step(w, rate(step, progress))
    return {k: v.item() for k, v in parts.items()}


@torch.no_grad()
def follow(average, w, step):
    """Moves the averaged weights towards w, faster in the beginning."""
    decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
    for name, t in average.items():
        t.lerp_(w[name], 1 - decay)


# ---- results on held-out data ------------------------------------------------------------------

@torch.no_grad()
def picture_results(w, m, tables, images, labels, task):
    """Accuracy, and the reconstruction's PSNR for a peak of 1: of the mean error, over all pixels."""
    right, error = 0, 0.0
    for x, y in zip(images.split(100), labels.split(100)):
        latents = M.process(w, m, M.encode(w, m, "see", M.see_tokens(tables, x)))
        right += (M.classify(w, m, task, latents).argmax(1) == y).sum().item()
        painted = M.paint(w, m, tables["paint"][None], latents) / 2 + 0.5
        error += (painted.clamp(0, 1) - x.flatten(1) / 255).square().mean(1).sum().item()
    return right / len(images), -10 * math.log10(error / len(images))


@torch.no_grad()
def sound_answers(w, m, tables, spectrum, spoken):
    out = []
    for i in range(0, len(spoken), 50):
        frames, lengths = sounds.plain_tokens(spectrum, spoken[i:i + 50])
        mask = M.first(lengths, frames.shape[1])
        x = M.process(w, m, M.encode(w, m, "hear", M.hear_tokens(tables, frames), mask))
        out.append(M.classify(w, m, "spoken-digit", x).argmax(1))
    return torch.cat(out).numpy()


@torch.no_grad()
def verse_results(w, m, hidden, where, wanted):
    """Part of the masked bytes that are likeliest, and nats a byte."""
    right, loss = 0, 0.0
    for x, at, y in zip(hidden.split(50), where.split(50), wanted.split(50)):
        latents = M.process(w, m, M.encode(w, m, "read", M.read_tokens(w, x)))
        logits = M.spell(w, m, latents, at).log_softmax(-1)
        right += (logits.argmax(-1) == y).sum().item()
        loss -= logits.gather(2, y[:, :, None]).sum().item()
    return right / wanted.numel(), loss / wanted.numel()


@torch.no_grad()
def mail_answers(w, m, texts):
    out = []
    for i in range(0, len(texts), 50):
        ids, lengths = data.mail_batch(texts[i:i + 50])
        mask = M.first(lengths, ids.shape[1])
        x = M.process(w, m, M.encode(w, m, "read", M.read_tokens(w, ids), mask))
        out.append(M.classify(w, m, "spam", x).argmax(1))
    return torch.cat(out).numpy()


def measure(w, m, tables, sets, part, few=0):
    """{what: result} on "validation" or "test"; few: at most so many pictures of each kind."""
    out = {}
    for task in ("garment", "digit"):
        images, labels = (t[:few] if few else t for t in sets[task + "s"][part])
        out[task], out[task + " dB"] = picture_results(w, m, tables, images, labels, task)
    spoken, wanted, voices = sets["sounds"][part]
    right = sound_answers(w, m, tables, sets["spectrum"], spoken) == wanted
    out["sound"] = right.mean()
    if part == "test":
        for voice in sorted(set(voices)):
            out[f"voice {voice}"] = right[voices == voice].mean()
        spoken, wanted, _ = sets["sounds"]["human"]
        if len(spoken):
            out["human"] = (sound_answers(w, m, tables, sets["spectrum"], spoken) == wanted).mean()
    verses = data.verse_test(sets["verses"][part], VERSES[part])
    out["verse"], out["nats"] = verse_results(w, m, *verses[:3])
    texts, wanted = sets["mails"][part]
    out["mail"] = (mail_answers(w, m, texts) == wanted).mean()
    return out


def export_held_out(work, sets):
    """The test sets as plain files in WORK/held-out."""
    folder = os.path.join(work, "held-out")
    os.makedirs(folder, exist_ok=True)
    for name in ("garments", "digits"):
        images, labels = sets[name]["test"]
        np.savez(os.path.join(folder, name + ".npz"), images=images.numpy(), labels=labels.numpy())
    sounds.export_sounds(os.path.join(folder, "sounds"), *sets["sounds"]["test"])
    sounds.export_sounds(os.path.join(folder, "human"), *sets["sounds"]["human"])
    text = sets["verses"]["test"]
    _, where, _, start = data.verse_test(text, VERSES["test"])
    data.write_lines(os.path.join(folder, "verses.jsonl"),
                [{"text": text[s:s + data.BYTES].tobytes().decode(), "masked": (at - 1).tolist()}
                 for s, at in zip(start, where)])
    texts, labels = sets["mails"]["test"]
    data.write_lines(os.path.join(folder, "mails.jsonl"),
                [{"text": t, "label": ("ham", "spam")[y]} for t, y in zip(texts, labels)])


# ---- the run -----------------------------------------------------------------------------------

def prepared(work):
    """All data, split; kept in --work."""
    path = os.path.join(work, "data.pt")
    if not os.path.exists(path):
        sets = {"garments": data.garments(), "digits": data.digits(work), "verses": data.verses(),
                "mails": data.mails(work)}
        torch.save(sets, path + ".part")
        os.rename(path + ".part", path)
    sets = torch.load(path, weights_only=False)
    sets["sounds"] = sounds.load_sounds(os.path.join(work, "sounds.npz"), work)
    return sets


def start_weights(m, tables, sets):
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    pictures = torch.cat([sets[k]["train"][0][:128] for k in ("garments", "digits")])
    spoken = sets["sounds"]["train"][0]
    frames, lengths = sounds.spoilt_tokens(
        sets["spectrum"], [spoken[i] for i in rng.integers(0, len(spoken), 256)], rng)
    frames = F.pad(frames, (0, 0, 0, len(tables["hear"]) - frames.shape[1]))
    real = torch.arange(frames.shape[1]) < lengths[:, None]
    w = M.new_weights(m, tables, M.see_tokens(tables, pictures), M.hear_tokens(tables, frames), real)
    return {k: t.contiguous().requires_grad_() for k, t in w.items()}


def save_model(folder, average):
    path = os.path.join(folder, "model.safetensors")
    tensors = {k: t.contiguous() for k, t in average.items()}
    save_file(tensors, path + ".part", metadata={"format": "pt"})
    os.chmod(path + ".part", 0o644)
    os.rename(path + ".part", path)


def save_checkpoint(path, step, seconds, w, average, optimizer):
    torch.save({"step": step, "seconds": seconds, "w": {k: t.detach() for k, t in w.items()},
                "average": average, "optimizer": optimizer.state()}, path + ".part")
    os.rename(path + ".part", path)


def load_checkpoint(path, w, average, optimizer):
    """The step to go on with, and the seconds that training has taken."""
    if not os.path.exists(path):
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for k in w:
            w[k].copy_(state["w"][k])
            average[k].copy_(state["average"][k])
    optimizer.load(state["optimizer"])
    return state["step"], state["seconds"]


def new_log(path, rank, seconds):
    """A function that prints a line, after the seconds of training, and keeps it in the file."""
    start = time.monotonic() - seconds
    file = open(path, "a" if seconds else "w") if rank == 0 else None

    def log(line):
        if file:
            line = f"{time.monotonic() - start:6.0f} s  {line}"
            print(line, flush=True)
            print(line, file=file, flush=True)

    return log


def written(values, digits=3):
    return ", ".join(f"{k} {v:.{digits}f}" for k, v in values.items())


def prepare(args):
    """The model's description, data and tables of features."""
    with open(os.path.join(HERE, "perceiver.json")) as f:
        m = json.load(f)
    sets, audio = prepared(args.work), m["inputs"][1]
    sets["spectrum"] = sounds.Spectrum(audio["spectrum"], audio["rate"])
    return m, sets, M.tables(m)


def train(rank, args, m, sets, tables):
    """The averaged weights after args.minutes, and the log."""
    w = start_weights(m, tables, sets)
    average = {k: t.detach().clone() for k, t in w.items()}
    optimizer = Optimizer(w)
    checkpoint = os.path.join(args.work, "checkpoint.pt")
    step, seconds = load_checkpoint(checkpoint, w, average, optimizer)
    log = new_log(os.path.join(args.out, "train.log"), rank, seconds)
    log(f"PyTorch {torch.__version__}, {args.processes} processes of one thread, seed {SEED}, "
        f"{sum(t.numel() for t in w.values())} parameters, {args.minutes:.0f} minutes"
        + (f", going on at step {step}" if step else ""))
    log("batches: " + ", ".join(f"{k} {v * args.processes}" for k, v in BATCH.items()))
    start, total = time.monotonic() - seconds, {}
    while (progress := agreed(time.monotonic() - start) / 60 / args.minutes) < 1:
        for k, v in train_step(w, optimizer, m, tables, sets, step, progress, rank).items():
            total[k] = total.get(k, 0) + v / LOG_EVERY
        follow(average, w, step)
        step += 1
        if step % LOG_EVERY == 0:
            log(f"step {step}, {progress:.2f} of the time: loss {written(total)}")
            total = {}
        if step % CHECK_EVERY == 0 and rank == 0:
            save_checkpoint(checkpoint, step, time.monotonic() - start, w, average, optimizer)
            save_model(args.out, average)
            results = measure(average, m, tables, sets, "validation", 500)
            log(f"step {step}: validation {written(results)}")
    log(f"step {step}: the time is over")
    return average, log


def run(rank, args):
    """One of the processes."""
    torch.set_num_threads(1)
    if args.processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{args.work}/meeting", rank=rank,
                                world_size=args.processes)
    m, sets, tables = prepare(args)
    average, log = train(rank, args, m, sets, tables)
    if rank == 0:
        save_model(args.out, average)
        log(f"{time.process_time():.0f} s of processor time of each process")
        log(f"validation {written(measure(average, m, tables, sets, 'validation'), 4)}")
        log(f"test {written(measure(average, m, tables, sets, 'test'), 4)}")
        export_held_out(args.work, sets)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--work", required=True, help="folder for data and checkpoints")
    p.add_argument("--out", default=HERE, help="folder to write to")
    p.add_argument("--minutes", type=float, default=MINUTES, help="how long it may take")
    p.add_argument("--processes", type=int, default=PROCESSES)
    args = p.parse_args()
    args.work = os.path.abspath(args.work)
    os.makedirs(args.work, exist_ok=True)
    prepared(args.work)
    meeting = os.path.join(args.work, "meeting")
    if os.path.exists(meeting):
        os.remove(meeting)
    if args.processes == 1:
        run(0, args)
    else:
        torch.multiprocessing.spawn(run, (args,), args.processes)


if __name__ == "__main__":
    main()
