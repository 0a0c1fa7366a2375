"""perceiverctl against a real daemon and real models: what it prints is so, what eval writes is right."""

import json
import os
import struct
import subprocess

import numpy as np
import pytest

from daemon import COMPUTED, Daemon, png
from models import BUILD, GOLDEN, golden

DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}
# Upstreams of other names have tests of their own beside the engine.
CASES = sorted(p.parent.name for p in GOLDEN.glob("hf-*/tensors.json"))


def ctl(*args, code=0, url=None):
    """(stdout, stderr) of a call that ends with this code."""
    env = {k: v for k, v in os.environ.items() if k != "PERCEIVERCTL_URL"}
    if url:
        env["PERCEIVERCTL_URL"] = url
    done = subprocess.run([BUILD / "perceiverctl", *args], capture_output=True, text=True, timeout=120,
                          env={**env, "LC_ALL": "C.UTF-8"}, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


# ---- against a daemon ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"image": golden("hf-image-fourier"), "text": golden("hf-masked-lm"),
                "sentence": golden("hf-text-classification")},
               tmp_path_factory.mktemp("ctl") / "log", *COMPUTED)
    yield d
    d.stop()


@pytest.fixture
def talk(daemon):
    return lambda *args, code=0: ctl(*args, code=code, url=f"http://{daemon.address}")


def test_models_are_those_that_are_served(talk):
    out, _ = talk("models")
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert set(rows) == {"image", "text", "sentence"}
    assert rows["text"][1:5] == ["READY", "PerceiverForMaskedLM", "text", "fill-mask"]
    one, _ = talk("models", "text")
    assert "PerceiverForMaskedLM" in one and "16 x 48" in one and "[-1,-1,262]" in one


def test_status_counts_what_was_answered(daemon, talk):
    def answered():
        out, _ = talk("status")
        assert f"at http://{daemon.address}" in out and "ready        yes" in out
        (row,) = [line.split() for line in out.splitlines() if line.startswith("  sentence ")]
        return int(row[2])

    before = answered()
    for _ in range(3):
        assert daemon.perceive("sentence", {"text": "hello"}).status == 200
    assert answered() == before + 3


def test_perceive_prints_what_the_daemon_answers(daemon, talk, tmp_path):
    file = tmp_path / "shoe.png"
    file.write_bytes(png(60, 50, 3))
    told = daemon.ask("POST", "/v1/models/image/perceive?task=classify&top_k=2", file.read_bytes(),
                      {"Content-Type": "image/png"}).json["results"]
    out, _ = talk("perceive", "image", str(file), "--top-k", "2")
    for label in told[0]["labels"]:
        assert f"{label['label']}" in out and f"{label['score'] * 100:.1f} %" in out
    out, _ = talk("perceive", "image", str(file), "--top-k", "2", "--json")
    assert json.loads(out)["results"] == told
    told = daemon.perceive("text", {"text": "a[MASK]b"}).json["results"][0]["masks"][0]
    out, _ = talk("perceive", "text", "a[MASK]b", "--json")
    assert json.loads(out)["results"][0]["masks"][0] == told
    out, _ = talk("perceive", "text", "a[MASK]b")
    assert out.startswith("a[MASK]b\n") and "byte 1 " in out


def test_refusals_are_told(talk, tmp_path):
    assert "no model \"nobody\"" in talk("perceive", "nobody", "x", code=1)[1]
    assert "[MASK]" in talk("perceive", "text", "nothing to fill", code=1)[1]
    file = tmp_path / "not.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    err = talk("perceive", "image", str(file), code=1)[1]
    assert "not.png" in err and "inputs.image" in err


