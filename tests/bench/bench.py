#!/usr/bin/python3
"""Measures the engine and the daemon: ratios against this machine's own SGEMM peak. See README.md.

    bench.py [--only NAME,...] [--repeat N] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import full  # noqa: E402

B = pathlib.Path(os.environ.get("B", "build"))
WORK = B / "bench"
SHIPPED = pathlib.Path("etc/models/senses")
PICTURE = SHIPPED / "samples" / "bag.png"
FORMS = {"PNG in JSON": ["--input", PICTURE, "--task", "garment"]}
CONFIGURATIONS = ["language", "vision-fourier", "vision-learned", "vision-conv", "multimodal",
                  "optical-flow"]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def peak(threads):
    """GFLOP/s; the better of two looks."""
    return max(float(run(B / "sgemm", threads)) for _ in range(2))


def evaluate(model, given, threads, repeat, *options):
    out = WORK / "out.safetensors"
    report = json.loads(run(B / "perceiverctl", "eval", model, given, out, "--threads", threads,
                            "--repeat", repeat, *options))
    return report, out


def shares(report, gflops):
    seconds = report["ms"]["total"]["median"] / 1e3
    return {way: report["gmac"][way]["total"] * 2 / seconds / gflops for way in ("done", "dense")}


def print_row(name, threads, report, share, note):
    ms = report["ms"]
    print(f"{name:16} {threads:7} {ms['encode']['median']:8.1f} {ms['process']['median']:8.1f} "
          f"{ms['decode']['median']:8.1f} {ms['total']['median']:8.1f} "
          f"{report['gmac']['done']['total']:8.2f} {report['gmac']['dense']['total']:8.2f} "
          f"{share['done']:6.2f} {share['dense']:6.2f} {report['peak_rss_mb']:7.0f}  {note}",
          flush=True)


def bench_configuration(name, threads, repeat, gflops):
    folder = full.prepare(name, WORK)
    report, out = evaluate(folder, folder / "in.safetensors", threads, repeat, "--stages")
    wrong = full.error(name, full.read(out))
    share = shares(report, gflops)
    print_row(name, threads, report, share, f"error {wrong:.0e}")
    if wrong > 1e-3:
        sys.exit(f"bench: {name} differs from its reference by {wrong:.1e}")
    return {"name": name, "threads": threads, "share": share, "error": wrong, **report}


def bench_shipped(threads, repeat, gflops):
    batch = 32
    given = WORK / "shipped.safetensors"  # pictures, their classes, and one pixel of each
    full.write(given, {"image": full.uniform("image", batch, 28, 28, 1),
                       "reconstruct.positions": np.array([400], "<i8")})
    report, _ = evaluate(SHIPPED, given, threads, 10 * repeat)
    share = shares(report, gflops)
    rate = batch * 1e3 / report["ms"]["total"]["median"]
    print_row("shipped, 32", threads, report, share, f"{rate:.0f} images/s")
    return {"name": "shipped", "threads": threads, "share": share, "rate": rate, **report}


# ---- the daemon -------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(url):
    for _ in range(200):
        try:
            urllib.request.urlopen(url + "/v2/health/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("bench: the daemon is not ready after 10 seconds")


def bench_daemon(offline):
    """Images per second through HTTP, beside the same work offline."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    daemon = subprocess.Popen([B / "perceiverd", "--listen", f"127.0.0.1:{port}", "--model",
                               f"senses={SHIPPED}", "--access-log", "no", "--log-level", "warn"])
    results = []
    try:
        wait_ready(url)
        for name, form in FORMS.items():
            report = json.loads(run(B / "perceiverctl", "bench", "senses", "--url", url, "--clients",
                                    64, "--seconds", 5, "--no-cache", "--json", *form))
            print(f"64 clients, {name}: {report['requests_per_second']:.0f} images/s, p50 "
                  f"{report['latency_ms']['p50']:.1f} ms, p99 {report['latency_ms']['p99']:.1f} ms, "
                  f"mean batch {report['mean_batch_size']:.1f}, "
                  f"{report['requests_per_second'] / offline:.2f} of offline on one thread")
            results.append({"form": name, **report})
    finally:
        daemon.terminate()
        daemon.wait(30)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(CONFIGURATIONS + ["shipped", "daemon"]))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    wanted = args.only.split(",")
    WORK.mkdir(parents=True, exist_ok=True)
    threads = sorted({1, min(2, len(os.sched_getaffinity(0)))})
    gflops = {t: peak(t) for t in threads}
    print("SGEMM peak: " + ", ".join(f"{g:.0f} GFLOP/s on {t} thread{'s' * (t > 1)}"
                                     for t, g in gflops.items()))
    print(f"{'':16} {'threads':>7} {'encode':>8} {'process':>8} {'decode':>8} {'total ms':>8} "
          f"{'done':>8} {'dense':>8} {'used':>6} {'dense':>6} {'RSS MB':>7}")
    rows = [bench_configuration(name, t, args.repeat, gflops[t])
            for name in CONFIGURATIONS if name in wanted for t in threads]
    shipped = [bench_shipped(t, args.repeat, gflops[t])
               for t in threads if {"shipped", "daemon"} & set(wanted)]
    daemon = bench_daemon(shipped[0]["rate"]) if "daemon" in wanted else []
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(
            {"peak_gflops": gflops, "rows": rows + shipped, "daemon": daemon}, indent=1) + "\n")


if __name__ == "__main__":
    main()
