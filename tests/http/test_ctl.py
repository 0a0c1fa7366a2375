"""perceiverctl as its users see it: what it sends, prints and exits with, against a stub daemon."""

import base64
import io
import json
import struct
import subprocess

import pytest
from PIL import Image

from ctl_stub import BUILD, CLASSES, MODEL, PERCEIVE, PNG, ctl, native

COMMANDS = ["models", "status", "perceive", "ask", "latents", "import", "bench", "inspect", "eval"]


# ---- options ------------------------------------------------------------------------------------


def test_help_of_every_command():
    out, _ = ctl(None, "--help")
    for command in COMMANDS:
        assert f"\n  {command} " in out
        said, err = ctl(None, command, "--help")
        assert said.startswith(f"usage: perceiverctl {command}") and not err
    assert ctl(None, "--version")[0].startswith("perceiverctl ")


@pytest.mark.parametrize("args", [
    [], ["nonsense"], ["models", "a", "b"], ["perceive", "m"], ["status", "--nonsense"],
    ["bench", "--clients"], ["bench", "--clients", "0"], ["bench", "--clients", "1x"],
    ["bench", "--clients", "99999999999999999999"], ["bench", "--seconds", "nan"],
    ["bench", "--check=yes"], ["bench", "-x"], ["bench", "m", "--binary", "--input", "x"],
    ["bench", "m", "--binary", "--task", "x"], ["bench", "--handle", "x", "--input", "y"],
    ["bench", "--handle", "x", "--no-cache"], ["bench", *["--task", "x"] * 65],
    ["perceive", "m", "x", "--top-k", "1001"], ["inspect"], ["eval", "a", "b"],
    ["eval", "a", "b", "c", "--threads", "257"],
])
def test_wrong_usage(args):
    out, err = ctl("http://127.0.0.1:1", *args, code=2)
    assert not out and "usage: perceiverctl" in err


def test_where_the_daemon_is(stub, tmp_path):
    s = stub()
    ctl(None, "models", "mlm", "--url", s.url)
    ctl("http://127.0.0.1:1", "models", f"--url={s.url}/", "mlm")
    ctl(s, "models", "--", "mlm", env={"http_proxy": "http://127.0.0.1:1"})
    assert [r.path for r in s.requests] == ["/v1/models/mlm"] * 3
    path = str(tmp_path / "socket")
    s = stub(unix=path)
    ctl(None, "models", "mlm", "--unix", path)
    assert len(s.requests) == 1


def test_no_daemon(tmp_path):
    _, err = ctl("http://127.0.0.1:1", "models", code=1)
    assert err == "perceiverctl: http://127.0.0.1:1: cannot connect: Connection refused\n"
    _, err = ctl(None, "status", "--unix", str(tmp_path / "none"), code=1)
    assert err == f"perceiverctl: {tmp_path}/none: cannot connect: No such file or directory\n"


def test_output_that_cannot_be_written(stub):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BUILD / "perceiverctl", "models", "--url", stub().url], stdout=full,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr


# ---- models and status --------------------------------------------------------------------------


def test_models(stub):
    out, _ = ctl(stub(), "models")
    assert out == """\
model     state    architecture                            inputs  tasks      parameters   latents   GMAC
fa/shion  READY    PerceiverForImageClassificationFourier  image   classify        1.2 M  32 x 128  0.013
mlm       READY    PerceiverForImageClassificationFourier  text    fill-mask         999  32 x 128  0.013
slow      LOADING  -                                       -       -                   -         -      -
"""


def test_one_model(stub):
    out, _ = ctl(stub(), "models", "fa/shion")
    for line in ["fa/shion  READY", "  parameters   1.2 M", "  latents      32 x 128",
                 "input image: up to 784 tokens; takes image/png image/jpeg",
                 "    0 Ankle boot, 1 Sneaker, 2 Täsche",
                 "tensor in   inputs  F32  [-1,1,28,20]", "tensor out  logits  F32  [-1,3]",
                 "  plain algorithm               1     0.01   0.002  1.012",
                 "  this plan                 0.001     0.01   0.002  0.013"]:
        assert line in out.splitlines(), line
    assert json.loads(ctl(stub(), "models", "fa/shion", "--json")[0]) == MODEL


def test_unknown_model(stub):
    s = stub({"/v1/models/no": (404, {"error": {"code": "not_found", "message": "no model \"no\"",
                                                "path": None, "request_id": "x"}})})
    assert ctl(s, "models", "no", code=1) == (
        "", 'perceiverctl: /v1/models/no: 404 no model "no"\n')


