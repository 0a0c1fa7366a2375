"""Many tasks of one input, many inputs of one request, and what is computed together."""

import itertools

import numpy as np
import pytest

from daemon import Daemon, b64, eventually, png
from models import senses, slow
from senses import (ALL, FRAMES, FRESH, KINDS, LATENTS, QUERIES, SIDE, TOKENS, WIDTH, Counted, answer,
                    busy, close, differ, item, numbers, perceive, pixels, post, refused, rows_of, same,
                    scores, sound, text)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"senses": senses(), "slow": slow()}, tmp_path_factory.mktemp("multitask") / "log",
               "--model-max-batch-time=0", "--model-timeout=10min")
    yield d
    d.stop()


def test_the_model_says_which_task_answers_which_input(daemon):
    m = daemon.get("/v1/models/senses").json
    assert not m["together"] and [i["name"] for i in m["inputs"]] == list(KINDS)
    inputs = {t["name"]: t["inputs"] for t in m["tasks"]}
    assert inputs["garment"] == inputs["digit"] == inputs["reconstruct"] == ["image"]
    assert inputs["spoken-digit"] == ["audio"] and inputs["fill-mask"] == ["text"]
    assert inputs["embed"] == list(KINDS)
    assert m["latents"] == {"count": LATENTS, "width": WIDTH}


# ---- tasks of one input ---------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_every_mix_of_tasks_is_one_encoding(daemon, kind):
    queries = QUERIES[kind]
    alone = [perceive(daemon, item(kind), [q], **FRESH) for q in queries]
    since, requests, rows, encode = Counted(daemon), 0, 0, 0
    for n in range(1, len(queries) + 1):
        for mix in itertools.combinations(range(len(queries)), n):
            r = perceive(daemon, item(kind), [queries[i] for i in mix], **FRESH)
            same(r["results"], [alone[i]["results"][0] for i in mix])
            gmac, each = r["usage"]["gmac"], [alone[i]["usage"]["gmac"] for i in mix]
            # Once: attention is a little more to encode, questions share what decoders make.
            assert gmac["encode"] == max(g["encode"] for g in each) > 0
            assert gmac["process"] == each[0]["process"] > 0
            decode = [g["decode"] for g in each]
            assert max(decode) <= gmac["decode"] <= sum(decode) * (1 + 1e-9)
            assert r["usage"]["tokens"] == alone[0]["usage"]["tokens"]
            asked = sum(rows_of(queries[i]) for i in mix)
            assert r["usage"]["output_queries"] == asked and r["usage"]["batch"] == 1
            requests, rows, encode = requests + 1, rows + asked, encode + gmac["encode"]
    assert since("gmac_total", stage="encode") == pytest.approx(encode, rel=1e-6)
    assert since("gmac_total", stage="process") == pytest.approx(requests * gmac["process"], rel=1e-6)
    assert since("output_queries_total", model="senses") == rows
    assert since("batch_inputs_total", input=kind) == since("batch_inputs_total") == requests


def test_only_what_is_asked_is_decoded(daemon):
    since = Counted(daemon)
    perceive(daemon, item("image"), [{"task": "digit"}, {"task": "reconstruct", "region": [2, 3, 4, 5]}],
             **FRESH)
    assert since("output_queries_total", task="digit") == 1
    assert since("output_queries_total", task="reconstruct") == 20
    assert since("output_queries_total") == 21
    cost = [perceive(daemon, item("image"), [{"task": "reconstruct", "region": [0, 0, n, n]}],
                     **FRESH)["usage"]["gmac"]["decode"] for n in (1, 7, SIDE)]
    assert cost[0] < cost[1] / 10 and cost[1] < cost[2] / 8


def test_two_questions_of_one_task_are_one_row(daemon):
    r = perceive(daemon, item("image"), [{"task": "garment", "top_k": 10},
                                         {"task": "garment", "classes": ["Bag", "Dress"]}], **FRESH)
    assert r["usage"]["output_queries"] == 1
    by_class, (bag, dress) = scores(r["results"][0]["labels"]), r["results"][1]["labels"]
    assert (bag["index"], dress["index"]) == (8, 3)
    close([bag["score"], dress["score"]], [by_class[8], by_class[3]])


