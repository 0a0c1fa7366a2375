#!/usr/bin/python3
"""Measures what the shipped model gets right on held-out data, through the daemon's HTTP API.

    accuracy.py --url http://127.0.0.1:8080 [--model senses] [--held-out DIR] [--only NAME,...]
                [--limit N] [--at-least NAME=VALUE ...] [--json FILE]

Garments are the test images of the Debian package dataset-fashion-mnist. Everything else is what the
model's training program held out and left as files (WORK/held-out, see etc/models/senses/README.md): digits,
voices, verses and mails. Every input is a request of its own, over 16 keep-alive connections, answered
afresh. Prints a line for each; exits 1 when one is below its --at-least or a request fails.
"""

import argparse
import gzip
import http.client
import json
import math
import pathlib
import struct
import sys
import threading
import time
import urllib.parse
import zlib

import numpy as np

CONNECTIONS = 16
TIMEOUT_S = 60
GARMENTS = pathlib.Path("/usr/share/datasets/fashion-mnist")


# ---- held-out data: lists of (path's arguments, media type, body, what is right) ---------------

def read_idx(path):
    """An IDX file of unsigned bytes as an array."""
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(
        struct.unpack_from(f">{dims}I", raw, 4))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(image):
    """An 8-bit grey PNG file of an array [height, width], every row unfiltered."""
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    return (b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))