@pytest.mark.parametrize("body", [b"", b"[]", b'{"models":[{"name":"x"}]}', b'{"models":'])
def test_replies_that_are_none(stub, body):
    out, err = ctl(stub({"/v1/models": (200, body)}), "models", code=1)
    assert not out and err.startswith("perceiverctl: reply to /v1/models: $")


def test_status(stub):
    s = stub()
    out, _ = ctl(s, "status")
    assert out == f"""\
perceiverd 0.1.0 (abc) at {s.url}
  ready        yes
  requests     9  (7 x 200, 2 x 429)
  in flight    7
  queued       6
  busy lanes   1
  connections  9
  batches      10, 4.00 inputs each

  model     state  answered  failed  queued  batches  mean  queue ms  infer ms  total ms
  fa/shion  READY         0       1       1        0     -         -         -         -
  mlm       READY         4       2       5        8  3.75      2.00      2.00     12.34
"""


def test_status_of_a_daemon_that_is_not_ready(stub):
    out, err = ctl(stub({"/v2/health/ready": (503, {"ready": False})}), "status", code=1)
    assert "  ready        no\n" in out and not err


def test_malformed_metrics(stub):
    _, err = ctl(stub({"/metrics": (200, b"ok 1\nnot a sample\n")}), "status", code=1)
    assert err == "perceiverctl: /metrics: line 2: not a sample: not a sample\n"


# ---- bench --------------------------------------------------------------------------------------


def growing_metrics(request, n):
    """8 batches of 10 inputs between the first and the second time."""
    return (200, b'perceiverd_batch_items_sum{model="fa/shion"} %d\n'
                 b'perceiverd_batch_items_count{model="fa/shion"} %d\n'
                 b'perceiverd_batch_items_sum{model="mlm"} %d\n' % (5 + 80 * n, 1 + 8 * n, 1000 * n))


def bench(server, *args, code=0):
    out, err = ctl(server, "bench", *args, "--json", code=code)
    assert code or not err
    return json.loads(out)


def test_bench(stub):
    s = stub({"/metrics": growing_metrics})
    r = bench(s, "fa/shion", "--requests", "200", "--clients", "8", "--check")
    sent = s.of(PERCEIVE)
    assert len(sent) == 1 + 200  # one before the others
    assert len({q.connection for q in sent[1:]}) == 8  # kept alive, one for each client
    assert r["answered"] == 200 and r["errors"] == {} and r["clients"] == 8
    assert r["batches"] == 8 and r["mean_batch_size"] == 10 and r["different_replies"] == 0
    assert r["requests_per_second"] > 0 and r["client_cpu"] > 0
    ms = [r["latency_ms"][k] for k in ("min", "p50", "p90", "p95", "p99", "max")]
    assert ms == sorted(ms) and ms[0] <= r["latency_ms"]["mean"] <= ms[-1] and ms[0] > 0


def test_bench_pictures(stub):
    """16 different ones, of the shape that the model says, and the same in every run."""
    runs = []
    for _ in range(2):
        s = stub()
        bench(s, "fa/shion", "--requests", "32", "--clients", "1")
        bodies = [q.body for q in s.of(PERCEIVE)[1:]]
        assert bodies[:16] == bodies[16:] and len(set(bodies)) == 16
        runs.append(bodies)
    assert runs[0] == runs[1]
    for body in runs[0][:16]:
        said = json.loads(body)["inputs"]["image"]
        assert said["type"] == "image/png"
        picture = Image.open(io.BytesIO(base64.b64decode(said["b64"], validate=True)))
        picture.load()
        assert picture.size == (20, 28) and picture.mode == "L"
        assert len(set(picture.getdata())) > 100


def test_bench_pictures_of_any_size(stub):
    """Where the model takes any size, they have the pixels that it makes of them."""
    tensors = {"inputs": [{"name": "inputs", "datatype": "FP32", "shape": [-1, 3, -1, -1]}],
               "outputs": []}
    s = stub({"/v1/models/fa%2Fshion": (200, MODEL | {"tensors": tensors})})
    bench(s, "fa/shion", "--requests", "3", "--clients", "1")
    sizes = [Image.open(io.BytesIO(base64.b64decode(json.loads(q.body)["inputs"]["image"]["b64"])))
             for q in s.of(PERCEIVE)]
    assert [(i.size, i.mode) for i in sizes] == [((224, 224), "RGB")] + [((28, 28), "RGB")] * 4


