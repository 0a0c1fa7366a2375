"""The same input again: answered from latents that are there, and computed once for all who ask at
the same time."""

import json

import numpy as np
import pytest

from daemon import Daemon, b64, eventually, png, tensor
from models import other_weights, senses, slow
from rawhttp import multipart
from senses import (ALL, FRESH, KINDS, QUERIES, SIDE, Counted, answer, busy, differ, in_flight, item,
                    perceive, post, same, text)

UNCACHED = {"cache": False}  # but shared


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    other = other_weights(senses(), directory / "other")
    d = Daemon({"senses": senses(), "twin": senses(), "other": other, "slow": slow()},
               directory / "log", "--model-max-batch-time=0", "--model-timeout=10min")
    yield d
    d.stop()


def cache_counts(daemon):
    """Hits and misses as the protocol's statistics have them."""
    stats = json.loads(daemon.get("/v2/models/senses/stats").body)["model_stats"][0]["inference_stats"]
    return stats["cache_hit"]["count"], stats["cache_miss"]["count"]


def embed(daemon, inputs, model="senses", **more):
    r = daemon.perceive(model, inputs, [{"task": "embed"}], **more)
    assert r.status == 200, r.body
    return r.json


# ---- seen before ----------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_again_is_not_computed(daemon, kind):
    fresh = perceive(daemon, item(kind, 1), QUERIES[kind], **FRESH)
    assert not fresh["usage"]["cached"]
    first = perceive(daemon, item(kind, 1), QUERIES[kind][:1])
    assert not first["usage"]["cached"] and first["usage"]["gmac"]["process"] > 0
    since, (hits, misses) = Counted(daemon), cache_counts(daemon)
    for _ in range(2):
        again = perceive(daemon, item(kind, 1), QUERIES[kind])
        assert again["usage"]["cached"] and again["usage"]["gmac"]["process"] == 0
        same(again["results"], fresh["results"])
        plain = perceive(daemon, item(kind, 1), [q for q in QUERIES[kind] if q["task"] != "attention"])
        assert plain["usage"]["gmac"]["encode"] == 0 < plain["usage"]["gmac"]["decode"]
        assert plain["usage"]["tokens"] == fresh["usage"]["tokens"]
    assert since("latents_hits_total", model="senses") == 4 and since("latents_misses_total") == 0
    assert cache_counts(daemon) == (hits + 4, misses)
    assert since("gmac_total", stage="process") == 0 and since("batch_inputs_total") == 0
    assert since("tokens_total") == 0 and since("output_queries_total") > 0


def test_whoever_wants_no_cache_gets_none(daemon):
    one = item("image", 2)
    since = Counted(daemon)
    for _ in range(2):
        assert not embed(daemon, one, cache=False)["usage"]["cached"]
    assert since("latents_entries") == 0 and since("latents_misses_total") == 0
    assert not embed(daemon, one)["usage"]["cached"]
    assert embed(daemon, one)["usage"]["cached"]
    again = embed(daemon, one, cache=False)
    assert not again["usage"]["cached"] and again["usage"]["gmac"]["process"] > 0
    assert since("latents_entries") == 1 and since("latents_hits_total") == 1


def test_what_is_nearly_the_same_is_not(daemon):
    picture = np.zeros((SIDE, SIDE), np.float32)
    nearly = picture.copy()
    nearly[13, 17] = np.float32(1e-6)
    tone = np.sin(np.arange(8000, dtype=np.float32) / 9).reshape(1, -1)
    cut = tone.copy()
    cut[0, -1] = 0

    def infer(name, x, datatype="FP32"):
        r = daemon.infer("senses", [tensor(name, datatype, x.shape, x.reshape(-1).tolist())])
        assert r.status == 200, r.body
        return r.json["parameters"]["cached"]

    for x in (picture, nearly):
        x = x.reshape(1, SIDE, SIDE, 1)
        assert [infer("image", x), infer("image", x)] == [False, True]
    for x in (tone, cut):
        assert [infer("audio", x), infer("audio", x)] == [False, True]
    ids = np.array([[4, 70, 71, 3, 5]])
    assert [infer("text", ids, "INT64"), infer("text", ids[:, [0, 2, 1, 3, 4]], "INT64")] == [False] * 2
    for said in ("a [MASK] b", "a [MASK] b ", "A [MASK] b", "a [MASK]  b", "a  [MASK] b"):
        assert not embed(daemon, {"text": said})["usage"]["cached"], said


