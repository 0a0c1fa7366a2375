#!/usr/bin/python3
"""What one latent stack for many tasks is worth: the shipped model, through the daemon. See README.md.

    multitask.py [--only cost,load,accuracy] [--held-out DIR] [--seconds N] [--json FILE]

cost      six questions about one picture: as six requests, as one request, and as six later queries
          to a handle; multiply-adds as the replies count them, milliseconds of computing
load      64 clients that send pictures, sounds and texts, with batches and with batches of one;
          queries to a handle beside bare health checks
accuracy  every task on held-out data; needs the files that the training program exports
"""

import argparse
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

B = pathlib.Path(os.environ.get("B", "build"))
MODEL = pathlib.Path("etc/models/senses")
SAMPLES = MODEL / "samples"
ACCURACY = pathlib.Path("tests/http/accuracy.py")
PICTURE = SAMPLES / "ankle-boot.png"
TEXT = "And God said, Let there be light: and there was [MASK]ight."
QUESTIONS = [{"task": "garment"}, {"task": "digit"}, {"task": "reconstruct"},
             {"task": "reconstruct", "region": [7, 7, 14, 14]}, {"task": "embed"},
             {"task": "attention", "latents": [27, 36]}]
CLIENTS = 64
ROUNDS = 100


# ---- a daemon of our own -----------------------------------------------------------------------

class Daemon:
    def __init__(self, *options):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [B / "perceiverd", "--listen", f"127.0.0.1:{self.port}", "--model", f"senses={MODEL}",
             "--access-log", "no", "--log-level", "warn", *options])
        for _ in range(200):
            try:
                if self.ask("GET", "/v2/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit("multitask: the daemon is not ready after 10 seconds")

    def ask(self, method, path, document=None, connection=None):
        c = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = None if document is None else json.dumps(document)
        c.request(method, path, body=body, headers={"Content-Type": "application/json"})
        reply = c.getresponse()
        data = reply.read()
        if not connection:
            c.close()
        return reply.status, data

    def post(self, path, document, connection=None):
        status, data = self.ask("POST", path, document, connection)
        if status != 200:
            sys.exit(f"multitask: {path}: {status} {data[:300].decode(errors='replace')}")
        return json.loads(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"multitask: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


# ---- cost: one input, six questions ------------------------------------------------------------

def picture():
    import base64
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
    print(f"{'six questions about one picture':32} {'million multiply-adds':>22} {'ms':>7} {'ratio':>7}")
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


def wrk(url, path, seconds, script=None):
    """Requests a second of a plain HTTP client."""
    options = ["-s", script] if script else []
    out = run("wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", *options, url + path)
    if "Non-2xx" in out:
        sys.exit(f"multitask: wrk {path}: {out}")
    return float(next(line.split()[1] for line in out.splitlines() if "Requests/sec" in line))


def handle_load(d, seconds):
    """Queries a second to one handle, and health checks beside it."""
    kept = d.post("/v1/models/senses/perceive",
                  {"inputs": picture(), "queries": QUESTIONS[:1], "keep": "10m"})
    script = B / "bench" / "query.lua"
    script.parent.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"queries": [{"task": "garment", "top_k": 1}]})
    script.write_text("wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n"
                      f"wrk.body = [[{body}]]\n")
    return {"queries": wrk(d.url, f"/v1/latents/{kept['latents']}/query", seconds, script),
            "health": wrk(d.url, "/v2/health/live", seconds)}


def bench_load(seconds):
    rows = {}
    with Daemon("--threads", "2") as d:
        rows["batches"] = mixed_load(d, seconds)
        rows.update(handle_load(d, seconds))
    with Daemon("--threads", "2", "--model-max-batch", "1") as d:
        rows["batches of one"] = mixed_load(d, seconds)
    one = rows["batches of one"]["requests_per_second"]
    print(f"\n{CLIENTS} clients: pictures, sounds and texts, every task of each")
    for name in ("batches", "batches of one"):
        r = rows[name]
        print(f"{name:32} {r['requests_per_second']:8.0f} requests/s  {r['requests_per_second'] / one:5.2f}x"
              f"  mean batch {r['mean_batch_size']:.1f}, p99 {r['latency_ms']['p99']:.1f} ms")
    print(f"{'queries to a handle':32} {rows['queries']:8.0f} /s, "
          f"{rows['queries'] / rows['health']:.2f} of bare health checks ({rows['health']:.0f} /s)")
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


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", default="cost,load,accuracy")
    p.add_argument("--held-out", type=pathlib.Path, default=B / "senses" / "held-out")
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--json", type=pathlib.Path)
    args = p.parse_args()
    wanted = set(args.only.split(","))
    results = {}
    if "cost" in wanted:
        results["cost"] = bench_cost()
    if "load" in wanted:
        results["load"] = bench_load(args.seconds)
    if "accuracy" in wanted and args.held_out.is_dir():
        results["accuracy"] = bench_accuracy(args.held_out)
    elif "accuracy" in wanted:
        print(f"\naccuracy: no {args.held_out}; etc/models/senses/README.md says how to make it")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