def tensors_of(request):
    """[(name, datatype, shape, bytes)] of a request in the binary form."""
    n = int(request.headers["Inference-Header-Content-Length"])
    header, rest, found = json.loads(request.body[:n]), request.body[n:], []
    assert header["parameters"]["binary_data_output"] is True
    for t in header["inputs"]:
        size = t["parameters"]["binary_data_size"]
        found.append((t["name"], t["datatype"], t["shape"], rest[:size]))
        rest = rest[size:]
    assert not rest
    return found


def binary_answer(request, n):
    header = json.dumps({"model_name": "m", "parameters": {"ms_total": n}, "outputs": [
        {"name": "logits", "datatype": "FP32", "shape": [1, 1],
         "parameters": {"binary_data_size": 4}}]}).encode()
    return (200, header + struct.pack("<f", 1.5), {"Inference-Header-Content-Length": len(header)})


def test_bench_tensors(stub):
    s = stub({"/v2/models/fa%2Fshion/infer": binary_answer, "/v2/models/mlm/infer": binary_answer})
    r = bench(s, "fa/shion", "--binary", "--requests", "20", "--check")
    assert r["form"] == "oip-binary" and r["answered"] == 20 and r["different_replies"] == 0
    for q in s.of("/v2/models/fa%2Fshion/infer"):
        [(name, kind, shape, data)] = tensors_of(q)
        assert (name, kind, shape) == ("inputs", "FP32", [1, 1, 28, 20])
        values = struct.unpack(f"<{28 * 20}f", data)
        assert all(-1 <= v < 1 for v in values) and len(set(values)) > 500
    bench(s, "mlm", "--binary", "--requests", "16", "--clients", "1")
    lengths = []
    for q in s.of("/v2/models/mlm/infer")[1:]:
        [(name, kind, shape, data)] = tensors_of(q)  # without attention_mask, which is optional
        ids = struct.unpack(f"<{shape[1]}q", data)
        assert (name, kind, shape[0]) == ("inputs", "INT64", 1)
        assert ids[0] == 4 and ids[-1] == 5 and all(6 <= i < 262 for i in ids[1:-1])
        lengths.append(shape[1])
    assert lengths == sorted(lengths) and lengths[0] == 16 and lengths[-1] == 64


def test_bench_texts(stub):
    s = stub({"/v1/models/mlm/perceive": (200, native())})
    bench(s, "mlm", "--requests", "16", "--clients", "1")
    texts = [json.loads(q.body)["inputs"]["text"] for q in s.of("/v1/models/mlm/perceive")[1:]]
    lengths = [len(t.replace("[MASK]", "?")) + 2 for t in texts]
    assert lengths[0] == 16 and lengths[-1] == 64 and lengths == sorted(lengths)
    assert all("[MASK]" in t for t in texts)
    bench(s, "mlm", "--requests", "2", "--tokens", "10")
    text = json.loads(s.of("/v1/models/mlm/perceive")[-1].body)["inputs"]["text"]
    assert len(text.replace("[MASK]", "?")) == 8


def test_bench_of_a_named_input(stub, tmp_path):
    s = stub()
    (tmp_path / "p").write_bytes(PNG)
    r = bench(s, "fa/shion", "--input", str(tmp_path / "p"), "--requests", "3")
    assert r["inputs"] == str(tmp_path / "p")
    assert {q.body for q in s.of(PERCEIVE)} == {
        json.dumps({"inputs": {"type": "image/png", "b64": base64.b64encode(PNG).decode()}},
                   separators=(",", ":")).encode()}
    bench(s, "fa/shion", "--input", "hello", "--requests", "3")
    assert s.requests[-2].body == b'{"inputs":"hello"}'


def test_bench_finds_different_replies(stub):
    """Ids and timing may differ, answers may not: not by a bit. One client: a spoilt reply never
    comes before the one it is compared with."""
    def answer(request, n):
        reply = json.loads(native(CLASSES)) | {"id": str(n)}
        reply["timing_ms"]["total"] = n
        if n in (20, 33):
            reply["results"][0]["labels"][2]["score"] = 0.0047
        return (200, reply)

    s = stub({PERCEIVE: answer})
    r = bench(s, "fa/shion", "--requests", "60", "--clients", "1", "--check", code=1)
    assert r["different_replies"] == 2 and r["answered"] == 60
    bench(s, "fa/shion", "--requests", "60", "--clients", "4")  # nobody asked

    def binary(request, n):
        status, body, headers = binary_answer(request, n)
        return (status, body[:-1] + bytes([n == 9]), headers)

    s = stub({"/v2/models/fa%2Fshion/infer": binary})
    assert bench(s, "fa/shion", "--requests", "40", "--clients", "1", "--check", "--binary",
                 code=1)["different_replies"] == 1


