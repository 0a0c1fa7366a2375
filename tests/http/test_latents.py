"""Kept latents: handles, what can be asked of them, files of them, and the memory that they have."""

import itertools
import json
import struct
import threading
import time

import numpy as np
import pytest

from daemon import Daemon, eventually, tensor
from models import golden, other_weights, senses
from senses import (FRESH, KINDS, LATENTS, QUERIES, SIDE, WIDTH, Counted, close, item, numbers,
                    perceive, pixels, refused, same, text)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"senses": senses(), "words": golden("hf-masked-lm")},
               tmp_path_factory.mktemp("latents") / "log")
    yield d
    d.stop()


def keep(daemon, kind, seed=0, how_long="10m", **more):
    """A handle of an input that was computed for it."""
    r = perceive(daemon, item(kind, seed), [{"task": "embed"}], keep=how_long, **FRESH, **more)
    assert r["expires_s"] > 0
    return r["latents"]


def query(daemon, handle, queries=None, **more):
    return daemon.post(f"/v1/latents/{handle}/query",
                       {**({"queries": queries} if queries else {}), **more})


def asked(daemon, handle, queries=None, **more):
    r = query(daemon, handle, queries, **more)
    assert r.status == 200, r.body[:500]
    return r.json


def described(daemon, handle):
    r = daemon.get(f"/v1/latents/{handle}")
    assert r.status == 200, r.body
    return r.json


def drop(daemon, handle):
    return daemon.ask("DELETE", f"/v1/latents/{handle}")


# ---- questions to a handle ------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_later_questions_have_the_answers_of_fresh_ones(daemon, kind):
    fresh = perceive(daemon, item(kind), QUERIES[kind], **FRESH)
    handle = keep(daemon, kind)
    since = Counted(daemon)
    for _ in range(2):
        r = asked(daemon, handle, QUERIES[kind])
        same(r["results"], fresh["results"])
        gmac = r["usage"]["gmac"]
        assert r["usage"]["cached"] and gmac["process"] == 0 and "latents" not in r
        assert r["usage"]["output_queries"] == fresh["usage"]["output_queries"]
    for i, q in enumerate(QUERIES[kind]):
        same(asked(daemon, handle, [q])["results"], fresh["results"][i:i + 1])
    assert since("gmac_total", stage="process") == 0 and since("batch_inputs_total") == 0
    # Nothing but attention reads the input again.
    r = asked(daemon, handle, [q for q in QUERIES[kind] if q["task"] != "attention"])
    assert r["usage"]["gmac"]["encode"] == 0 and r["usage"]["gmac"]["decode"] > 0
    # Without queries all that fits is answered.
    tasks = [x["task"] for x in perceive(daemon, item(kind), **FRESH)["results"]]
    assert [x["task"] for x in asked(daemon, handle)["results"]] == tasks


def test_a_text_of_a_handle_knows_its_masks(daemon):
    masks = [{"task": "fill-mask", "top_k": 262}]
    fresh = perceive(daemon, item("text", 3), masks, **FRESH)["results"]
    same(asked(daemon, keep(daemon, "text", 3), masks)["results"], fresh)


def test_a_text_that_was_seen_as_tokens_knows_its_masks(daemon):
    masks = [{"task": "fill-mask", "top_k": 262}]
    said = text(8).replace("[MASK]", "\x7f").encode()
    ids = [4, *(3 if c == 0x7f else c + 6 for c in said), 5]
    assert daemon.infer("senses", [tensor("text", "INT64", [1, len(ids)], ids)]).status == 200
    r = perceive(daemon, item("text", 8), masks, keep="1m")
    fresh = perceive(daemon, item("text", 8), masks, **FRESH)
    same(r["results"], fresh["results"])
    same(asked(daemon, r["latents"], masks)["results"], fresh["results"])


