"""perceiverctl perceive, ask, latents and import: what they send, print and exit with, against a stub
daemon."""

import base64
import json
import struct
import subprocess
import threading

import pytest

from ctl_stub import BUILD, CLASSES, PERCEIVE, PNG, USAGE, ctl, labels, native

VALUES = {"task": "affect", "values": [{"name": "valence", "value": 0.625},
                                       {"name": None, "value": -0.5}]}


def b64(kind, data):
    return ({"type": kind} if kind else {}) | {"b64": base64.b64encode(data).decode()}


def batch(*items, **more):
    """A reply to a batch: the results of each."""
    reply = json.loads(native(**more)) | {"results": items}
    return reply | {"usage": reply["usage"] | {"cached_items": 0}}


def test_classes(stub, tmp_path):
    (tmp_path / "shoe.png").write_bytes(PNG)
    s = stub()
    out, _ = ctl(s, "perceive", "fa/shion", str(tmp_path / "shoe.png"))
    assert out == f"""\
{tmp_path}/shoe.png
  classify   Ankle boot   98.3 %  ███████████████████▋
             Sneaker       1.2 %  ▎
             Täsche        0.5 %  ▏
  4.1 ms (encode 1.0, process 2.7, decode 0.10), 784 tokens, 0.013 GMAC
"""
    out, _ = ctl(s, "perceive", "fa/shion", str(tmp_path / "shoe.png"), locale="C")
    assert "  classify   Ankle boot   98.3 %  ####################\n" in out
    assert "             Sneaker       1.2 %\n" in out
    first, second = s.of(PERCEIVE)
    assert first.method == "POST" and first.body == second.body
    assert first.headers["Content-Type"] == "application/json"
    assert json.loads(first.body) == {"inputs": b64("image/png", PNG)}
    assert first.path == second.path == PERCEIVE