def test_bench_counts_errors(stub):
    def answer(request, n):
        return (429, {"error": {"code": "x", "message": "full"}}, {"Retry-After": "1"}) \
            if n % 10 == 3 else (504, b"") if n == 8 else (200, native(CLASSES))

    s = stub({PERCEIVE: answer})
    r = bench(s, "fa/shion", "--requests", "50", "--clients", "5", code=1)
    assert r["errors"] == {"429": 5, "504": 1} and r["answered"] == 44


def test_bench_needs_an_answer_before_it_begins(stub):
    s = stub({PERCEIVE: (400, {"error": {"message": "not like this", "path": "$.inputs"}})})
    assert ctl(s, "bench", "fa/shion", code=1) == (
        "", "perceiverctl: 400 $.inputs: not like this\n")
    assert len(s.of(PERCEIVE)) == 1


def test_bench_gives_up_when_the_daemon_is_gone(stub):
    def answer(request, n):
        if n == 0:
            return (200, native(CLASSES))
        raise ConnectionAbortedError

    s = stub({PERCEIVE: answer})
    s.handle_error = lambda *args: None
    _, err = ctl(s, "bench", "fa/shion", "--seconds", "60", "--clients", "4", code=1)
    assert err.startswith("perceiverctl: no replies: ")


def test_bench_chooses_the_only_model(stub):
    _, err = ctl(stub(), "bench", code=1)
    assert err == "perceiverctl: which model? 3 are served: fa/shion, mlm, slow\n"
    s = stub({"/v1/models": (200, {"models": [MODEL]})})
    out, _ = ctl(s, "bench", "--requests", "5", "--clients", "2")
    lines = out.splitlines()
    assert lines[0].startswith("fa/shion: 2 clients for ") and lines[1] == "  requests     5 answered"
    assert lines[3].startswith("  latency ms   min ")


def test_bench_stops_in_time(stub):
    s = stub()
    r = bench(s, "fa/shion", "--seconds", "0.3", "--clients", "2")
    assert r["answered"] == len(s.of(PERCEIVE)) - 1 and r["seconds"] >= 0.3


def test_bench_of_inputs_that_cannot_be_made_up(stub):
    sounds = MODEL | {"inputs": [{"name": "ear", "kind": "sound", "media": [], "max_tokens": 1}]}
    s = stub({"/v1/models/fa%2Fshion": (200, sounds)})
    assert ctl(s, "bench", "fa/shion", code=1)[1] == (
        "perceiverctl: input ear: cannot make up sound; name one with --input\n")
    strange = MODEL | {"tensors": {"inputs": [{"name": "x", "datatype": "FP16", "shape": [-1]}],
                                   "outputs": []}}
    s = stub({"/v1/models/fa%2Fshion": (200, strange)})
    assert ctl(s, "bench", "fa/shion", "--binary", code=1)[1] == (
        "perceiverctl: tensor x: cannot make up F16 of 1 dimensions\n")
    huge = MODEL | {"tensors": {"inputs": [{"name": "x", "datatype": "FP32",
                                            "shape": [-1, 3, 1 << 40, 8]}], "outputs": []}}
    s = stub({"/v1/models/fa%2Fshion": (200, huge)})
    assert "too large to make up" in ctl(s, "bench", "fa/shion", code=1)[1]


SENSES = MODEL | {
    "inputs": [{"name": "see", "kind": "image", "media": ["image/png"], "max_tokens": 196},
               {"name": "hear", "kind": "audio", "media": ["audio/wav"], "max_tokens": 100},
               {"name": "read", "kind": "text", "media": ["text/plain"], "max_tokens": 64}],
    "tasks": [MODEL["tasks"][0] | {"name": "garment", "inputs": ["see"]},
              MODEL["tasks"][0] | {"name": "spam", "inputs": ["read"]},
              MODEL["tasks"][0] | {"name": "pack", "inputs": ["see", "hear"]}]}


def asked(stub):
    """(input or handle, task) of every request that was measured."""
    found = []
    for q in stub.requests:
        body = json.loads(q.body) if q.method == "POST" else {}
        said = body.get("inputs", q.path if "/query" in q.path else None)
        if isinstance(said, dict):
            said = said.get("type") or next(iter(said))
        if q.method == "POST":
            found.append((said, ",".join(t["task"] for t in body.get("queries", []))))
    return found[1:]