def test_files_and_parts_of_a_handle(daemon):
    handle = keep(daemon, "image", 2)
    whole = daemon.perceive("senses", item("image", 2), [{"task": "reconstruct"}], format="raw", **FRESH)
    color = np.frombuffer(whole.body, "<f4").reshape(SIDE, SIDE)
    r = query(daemon, handle, [{"task": "reconstruct", "region": [3, 5, 20, 2]}], format="raw")
    assert r.headers["content-type"] == "application/octet-stream"
    close(1 + np.frombuffer(r.body, "<f4").reshape(2, 20), 1 + color[5:7, 3:23])
    r = query(daemon, handle, [{"task": "reconstruct"}], format="png")
    assert np.abs(pixels(r.body)[..., 0] - np.clip(255 * color, 0, 255)).max() < 0.52
    r = asked(daemon, handle, [{"task": "reconstruct", "positions": [783, 1, 1]}])
    close(1 + numbers(r["results"][0])[:, 0], 1 + color.flat[[783, 1, 1]])
    assert r["usage"]["output_queries"] == 3


def test_a_batch_has_a_handle_for_each(daemon):
    kinds = ["text", "image", "audio", "image"]
    inputs = [item(k, i) for i, k in enumerate(kinds)]
    r = perceive(daemon, inputs, [{"task": "embed"}], keep=600)
    assert len(r["latents"]) == 4 and len(set(r["latents"])) == 4
    for kind, handle, results in zip(kinds, r["latents"], r["results"]):
        assert described(daemon, handle)["input"] == kind
        same(asked(daemon, handle, [{"task": "embed"}])["results"], results)


def test_what_a_handle_says_of_itself(daemon):
    entries = daemon.metric("perceiverd_latents_handles")
    handle = keep(daemon, "image")
    d = described(daemon, handle)
    assert set(d) == {"latents", "model", "version", "input", "shape", "bytes", "age_s", "expires_s",
                      "has_input", "tasks"}
    assert (d["latents"], d["model"], d["input"]) == (handle, "senses", "image")
    assert d["shape"] == [LATENTS, WIDTH] and d["bytes"] >= 4 * LATENTS * WIDTH and d["has_input"]
    assert set(d["tasks"]) == {"garment", "digit", "reconstruct", "embed", "attention"}
    assert 0 <= d["age_s"] < 60 and 540 < d["expires_s"] <= 600
    assert eventually(lambda: described(daemon, handle)["age_s"] > d["age_s"])
    d = described(daemon, keep(daemon, "audio"))
    assert set(d["tasks"]) == {"spoken-digit", "embed", "attention"}
    assert daemon.metric("perceiverd_latents_handles") == entries + 2


def test_delete_is_the_end(daemon):
    handle, other = keep(daemon, "image"), keep(daemon, "image")
    since = Counted(daemon)
    r = drop(daemon, handle)
    assert r.status == 204 and r.body == b""
    for reply in (drop(daemon, handle), query(daemon, handle), daemon.get(f"/v1/latents/{handle}"),
                  daemon.get(f"/v1/latents/{handle}/tensor")):
        refused(reply, 404)
    assert since("latents_evictions_total", reason="deleted") == 1
    assert since("latents_handles") == -1
    assert asked(daemon, other)["results"]


def test_handles_expire(daemon):
    since = Counted(daemon)
    handle, longer = keep(daemon, "audio", 1, 0.6), keep(daemon, "audio", 1, "1h")
    d = described(daemon, handle)
    assert 0 < d["expires_s"] <= 0.6
    assert eventually(lambda: daemon.get(f"/v1/latents/{handle}").status == 404, 10)
    refused(query(daemon, handle), 404)
    refused(drop(daemon, handle), 404)
    assert described(daemon, longer)["expires_s"] > 3500
    assert since("latents_evictions_total", reason="expired") >= 1


def test_nobody_can_guess_a_handle(daemon):
    handles = [keep(daemon, "image") for _ in range(40)]
    assert len(set(handles)) == 40 and len({len(h) for h in handles}) == 1
    # What differs is 128 bits or more, from all of their digits, in no order.
    places = [i for i, c in enumerate(zip(*handles)) if len(set(c)) > 1]
    assert len(places) >= 32
    digits = ["".join(h[i] for i in places) for h in handles]
    common = max(len([1 for a, b in zip(x, y) if a == b]) for x, y in itertools.combinations(digits, 2))
    assert common < len(places) / 2
    assert digits != sorted(digits) and digits != sorted(digits, reverse=True)
    near = handles[0][:-1] + ("0" if handles[0][-1] != "0" else "1")
    for wrong in (near, handles[0][:-1], handles[0] + "0", handles[0].upper(), "x", "a" * 3000, "..%2f..",
                  "lat_" + "g" * 40):
        refused(query(daemon, wrong), 404)
        refused(daemon.get(f"/v1/latents/{wrong}"), 404)
    refused(daemon.get(f"/v1/latents/{handles[0]}%00"), 400)