def test_without_queries_every_task_that_fits_is_answered(daemon):
    tasks = {kind: [r["task"] for r in perceive(daemon, item(kind))["results"]] for kind in KINDS}
    assert tasks == {"image": ["garment", "digit", "reconstruct"], "audio": ["spoken-digit"],
                     "text": ["fill-mask", "spam"]}


# ---- a part of an answer --------------------------------------------------------------------------

REGIONS = [[0, 0, 28, 28], [4, 6, 8, 10], [0, 0, 1, 1], [27, 27, 1, 1], [0, 13, 28, 1], [20, 0, 8, 28]]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_that_part_of_the_whole(daemon, region):
    ask = {"inputs": item("image", 3), **FRESH}
    whole = daemon.post("/v1/models/senses/perceive", {**ask, "queries": [{"task": "reconstruct"}],
                                                       "format": "raw"})
    picture = daemon.post("/v1/models/senses/perceive", {**ask, "queries": [{"task": "reconstruct"}],
                                                         "format": "png"})
    assert whole.headers["content-type"] == "application/octet-stream"
    assert picture.headers["content-type"] == "image/png"
    color = np.frombuffer(whole.body, "<f4").reshape(SIDE, SIDE)
    drawn = pixels(picture.body)
    assert drawn.shape == (SIDE, SIDE, 3) and drawn.max() > drawn.min()
    assert np.abs(drawn - np.clip(255 * color, 0, 255)[..., None]).max() < 0.52
    x, y, w, h = region
    query = [{"task": "reconstruct", "region": region}]
    r = daemon.post("/v1/models/senses/perceive", {**ask, "queries": query, "format": "raw"})
    close(np.frombuffer(r.body, "<f4").reshape(h, w) - color[y:y + h, x:x + w] + 1, np.ones((h, w)))
    r = daemon.post("/v1/models/senses/perceive", {**ask, "queries": query, "format": "png"})
    assert pixels(r.body).shape == (h, w, 3)
    # Equal, but for numbers on the edge between two bytes.
    edge = np.abs(255 * color % 1 - 0.5)[y:y + h, x:x + w] < 0.01
    assert np.all((pixels(r.body) == drawn[y:y + h, x:x + w]).all(-1) | edge)
    r = perceive(daemon, item("image", 3), query, **FRESH)
    assert r["usage"]["output_queries"] == w * h
    assert numbers(r["results"][0]).shape == (1, h, w, 3)


def test_positions_are_rows_of_the_whole(daemon):
    whole = daemon.perceive("senses", item("image", 3), [{"task": "reconstruct"}], format="raw", **FRESH)
    color = np.frombuffer(whole.body, "<f4")
    order = [783, 0, 5, 400, 5, 27, 28]
    r = perceive(daemon, item("image", 3), [{"task": "reconstruct", "positions": order}], **FRESH)
    assert r["results"][0]["shape"] == [len(order), 1]
    assert r["usage"]["output_queries"] == len(order)
    close(numbers(r["results"][0])[:, 0], color[order])


def test_positions_of_a_text(daemon):
    n = perceive(daemon, item("text"), [{"task": "spam"}])["usage"]["tokens"]
    everywhere = perceive(daemon, item("text"), [
        {"task": "fill-mask", "top_k": 262, "positions": list(range(n))}], **FRESH)
    rows = everywhere["results"][0]["masks"]
    order = [9, 3, 9, n - 1, 0]
    r = perceive(daemon, item("text"), [{"task": "fill-mask", "top_k": 262, "positions": order}], **FRESH)
    assert [m["position"] for m in r["results"][0]["masks"]] == order
    assert r["usage"]["output_queries"] == len(order)
    same(r["results"][0], {"task": "fill-mask", "masks": [rows[i] for i in order]})
    # And masks are what is asked without positions.
    r = perceive(daemon, item("text"), [{"task": "fill-mask", "top_k": 262}], **FRESH)
    masks = r["results"][0]["masks"]
    said = text().replace("[MASK]", "_").encode()
    assert [m["position"] for m in masks] == [1 + i for i, c in enumerate(said) if c == ord("_")]
    same(r["results"][0], {"task": "fill-mask", "masks": [rows[m["position"]] for m in masks]})