def pictures(held_out, name):
    if name == "garments":
        return (read_idx(GARMENTS / "t10k-images-idx3-ubyte.gz"),
                read_idx(GARMENTS / "t10k-labels-idx1-ubyte.gz"))
    with np.load(held_out / f"{name}.npz") as f:
        return f["images"], f["labels"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def classified(task, label):
    """Whether the first label is the right one: its index, or its name."""
    def judge(result):
        best = result["labels"][0]
        return [best["label" if isinstance(label, str) else "index"] == label]
    return judge


def picture_cases(task, name):
    def cases(held_out):
        return [(f"task={task}&top_k=1", "image/png", png(x), classified(task, int(y)))
                for x, y in zip(*pictures(held_out, name))]
    return cases


def sound_cases(folder):
    def cases(held_out):
        return [("task=spoken-digit&top_k=1", "audio/wav",
                 (held_out / folder / row["file"]).read_bytes(),
                 classified("spoken-digit", row["label"]))
                for row in lines(held_out / folder / "labels.jsonl")]
    return cases


def masked(text, where):
    """The text with [MASK] in the place of bytes, and what stood there, in order."""
    data, hidden = bytearray(text.encode()), set(where)
    written = b"".join(b"[MASK]" if i in hidden else bytes([b]) for i, b in enumerate(data))
    return written, [data[i] for i in sorted(hidden)]


def right_bytes(wanted):
    def judge(result):
        best = [m["candidates"][0]["index"] - 6 for m in result["masks"]]
        return [a == b for a, b in zip(best, wanted, strict=True)]
    return judge


def verse_cases(held_out):
    out = []
    for row in lines(held_out / "verses.jsonl"):
        text, wanted = masked(row["text"], row["masked"])
        out.append(("task=fill-mask&top_k=1", "text/plain", text, right_bytes(wanted)))
    return out


def mail_cases(held_out):
    return [("task=spam&top_k=1", "text/plain", row["text"].encode(), classified("spam", row["label"]))
            for row in lines(held_out / "mails.jsonl")]


def painting_error(image):
    """Mean square error of a reconstruction, colours 0..1."""
    def judge(numbers):
        got = np.frombuffer(numbers, "<f4").reshape(-1)
        return [float(np.mean((got.clip(0, 1) - image.reshape(-1) / 255) ** 2))]
    return judge


def painting_cases(name):
    def cases(held_out):
        return [("task=reconstruct&format=raw", "image/png", png(x), painting_error(x))
                for x in pictures(held_out, name)[0]]
    return cases


# name: cases, what is counted, what is printed of the mean
def percent(x):
    return f"{100 * x:.2f} %"


def decibels(error):
    return f"{-10 * math.log10(error):.2f} dB"


MEASUREMENTS = {
    "garment": (picture_cases("garment", "garments"), "pictures", percent),
    "digit": (picture_cases("digit", "digits"), "pictures", percent),
    "spoken-digit": (sound_cases("sounds"), "sounds of unseen voices", percent),
    "human": (sound_cases("human"), "recordings of people", percent),
    "fill-mask": (verse_cases, "masked bytes", percent),
    "spam": (mail_cases, "mails", percent),
    "paint-garment": (painting_cases("garments"), "pictures", decibels),
    "paint-digit": (painting_cases("digits"), "pictures", decibels),
}


# ---- requests ----------------------------------------------------------------------------------

class Tally:
    """Hands out cases to the threads and gathers what they find."""

    def __init__(self, total):
        self.lock = threading.Lock()
        self.total, self.next = total, 0
        self.found, self.error = [], None

    def take(self):
        """The next case's number; None when all are taken or a request has failed."""
        with self.lock:
            if self.error or self.next == self.total:
                return None
            self.next += 1
            return self.next - 1

    def add(self, found):
        with self.lock:
            self.found += found

    def fail(self, message):
        with self.lock:
            self.error = self.error or message


def ask(connection, path, case):
    args, kind, body, judge = case
    connection.request("POST", f"{path}?{args}&cache=false", body=body,
                       headers={"Content-Type": kind})
    response = connection.getresponse()
    reply = response.read()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {reply[:300].decode(errors='replace')}")
    raw = response.getheader("Content-Type") == "application/octet-stream"
    return judge(reply if raw else json.loads(reply)["results"][0])


def run_connection(tally, address, path, cases):
    """One keep-alive connection, one request at a time."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    i = None
    try:
        while (i := tally.take()) is not None:
            tally.add(ask(connection, path, cases[i]))
    except Exception as e:  # whatever it was, the measurement is void
        tally.fail(f"case {i}: {type(e).__name__}: {e}")
    finally:
        connection.close()


def measure(url, model, cases):
    """What every case found, and the seconds it took."""
    target = urllib.parse.urlsplit(url)
    if target.scheme != "http" or not target.hostname:
        raise ValueError(f"{url}: want http://HOST:PORT")
    address = (target.hostname, target.port or 80)
    path = f"{target.path.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}/perceive"
    tally = Tally(len(cases))
    threads = [threading.Thread(target=run_connection, args=(tally, address, path, cases))
               for _ in range(CONNECTIONS)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if tally.error:
        raise ValueError(tally.error)
    return tally.found, time.monotonic() - start


def report(args, name):
    """Prints and returns a measurement."""
    cases, what, text = MEASUREMENTS[name]
    cases = cases(args.held_out)[:args.limit]
    found, seconds = measure(args.url, args.model, cases)
    mean = sum(found) / len(found)
    print(f"{name:14} {text(mean):>10}  of {len(found)} {what}, {len(cases) / seconds:.0f} requests/s",
          flush=True)
    return {"mean": mean, "shown": text(mean), "count": len(found), "what": what}


def bounds(words):
    """{name: least} of NAME=VALUE words."""
    pairs = [w.partition("=") for w in words]
    unknown = [name for name, _, _ in pairs if name not in MEASUREMENTS]
    if unknown:
        raise ValueError(f"--at-least: no measurement {unknown[0]}")
    return {name: float(value) for name, _, value in pairs}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--url", default="http://127.0.0.1:8080", help="where the daemon listens")
    p.add_argument("--model", default="senses", help="the model's name there")
    p.add_argument("--held-out", type=pathlib.Path, help="folder of held-out files")
    p.add_argument("--only", help=f"of {', '.join(MEASUREMENTS)}")
    p.add_argument("--limit", type=int, help="only the first N inputs of each")
    p.add_argument("--at-least", nargs="*", default=[], metavar="NAME=VALUE")
    p.add_argument("--json", type=pathlib.Path, help="also write the results here")
    args = p.parse_args()
    names = args.only.split(",") if args.only else list(MEASUREMENTS) if args.held_out else ["garment"]
    if args.limit is not None and args.limit < 1:
        p.error("--limit: want at least 1")
    if set(names) - set(MEASUREMENTS):
        p.error(f"--only: want some of {', '.join(MEASUREMENTS)}")
    try:
        least = bounds(args.at_least)
        found = {name: report(args, name) for name in names}
    except (OSError, ValueError, struct.error) as e:
        sys.exit(f"accuracy: {e}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    low = [name for name, bound in least.items() if name in found and found[name]["mean"] < bound]
    if low:
        sys.exit(f"accuracy: below the least of {', '.join(low)}")


if __name__ == "__main__":
    main()
