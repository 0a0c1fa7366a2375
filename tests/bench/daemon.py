"""The daemon with small models: what HTTP, batching and the event loop leave of the engine's speed.

Plain load comes from wrk, a client that costs little itself.
"""

import base64
import http.client
import json
import statistics
import time

import numpy as np

import full
from common import CLIENTS, SHIPPED, WORK, B, Daemon, beside, evaluate, run, say, wrk

import make_native  # beside forge.py, which full.py has found

PICTURE = SHIPPED / "samples" / "bag.png"
SAMPLES = 16  # different pictures, in turn
SIDE = 224
TARGETS = {"binary": ">= 0.8", "queries": ">= 15000", "loop": "<= 30"}


# ---- requests -----------------------------------------------------------------------------------

OIP_TYPES = {"<f4": "FP32", "<i8": "INT64"}
NOT_KEPT = {"cache": False, "share": False}


def binary(tensors):
    """An Open Inference Protocol request in binary form: body and headers."""
    described = [{"name": k, "shape": t.shape, "datatype": OIP_TYPES[t.dtype.str],
                  "parameters": {"binary_data_size": t.nbytes}} for k, t in tensors.items()]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True, **NOT_KEPT}}).encode()
    return head + b"".join(t.tobytes() for t in tensors.values()), {
        "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def numbers(tensors, digits):
    """The same as JSON, each number with so many digits."""
    def data(t):
        return "[" + ",".join(format(x, f".{digits}g") for x in t.ravel().tolist()) + "]"
    described = ",".join(f'{{"name":"{k}","shape":{list(t.shape)},"datatype":"{OIP_TYPES[t.dtype.str]}",'
                         f'"data":{data(t)}}}' for k, t in tensors.items())
    return (f'{{"inputs":[{described}],"parameters":{json.dumps(NOT_KEPT)}}}'.encode(),
            {"Content-Type": "application/json"})


def script(name, requests):
    """A wrk script that sends these (body, headers) in turn."""
    lines = ["local requests = {}"]
    for i, (body, headers) in enumerate(requests):
        path = WORK / f"{name}-{i}.body"
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        fields = ", ".join(f"['{k}'] = '{v}'" for k, v in headers.items())
        lines.append(f"requests[{i + 1}] = {{'{path.resolve()}', {{{fields}}}}}")
    lines += ["function init()",
              "  for i, r in ipairs(requests) do",
              "    local file = io.open(r[1], 'rb')",
              "    requests[i] = wrk.format('POST', nil, r[2], file:read('*a'))",
              "    file:close()",
              "  end",
              "end",
              "local at = 0",
              "function request()",
              "  at = at % #requests + 1",
              "  return requests[at]",
              "end"]
    path = WORK / f"{name}.lua"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- load ---------------------------------------------------------------------------------------

def offline_rate(repeat):
    """Pictures a second of one thread, in batches of 32."""
    given = WORK / "offline.safetensors"
    full.write(given, full.pictures(32))
    return 32e3 / evaluate(SHIPPED, given, 1, 10 * repeat)[0]["ms"]["total"]["median"]


def under_load(d, load):
    """What load() found, with the loop's microseconds for each request and the mean batch."""
    def counts():
        return np.array([d.loop_cpu(), d.metric("requests_total"), d.metric("batch_items_sum"),
                         d.metric("batch_items_count")])
    before = counts()
    found = load()
    cpu, requests, items, batches = counts() - before
    return {**found, "loop_us": cpu / requests * 1e6, "mean_batch": items / batches if batches else 0}


def png_in_json(d, seconds):
    report = json.loads(run(B / "perceiverctl", "bench", "senses", "--url", d.url, "--clients", CLIENTS,
                            "--seconds", seconds, "--no-cache", "--json", "--input", PICTURE, "--task", "garment"))
    return {"rate": report["requests_per_second"], "p50": report["latency_ms"]["p50"],
            "p99": report["latency_ms"]["p99"]}


def keep_picture(d):
    """The path of a handle's queries."""
    data = base64.b64encode(PICTURE.read_bytes()).decode()
    kept = d.post("/v1/models/senses/perceive", {"inputs": {"image": {"b64": data}}, "keep": "10m",
                                                 "queries": [{"task": "garment"}]})
    return f"/v1/latents/{kept['latents']}/query"


def pictures(model="senses"):
    """Requests with a picture each."""
    whole = full.pictures(1) if model == "senses" else {}
    return [binary({**whole, "image": full.uniform(f"image.{i}", 1, 28, 28, 1)}) for i in range(SAMPLES)]


def seldom(rate):
    """A wrk script that makes its clients wait between requests, for about so many a second."""
    path = WORK / "seldom.lua"
    path.write_text(f"function delay() return {round(1e3 * CLIENTS / rate)} end\n")
    return path


def loads(seconds):
    """Pictures keep one thread of the daemon busy, so that the client has a core; queries may use all."""
    question = json.dumps({"queries": [{"task": "garment", "top_k": 1}]})
    asked = [(question, {"Content-Type": "application/json"})]
    found = {}
    say("daemon, load ...")
    with Daemon("--threads", "1") as d:
        found["binary"] = under_load(
            d, lambda: wrk(d.url, "/v2/models/senses/infer", seconds, script("binary", pictures())))
        found["PNG in JSON"] = under_load(d, lambda: png_in_json(d, seconds))
    with Daemon() as d:
        handle = keep_picture(d)
        found["queries"] = under_load(d, lambda: wrk(d.url, handle, seconds, script("query", asked)))
        found["health"] = under_load(d, lambda: wrk(d.url, "/v2/health/live", seconds))
        found["seldom"] = under_load(
            d, lambda: wrk(d.url, "/v2/health/live", seconds, seldom(found["binary"]["rate"])))
    with Daemon("--threads", "1", name="tiny", model=tiny(28, 1)) as d:
        found["little"] = under_load(
            d, lambda: wrk(d.url, "/v2/models/tiny/infer", seconds, script("little", pictures("tiny"))))
    return found


def print_loads(found, offline):
    binary_of, health = found["binary"]["rate"] / offline, found["health"]["rate"]
    found["binary"]["of_offline"] = binary_of
    notes = {"binary": f"{binary_of:.2f} of offline ({offline:.0f} /s), {beside(binary_of, TARGETS['binary'])}",
             "queries": f"{found['queries']['rate'] / health:.2f} of health checks, "
                        f"rate {beside(found['queries']['rate'], TARGETS['queries'])}"}
    print(f"\n{f'{CLIENTS} clients':28} {'rate /s':>9} {'loop us':>8} {'batch':>6} {'p50 ms':>7} {'p99 ms':>7}")
    for name, title in (("binary", "pictures, binary"), ("PNG in JSON", "pictures, PNG in JSON"),
                        ("little", "pictures, next to no model"), ("queries", "queries to a handle"),
                        ("health", "health checks"), ("seldom", "as few as pictures")):
        r = found[name]
        target = None if name == "seldom" else f"loop {beside(r['loop_us'], TARGETS['loop'])}"
        note = "; ".join(filter(None, [target, notes.get(name)]))
        print(f"{title:28} {r['rate']:9.0f} {r['loop_us']:8.1f} {r['mean_batch']:6.1f} {r['p50']:7.2f} "
              f"{r['p99']:7.2f}  {note}")


# ---- JSON numbers -------------------------------------------------------------------------------

def tiny(side, channels):
    """A model that takes many numbers and does next to nothing with them."""
    m = {"format": "perceiver-1", "name": "tiny", "latents": {"count": 1, "channels": 8},
         "encoders": {"see": {"heads": 1}}, "process": {"layers": 1, "heads": 1},
         "decoders": {"judge": {"channels": 8, "heads": 1}},
         "inputs": [{"name": "image", "kind": "image", "encoder": "see", "height": side, "width": side,
                     "channels": channels,
                     "position": {"kind": "fourier", "bands": 1, "max_resolution": [side, side]}}],
         "tasks": [{"name": "label", "kind": "classify", "decoder": "judge", "labels": ["a", "b"]}]}
    folder = WORK / f"tiny-{side}"
    folder.mkdir(exist_ok=True)
    (folder / "perceiver.json").write_text(json.dumps(m, indent=1) + "\n")
    full.write(folder / "model.safetensors", make_native.weights("tiny", m))
    return folder


def json_numbers(repeat):
    """Milliseconds of one request after the other, as the client and as the daemon see them."""
    given = {"image": full.uniform("image", 1, SIDE, SIDE, 3)}
    forms = {"binary": binary(given), "JSON, 9 digits": numbers(given, 9), "JSON, 17 digits": numbers(given, 17)}
    found = {}
    say("daemon, JSON numbers ...")
    with Daemon(name="tiny", model=tiny(SIDE, 3)) as d:
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
        for name, (body, headers) in forms.items():
            took, adapted = [], []
            for _ in range(4 * repeat):
                before = d.metric("adapt_seconds_sum")
                start = time.monotonic()
                d.send("/v2/models/tiny/infer", body, c, headers)
                took.append((time.monotonic() - start) * 1e3)
                adapted.append((d.metric("adapt_seconds_sum") - before) * 1e3)
            found[name] = {"latency": statistics.median(took), "adapt": statistics.median(adapted),
                           "bytes": len(body)}
    print(f"\n{given['image'].size} numbers in a request {'MB':>7} {'latency ms':>11} {'beyond binary':>14} {'adapt ms':>9}")
    for name, r in found.items():
        r["beyond"] = r["latency"] - found["binary"]["latency"]
        print(f"{name:28} {r['bytes'] / 1e6:7.2f} {r['latency']:11.2f} {r['beyond']:14.2f} {r['adapt']:9.2f}")
    return found


# ---- start --------------------------------------------------------------------------------------

def starts(repeat):
    """Seconds from the start of the process to READY=1, files in the page cache."""
    found = {}
    say("daemon, starts ...")
    for name, folder in (("shipped", SHIPPED), ("language", full.prepare("language", WORK))):
        seconds = []
        for _ in range(1 + repeat):  # the first brings the files into the cache
            with Daemon(model=folder) as d:
                seconds.append(d.seconds)
        size = (folder / "model.safetensors").stat().st_size
        found[name] = {"bytes": size, "median": statistics.median(seconds[1:]), "min": min(seconds[1:])}
    print(f"\n{'from exec to ready':28} {'MB':>7} {'median ms':>11} {'best':>9}")
    for name, r in found.items():
        print(f"{name:28} {r['bytes'] / 1e6:7.0f} {r['median'] * 1e3:11.0f} {r['min'] * 1e3:9.0f}")
    return found


def measure(repeat, seconds):
    before = offline_rate(repeat)
    found = loads(seconds)
    offline = max(before, offline_rate(repeat))
    print_loads(found, offline)
    return {"offline_rate": offline, "loads": found, "json_numbers": json_numbers(repeat),
            "starts": starts(repeat)}