WRONG = [
    ("image", {"task": "reconstruct", "region": [0, 0, 29, 1]}, "region"),
    ("image", {"task": "reconstruct", "region": [28, 0, 1, 1]}, "region"),
    ("image", {"task": "reconstruct", "region": [0, 27, 1, 2]}, "region"),
    ("image", {"task": "reconstruct", "region": [0, 0, 0, 1]}, "region[2]"),
    ("image", {"task": "reconstruct", "region": [-1, 0, 1, 1]}, "region[0]"),
    ("image", {"task": "garment", "region": [0, 0, 1, 1]}, "region"),
    ("image", {"task": "reconstruct", "positions": [783, 784]}, "positions[1]"),
    ("image", {"task": "garment", "positions": [0]}, "positions"),
    ("image", {"task": "embed", "positions": [0]}, "positions"),
    ("image", {"task": "garment", "classes": ["Bag", "Hat"]}, "classes[1]"),
    ("image", {"task": "reconstruct", "classes": ["Bag"]}, "classes"),
    ("image", {"task": "reconstruct", "frames": [1]}, "frames[0]"),
    ("image", {"task": "garment", "points": [[0, 0]]}, "points"),
    ("image", {"task": "garment", "pool": "none"}, "pool"),
    ("image", {"task": "garment", "input": 0}, "input"),
    ("image", {"task": "attention", "latents": [0, 64]}, "latents[1]"),
    ("image", {"task": "garment", "latents": [0]}, "latents"),
    ("text", {"task": "fill-mask", "positions": [258]}, "positions[0]"),
    ("text", {"task": "fill-mask", "positions": [len(text()) - 2 * 5 + 2]}, "positions[0]"),
    ("image", {"task": "spam"}, "task"),
    ("audio", {"task": "reconstruct"}, "task"),
    ("audio", {"task": "attention", "region": [0, 0, 1, 1]}, "region"),
]


@pytest.mark.parametrize("kind,query,field", WRONG)
def test_questions_that_mean_nothing(daemon, kind, query, field):
    r = daemon.perceive("senses", item(kind), [{"task": "embed"}, query])
    refused(r, 400, f"$.queries[1].{field}")


# ---- attention ------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind,shape", [("image", (TOKENS, TOKENS)), ("audio", (FRAMES,)),
                                        ("text", None)])
def test_attention_is_a_share_of_each_token(daemon, kind, shape):
    latents = [63, 0, 17, 0]
    r = daemon.perceive("senses", item(kind), [{"task": "attention", "latents": latents}], format="raw")
    assert r.status == 200 and r.headers["content-type"] == "application/octet-stream"
    shape = shape or (perceive(daemon, item(kind), [{"task": "spam"}])["usage"]["tokens"],)
    raw = np.frombuffer(r.body, "<f4").reshape(len(latents), *shape)
    assert raw.min() >= 0
    np.testing.assert_allclose(raw.reshape(len(latents), -1).sum(1), 1, rtol=1e-5)
    assert np.array_equal(raw[1], raw[3]) and not np.array_equal(raw[0], raw[1])
    (told,) = perceive(daemon, item(kind), [{"task": "attention", "latents": latents}])["results"]
    if kind != "image":
        assert told["shape"] == [len(latents), *shape]
        close(numbers(told), raw)
        return
    # Pictures have maps: each token is a square, the most read one the brightest.
    assert [f["index"] for f in told["files"]] == latents
    maps = numbers(told)
    zoom = maps.shape[1] // TOKENS
    assert maps.shape == (len(latents), TOKENS * zoom, TOKENS * zoom, 3) and zoom >= 2
    for drawn, row in zip(maps, raw):
        cells = drawn[::zoom, ::zoom].sum(-1)
        assert np.array_equal(drawn.sum(-1), np.kron(cells, np.ones((zoom, zoom), int)))
        assert cells.max() == cells.flat[row.argmax()] and cells.min() == cells.flat[row.argmin()]
        assert np.all(np.diff(cells.flat[np.argsort(row, axis=None)]) >= -3)
    other = daemon.perceive("senses", item(kind, 1), [{"task": "attention", "latents": latents}],
                            format="raw")
    assert other.body != r.body


