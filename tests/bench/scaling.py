#!/usr/bin/python3
"""What an answer costs as the input, the latents, the output queries and the batch grow. See README.md.

    scaling.py [--only encode,latents,queries,batch] [--repeat N] [--svg FILE] [--json FILE]

Encode, and cost against latents, by the encoder of the ImageNet model with Fourier positions before one
layer of its process stack; output queries by the language model; batches by the shipped model. Times are
those of the fastest run: what grows with the work, not with the company on the machine.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np

import full
import language
import plot
from common import SHIPPED, THREADS, WORK, evaluate, say

PARTS = ("encode", "latents", "queries", "batch")
SIDES = (28, 56, 112, 224, 448, 1024, 2048)
LATENTS = (64, 128, 256, 512, 1024)
QUERIES = (1, 16, 128, 512, 2048)
BATCHES = (1, 2, 4, 8, 16, 32)
MOST_SECONDS, MOST_MB = 10, 4096  # of the plain algorithm
ALL = THREADS[-1]


def fourier_model(latents):
    """The ImageNet model with so many latents and one layer behind its encoder, made once."""
    folder = WORK / f"fourier-{latents}"
    if not (folder / "model.safetensors").exists():
        source, case = full.CASES / "vision-fourier", folder / "case"
        case.mkdir(parents=True, exist_ok=True)
        config = json.loads((source / "config.json").read_text())
        config |= {"num_latents": latents, "num_blocks": 1, "num_self_attends_per_block": 1}
        rules = {name: rule for name, rule in json.loads((source / "tensors.json").read_text()).items()
                 if ".self_attends." not in name or ".self_attends.0." in name}
        rules["perceiver.embeddings.latents"]["shape"][0] = latents
        (case / "config.json").write_text(json.dumps(config))
        (case / "tensors.json").write_text(json.dumps(rules))
        full.forge.main(case, folder)
        shutil.rmtree(case)
    return folder


def fastest(report, stage):
    return report["ms"][stage]["min"]


def picture(side):
    given = WORK / "square.safetensors"
    full.write(given, {"inputs": full.uniform("inputs", 1, 3, side, side)})
    return given


# ---- pixels -------------------------------------------------------------------------------------

def encode_ms(report):
    return fastest(report, "encode")


def bearable(side, before):
    """Whether the plain algorithm may be tried, by what it took for a smaller side."""
    if not before:
        return True
    grown = (side / before["side"]) ** 2
    return encode_ms(before) * grown <= MOST_SECONDS * 1e3 and before["peak_rss_mb"] * grown <= MOST_MB


def scale_encode(repeat, svg):
    model, rows, dense = fourier_model(512), [], None
    for side in SIDES:
        say(f"scaling, {side} x {side} pixels ...")
        given = picture(side)
        times = repeat if side <= 448 else 2
        row = {"side": side, "threads": {t: evaluate(model, given, t, times)[0] for t in THREADS}}
        if bearable(side, dense):
            dense = {"side": side, **evaluate(model, given, ALL, times if side < 448 else 1, "--dense")[0]}
            row["dense"] = dense
        rows.append(row)
    print_encode(rows)
    svg.write_text(plot.log_log(
        f"Encoding n x n pixels into 512 latents, {ALL} threads", "n", "milliseconds",
        {"this engine": [(r["side"], encode_ms(r["threads"][ALL])) for r in rows],
         "plain algorithm": [(r["side"], encode_ms(r["dense"])) for r in rows if "dense" in r]}, SIDES))
    print(f"plotted in {svg}")
    return rows


def print_encode(rows):
    print(f"\nencode of n x n pixels into 512 latents; plain algorithm up to {MOST_SECONDS} s or {MOST_MB / 1024:.0f} GB\n"
          f"{'n':>6} {'plain / ours':>12} {'of 1 thread':>11}" + "".join(f" {f'ms, {t} thr.':>11}" for t in THREADS)
          + f" {'plain ms':>9} {'MB':>6} {'plain MB':>9}")
    by_side = {}
    for row in rows:
        ms = {t: encode_ms(r) for t, r in row["threads"].items()}
        by_side[row["side"]], d = ms[ALL], row.get("dense")
        print(f"{row['side']:6} {f'{encode_ms(d) / ms[ALL]:.1f}x' if d else '':>12} {f'{ms[1] / ms[ALL]:.2f}x':>11}"
              + "".join(f" {ms[t]:11.1f}" for t in THREADS) + f" {f'{encode_ms(d):.1f}' if d else '':>9}"
              f" {row['threads'][ALL]['peak_rss_mb']:6.0f} {f'''{d['peak_rss_mb']:.0f}''' if d else '':>9}")
    print(f"1024 / 224: {by_side[1024] / by_side[224]:.1f}x the time for {(1024 / 224) ** 2:.1f}x the pixels")


# ---- everything else ----------------------------------------------------------------------------

def scale(title, points, stages, ask, repeat):
    """Milliseconds of stages on each count of threads, for each of the points: ask(point) gives model
    and input. Growth is that of the first stage's time, for so much more work than in the first row."""
    rows = {}
    for point in points:
        say(f"scaling, {title}: {point} ...")
        model, given = ask(point)
        rows[point] = {t: evaluate(model, given, t, repeat)[0] for t in THREADS}
    print(f"\n{'growth, 1 thr.':>16} {title:>33}" + "".join(f" {f'{s} ms, {t} thr.':>19}" for s in stages for t in THREADS))
    for point, row in rows.items():
        ms = [fastest(row[t], s) for s in stages for t in THREADS]
        grown = fastest(row[1], stages[0]) / fastest(rows[points[0]][1], stages[0])
        print(f"{f'{grown:.1f}x for {point / points[0]:.0f}x':>16} {point:33}" + "".join(f" {x:19.2f}" for x in ms))
    return rows


def scale_latents(repeat):
    given = picture(224)
    return scale("latents, 224 x 224 pixels", LATENTS, ("encode", "process"),
                 lambda n: (fourier_model(n), given), repeat)


def scale_queries(repeat):
    model, given = language.prepare(), WORK / "asked.safetensors"
    ids = full.text(language.LONG, np.arange(13, language.LONG, 50))["inputs"]

    def ask(n):
        full.write(given, {"text": ids, "fill-mask.positions": np.arange(n, dtype="<i8")})
        return model, given
    return scale("output queries, language model", QUERIES, ("decode",), ask, min(repeat, 3))


def scale_batch(repeat):
    given = WORK / "batch.safetensors"

    def ask(n):
        full.write(given, full.pictures(n))
        return SHIPPED, given
    return scale("batch, shipped model", BATCHES, ("total",), ask, 10 * repeat)


def measure(repeat, svg, wanted=PARTS):
    results = {}
    if "encode" in wanted:
        results["encode"] = scale_encode(repeat, svg)
    for name, part in (("latents", scale_latents), ("queries", scale_queries), ("batch", scale_batch)):
        if name in wanted:
            results[name] = part(repeat)
    return results


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--repeat", type=int, default=5)
    p.add_argument("--svg", type=pathlib.Path, default=WORK / "scaling.svg")
    p.add_argument("--json", type=pathlib.Path)
    args = p.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results = measure(args.repeat, args.svg, args.only.split(","))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