WRONG = [
    ({"inputs": item("image")}, "$.inputs"),
    ({"keep": "1m"}, "$.keep"),
    ({"cache": False}, "$.cache"),
    ({"queries": [{"task": "spam"}]}, "$.queries[0].task"),
    ({"queries": [{"task": "embed"}, {"task": "nothing"}]}, "$.queries[1].task"),
    ({"queries": [{"task": "embed", "input": 0}]}, "$.queries[0].input"),
    ({"queries": [{"task": "reconstruct", "region": [20, 20, 20, 20]}]}, "$.queries[0].region"),
    ({"queries": []}, "$.queries"),
    ([], "$"),
]


@pytest.mark.parametrize("body,path", WRONG)
def test_questions_that_a_handle_does_not_take(daemon, body, path):
    handle = keep(daemon, "image")
    r = daemon.post(f"/v1/latents/{handle}/query", body)
    assert r.status == 400 and (r.json["error"]["path"] or "").startswith(path), r.body
    assert asked(daemon, handle)["results"]


@pytest.mark.parametrize("method,path,allow", [
    ("PUT", "", "DELETE"), ("GET", "/query", "POST"), ("DELETE", "/tensor", "GET")])
def test_methods_of_a_handle(daemon, method, path, allow):
    r = daemon.ask(method, f"/v1/latents/{keep(daemon, 'text')}{path}")
    assert r.status == 405 and allow in r.headers["allow"]


@pytest.mark.parametrize("how_long", [0, -1, "", "10x", "m", 31 * 86400, "31d", True, None, [1]])
def test_times_that_are_none(daemon, how_long):
    refused(daemon.perceive("senses", item("text"), keep=how_long), 400, "$.keep")


# ---- files ----------------------------------------------------------------------------------------

def export(daemon, handle):
    r = daemon.get(f"/v1/latents/{handle}/tensor")
    assert r.status == 200 and r.headers["content-type"] == "application/octet-stream", r.body[:300]
    return r.body


def bring(daemon, file, path="", model="senses"):
    return daemon.ask("POST", f"/v1/models/{model}/latents{path}", file,
                      {"Content-Type": "application/octet-stream"})


def opened(file):
    """Header and data of a safetensors file."""
    n = int.from_bytes(file[:8], "little")
    return json.loads(file[8:8 + n]), file[8 + n:]


def closed(head, data):
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def test_latents_travel_to_another_daemon(daemon, start_daemon):
    other = start_daemon({"eyes": senses()})
    for kind in KINDS:
        handle = keep(daemon, kind, 4)
        file = export(daemon, handle)
        head, data = opened(file)
        assert set(head) == {"__metadata__", "latents"} and len(data) == 4 * LATENTS * WIDTH
        assert head["latents"]["shape"] == [LATENTS, WIDTH] and head["latents"]["dtype"] == "F32"
        assert head["__metadata__"]["input"] == kind
        whole = perceive(daemon, item(kind, 4), [{"task": "embed", "pool": "none"}], **FRESH)
        close(np.frombuffer(data, "<f4").reshape(LATENTS, WIDTH), numbers(whole["results"][0]))
        r = bring(other, file, "?keep=20m", "eyes")
        assert r.status == 201, r.body
        d = r.json
        assert d == {**d, "model": "eyes", "input": kind, "has_input": False} and d["expires_s"] > 1190
        assert "attention" not in d["tasks"] and "embed" in d["tasks"]
        # All that does not read the input itself; masks are in the input.
        queries = [q for q in QUERIES[kind] if q["task"] != "attention"
                   and (q["task"] != "fill-mask" or "positions" in q)]
        got = asked(other, d["latents"], queries)["results"]
        want = asked(daemon, handle, queries)["results"]
        for g, w in zip(got, want):
            for mask in w.get("masks", ()):  # where a position stands in the text is not known
                mask.update(byte_offset=None, char_offset=None)
            same(g, w)
        refused(query(other, d["latents"], [{"task": "attention"}]), 400, "$.queries[0].task")
        assert export(other, d["latents"])[-len(data):] == data
    refused(query(other, d["latents"], [{"task": "fill-mask"}]), 400)
    assert other.metric("perceiverd_batch_inputs_total") == 0
    other.stop()


