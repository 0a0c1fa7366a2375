#!/usr/bin/python3
"""Measures the engine and the daemon: ratios against this machine's own SGEMM peak. See README.md.

    bench.py [--only PART,...] [--repeat N] [--seconds N] [--json FILE]

PART: a configuration of full.py, masks, shipped, scaling, daemon, multitask
"""

import argparse
import json
import os
import pathlib
from statistics import median

import daemon
import full
import language
import multitask
import scaling
from common import SHIPPED, THREADS, WORK, Peak, evaluate, say

CONFIGURATIONS = ["language", "vision-fourier", "vision-learned", "vision-conv", "multimodal",
                  "optical-flow"]
PARTS = CONFIGURATIONS + ["masks", "shipped", "scaling", "daemon", "multitask"]
BATCH = 32
ROUNDS = 3  # processes for each row, a look at the peak before and after each: neighbours come and go
WRONG = 1e-3
BUSY = 0.5  # load average beside us


# ---- rows ---------------------------------------------------------------------------------------

def shares(report, gflops):
    """Multiply-adds x 2 / time / peak. `best` is `used` of the fastest run."""
    def share(way, stage, time="median"):
        return report["gmac"][way][stage] * 2 / (report["ms"][stage][time] / 1e3) / gflops
    return {"used": share("done", "total"), "best": share("done", "total", "min"),
            "dense": share("dense", "total"), "process": share("done", "process")}


def over(rounds, what, how):
    """One figure of every round, by its path: the median of them, or another summary."""
    def at(r):
        for key in what:
            r = r[key]
        return r
    return how([at(r) for r in rounds])


def measure(peak, name, threads, model, given, repeat, *options, dense=None):
    """A row and its results; dense: the count to use instead of the report's own."""
    say(f"{name}, {threads} thread{'s' * (threads > 1)} ...")
    rounds = []
    for _ in range(ROUNDS):
        (report, out), gflops = peak.around(
            threads, lambda: evaluate(model, given, threads, repeat, *options))
        if dense:
            report["gmac"]["dense"] = dense
        rounds.append({"peak_gflops": gflops, "share": shares(report, gflops), **report})
    row = {**rounds[0], "name": name, "rounds": rounds, "peak_gflops": over(rounds, ["peak_gflops"], median)}
    row["share"] = {k: over(rounds, ["share", k], median) for k in row["share"]}
    row["ms"] = {k: {"median": over(rounds, ["ms", k, "median"], median), "min": over(rounds, ["ms", k, "min"], min)}
                 for k in row["ms"]}
    row["peak_rss_mb"] = over(rounds, ["peak_rss_mb"], max)
    return row, out


def with_error(row, wrong):
    row["error"] = wrong
    row["note"] = f"error {wrong:.0e}" + (f" MISSED, target <= {WRONG:.0e}" if wrong > WRONG else "")
    return row


def configuration(peak, name, repeat):
    folder = full.prepare(name, WORK)
    for threads in THREADS:
        row, out = measure(peak, name, threads, folder, folder / "in.safetensors", repeat, "--stages")
        yield with_error(row, full.error(name, full.read(out)))


def masks(peak, name, repeat):
    case = language.Case(name)
    for threads in THREADS:
        row, out = measure(peak, name, threads, case.folder, case.given, repeat, dense=case.dense)
        yield with_error(row, case.error(out))


def shipped(peak, repeat):
    """A batch of pictures: their classes, embeddings, and one pixel of each."""
    given = WORK / "shipped.safetensors"
    full.write(given, full.pictures(BATCH))
    for threads in THREADS:
        row, _ = measure(peak, f"shipped, {BATCH} pictures", threads, SHIPPED, given, 10 * repeat)
        row["rate"] = BATCH * 1e3 / row["ms"]["total"]["median"]
        row["note"] = f"{row['rate']:.0f} images/s"
        yield row


# ---- tables -------------------------------------------------------------------------------------

GROUPS = f"{'':38}{' ratios ':-^41} {' milliseconds, median ':-^35} {' GMAC ':-^15}"
COLUMNS = (f"{'':30}{'threads':>7} {'used':>6} {'best':>6} {'dense':>6} {'process':>7} {'of 1':>6} {'SGEMM':>6}"
           f" {'encode':>8} {'process':>8} {'decode':>8} {'total':>8} {'done':>7} {'dense':>7} {'RSS MB':>7}")


def print_rows(rows):
    print(GROUPS)
    print(COLUMNS)
    alone = alone_peak = None
    for row in rows:
        ms, share, gmac = row["ms"], row["share"], row["gmac"]
        fastest = ms["process"]["min"]
        if row["threads"] == 1:
            alone, alone_peak = fastest, row["peak_gflops"]
        row["process_speedup"], row["peak_speedup"] = alone / fastest, row["peak_gflops"] / alone_peak
        print(f"{row['name']:30}{row['threads']:>7} {share['used']:6.2f} {share['best']:6.2f} {share['dense']:6.2f} "
              f"{share['process']:7.2f} {row['process_speedup']:5.2f}x {row['peak_speedup']:5.2f}x "
              f"{ms['encode']['median']:8.1f} {ms['process']['median']:8.1f} "
              f"{ms['decode']['median']:8.1f} {ms['total']['median']:8.1f} {gmac['done']['total']:7.2f} "
              f"{gmac['dense']['total']:7.2f} {row['peak_rss_mb']:7.0f}  {row['note']}")


def print_peak(peak):
    for threads, looks in peak.looks.items():
        if looks:
            looks = sorted(looks)
            print(f"SGEMM peak, {threads} thread{'s' * (threads > 1)}: median {median(looks):.0f} GFLOP/s "
                  f"of {len(looks)} looks, from {looks[0]:.0f} to {looks[-1]:.0f}; "
                  f"the median product of a look {median(peak.usual[threads]):.2f} of its best")


def measure_rows(peak, wanted, repeat):
    rows = []
    for name in CONFIGURATIONS:
        if name in wanted:
            rows += configuration(peak, name, repeat)
        if name == "language" and "masks" in wanted:
            for asked in language.ROWS:
                rows += masks(peak, asked, repeat)
    if "shipped" in wanted:
        rows += shipped(peak, repeat)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    wanted = set(args.only.split(","))
    if wanted - set(PARTS):
        parser.error(f"no part {', '.join(sorted(wanted - set(PARTS)))}")
    WORK.mkdir(parents=True, exist_ok=True)
    peak = Peak()
    if os.getloadavg()[0] > BUSY:
        print(f"the machine has other work (load {os.getloadavg()[0]:.1f}): figures will be low, and unsteady")
    results = {"rows": measure_rows(peak, wanted, args.repeat)}
    if results["rows"]:
        print_peak(peak)
        print_rows(results["rows"])
    if "scaling" in wanted:
        results["scaling"] = scaling.measure(args.repeat, WORK / "scaling.svg")
    if "daemon" in wanted:
        results["daemon"] = daemon.measure(args.repeat, args.seconds)
    if "multitask" in wanted:
        results["multitask"] = multitask.measure(multitask.PARTS, args.seconds, multitask.HELD_OUT)
    results["peak_gflops"] = peak.looks
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