@pytest.mark.parametrize("more", [[], ["--binary"]])
@pytest.mark.parametrize("model", ["image", "text", "sentence"])
def test_bench_under_many_clients(daemon, talk, model, more):
    items = daemon.metric("perceiverd_batch_items_sum", model=model)
    forwards = daemon.metric("perceiverd_batch_items_count", model=model)
    out, _ = talk("bench", model, "--requests", "200", "--check", "--json", *more)
    report = json.loads(out)
    assert report["answered"] == 200 and report["errors"] == {} and report["clients"] == 64
    assert report["different_replies"] == 0 and report["requests_per_second"] > 0
    latency = report["latency_ms"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
    done = daemon.metric("perceiverd_batch_items_sum", model=model) - items
    assert 200 <= done <= 200 + 64  # and a few first, for what to compare with
    # How clients are joined is test_daemon_load.py's: here lanes may well be faster than the clients.
    assert 1 <= report["mean_batch_size"] <= 64
    assert report["batches"] <= daemon.metric("perceiverd_batch_items_count", model=model) - forwards
    assert daemon.metric("perceiverd_in_flight") == 0


def test_bench_of_what_was_kept(start_daemon):
    """Answers from kept latents are the first to float rounding; --no-cache has all computed."""
    d = start_daemon({"sentence": golden("hf-text-classification")})
    url = f"http://{d.address}"
    out, _ = ctl("bench", "sentence", "--requests", "300", "--check", "--tolerance", "1e-5", "--json", url=url)
    assert json.loads(out)["different_replies"] == 0
    hits = d.metric("perceiverd_latents_hits_total", model="sentence")
    assert hits > 0
    out, _ = ctl("bench", "sentence", "--requests", "300", "--check", "--no-cache", "--json", url=url)
    assert json.loads(out)["different_replies"] == 0
    assert d.metric("perceiverd_latents_hits_total", model="sentence") == hits
    d.stop()


# ---- offline ------------------------------------------------------------------------------------------

def load(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, t in header.items():
        begin, end = (8 + size + o for o in t["data_offsets"])
        tensors[name] = np.frombuffer(raw[begin:end], DTYPES[t["dtype"]]).reshape(t["shape"])
    return tensors


def save(path, tensors):
    header, body = {}, b""
    for name, x in tensors.items():
        (dtype,) = [k for k, v in DTYPES.items() if v == x.dtype]
        header[name] = {"dtype": dtype, "shape": list(x.shape),
                        "data_offsets": [len(body), len(body) + x.nbytes]}
        body += np.ascontiguousarray(x).tobytes()
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


def call_of(case, n):
    """Inputs of a golden call, and what must come out."""
    vectors = load(GOLDEN / case / "vectors.safetensors")
    inputs = {k.split(".", 2)[2]: v for k, v in vectors.items() if k.startswith(f"{n}.in.")}
    want = {k.split(".", 2)[2]: v for k, v in vectors.items() if k.startswith(f"{n}.out.")}
    stages = {k.split(".", 2)[2]: v for k, v in vectors.items()
              if k.startswith(f"{n}.stage.") and "attention" not in k}
    return inputs, want, stages


def calls_of(case):
    return sorted({int(k.split(".")[0]) for k in load(GOLDEN / case / "vectors.safetensors")})


@pytest.mark.parametrize("options", [(), ("--dense",), ("--threads=1",)], ids=" ".join)
@pytest.mark.parametrize("case,n", [(c, n) for c in CASES for n in calls_of(c)])
def test_eval_of_golden_cases(case, n, options, tmp_path):
    inputs, want, stages = call_of(case, n)
    save(tmp_path / "in", inputs)
    out, _ = ctl("eval", golden(case), tmp_path / "in", tmp_path / "out", "--stages", *options)
    got = load(tmp_path / "out")
    assert want and set(got) == set(want) | set(stages)
    for name, x in {**want, **stages}.items():
        assert got[name].shape == x.shape, name
        assert np.abs(got[name] - x).max() <= 1e-4 * np.abs(x).max(), name
    report = json.loads(out)
    assert out.count("\n") == 1
    gmac = report["gmac"]
    for of in gmac.values():
        assert of["total"] == pytest.approx(of["encode"] + of["process"] + of["decode"], rel=1e-4)
    if "--dense" in options:
        assert gmac["done"] == gmac["dense"]
    if "--threads=1" in options:
        assert report["threads"] == 1


def test_the_report_of_eval(tmp_path):
    inputs, want, _ = call_of("hf-image-fourier", 0)
    save(tmp_path / "in", inputs)
    out, err = ctl("eval", golden("hf-image-fourier"), tmp_path / "in", tmp_path / "out",
                   "--repeat", "3", "--threads", "2")
    assert not err and set(load(tmp_path / "out")) == set(want) == {"logits"}
    report = json.loads(out)
    assert set(report) == {"ms", "gmac", "threads", "peak_rss_mb"} and report["threads"] == 2
    assert set(report["ms"]) == {"adapt", "encode", "process", "decode", "total"}
    for ms in report["ms"].values():
        assert set(ms) == {"min", "median"} and 0 <= ms["min"] <= ms["median"]
    assert set(report["gmac"]) == {"done", "dense"}
    for of in report["gmac"].values():
        assert set(of) == {"encode", "process", "decode", "total"} and of["process"] > 0
    assert report["gmac"]["done"]["encode"] < report["gmac"]["dense"]["encode"]
    assert report["peak_rss_mb"] > 1


IDS = np.array([[4, 78, 3, 5]], np.int64)


@pytest.mark.parametrize("inputs,said", [
    ({"inputs": IDS.astype(np.float32) + np.float32(0.5)}, "inputs"),
    ({"inputs": IDS[0]}, "inputs"),
    ({"inputs": IDS + 300}, "inputs"),
    ({"inputs": np.repeat(IDS, 99, axis=1)}, "inputs"),
    ({"inputs": IDS, "attention_mask": np.ones((1, 3), np.int64)}, "attention_mask"),
    ({"inputs": IDS, "attention_mask": np.ones((2, 4), np.int64)}, "attention_mask"),
    ({"inputs": IDS, "token_type_ids": IDS}, "token_type_ids"),
    ({"attention_mask": IDS}, "inputs"),
    ({}, "inputs"),
])
def test_eval_refuses_inputs_that_are_none(inputs, said, tmp_path):
    save(tmp_path / "in", inputs)
    out, err = ctl("eval", golden("hf-masked-lm"), tmp_path / "in", tmp_path / "out", code=1)
    assert not out and err.startswith("perceiverctl: ") and said in err
    assert not (tmp_path / "out").exists()


def test_eval_refuses_files_that_are_none(tmp_path):
    model = golden("hf-masked-lm")
    save(tmp_path / "in", {"inputs": IDS})
    (tmp_path / "cut").write_bytes((tmp_path / "in").read_bytes()[:-4])
    assert "cut" in ctl("eval", model, tmp_path / "cut", tmp_path / "out", code=1)[1]
    assert "gone" in ctl("eval", model, tmp_path / "gone", tmp_path / "out", code=1)[1]
    assert "gone" in ctl("eval", tmp_path / "gone", tmp_path / "in", tmp_path / "out", code=1)[1]
    err = ctl("eval", model, tmp_path / "in", tmp_path / "gone" / "out", code=1)[1]
    assert "gone/out" in err
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_a_model_is(tmp_path):
    out, err = ctl("inspect", golden("hf-masked-lm"))
    tensors = json.loads((GOLDEN / "hf-masked-lm" / "tensors.json").read_text())
    parameters = sum(int(np.prod(t["shape"])) for t in tensors.values())
    assert not err and out.startswith("PerceiverForMaskedLM") and str(parameters) in out
    assert "16 x 48" in out and "fill-mask" in out and "[-1,-1,262]" in out
    plain, plan = ([float(x) for x in line.split()[2:]] for line in out.splitlines()[-2:])
    assert len(plain) == len(plan) == 4 and plan[3] < plain[3]
    assert plan[3] == pytest.approx(sum(plan[:3]), abs=2e-4)
    assert "gone" in ctl("inspect", tmp_path / "gone", code=1)[1]


@pytest.mark.parametrize("dense", [[], ["--dense"]])
def test_the_bare_model_gives_its_latents(talk, tmp_path, dense):
    """PerceiverModel: the encoder of a masked LM, without the name's prefix, on ready-made tokens."""
    whole = golden("hf-masked-lm")
    save(tmp_path / "model.safetensors",
         {name.removeprefix("perceiver."): x for name, x in load(whole / "model.safetensors").items()
          if name.startswith(("perceiver.embeddings.", "perceiver.encoder."))})
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["PerceiverModel"]}))
    vectors = load(GOLDEN / "hf-masked-lm" / "vectors.safetensors")
    given, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save(given, {"inputs": vectors["1.stage.adapted_inputs"],
                 "attention_mask": vectors["1.in.attention_mask"]})
    talk("eval", str(tmp_path), str(given), str(out), *dense)
    want = vectors["1.stage.latents_after_process"]
    assert np.abs(load(out)["last_hidden_state"] - want).max() <= 1e-4 * np.abs(want).max()
