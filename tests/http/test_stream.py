"""Answers as lines of JSON, each as soon as it is computed: complete, in order, and only for those who
read them."""

import json

import numpy as np
import pytest

from daemon import Daemon, eventually, png
from models import senses
from rawhttp import Client
from senses import (ALL, FRESH, KINDS, QUERIES, SIDE, Counted, close, floats, in_flight, item, numbers,
                    perceive, refused, same)
from streams import LONG, MANY, ORDER, PIECE, rows_of, slow_reader, stalled


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    log = tmp_path_factory.mktemp("stream") / "log"
    d = Daemon({"senses": senses()}, log, f"--listen=unix:{log}.socket", f"--stream-rows={PIECE}",
               "--model-timeout=10min")
    yield d
    d.stop()


def lines_of(reply):
    """Of a stream its lines, the last one apart."""
    assert reply.status == 200, reply.body[:300]
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.body.endswith(b"\n")
    lines = [json.loads(x) for x in reply.body.splitlines()]
    assert all("done" not in x and "error" not in x for x in lines[:-1])
    return lines[:-1], lines[-1]


def stream(daemon, inputs, queries=None, model="senses", **more):
    lines, done = lines_of(daemon.perceive(model, inputs, queries, stream=True, **more))
    assert done["done"] is True and done["model"] == model and done["id"] and done["timing_ms"], done
    return lines, done


def whole_lines(lines, item=None):
    return [x["result"] for x in lines if "result" in x and x.get("input") == item]


# ---- what a stream says ---------------------------------------------------------------------------