def test_another_model_is_another_input(daemon):
    for model in ("senses", "twin", "other"):
        assert not embed(daemon, item("audio", 3), model)["usage"]["cached"], model
    results = [embed(daemon, item("audio", 3), m) for m in ("senses", "twin", "other")]
    assert all(r["usage"]["cached"] for r in results)
    same(results[0]["results"], results[1]["results"])
    assert differ(results[0]["results"][0], results[2]["results"][0])


def test_however_a_picture_is_sent_it_is_the_same(daemon):
    data = png(SIDE, SIDE, 77)
    (want,) = embed(daemon, {"image": b64(data)})["results"]
    body = multipart([(b'name="image"; filename="a.png"', b"image/png", data)], b"edge")
    path = "/v1/models/senses/perceive?task=embed"
    replies = [
        daemon.perceive("senses", b64(data), [{"task": "embed"}]),
        daemon.perceive("senses", {"image": {**b64(data), "type": "image/png"}}, [{"task": "embed"}]),
        daemon.ask("POST", path, body, {"Content-Type": "multipart/form-data; boundary=edge"}),
        daemon.ask("POST", path, data, {"Content-Type": "image/png"}),
        daemon.ask("POST", path, data, {"Content-Type": "application/octet-stream"})]
    for r in replies:
        assert r.status == 200 and r.json["usage"]["cached"], r.body[:300]
        same(r.json["results"], [want])
    # A file of the tensor API is the same as well; so is a text that is a file.
    r = daemon.infer("senses", [tensor("text", "BYTES", [1], [text(40)])])
    assert r.status == 200 and not r.json["parameters"]["cached"], r.body
    r = daemon.ask("POST", path, text(40).encode(), {"Content-Type": "text/plain"})
    assert r.json["usage"]["cached"]


def test_a_batch_of_known_and_unknown_inputs(daemon):
    inputs = [item("image", 30), item("audio", 30), item("text", 30), item("audio", 31)]
    embed(daemon, inputs[1])
    embed(daemon, inputs[2])
    since = Counted(daemon)
    r = perceive(daemon, inputs, ALL)
    assert r["usage"]["cached_items"] == 2 and not r["usage"]["cached"]
    assert since("batch_inputs_total", input="image") == since("batch_inputs_total", input="audio") == 1
    assert since("batch_inputs_total") == since("latents_misses_total") == 2
    again = perceive(daemon, inputs, ALL)
    assert again["usage"]["cached_items"] == 4 and again["usage"]["cached"]
    assert again["usage"]["gmac"]["process"] == 0
    fresh = perceive(daemon, inputs, ALL, **FRESH)
    for results in (r, again):
        for got, want in zip(results["results"], fresh["results"]):
            same(got, want)


def test_the_configuration_may_cache_nothing(start_daemon):
    d = start_daemon({"senses": senses()}, "--latents-cache=no")
    for _ in range(2):
        assert not embed(d, item("image"))["usage"]["cached"]
    handle = embed(d, item("image"), keep="1m")["latents"]
    assert d.post(f"/v1/latents/{handle}/query", {}).json["usage"]["cached"]
    assert d.metric("perceiverd_latents_entries") == 1
    d.stop()