def changed(head, data, latents=None, numbers=None, **note):
    head = {"__metadata__": {**head["__metadata__"], **note},
            "latents": {**head["latents"], **(latents or {})}}
    return closed(head, numbers if numbers is not None else data)


def nan_at(data, i, value):
    return data[:4 * i] + struct.pack("<f", value) + data[4 * i + 4:]


def test_files_that_are_none(daemon):
    file = export(daemon, keep(daemon, "image"))
    head, data = opened(file)
    rows = {"shape": [LATENTS // 2, WIDTH * 2]}
    half = {"dtype": "F16", "shape": [LATENTS, WIDTH * 2]}
    renamed = closed({"__metadata__": head["__metadata__"], "other": head["latents"]}, data)
    unsaid = closed({"latents": head["latents"]}, data)
    before = daemon.metric("perceiverd_latents_handles")
    for body, path, status, word in (
            (changed(head, data, rows), "", 400, "[64,128]"),
            (changed(head, data, half), "", 400, "F16"),
            (changed(head, data, {"shape": [LATENTS * WIDTH]}), "", 400, "[8192]"),
            (changed(head, nan_at(data, 77, float("nan"))), "", 400, "finite"),
            (changed(head, nan_at(data, 8191, float("inf"))), "", 400, "finite"),
            (renamed, "", 400, "no tensor"), (unsaid, "", 400, "not said"),
            (unsaid, "?input=nose", 400, "nose"), (file, "?input=text", 400, "image"),
            (changed(head, data, input="nose"), "", 400, "nose"),
            (file, "?keep=0", 400, ""), (file, "?keep=31d", 400, ""), (file, "?colour=1", 400, ""),
            (file[:-4], "", 400, ""), (file + b"1234", "", 400, ""), (b"", "", 400, ""),
            (b"\xff" * 64, "", 413, ""), (b"{}", "", 400, "")):
        r = bring(daemon, body, path)
        refused(r, status)
        assert word in r.json["error"]["message"], r.body
    refused(bring(daemon, file, model="words"), 409)
    refused(bring(daemon, file, model="nobody"), 404)
    assert daemon.metric("perceiverd_latents_handles") == before
    r = bring(daemon, unsaid, "?input=image")
    assert r.status == 201 and r.json["input"] == "image", r.body


def test_latents_of_other_weights_are_409(daemon, start_daemon, tmp_path):
    handle = keep(daemon, "image")
    file = export(daemon, handle)
    restarted = start_daemon({"senses": senses()})
    refused(query(restarted, handle), 404)
    refused(drop(restarted, handle), 404)
    assert bring(restarted, file).status == 201
    restarted.stop()
    retrained = start_daemon({"senses": other_weights(senses(), tmp_path / "retrained")})
    for reply in (query(retrained, handle), daemon_get(retrained, handle), drop(retrained, handle),
                  bring(retrained, file)):
        refused(reply, 409)
        assert reply.json["error"]["code"] == "conflict"
    retrained.stop()


def daemon_get(daemon, handle):
    return daemon.get(f"/v1/latents/{handle}")


# ---- memory ---------------------------------------------------------------------------------------

def cached(daemon, seed):
    """Asks a picture; whether it was there."""
    return perceive(daemon, item("image", seed), [{"task": "embed"}])["usage"]["cached"]


def test_what_was_used_longest_ago_goes_first(daemon, start_daemon):
    size = described(daemon, keep(daemon, "image"))["bytes"]
    small = start_daemon({"senses": senses()}, f"--latents-memory={size * 10 + size // 2}")
    since = Counted(small)

    def has(n):
        assert small.metric("perceiverd_latents_entries") == n
        assert size * n <= small.metric("perceiverd_latents_bytes") <= size * 10.5

    assert not any(cached(small, s) for s in range(10))
    has(10)
    assert cached(small, 0) and not cached(small, 10)  # 1 has to go, not 0
    has(10)
    assert all(cached(small, s) for s in (0, 2, 9, 10)) and not cached(small, 1)  # and for 1, 3
    assert since("latents_evictions_total", reason="budget") == 2
    assert since("latents_misses_total") == 12 and since("latents_hits_total") == 5
    # Handles are what automatic ones go for, and not the other way.
    handles = [keep(small, "image", 20 + i) for i in range(4)]
    for s in range(40, 60):
        cached(small, s)
    assert all(described(small, h)["input"] == "image" for h in handles)
    has(10)
    assert small.metric("perceiverd_latents_handles") == 4
    asked(small, handles[0])
    more = [keep(small, "image", 60 + i) for i in range(7)]
    assert [daemon_get(small, h).status for h in handles] == [200, 404, 200, 200]
    assert all(daemon_get(small, h).status == 200 for h in more)
    has(10)
    for h in more + handles[:1] + handles[2:]:
        assert drop(small, h).status == 204
    assert small.metric("perceiverd_latents_bytes") == small.metric("perceiverd_latents_entries") == 0
    small.stop()


def test_what_is_larger_than_the_memory(start_daemon):
    tiny = start_daemon({"senses": senses()}, "--latents-memory=20000")
    for inputs in (item("image"), [item("text"), item("image")]):
        r = tiny.perceive("senses", inputs, [{"task": "embed"}], keep="1m")
        assert r.status in (400, 413) and r.json["error"]["path"] == "$.keep", r.body
    assert not cached(tiny, 1) and not cached(tiny, 1)
    assert tiny.metric("perceiverd_latents_bytes") == 0
    tiny.stop()


def test_a_daemon_that_keeps_nothing(daemon, start_daemon):
    off = start_daemon({"senses": senses()}, "--latents-memory=0")
    for _ in range(2):
        for kind in KINDS:
            r = perceive(off, item(kind), QUERIES[kind])
            assert not r["usage"]["cached"] and r["usage"]["gmac"]["process"] > 0
            same(r["results"], perceive(daemon, item(kind), QUERIES[kind])["results"])
    r = off.perceive("senses", item("text"), keep="1m")
    assert r.status in (400, 413) and r.json["error"]["path"] == "$.keep", r.body
    assert "keeps no latents" in r.json["error"]["message"]
    r = bring(off, export(daemon, keep(daemon, "text")))
    assert 400 <= r.status < 500, r.body
    r = off.perceive("senses", item("image"), [{"task": "reconstruct"}], stream=True)
    assert r.status == 200 and json.loads(r.body.splitlines()[-1])["done"]
    assert off.metric("perceiverd_latents_entries") == off.metric("perceiverd_latents_bytes") == 0
    off.stop()


def test_the_longest_time(start_daemon):
    d = start_daemon({"senses": senses()}, "--latents-max-keep=1min")
    for how_long in ("61s", "2m", 60.5, "1d"):
        r = d.perceive("senses", item("text"), keep=how_long)
        refused(r, 400, "$.keep", "60.000")
    r = perceive(d, item("text"), keep="1m")
    assert 0 < r["expires_s"] <= 60
    r = d.ask("POST", "/v1/models/senses/perceive?keep=2m", b"a text", {"Content-Type": "text/plain"})
    assert r.status == 400 and "keep" in r.json["error"]["path"]
    refused(bring(d, export(d, keep(d, "text", 0, 30)), "?keep=2m"), 400)
    d.stop()


def test_a_question_under_way_outlives_its_handle(daemon):
    handle = keep(daemon, "image")
    want = asked(daemon, handle, [{"task": "reconstruct"}])["results"]
    replies = []

    def ask():
        for _ in range(30):
            replies.append(query(daemon, handle, [{"task": "reconstruct"}]))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for a in askers:
        a.start()
    time.sleep(0.05)
    assert drop(daemon, handle).status == 204
    for a in askers:
        a.join()
    assert {r.status for r in replies} <= {200, 404} and len(replies) == 120
    for r in replies:
        if r.status == 200:
            same(r.json["results"], want)