def test_attention_is_refused_where_there_is_none(daemon):
    def ask(kind, queries, **more):
        return daemon.perceive("senses", item(kind), queries, **more)

    one = {"task": "attention", "latents": [4]}
    r = ask("image", [one], format="png")
    assert r.status == 200 and pixels(r.body).shape == (224, 224, 3)
    refused(ask("image", [{"task": "attention", "latents": [4, 5]}], format="png"), 400, "format")
    refused(ask("audio", [one], format="png"), 400, "format")
    refused(ask("text", [one], format="wav"), 400, "format")
    refused(ask("image", [one, one]), 400, "$.queries[1]", "once")
    refused(ask("image", [{"task": "attention", "positions": [4]}]), 400)
    refused(ask("image", [{"task": "attention", "classes": ["Bag"]}]), 400, "$.queries[0].classes")


# ---- batches --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def alone(daemon):
    """Answers to ALL of each input by itself."""
    return {kind: perceive(daemon, item(kind), [q for q in ALL if fits(kind, q)], **FRESH)["results"]
            for kind in KINDS}


def fits(kind, query):
    return any(q["task"] == query["task"] for q in QUERIES[kind])


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS)) + [
    ("text",), ("image", "image"), ("audio", "text", "audio", "image", "audio", "text", "image")])
def test_a_list_of_inputs_has_a_list_of_answers(daemon, alone, order):
    since = Counted(daemon)
    queries = [q for q in ALL if any(fits(kind, q) for kind in order)]
    r = perceive(daemon, [item(kind) for kind in order], queries, **FRESH)
    assert len(r["results"]) == len(order)
    for kind, results in zip(order, r["results"]):
        same(results, alone[kind])
    assert r["usage"]["batch"] == len(order) and r["usage"]["cached_items"] == 0
    for kind in KINDS:
        assert since("batch_inputs_total", input=kind) == order.count(kind)
    assert since("batch_items_count") == 1 and since("batch_items_sum") == len(order)


def test_inputs_of_one_list_keep_apart(daemon):
    seeds = [5, 1, 9, 1]
    r = perceive(daemon, [item(k, s) for s in seeds for k in KINDS], [{"task": "embed"}], **FRESH)
    results = [x[0] for x in r["results"]]
    for i, (s, k) in enumerate((s, k) for s in seeds for k in KINDS):
        same(results[i], perceive(daemon, item(k, s), [{"task": "embed"}], **FRESH)["results"][0])
    assert all(differ(a, b) for a, b in itertools.combinations(results[:9], 2))


def test_a_question_to_one_input(daemon, alone):
    since = Counted(daemon)
    r = perceive(daemon, [item("image"), item("audio"), item("image", 1)], [
        {"task": "garment", "top_k": 10, "input": 2}, {"task": "embed", "input": 1},
        {"task": "reconstruct", "input": 0}], **FRESH)
    assert [[x["task"] for x in one] for one in r["results"]] == [["reconstruct"], ["embed"], ["garment"]]
    assert since("output_queries_total") == r["usage"]["output_queries"] == 785
    same(r["results"][0][0], alone["image"][1])
    same(r["results"][1][0], alone["audio"][-1])
    (other,) = perceive(daemon, item("image", 1), [{"task": "garment", "top_k": 10}])["results"]
    same(r["results"][2][0], other)
    # An input that nothing is asked of still has its place.
    r = perceive(daemon, [item("image"), item("text")], [{"task": "spam"}])
    assert r["results"][0] == [] and r["results"][1][0]["task"] == "spam"