def test_what_is_cached_grows_old(start_daemon):
    d = start_daemon({"senses": senses()}, "--latents-ttl=1s")
    assert not embed(d, item("text"))["usage"]["cached"]
    assert eventually(lambda: d.metric("perceiverd_latents_entries") == 0)
    assert d.metric("perceiverd_latents_evictions_total", reason="expired") == 1
    assert not embed(d, item("text"))["usage"]["cached"]
    d.stop()


# ---- at the same time -----------------------------------------------------------------------------

def arrived(daemon, n, queued):
    in_flight(daemon, n + 1)  # and what keeps the lane busy
    assert eventually(lambda: daemon.metric("perceiverd_queue_depth", model="senses") == queued)


@pytest.mark.parametrize("more", [UNCACHED, {}])
@pytest.mark.parametrize("kind", KINDS)
def test_identical_requests_are_computed_once(daemon, kind, more):
    seed = 200 + len(more)
    alone = perceive(daemon, item(kind, seed), QUERIES[kind], **FRESH)
    blocker = busy(daemon)
    since = Counted(daemon)
    # The same input with questions of their own.
    mixes = [QUERIES[kind][i % 3:] for i in range(8)]
    waiting = [post(daemon, item(kind, seed), mix, **more) for mix in mixes]
    arrived(daemon, 8, 1)
    blocker.close()
    replies = [answer(c) for c in waiting]
    for i, r in enumerate(replies):
        same(r["results"], alone["results"][i % 3:])
    # Whichever was adapted first pays for all.
    assert sorted(r["usage"]["gmac"]["process"] > 0 for r in replies) == [False] * 7 + [True]
    assert since("latents_shared_total", model="senses") == 7
    assert since("batch_inputs_total", model="senses") == 1
    one = alone["usage"]["gmac"]
    assert since("gmac_total", model="senses", stage="process") == pytest.approx(one["process"], rel=1e-6)
    assert embed(daemon, item(kind, seed))["usage"]["cached"] == (not more)


def test_the_first_client_may_vanish_while_it_waits(daemon):
    alone = perceive(daemon, item("audio", 210), QUERIES["audio"], **FRESH)
    blocker = busy(daemon)
    since = Counted(daemon)
    waiting = [post(daemon, item("audio", 210), QUERIES["audio"], **UNCACHED) for _ in range(5)]
    arrived(daemon, 5, 1)
    waiting.pop(0).close()
    arrived(daemon, 4, 1)  # the next one leads
    waiting.pop(1).close()  # and a follower goes
    arrived(daemon, 3, 1)
    blocker.close()
    for c in waiting:
        same(answer(c)["results"], alone["results"])
    assert since("latents_shared_total") == 2 and since("batch_inputs_total", model="senses") == 1
    assert since("cancelled_total", model="senses", reason="gone") == 2


def test_the_first_client_may_vanish_while_it_is_computed(daemon):
    picture, ask = {"image": b64(png())}, [{"task": "classify", "top_k": 10}]
    in_flight(daemon, 0)
    since = Counted(daemon)
    first = post(daemon, picture, ask, "slow", **UNCACHED)
    assert eventually(lambda: daemon.metric("perceiverd_lanes_busy") == 1)
    others = [post(daemon, picture, ask, "slow", **UNCACHED) for _ in range(3)]
    in_flight(daemon, 4)
    first.close()
    got = [answer(c) for c in others]
    same([r["results"][0] for r in got], [got[0]["results"][0]] * 3)
    assert since("batch_inputs_total", model="slow") == 1
    assert since("latents_shared_total", model="slow") == 2
    in_flight(daemon, 0)