def test_rows_are_those_of_the_whole_answer(daemon):
    whole = daemon.perceive("senses", item("image"), [{"task": "reconstruct"}], format="raw", **FRESH)
    color = np.frombuffer(whole.body, "<f4")
    for more in (FRESH, {}, {}):
        lines, done = stream(daemon, item("image"), [{"task": "reconstruct"}], **more)
        assert len(lines) == -(-SIDE * SIDE // PIECE)
        close(rows_of(lines, "reconstruct")[:, 0], color)
        assert done["usage"]["output_queries"] == SIDE * SIDE
        assert done["usage"]["tokens"] == 196
    assert done["usage"]["cached"] and done["usage"]["gmac"]["process"] == 0
    order = [(i * 7) % 784 for i in range(300)]
    lines, done = stream(daemon, item("image"), [{"task": "reconstruct", "positions": order}])
    close(rows_of(lines, "reconstruct")[:, 0], color[order])
    lines, done = stream(daemon, item("image"), [{"task": "reconstruct", "region": [1, 2, 26, 9]}])
    close(rows_of(lines, "reconstruct")[:, 0], color.reshape(SIDE, SIDE)[2:11, 1:27].reshape(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_several_tasks_in_one_stream(daemon, kind):
    since = Counted(daemon)
    fresh = perceive(daemon, item(kind, 1), QUERIES[kind], **FRESH)
    unstreamed = since("output_queries_total")
    lines, done = stream(daemon, item(kind, 1), QUERIES[kind], **FRESH)
    assert all("input" not in x for x in lines)
    same(whole_lines(lines), [r for r in fresh["results"] if r["task"] != "reconstruct"])
    if kind == "image":
        assert rows_of(lines, "reconstruct").shape == (SIDE * SIDE, 1)
    for stage in ("encode", "process"):
        assert done["usage"]["gmac"][stage] == fresh["usage"]["gmac"][stage]
    assert done["usage"]["output_queries"] == fresh["usage"]["output_queries"] == unstreamed
    assert since("output_queries_total") == 2 * unstreamed and since("batch_inputs_total") == 2


def test_two_answers_of_one_task_do_not_mix(daemon):
    queries = [{"task": "reconstruct", "positions": list(range(200))},
               {"task": "reconstruct", "positions": list(range(783, 583, -1))}]
    want = perceive(daemon, item("image"), queries)["results"]
    lines, _ = stream(daemon, item("image"), queries)
    assert [x["rows"] for x in lines] == [[0, 128], [128, 72]] * 2
    for i in range(2):
        close(rows_of(lines[2 * i:2 * i + 2], "reconstruct"), numbers(want[i]))


def test_a_stream_of_a_batch(daemon):
    inputs = [item("image", 1), item("text", 2), item("audio", 3), item("image", 4)]
    fresh = perceive(daemon, inputs, ALL, **FRESH)
    lines, done = stream(daemon, inputs, ALL, keep="1m", **FRESH)
    for i, results in enumerate(fresh["results"]):
        same(whole_lines(lines, i), [r for r in results if r["task"] != "reconstruct"])
    for i in (0, 3):
        raw = daemon.perceive("senses", inputs[i], [{"task": "reconstruct"}], format="raw", **FRESH)
        close(rows_of(lines, "reconstruct", i)[:, 0], np.frombuffer(raw.body, "<f4"))
    assert all("input" in x for x in lines) and done["usage"]["cached_items"] == 0
    assert len(set(done["latents"])) == 4 and done["expires_s"] > 0


def test_a_stream_of_a_handle(daemon):
    handle = perceive(daemon, item("image", 5), [{"task": "embed"}], keep="10m", **FRESH)["latents"]
    whole = daemon.perceive("senses", item("image", 5), [{"task": "reconstruct"}], format="raw", **FRESH)
    r = daemon.post(f"/v1/latents/{handle}/query", {
        "stream": True, "queries": [{"task": "reconstruct"}, {"task": "digit", "top_k": 10}]})
    lines, done = lines_of(r)
    close(rows_of(lines, "reconstruct")[:, 0], np.frombuffer(whole.body, "<f4"))
    assert [x["task"] for x in whole_lines(lines)] == ["digit"]
    assert done["done"] and done["usage"]["cached"] and done["usage"]["gmac"]["process"] == 0
    assert "latents" not in done


def test_a_stream_may_be_asked_in_the_query_string(daemon):
    path = "/v1/models/senses/perceive?task=digit&task=reconstruct&region=0,0,28,28&stream=true"
    lines, done = lines_of(daemon.ask("POST", path, png(SIDE, SIDE), {"Content-Type": "image/png"}))
    assert done["done"] and rows_of(lines, "reconstruct").shape == (784, 1)


def test_connections_outlive_streams(daemon):
    c = daemon.connect()
    for i in range(5):
        body = {"inputs": item("image", i), "queries": [{"task": "reconstruct"}], "stream": True}
        lines, done = lines_of(daemon.post("/v1/models/senses/perceive", body, connection=c))
        assert done["done"] and rows_of(lines, "reconstruct").shape == (784, 1)
        port = c.sock.getsockname()
        assert daemon.ask("GET", "/v2/health/live", connection=c).status == 200
        assert c.sock.getsockname() == port
    c.close()


@pytest.mark.parametrize("queries,more,status", [
    ([{"task": "nothing"}], {}, 400), ([{"task": "reconstruct", "positions": [784]}], {}, 400),
    ([{"task": "reconstruct"}], {"format": "raw"}, 400), ([{"task": "spam"}], {}, 400),
    ([{"task": "reconstruct"}], {"keep": "31d"}, 400), ([{"task": "digit"}], {"stream": "yes"}, 400)])
def test_an_error_before_the_first_line_is_an_error(daemon, queries, more, status):
    r = daemon.perceive("senses", item("image"), queries, **{"stream": True, **more})
    refused(r, status)
    assert r.headers["content-type"] == "application/json" and "content-length" in r.headers


def test_a_client_of_http_1_0(daemon):
    host, port = daemon.address.rsplit(":", 1)
    body = json.dumps({"inputs": item("image"), "queries": [{"task": "reconstruct"}], "stream": True})
    with Client((host, int(port)), timeout=60) as c:
        c.request("POST", "/v1/models/senses/perceive", body.encode(),
                  [("Content-Type", "application/json")], version="HTTP/1.0")
        status, headers = c.head()
        assert status == 200 and not {"transfer-encoding", "content-length"} & set(headers)
        c.at_end()
        lines = [json.loads(x) for x in c.buffer.splitlines()]
    assert lines[-1]["done"] and rows_of(lines[:-1], "reconstruct").shape == (784, 1)


# ---- clients that leave, or are slow --------------------------------------------------------------

def test_a_slow_reader_is_waited_for(daemon):
    r = daemon.perceive("senses", LONG["inputs"], [{"task": "reconstruct"}], format="raw", **FRESH)
    every = np.frombuffer(r.body, "<f4")[ORDER[:784]]
    in_flight(daemon, 0)
    since = Counted(daemon)
    c = slow_reader(daemon, LONG)
    rows = stalled(daemon, since)
    assert 0 < rows < 0.6 * MANY
    # Others are served meanwhile, and nothing more is computed for the one who does not read.
    for kind in KINDS:
        perceive(daemon, item(kind), [{"task": "embed"}], **FRESH)
    assert daemon.metric("perceiverd_in_flight") == 1
    assert since("output_queries_total") == rows
    assert c.head()[0] == 200
    got, rest, again = [], b"", False
    for chunk in iter(c.chunk, b""):
        *lines, rest = (rest + chunk).split(b"\n")
        for x in map(json.loads, lines):
            if "done" not in x:
                assert x["rows"] == [PIECE * len(got), min(PIECE, MANY - PIECE * len(got))]
                got.append(floats(x["b64"]))
        if not again and len(got) * PIECE > 0.2 * MANY:  # the reader takes a rest
            again = True
            assert rows < stalled(daemon, since) < len(got) * PIECE + 0.6 * MANY
    c.close()
    assert x["done"] and x["usage"]["output_queries"] == MANY
    close(np.concatenate(got).reshape(-1, 784), np.broadcast_to(every, (MANY // 784, 784)))
    assert since("output_queries_total") == MANY


def test_a_client_that_leaves_stops_the_decoding(daemon):
    in_flight(daemon, 0)
    since = Counted(daemon)
    for leave in (Client.close, Client.reset):
        c = slow_reader(daemon, LONG)
        assert c.head()[0] == 200 and json.loads(c.chunk().split(b"\n")[0])["rows"] == [0, PIECE]
        leave(c)
        in_flight(daemon, 0)
    assert eventually(lambda: daemon.metric("perceiverd_lanes_busy") == 0)
    rows = since("output_queries_total")
    assert 2 * PIECE <= rows < MANY
    assert since("cancelled_total", model="senses", reason="gone") == 2
    perceive(daemon, item("image"), [{"task": "embed"}], **FRESH)
    assert since("output_queries_total") == rows


def test_a_stream_out_of_time_ends_with_an_error(daemon):
    in_flight(daemon, 0)
    since = Counted(daemon)
    c = slow_reader(daemon, {**LONG, "timeout_ms": 3000})
    assert eventually(lambda: since("cancelled_total", model="senses", reason="timeout") == 1)
    in_flight(daemon, 0)
    status, _ = c.head()
    lines = [json.loads(x) for x in b"".join(iter(c.chunk, b"")).splitlines()]
    c.close()
    assert status == 200 and lines[-1]["error"]["code"] == "timeout" and len(lines) > 1
    assert not any("done" in x for x in lines)
    assert sum(x["rows"][1] for x in lines[:-1]) <= since("output_queries_total") < MANY