@pytest.mark.parametrize("data,kind", [
    (PNG, "image/png"), (b"\xff\xd8\xff\xe0jpeg", "image/jpeg"), (b"fLaC\0", "audio/flac"),
    (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"), (b"OggS\0", "audio/ogg"), (b"\xff\xfe", None),
])
def test_files_by_their_first_bytes(stub, tmp_path, data, kind):
    s = stub()
    (tmp_path / "a").write_bytes(data)
    ctl(s, "perceive", "fa/shion", str(tmp_path / "a"))
    ctl(s, "perceive", "fa/shion", "-", stdin=data)
    assert [json.loads(r.body)["inputs"] for r in s.requests] == [b64(kind, data)] * 2


def test_several_are_one_batch(stub, tmp_path):
    (tmp_path / "a").write_bytes(PNG)
    (tmp_path / "b").write_bytes(b"caf\xc3\xa9\n")
    (tmp_path / "-c").write_bytes(b"")
    s = stub({PERCEIVE: (200, batch([CLASSES], [CLASSES, VALUES], [], [VALUES]))})
    out, _ = ctl(s, "perceive", "fa/shion", "--task", "a b&c", str(tmp_path / "a"), "--top-k=3",
                 str(tmp_path / "b"), str(tmp_path / "-c"), "no such file")
    assert len(s.requests) == 1
    assert json.loads(s.requests[0].body) == {
        "inputs": [b64("image/png", PNG), "café\n", "", "no such file"],
        "queries": [{"task": "a b&c", "top_k": 3}]}
    assert out == f"""\
{tmp_path}/a
  classify   Ankle boot   98.3 %  ███████████████████▋
             Sneaker       1.2 %  ▎
             Täsche        0.5 %  ▏
{tmp_path}/b
  classify   Ankle boot   98.3 %  ███████████████████▋
             Sneaker       1.2 %  ▎
             Täsche        0.5 %  ▏
  affect     valence  0.625
             class 1  -0.5
{tmp_path}/-c
no such file
  affect     valence  0.625
             class 1  -0.5
  4.1 ms (encode 1.0, process 2.7, decode 0.10), 784 tokens, 0.013 GMAC
"""
    s = stub({PERCEIVE: (200, batch([CLASSES]))})
    assert ctl(s, "perceive", "fa/shion", "x", "y", code=1)[1] == (
        "perceiverctl: reply: 1 answers for 2 inputs\n")


def test_named_files_in_a_row_are_one_input(stub, tmp_path):
    (tmp_path / "a").write_bytes(PNG)
    (tmp_path / "b").write_bytes(b"text")
    (tmp_path / "x=a").write_bytes(b"equal")
    s = stub()
    out, _ = ctl(s, "perceive", "fa/shion", "first=a", "second=b", cwd=tmp_path)
    assert out.startswith("a, b\n  classify")
    ctl(s, "perceive", "fa/shion", "frames=a", "frames=-", "frames=b", cwd=tmp_path, stdin=PNG)
    ctl(s, "perceive", "fa/shion", "x=a", cwd=tmp_path)
    ctl(s, "perceive", "fa/shion", "y=none", cwd=tmp_path)
    assert [json.loads(r.body)["inputs"] for r in s.requests] == [
        {"first": b64("image/png", PNG), "second": "text"},
        {"frames": [b64("image/png", PNG), b64("image/png", PNG), "text"]}, "equal", "y=none"]
    s = stub({PERCEIVE: (200, batch([CLASSES], [], [CLASSES]))})
    ctl(s, "perceive", "fa/shion", "first=a", "second=b", "hello", "first=b", cwd=tmp_path)
    assert json.loads(s.requests[0].body)["inputs"] == [
        {"first": b64("image/png", PNG), "second": "text"}, "hello", {"first": "text"}]
    s = stub({PERCEIVE: (400, {"error": {"message": "too large", "path": "$.inputs[0].first"}})})
    assert ctl(s, "perceive", "fa/shion", "first=a", "second=b", "hello", cwd=tmp_path, code=1)[1] == (
        "perceiverctl: 400 $.inputs[0].first: too large\n")


def test_what_is_asked(stub):
    s = stub()
    for args, sent in [
        (["--task", "a", "--task", "b", "--top-k", "2"],
         {"queries": [{"task": "a"}, {"task": "b", "top_k": 2}]}),
        (["--top-k", "4", "--task", "a", "--task", "b", "--top-k", "2"],
         {"queries": [{"task": "a", "top_k": 4}, {"task": "b", "top_k": 2}]}),
        (["--task", "a", "--classes", r"Bag,a\,b\c,T-shirt/top"],
         {"queries": [{"task": "a", "classes": ["Bag", "a,b\\c", "T-shirt/top"]}]}),
        (["--task", "a", "--positions", "7,1-3", "--task", "b", "--region=4,5,6,7"],
         {"queries": [{"task": "a", "positions": [7, 1, 2, 3]},
                      {"task": "b", "region": [4, 5, 6, 7]}]}),
        (["--task", "attention", "--latents", "0,5"],
         {"queries": [{"task": "attention", "latents": [0, 5]}]}),
        (["--keep", "1.5h"], {"keep": 5400}),
        (["--keep", "90"], {"keep": 90}),
        (["--no-cache", "--no-share"], {"cache": False, "share": False}),
        (["--top-k", "2"], {"top_k": 2}),  # of all tasks
    ]:
        ctl(s, "perceive", "fa/shion", "x", *args)
        assert json.loads(s.requests[-1].body) == {"inputs": "x"} | sent, args


@pytest.mark.parametrize("args", [
    ["--top-k", "0"], ["--top-k", "2x"], ["--positions", "1"], ["--task", "a", "--positions", ""],
    ["--task", "a", "--positions", "1,"], ["--task", "a", "--positions", "3-1"],
    ["--task", "a", "--positions", "0-1048576"], ["--task", "a", "--latents", "1"],
    ["--task", "attention", "--positions", "1"], ["--task", "a", "--region", "1,2,3"],
    ["--task", "a", "--region", "1,2,3,4,5"], ["--classes", "x"], ["--keep", "0"], ["--keep", "2y"],
    ["--keep", "5m3"], ["--keep", "31d"], ["--format", "gif"], ["--format", "png", "--json"],
    ["--stream", "-o", "x"], ["--stream", "--format", "png"], ["-p"], ["-ox"],
])
def test_wrong_questions(args):
    out, err = ctl("http://127.0.0.1:1", "perceive", "m", "x", *args, code=2)
    assert not out and "usage: perceiverctl perceive MODEL" in err


def test_kept_latents(stub):
    s = stub({PERCEIVE: lambda r, n: (200, [native(CLASSES, latents="h\x1b1", expires_s=600.0),
                                            batch([], [], latents=["h1", None], expires_s=9)][n])})
    out, _ = ctl(s, "perceive", "fa/shion", "x", "--keep", "10m")
    assert "  kept for 600 s as h\\x1b1\n  4.1 ms" in out
    out, _ = ctl(s, "perceive", "fa/shion", "x", "y", "--keep", "9s")
    assert out.startswith("x\n  kept for 9 s as h1\ny\n  was not kept\n  4.1 ms")


def test_other_kinds_of_answers(stub):
    numbers = base64.b64encode(struct.pack("<8f", *range(8))).decode()
    s = stub({PERCEIVE: (200, native(
        {"task": "flow", "points": [{"x": 1, "y": 2, "u": 0.5, "v": -1.25}]},
        {"task": "raw", "shape": [2, 4], "b64": numbers},
        {"task": "embed", "embedding": [1.5, -2]},
        {"task": "attention", "files": [{"index": 3, "type": "image/png", "b64": "AAAA"}]}))})
    assert ctl(s, "perceive", "fa/shion", "x")[0] == """\
x
  flow       1,2 moves by 0.50,-1.25
  raw        [2, 4]  0 1 2 3 4 5 ...
  embed      [2]  1.5 -2
  attention  3: image/png, 3 bytes
  4.1 ms (encode 1.0, process 2.7, decode 0.10), 784 tokens, 0.013 GMAC
"""


def test_an_answer_as_a_file(stub, tmp_path):
    s = stub({PERCEIVE: (200, PNG + b"\0\xff", {"Content-Type": "image/png"})})
    for i, args in enumerate([["-o", "a.png"], ["--output=b.x", "--format", "png"]]):
        out, _ = ctl(s, "perceive", "fa/shion", "x", *args, cwd=tmp_path)
        assert not out and (tmp_path / ["a.png", "b.x"][i]).read_bytes() == PNG + b"\0\xff"
    out, _ = ctl(s, "perceive", "fa/shion", "x", "--format=png")  # into a pipe
    assert out.encode("utf-8", "surrogateescape") == PNG + b"\0\xff"
    assert {r.body for r in s.requests} == {b'{"inputs":"x","format":"png"}'}
    ctl(s, "perceive", "fa/shion", "x", "-o", "c.json", cwd=tmp_path)
    assert s.requests[-1].body == b'{"inputs":"x"}'
    assert "no/such" in ctl(s, "perceive", "fa/shion", "x", "-o", "no/such", code=1)[1]


# ---- streams --------------------------------------------------------------------------------------

DONE = {"done": True, "model": "m", "version": "1", "id": "r"} | USAGE
ROWS = {"task": "fill-mask", "rows": [0, 2], "shape": [2, 1], "b64": "AACAPwAAAEA="}


def lines(*values):
    return [json.dumps(v).encode() + b"\n" for v in values]


def test_stream(stub):
    s = stub({PERCEIVE: lambda r, n: (200, iter(lines(ROWS, {"result": VALUES}, DONE)))})
    assert ctl(s, "perceive", "fa/shion", "x", "--stream")[0] == """\
x
  fill-mask  rows 0..1  [2, 1]  1 2
  affect     valence  0.625
             class 1  -0.5
  4.1 ms (encode 1.0, process 2.7, decode 0.10), 784 tokens, 0.013 GMAC
"""
    assert json.loads(s.requests[0].body) == {"inputs": "x", "stream": True}
    out, _ = ctl(s, "perceive", "fa/shion", "x", "--stream", "--json")
    assert out.encode() == b"".join(lines(ROWS, {"result": VALUES}, DONE))


def test_stream_of_a_batch(stub):
    sent = [ROWS | {"input": 1}, ROWS | {"input": 1, "rows": [2, 2]}, {"input": 0, "result": VALUES},
            DONE | {"latents": ["h0", "h1"], "expires_s": 5.0}]
    cut = b"".join(lines(*sent))
    # lines do not come as pieces do
    s = stub({PERCEIVE: lambda r, n: (200, (cut[i : i + 37] for i in range(0, len(cut), 37)))})
    out, _ = ctl(s, "perceive", "fa/shion", "x", "y", "--stream", "--keep", "5s")
    assert out.startswith("""\
y
  fill-mask  rows 0..1  [2, 1]  1 2
  fill-mask  rows 2..3  [2, 1]  1 2
x
  affect     valence  0.625
             class 1  -0.5
  kept for 5 s as h0
y
  kept for 5 s as h1
  4.1 ms""")


def test_lines_are_printed_as_they_come(stub):
    """The stub sends the second when the first has been read."""
    read = threading.Event()

    def pieces():
        yield from lines(ROWS)
        assert read.wait(20)
        yield from lines(DONE)

    s = stub({PERCEIVE: lambda r, n: (200, pieces())})
    with subprocess.Popen([BUILD / "perceiverctl", "perceive", "fa/shion", "x", "--stream", "--json",
                           "--url", s.url], stdout=subprocess.PIPE) as p:
        assert json.loads(p.stdout.readline()) == ROWS
        read.set()
        assert json.loads(p.stdout.readline()) == DONE
    assert p.returncode == 0


@pytest.mark.parametrize("sent,said", [
    ([ROWS, {"error": {"code": "timeout", "message": "not done", "path": None}}],
     "breaks off: not done"),
    ([ROWS], "the last line is missing"),
    ([], "the last line is missing"),
    ([ROWS, {"nonsense": 1}], "reply: $"),
])
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_streams_that_break_off(stub, sent, said, how):
    body = b"".join(lines(*sent)).rstrip(b"\n") + (b"" if "missing" not in said or not sent else b"\n")
    s = stub({PERCEIVE: lambda r, n: (200, iter([body] if body else []))})
    out, err = ctl(s, "perceive", "fa/shion", "x", "--stream", *how, code=1)
    assert err.startswith(f'perceiverctl: "x": {said}')
    assert ("fill-mask" in out) == bool(sent)


def test_a_connection_that_breaks_off(stub):
    def pieces():
        yield from lines(ROWS)
        raise ConnectionAbortedError

    s = stub({PERCEIVE: lambda r, n: (200, pieces())})
    s.handle_error = lambda *args: None
    out, err = ctl(s, "perceive", "fa/shion", "x", "--stream", code=1)
    assert "rows 0..1" in out and err.startswith("perceiverctl: ")


def test_a_stream_that_is_refused(stub):
    s = stub({PERCEIVE: (400, {"error": {"message": "no\nnever", "path": "$.stream"}})})
    assert ctl(s, "perceive", "fa/shion", "x", "--stream", code=1) == (
        "", 'perceiverctl: "x": 400 $.stream: no\\nnever\n')


# ---- kept latents ---------------------------------------------------------------------------------

KEPT = {"latents": "h/1", "model": "fa/shion", "version": "1", "input": "image", "shape": [32, 128],
        "bytes": 16384, "age_s": 12.5, "expires_s": 587.5, "has_input": True,
        "tasks": ["classify", "attention", "embed"]}
HANDLE = "/v1/latents/h%2F1"
DESCRIBED = """\
h/1
  model    fa/shion, version 1
  made of  image, which is kept too
  latents  32 x 128, 16.4 kB
  time     made 12.5 s ago, expires in 587.5 s
  tasks
    classify attention embed
"""


def test_ask(stub):
    s = stub({HANDLE + "/query": (200, native(CLASSES)), HANDLE: (200, KEPT)})
    out, _ = ctl(s, "ask", "h/1", "--task", "classify", "--classes", "Sneaker")
    assert out.startswith("h/1\n  classify   Ankle boot   98.3 %")
    assert s.requests[0].path == HANDLE + "/query"
    assert json.loads(s.requests[0].body) == {
        "queries": [{"task": "classify", "classes": ["Sneaker"]}]}
    ctl(s, "ask", "h/1")
    assert json.loads(s.requests[-1].body) == {}
    ctl(s, "ask", "h/1", "--top-k", "2")
    assert json.loads(s.requests[-1].body) == {"top_k": 2}
    assert ctl(s, "ask", "h/2", code=1)[1].startswith("perceiverctl: h/2: 404 ")
    for wrong in (["h/1", "x"], ["h/1", "--keep", "1m"], ["h/1", "--no-cache"]):
        ctl(s, "ask", *wrong, code=2)


def test_latents(stub):
    s = stub({HANDLE: (200, KEPT)})
    assert ctl(s, "latents", "h/1") == (DESCRIBED, "")
    assert json.loads(ctl(s, "latents", "h/1", "--json")[0]) == KEPT
    s = stub({HANDLE: (404, {"error": {"message": "nothing is kept under it", "path": None}})})
    assert ctl(s, "latents", "h/1", code=1)[1] == (
        "perceiverctl: h/1: 404 nothing is kept under it\n")


def test_latents_into_a_file_and_away(stub, tmp_path):
    s = stub({HANDLE: (204, b""), HANDLE + "/tensor": (200, b"\0safe\xff")})
    assert ctl(s, "latents", "h/1", "--delete", "--export", "f", cwd=tmp_path) == ("", "")
    assert (tmp_path / "f").read_bytes() == b"\0safe\xff"
    assert [(r.method, r.path) for r in s.requests] == [("GET", HANDLE + "/tensor"),
                                                        ("DELETE", HANDLE)]
    s = stub({HANDLE: (204, b"")})  # what could not be exported is not deleted
    ctl(s, "latents", "h/1", "--delete", "--export", str(tmp_path / "g"), code=1)
    assert len(s.requests) == 1


def test_import(stub, tmp_path):
    (tmp_path / "f").write_bytes(b"\0safe\xff")
    path = "/v1/models/fa%2Fshion/latents"
    s = stub({path: (201, KEPT)})
    assert ctl(s, "import", "fa/shion", "f", cwd=tmp_path) == (DESCRIBED, "")
    ctl(s, "import", "fa/shion", "f", "--keep", "1m", "--input", "a&b", cwd=tmp_path)
    ctl(s, "import", "fa/shion", "f", "--input", "i", cwd=tmp_path)
    assert [r.path for r in s.requests] == [path, path + "?keep=60.000&input=a%26b",
                                            path + "?input=i"]
    assert {(r.method, r.body) for r in s.requests} == {("POST", b"\0safe\xff")}
    assert ctl(s, "import", "fa/shion", "nofile", code=1)[1] == (
        "perceiverctl: nofile: no such file\n")
    s = stub({path: (409, {"error": {"message": "of other weights", "path": "body"}})})
    assert ctl(s, "import", "fa/shion", "f", cwd=tmp_path, code=1)[1] == (
        "perceiverctl: f: 409 body: of other weights\n")


# ---- answers --------------------------------------------------------------------------------------


def test_filled_masks(stub):
    one = [{"index": 103, "label": "a", "score": 0.75},
           {"index": 201, "label": "\ufffd", "bytes": [0xC3], "score": 0.2}]
    fills = {"task": "fill-mask", "text": "a \ufffd\n", "bytes": [97, 32, 0xC3, 10],
             "masks": [{"position": 3, "byte_offset": 2, "candidates": one},
                       {"position": 9, "byte_offset": None, "candidates": one[:1]}]}
    s = stub({"/v1/models/mlm/perceive": (200, native(fills, CLASSES))})
    out, _ = ctl(s, "perceive", "mlm", "a [MASK]")
    assert out == """\
a [MASK]
  fill-mask  a \\xc3\\n
             byte 2      "a" 75.0 %  "\\xc3" 20.0 %
             token 9     "a" 75.0 %
  classify   Ankle boot   98.3 %  ███████████████████▋
             Sneaker       1.2 %  ▎
             Täsche        0.5 %  ▏
  4.1 ms (encode 1.0, process 2.7, decode 0.10), 784 tokens, 0.013 GMAC
"""


def test_nobody_else_drives_the_terminal(stub):
    evil = {"task": "classify", "labels": labels(("a\x1b[2Jb\r\u009b\u202e", 0.5), (None, 0.25))}
    s = stub({PERCEIVE: (200, native(evil))})
    out, _ = ctl(s, "perceive", "fa/shion", "\x1b]0;x\x07")
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out
    assert "a\\x1b[2Jb\\r\\xc2\\x9b\\xe2\\x80\\xae" in out and "class 1" in out
    s = stub({PERCEIVE: (400, {"error": {"code": "x", "message": "no\x1b[1m", "path": "$.\x07"}})})
    assert ctl(s, "perceive", "fa/shion", "t", code=1)[1] == (
        'perceiverctl: "t": 400 $.\\x07: no\\x1b[1m\n')


def test_refusals(stub, tmp_path):
    """Each is told with what it was about."""
    def answer(request, n):
        return [(415, {"error": {"message": "not a picture", "path": "$.inputs[1].b64"}}),
                (400, {"error": {"message": "no such task", "path": "$.queries[0].task"}}),
                (400, {"error": {"message": "?", "path": "$.inputs[9]"}}),
                (503, {"error": "loading"}), (502, b"<html>\nBad"), (500, b"")][n]

    s = stub({PERCEIVE: answer})
    (tmp_path / "f").write_bytes(b"x")
    text = "x" * 39 + "é" * 100
    for args, said in [
        (["one", str(tmp_path / "f")], f"{tmp_path}/f: 415 $.inputs[1].b64: not a picture"),
        (["one", "two"], "400 $.queries[0].task: no such task"),
        (["one", "two"], "400 $.inputs[9]: ?"),
        (["two"], '"two": 503 loading'),
        ([text], '"' + "x" * 39 + '...": 502 <html>'),
        (["-"], "-: 500 without a word"),
        (["one", str(tmp_path)], f"{tmp_path}: Is a directory"),
    ]:
        assert ctl(s, "perceive", "fa/shion", *args, code=1) == ("", f"perceiverctl: {said}\n")


def test_raw_reply(stub):
    assert ctl(stub(), "perceive", "fa/shion", "t", "--json")[0].encode() == native(CLASSES) + b"\n"


def test_reply_without_a_part(stub):
    s = stub({PERCEIVE: (200, {"model": "m", "version": "1", "results": [{"labels": []}]} | USAGE)})
    assert ctl(s, "perceive", "fa/shion", "t", code=1)[1] == (
        'perceiverctl: "t": reply: $.results[0].task: missing\n')