def test_a_leader_out_of_time_leaves_the_others_theirs(daemon):
    ask = [{"task": "embed"}]
    blockers = [busy(daemon)]
    blockers[0].getresponse().read()  # the daemon knows how long it takes, and so do we
    took = daemon.metric("perceiverd_request_seconds_sum", model="slow") / daemon.metric(
        "perceiverd_request_seconds_count", model="slow")
    blockers[0] = busy(daemon)
    # Within reach when they come; then more urgent ones come.
    hasty = [post(daemon, item("text", 220), ask, timeout_ms=int(2000 * took), **UNCACHED)]
    arrived(daemon, 1, 1)
    others = [post(daemon, item("text", 220), ask, **UNCACHED) for _ in range(2)]
    hasty += [post(daemon, item("text", 220), ask, timeout_ms=int(2000 * took), **UNCACHED)]
    arrived(daemon, 4, 1)
    for i in range(6):
        blockers.append(post(daemon, {"image": b64(png(16, 16, i))}, None, "slow", priority=1, **FRESH))
    assert [c.getresponse().status for c in hasty] == [504, 504]
    for c in blockers:
        c.close()
    want = perceive(daemon, item("text", 220), ask, **FRESH)["results"]
    for c in others:
        same(answer(c)["results"], want)


def test_requests_that_overlap(daemon):
    """Inputs in turn and in circles: each of them is computed for somebody, and nobody waits forever."""
    pool = [item(k, 230 + s) for s in range(2) for k in KINDS]
    picks = [[0, 1], [1, 2], [2, 0], [5, 4, 3, 2, 1, 0], [0, 0, 3], [3], [4, 4]]
    alone = [embed(daemon, p, **FRESH)["results"][0] for p in pool]
    for more in (UNCACHED, {}):
        blocker = busy(daemon)
        since = Counted(daemon)
        waiting = [post(daemon, [pool[i] for i in pick], [{"task": "embed"}], **more) for pick in picks]
        in_flight(daemon, len(picks) + 1)
        blocker.close()
        for pick, c in zip(picks, waiting):
            got = answer(c)["results"]
            for i, (result,) in zip(pick, got):
                same(result, alone[i])
        assert 6 <= since("batch_inputs_total", model="senses") < sum(len(p) for p in picks)
        assert since("latents_shared_total", model="senses") > 0
        in_flight(daemon, 0)


def test_whoever_does_not_share_is_computed_alone(daemon, start_daemon):
    def inputs_of(d, count, **more):
        blocker = busy(d)
        since = Counted(d)
        waiting = [post(d, item("image", 240), [{"task": "garment"}], **more) for _ in range(4)]
        arrived(d, 4, count)
        blocker.close()
        results = [answer(c)["results"] for c in waiting]
        same([r[0] for r in results], [results[0][0]] * 4)
        assert since("batch_inputs_total", model="senses") == count
        assert since("latents_shared_total") == 4 - count

    inputs_of(daemon, 4, share=False, cache=False)
    inputs_of(daemon, 1, cache=False)
    unshared = start_daemon({"senses": senses(), "slow": slow()}, "--latents-share=no",
                            "--model-timeout=10min")
    inputs_of(unshared, 4)
    unshared.stop()


def test_handles_and_streams_of_shared_latents(daemon):
    blocker = busy(daemon)
    waiting = [post(daemon, item("image", 250), [{"task": "embed"}], keep="1m", **UNCACHED)
               for _ in range(3)]
    stream = post(daemon, item("image", 250), [{"task": "reconstruct"}], stream=True, **UNCACHED)
    arrived(daemon, 4, 1)
    blocker.close()
    replies = [answer(c) for c in waiting]
    handles = [r["latents"] for r in replies]
    assert len(set(handles)) == 3
    lines = [json.loads(x) for x in stream.getresponse().read().splitlines()]
    assert lines[-1]["done"] and lines[-1]["usage"]["gmac"]["process"] == 0
    for h in handles:
        r = daemon.post(f"/v1/latents/{h}/query", {"queries": [{"task": "embed"}]})
        same(r.json["results"], replies[0]["results"])
    assert daemon.ask("DELETE", f"/v1/latents/{handles[0]}").status == 204
    assert daemon.get(f"/v1/latents/{handles[1]}").status == 200
