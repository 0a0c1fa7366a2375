#!/usr/bin/python3
"""What one latent stack for many tasks is worth: the shipped model, through the daemon. See README.md.

    multitask.py [--only cost,load,accuracy] [--held-out DIR] [--seconds N] [--json FILE]

cost      six questions about one picture: as six requests, as one request, and as six later queries
          to a handle; multiply-adds as the replies count them, milliseconds of computing
load      64 clients that send pictures, sounds and texts, with batches and with batches of one
accuracy  every task on held-out data; needs the files that the training program exports
"""

import argparse
import base64
import http.client
import json
import pathlib
import statistics
import subprocess
import sys

from common import CLIENTS, SHIPPED, B, Daemon, run

PARTS = ("cost", "load", "accuracy")
HELD_OUT = B / "senses" / "held-out"
SAMPLES = SHIPPED / "samples"
ACCURACY = pathlib.Path("tests/http/accuracy.py")
PICTURE = SAMPLES / "ankle-boot.png"
TEXT = "And God said, Let there be light: and there was [MASK]ight."
QUESTIONS = [{"task": "garment"}, {"task": "digit"}, {"task": "reconstruct"},
             {"task": "reconstruct", "region": [7, 7, 14, 14]}, {"task": "embed"},
             {"task": "attention", "latents": [27, 36]}]
ROUNDS = 100


# ---- cost: one input, six questions ------------------------------------------------------------

def picture():
    return {"image": {"b64": base64.b64encode(PICTURE.read_bytes()).decode()}}


def computed(replies):
    """Multiply-adds in millions and milliseconds of computing, of several replies together."""
    gmac = sum(r["usage"]["gmac"]["total"] for r in replies)
    ms = sum(r["timing_ms"][stage] for r in replies for stage in ("encode", "process", "decode"))
    return gmac * 1e3, ms


def ask_apart(d, c):
    return [d.post("/v1/models/senses/perceive",
                   {"inputs": picture(), "queries": [q], "cache": False}, c) for q in QUESTIONS]


def ask_together(d, c):
    return [d.post("/v1/models/senses/perceive",
                   {"inputs": picture(), "queries": QUESTIONS, "cache": False}, c)]


def ask_later(d, c):
    kept = d.post("/v1/models/senses/perceive",
                  {"inputs": picture(), "queries": QUESTIONS[:1], "keep": "10m", "cache": False}, c)
    path = f"/v1/latents/{kept['latents']}"
    d.post(path + "/query", {"queries": QUESTIONS}, c)  # makes keys and values, which stay
    replies = [d.post(path + "/query", {"queries": [q]}, c) for q in QUESTIONS]
    d.ask("DELETE", path, connection=c)
    return replies


def bench_cost():
    rows = {}
    with Daemon("--lanes", "1", "--threads", "1") as d:
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
        for name, ask in (("six requests", ask_apart), ("one request", ask_together),
                          ("six queries to a handle", ask_later)):
            seen = [computed(ask(d, c)) for _ in range(ROUNDS)]
            rows[name] = {"mmac": seen[-1][0], "ms": statistics.median(ms for _, ms in seen)}
    first = rows["six requests"]
    print(f"\n{'six questions about one picture':32} {'million multiply-adds':>22} {'ms':>7} {'ratio':>7}")
    for name, row in rows.items():
        print(f"{name:32} {row['mmac']:22.1f} {row['ms']:7.2f} {first['ms'] / row['ms']:6.1f}x")
    return rows


# ---- load: 64 clients ---------------------------------------------------------------------------

def mixed_load(d, seconds, *more):
    """Requests a second of clients that send pictures, sounds and texts, each with its tasks."""
    inputs = [PICTURE, sorted(SAMPLES.glob("*.wav"))[0], TEXT]
    given = [word for x in inputs for word in ("--input", x)]
    return json.loads(run(B / "perceiverctl", "bench", "senses", *given, "--url", d.url, "--clients",
                          CLIENTS, "--seconds", seconds, "--no-cache", "--json", *more))


def bench_load(seconds):
    rows = {}
    with Daemon("--threads", "2") as d:
        rows["batches"] = mixed_load(d, seconds)
    with Daemon("--threads", "2", "--model-max-batch", "1") as d:
        rows["batches of one"] = mixed_load(d, seconds)
    one = rows["batches of one"]["requests_per_second"]
    print(f"\n{CLIENTS} clients: pictures, sounds and texts, every task of each")
    for name in ("batches", "batches of one"):
        r = rows[name]
        print(f"{name:32} {r['requests_per_second']:8.0f} requests/s  {r['requests_per_second'] / one:5.2f}x"
              f"  mean batch {r['mean_batch_size']:.1f}, p99 {r['latency_ms']['p99']:.1f} ms")
    return rows


# ---- accuracy ------------------------------------------------------------------------------------

def bench_accuracy(held_out):
    out = B / "bench" / "accuracy.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    print()
    with Daemon("--threads", "2") as d:
        done = subprocess.run([sys.executable, ACCURACY, "--url", d.url, "--held-out", held_out,
                               "--json", out], check=False)
        if done.returncode:
            sys.exit("multitask: accuracy")
    return json.loads(out.read_text())


def measure(wanted, seconds, held_out):
    results = {}
    if "cost" in wanted:
        results["cost"] = bench_cost()
    if "load" in wanted:
        results["load"] = bench_load(seconds)
    if "accuracy" in wanted and held_out.is_dir():
        results["accuracy"] = bench_accuracy(held_out)
    elif "accuracy" in wanted:
        print(f"\naccuracy: no {held_out}; etc/models/senses/README.md says how to make it")
    return results


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--held-out", type=pathlib.Path, default=HELD_OUT)
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--json", type=pathlib.Path)
    args = p.parse_args()
    results = measure(args.only.split(","), args.seconds, args.held_out)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
