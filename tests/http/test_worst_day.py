"""The day on which everything happens at once: shutting down in the middle of it, and clients of every
kind, good and bad. CHAOS_SECONDS and CHAOS_CLIENTS make it longer and fuller."""

import concurrent.futures
import http.client
import json
import os
import random
import signal
import time

from daemon import b64, eventually, png, tensor
from models import senses, slow
from senses import (ALL, KINDS, QUERIES, Counted, answer, in_flight, item, perceive, post, same,
                    sound)
from streams import LONG, MANY, PIECE, rows_of, slow_reader, stalled


def test_draining_loses_nobody(start_daemon, tmp_path):
    d = start_daemon({"senses": senses(), "slow": slow()}, f"--stream-rows={PIECE}",
                     f"--listen=unix:{tmp_path}/daemon0.log.socket",
                     "--model-timeout=10min", "--drain-timeout=5min")
    picture = {"image": b64(png())}
    since = Counted(d)
    reader = slow_reader(d, LONG)
    stalled(d, since)
    running = [post(d, picture, None, "slow") for _ in range(3)]  # one leads, two wait for it
    assert eventually(lambda: d.metric("perceiverd_lanes_busy") == 1)
    waiting = [post(d, item(k, s // 2), ALL[-1:]) for k in KINDS for s in range(4)]
    streams = [post(d, item("image", s), [{"task": "reconstruct"}], stream=True) for s in range(3)]
    in_flight(d, 1 + 3 + 12 + 3)
    idle = d.connect()
    assert d.ask("GET", "/v2/health/live", connection=idle).status == 200
    d.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: "draining: " in d.log())
    classified = [answer(c)["results"] for c in running]
    same(classified[1:], classified[:1] * 2)
    for c in waiting:
        assert answer(c)["results"][0]["task"] == "embed"
    for c in streams:
        lines = [json.loads(x) for x in c.getresponse().read().splitlines()]
        assert lines[-1]["done"] and rows_of(lines, "reconstruct").shape == (784, 1)
    assert reader.head()[0] == 200
    lines = b"".join(iter(reader.chunk, b"")).splitlines()
    assert json.loads(lines[-1])["done"]
    assert sum(json.loads(x)["rows"][1] for x in lines[:-1]) == MANY
    reader.close()
    idle.close()
    assert d.process.wait(60) == 0, d.log()
    d.stop()  # and says nothing of a sanitizer


# ---- everybody ------------------------------------------------------------------------------------

SECONDS = float(os.environ.get("CHAOS_SECONDS", "5"))
CLIENTS = int(os.environ.get("CHAOS_CLIENTS", "64"))
POOL = [(kind, seed) for kind in KINDS for seed in range(4)]
NOW_AND_THEN = {429, 503, 504}  # and any time


class Chaos:
    """One client. Each of its methods is something to do, and judges what comes of it."""

    def __init__(self, daemon, right, number):
        self.daemon, self.right, self.random = daemon, right, random.Random(number)
        self.handles, self.done = [], 0
        self.connection = daemon.connect()

    def post(self, path, document, *statuses):
        """The reply, or None for one of those that a server may give who is busy."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        try:
            reply = self.daemon.ask("POST", path, body, {"Content-Type": "application/json"},
                                    self.connection)
        except (ConnectionError, http.client.HTTPException):  # a refusal closes the connection
            self.connection.close()
            raise AssertionError(f"{path}: no reply")
        assert reply.status in {*statuses, *NOW_AND_THEN}, (path, reply.status, reply.body[:300])
        return reply if reply.status in statuses else None

    def some(self):
        """An input of the pool, some questions to it, and the right answers."""
        kind, seed = self.random.choice(POOL)
        which = self.random.sample(range(len(QUERIES[kind])), self.random.randint(1, 3))
        return item(kind, seed), [QUERIES[kind][i] for i in which], [
            self.right[kind, seed][i] for i in which]

    def options(self):
        return self.random.choice([{}, {}, {"cache": False}, {"share": False},
                                   {"cache": False, "share": False}, {"priority": 3}])

    def asks(self):
        one, queries, right = self.some()
        reply = self.post("/v1/models/senses/perceive",
                          {"inputs": one, "queries": queries, **self.options()}, 200)
        if reply:
            same(reply.json["results"], right)

    def asks_of_many(self):
        picks = self.random.choices(POOL, k=self.random.randint(1, 5))
        reply = self.post("/v1/models/senses/perceive", {
            "inputs": [item(*p) for p in picks], "queries": [{"task": "embed"}], **self.options()}, 200)
        for p, results in zip(picks, reply.json["results"] if reply else ()):
            at = next(i for i, q in enumerate(QUERIES[p[0]]) if q == {"task": "embed"})
            same(results, [self.right[p][at]])

    def streams(self):
        seed = self.random.randrange(4)
        reply = self.post("/v1/models/senses/perceive", {
            "inputs": item("image", seed), "stream": True, **self.options(),
            "queries": [{"task": "reconstruct"}, {"task": "digit", "top_k": 10}]}, 200)
        if reply:
            *lines, last = map(json.loads, reply.body.splitlines())
            assert last["done"] and rows_of(lines, "reconstruct").shape == (784, 1)
            same([x["result"] for x in lines if "result" in x], [self.right["image", seed][1]])

    def keeps(self):
        one, queries, right = self.some()
        reply = self.post("/v1/models/senses/perceive", {
            "inputs": one, "queries": queries, "keep": self.random.choice([0.05, "1s", "1m"])}, 200)
        if reply:
            self.handles.append((reply.json["latents"], queries, right))

    def asks_a_handle(self):
        if not self.handles:
            return self.keeps()
        handle, queries, right = self.random.choice(self.handles)
        reply = self.post(f"/v1/latents/{handle}/query", {"queries": queries}, 200, 404)
        if reply and reply.status == 200:
            same(reply.json["results"], right)
        return None

    def drops(self):
        if self.handles:
            handle, _, _ = self.handles.pop(self.random.randrange(len(self.handles)))
            path = f"/v1/latents/{handle}"
            assert self.daemon.ask("DELETE", path, None, None, self.connection).status in (204, 404)
            assert self.daemon.ask("GET", path, None, None, self.connection).status == 404

    def exports_and_imports(self):
        if not self.handles:
            return
        handle, _, _ = self.random.choice(self.handles)
        file = self.daemon.ask("GET", f"/v1/latents/{handle}/tensor", None, None, self.connection)
        if file.status == 200:
            broken = bytearray(file.body)
            broken[self.random.randrange(8)] ^= 0xFF
            self.post("/v1/models/senses/latents", bytes(broken), 400, 413)
            self.post("/v1/models/senses/latents?keep=1s", file.body, 201)

    def is_wrong(self):
        good = {"inputs": item("image"), "queries": [{"task": "digit"}]}
        document, *statuses = self.random.choice([
            ({**good, "queries": [{"task": "spam"}]}, 400), ({**good, "keep": "31d"}, 400),
            ({**good, "inputs": [item("text"), {"image": b64(b"GIF89a")}]}, 415),
            ({**good, "inputs": {"image": b64(png()[:-30])}}, 400),
            ({**good, "inputs": {"audio": b64(sound(samples=9000))}}, 400),
            ({**good, "inputs": [item("text")] * 65}, 413),
            ({**good, "queries": [{"task": "reconstruct", "region": [0, 0, 29, 1]}]}, 400),
            ({**good, "stream": True, "format": "png"}, 400), (b"{", 400), (b"[" * 9000, 400, 413),
            ({**good, "timeout_ms": 1}, 200)])
        self.post("/v1/models/senses/perceive", document, *statuses)
        self.post(f"/v1/latents/lat_{self.random.getrandbits(160):040x}/query", {}, 404, 409)

    def uses_tensors(self):
        ids = [4, *(self.random.randint(6, 261) for _ in range(self.random.randint(1, 40))), 5]
        self.post("/v2/models/senses/infer", {"inputs": [
            tensor("text", "INT64", [1, len(ids)], ids)], "outputs": [{"name": "spam"}]}, 200)
        self.post("/v2/models/senses/infer", {"inputs": [
            tensor("text", "INT64", [1, 2], [4, 999])]}, 400)

    def leaves(self):
        """In the middle of a request, of a wait, or of a stream."""
        one, queries, _ = self.some()
        body = self.random.choice([{"inputs": one, "queries": queries}, LONG,
                                   {"inputs": one, "queries": queries, "keep": "1s", "stream": True}])
        c = slow_reader(self.daemon, body)
        if self.random.random() < 0.5:
            c.sock.recv(self.random.randint(1, 5000))
        self.random.choice([c.close, c.half_close, c.reset])()
        c.close()

    def run(self, until):
        deeds = [self.asks] * 6 + [self.asks_a_handle] * 4 + [
            self.asks_of_many, self.streams, self.keeps, self.drops, self.exports_and_imports,
            self.is_wrong, self.uses_tensors, self.leaves]
        while time.monotonic() < until:
            self.random.choice(deeds)()
            self.done += 1
        self.connection.close()
        return self.done


def test_everybody_at_once(start_daemon, tmp_path):
    d = start_daemon({"senses": senses()}, f"--stream-rows={PIECE}", "--model-max-queue=100",
                     "--latents-memory=6M", f"--listen=unix:{tmp_path}/daemon0.log.socket",
                     "--model-timeout=1min", "--log-level=warn")

    def answers():
        return {p: perceive(d, item(*p), QUERIES[p[0]], cache=False)["results"] for p in POOL}

    right = answers()
    clients = [Chaos(d, right, i) for i in range(CLIENTS)]
    until = time.monotonic() + SECONDS
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(lambda c: c.run(until), clients))
    assert sum(done) > CLIENTS
    in_flight(d, 0)
    assert eventually(lambda: d.metric("perceiverd_lanes_busy") == 0)
    assert d.metric("perceiverd_queue_depth") == 0
    assert d.metric("perceiverd_latents_bytes") <= 6 << 20
    assert not any(d.metric("perceiverd_requests_total", code=c) for c in ("500", "501", "502"))
    again = answers()
    for p in POOL:
        same(again[p], right[p])
    d.stop()
    assert " error " not in d.log(), d.log()