def test_bench_of_several_inputs_and_tasks(stub, tmp_path):
    """In turn: all inputs with the first task, then with the second, where it has an answer."""
    (tmp_path / "p").write_bytes(PNG)
    (tmp_path / "s").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    given = ["--input", str(tmp_path / "p"), "--input", "hello", "--input", str(tmp_path / "s"),
             "--clients", "1"]
    s = stub({"/v1/models/fa%2Fshion": (200, SENSES)})
    r = bench(s, "fa/shion", *given, "--requests", "6")
    assert asked(s) == [("image/png", ""), ("hello", ""), ("audio/wav", "")] * 2
    assert r["inputs"] == "3 inputs"
    s = stub({"/v1/models/fa%2Fshion": (200, SENSES)})
    r = bench(s, "fa/shion", *given, "--requests", "7", "--task", "pack", "--task", "spam", "--task",
              "embed", "--no-cache")
    assert asked(s) == [("image/png", "pack"), ("audio/wav", "pack"), ("hello", "spam"),
                        ("image/png", "embed"), ("hello", "embed"), ("audio/wav", "embed"),
                        ("image/png", "pack")]
    assert r["inputs"] == "3 inputs for pack, spam, embed"
    assert all(json.loads(q.body)["cache"] is False for q in s.of(PERCEIVE))
    assert ctl(s, "bench", "fa/shion", "--input", "x", "--task", "pack", code=1)[1] == (
        "perceiverctl: no task is answered for any of the inputs\n")


def test_bench_of_random_inputs_of_several_kinds(stub):
    """One after the other, and only those that can be made up."""
    s = stub({"/v1/models/fa%2Fshion": (200, SENSES)})
    bench(s, "fa/shion", "--requests", "16", "--clients", "1")
    assert asked(s) == [("see", ""), ("read", "")] * 8
    s = stub({"/v1/models/fa%2Fshion": (200, SENSES)})
    bench(s, "fa/shion", "--requests", "16", "--clients", "1", "--task", "spam")
    assert asked(s) == [("read", "spam")] * 16
    s = stub({"/v1/models/fa%2Fshion": (200, SENSES | {"together": True})})
    assert "cannot make up audio" in ctl(s, "bench", "fa/shion", code=1)[1]


def test_bench_of_kept_latents(stub):
    kept = {"model": "fa/shion", "version": "1", "input": "image", "shape": [32, 128], "bytes": 1,
            "age_s": 0, "expires_s": 1, "has_input": False, "tasks": []}
    replies = {f"/v1/latents/{h}": (200, kept | {"latents": h}) for h in "ab"}
    replies |= {f"/v1/latents/{h}/query": (200, native(CLASSES)) for h in "ab"}
    s = stub(replies | {"/metrics": growing_metrics})
    r = bench(s, "--handle", "a", "--handle", "b", "--task", "x", "--task", "y", "--requests", "5",
              "--clients", "1", "--check")
    a, b = "/v1/latents/a/query", "/v1/latents/b/query"
    assert asked(s) == [(a, "x"), (b, "x"), (a, "y"), (b, "y"), (a, "x")]
    assert r["answered"] == 5 and r["batches"] == 8 and r["inputs"] == "2 kept latents for x, y"
    assert ctl(s, "bench", "mlm", "--handle", "a", code=1)[1] == (
        "perceiverctl: a is of model fa/shion, not mlm\n")


def test_bench_tolerates_what_it_is_told_to(stub):
    def answer(request, n):
        reply = json.loads(native(CLASSES))
        reply["results"][0]["labels"][0]["score"] += n * 1e-4
        return (200, reply)

    given = ["fa/shion", "--input", "x", "--requests", "10", "--clients", "1", "--check"]
    assert bench(stub({PERCEIVE: answer}), *given, code=1)["different_replies"] == 9
    assert bench(stub({PERCEIVE: answer}), *given, "--tolerance", "0.01")["different_replies"] == 0
    assert bench(stub({PERCEIVE: answer}), *given, "--tolerance", "0.00055",
                 code=1)["different_replies"] == 4

    def binary(request, n):
        status, body, headers = binary_answer(request, n)
        return (status, body[:-4] + struct.pack("<f", 3 + n * 1e-3), headers)

    # each of the 16 requests has its second answer 16 replies after the first: 0.016 later
    for tolerance, different in [("0", 16), ("0.006", 0), ("0.004", 16)]:
        s = stub({"/v2/models/fa%2Fshion/infer": binary})
        r = bench(s, "fa/shion", "--binary", "--requests", "32", "--clients", "1", "--check",
                  "--tolerance", tolerance, code=int(different > 0))
        assert r["different_replies"] == different