def test_batches_that_are_none(daemon):
    def ask(inputs, queries=None, **more):
        return daemon.perceive("senses", inputs, queries, **more)

    both = [item("audio"), item("text")]
    refused(ask(both, [{"task": "spam"}, {"task": "digit"}]), 400, "$.queries[1].task", "digit")
    refused(ask(both, [{"task": "spam", "input": 0}]), 400, "$.queries[0].task", "audio")
    refused(ask(both, [{"task": "spam", "input": 2}]), 400, "$.queries[0].input")
    refused(ask([]), 400, "$.inputs")
    refused(ask([item("text")] * 65), 413, "$.inputs", "65")
    refused(ask([item("text")] * 257), 413, "$.inputs[256]")
    refused(ask([*both, {"image": b64(b"GIF89a")}]), 415, "$.inputs[2].image")
    refused(ask([{"image": b64(png()[:-30])}, *both]), 400, "$.inputs[0].image")
    refused(ask([item("image"), {"audio": b64(sound(samples=9000))}]), 400, "$.inputs[1].audio")
    refused(ask([item("image"), {"text": "x" * 300}]), 413, "$.inputs[1].text")
    refused(ask([item("image"), {"smell": "x"}]), 400, "$.inputs[1].smell")
    refused(ask([item("image"), {"image": {"b64": "!"}}]), 400, "$.inputs[1].image.b64")
    refused(ask([item("image"), {**item("text"), **item("image")}]), 400, "$.inputs[1]")
    refused(ask([item("text"), {"text": "no mask"}], [{"task": "fill-mask"}]), 400, "$.inputs[1]")
    refused(ask(both, [{"task": "embed"}], format="raw"), 400, "format")


# ---- computed together ----------------------------------------------------------------------------

def together(daemon, seeds=range(4), queries=None):
    """Requests of all kinds that wait for one lane: (kind, seed, queries, reply)."""
    asked = [(k, s, queries[k] if queries else QUERIES[k][s % 3:]) for s in seeds for k in KINDS]
    blocker = busy(daemon)
    waiting = [post(daemon, item(k, s), queries, **FRESH) for k, s, queries in asked]
    assert eventually(lambda: daemon.metric("perceiverd_queue_depth", model="senses") == len(asked))
    assert daemon.metric("perceiverd_lanes_busy") == 1
    blocker.close()
    return [(*a, answer(c)) for a, c in zip(asked, waiting)]


def test_pictures_sounds_and_texts_are_one_batch(daemon):
    since = Counted(daemon)
    answers = together(daemon)
    kinds = {k: since("batch_inputs_total", model="senses", input=k) for k in KINDS}
    assert kinds == {"image": 4, "audio": 4, "text": 4}
    assert since("batch_items_count", model="senses") == 1
    assert since("batch_items_sum", model="senses") == 12
    for kind, seed, queries, got in answers:
        assert got["usage"]["batch"] == 12
        alone = perceive(daemon, item(kind, seed), queries, **FRESH)
        assert alone["usage"]["batch"] == 1
        same(got["results"], alone["results"])
        assert got["usage"]["gmac"] == alone["usage"]["gmac"]


def test_rows_of_clients_and_tasks_are_one_product(daemon):
    """Four tasks of three kinds of input share a decoder: sixteen questions of twelve clients, one
    product of sixteen rows; questions to another decoder are another."""
    judged = {"image": [{"task": "garment", "top_k": 10}, {"task": "digit", "top_k": 10}],
              "audio": [{"task": "spoken-digit", "top_k": 10}], "text": [{"task": "spam", "top_k": 2}]}
    since = Counted(daemon)
    answers = together(daemon, queries=judged)
    assert since("decode_tiles_total", model="senses") == 1
    assert since("output_queries_total", model="senses") == 16
    for kind, seed, queries, got in answers:
        same(got["results"], perceive(daemon, item(kind, seed), queries, **FRESH)["results"])
    since = Counted(daemon)
    together(daemon, queries={**judged, "text": [{"task": "fill-mask", "top_k": 1}, *judged["text"]]})
    assert since("decode_tiles_total", model="senses") == 2


def test_batches_of_one_say_the_same(daemon, start_daemon):
    single = start_daemon({"senses": senses(), "slow": slow()}, "--model-max-batch=1",
                          "--model-timeout=10min")
    since = Counted(single)
    for kind, seed, queries, got in together(single, range(2)):
        assert got["usage"]["batch"] == 1
        same(got["results"], perceive(daemon, item(kind, seed), queries, **FRESH)["results"])
    assert since("batch_items_sum", model="senses") == since("batch_items_count", model="senses") == 6
    # A list is longer than a batch.
    r = perceive(single, [item(k) for k in KINDS], ALL, **FRESH)
    assert r["usage"]["batch"] == 1
    same(r["results"], perceive(daemon, [item(k) for k in KINDS], ALL, **FRESH)["results"])
    single.stop()
