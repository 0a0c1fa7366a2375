"""Many clients at once: whose answer is whose, who goes first, who is refused, who has gone."""

import concurrent.futures
import json
import random
import select
import threading

import numpy as np
import pytest

from daemon import COMPUTED, Daemon, b64, eventually, png, tensor
from models import golden, slow

CLIENTS = 64
ROUNDS = 3
WORDS = "the daemon reads whatever comes, bytes or pixels, into one small array of latents "


# ---- requests -----------------------------------------------------------------------------------------

class Request:
    """What is sent, and what of its answer must never change."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body

    def ask(self, daemon, connection=None):
        reply = daemon.ask("POST", self.path, self.body, self.headers, connection)
        assert reply.status == 200, (self.path, reply.status, reply.body[:300])
        return self.answer(reply)

    @staticmethod
    def answer(reply):
        """Results alone: a request's time and company are its own."""
        size = int(reply.headers.get("inference-header-content-length", len(reply.body)))
        document = json.loads(reply.body[:size])
        if "results" in document:
            usage = {k: v for k, v in document["usage"].items() if k != "batch"}
            return document["results"], usage
        return document["outputs"], reply.body[size:]


def native(model, inputs, queries):
    body = json.dumps({"inputs": inputs, "queries": queries}).encode()
    return Request(f"/v1/models/{model}/perceive", {"Content-Type": "application/json"}, body)


def picture(model, data, top_k):
    return Request(f"/v1/models/{model}/perceive?task=classify&top_k={top_k}",
                   {"Content-Type": "image/png"}, data)


def binary(model, parameters=None, **arrays):
    """Tensors in the binary form, both ways."""
    names = {"float32": "FP32", "int64": "INT64"}
    head = json.dumps({
        "inputs": [{"name": k, "datatype": names[str(a.dtype)], "shape": list(a.shape),
                    "parameters": {"binary_data_size": a.nbytes}} for k, a in arrays.items()],
        "parameters": {"binary_data_output": True, **(parameters or {})}}).encode()
    return Request(f"/v2/models/{model}/infer", {"Inference-Header-Content-Length": str(len(head))},
                   head + b"".join(a.tobytes() for a in arrays.values()))


def pixels(batch, side, seed):
    shape = (batch, 3, side, side)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def token_ids(batch, length, seed):
    """Bytes between [CLS] and [SEP], some of them masked."""
    ids = np.random.default_rng(seed).integers(6, 262, (batch, length))
    ids[:, 0], ids[:, -1], ids[:, length // 2] = 4, 5, 3
    return ids.astype(np.int64)


def mixed_requests():
    out = []
    for n in range(3, 61, 4):
        text = (WORDS * 2)[n:n + n // 2] + "[MASK]" + (WORDS * 2)[:n - n // 2]
        out.append(native("text", {"text": text}, [{"task": "fill-mask", "top_k": 1 + n % 7}]))
    for n in range(1, 62, 10):
        out.append(native("sentence", WORDS[:n], [{"task": "classify", "top_k": 2}]))
    for batch in (1, 2, 3):
        for length in (3, 17, 40, 64):
            out.append(binary("text", inputs=token_ids(batch, length, 100 * batch + length)))
        mask = np.ones((batch, 33), np.int64)
        for row in range(batch):
            mask[row, 20 + 3 * row:] = 0
        out.append(binary("text", inputs=token_ids(batch, 33, batch), attention_mask=mask))
        out.append(binary("image", inputs=pixels(batch, 16, batch)))
        out.append(binary("image", inputs=pixels(batch, 20 + batch, batch)))
        out.append(binary("learned", inputs=pixels(batch, 12, batch)))
    for seed in range(6):
        out.append(picture("image" if seed % 2 else "learned", png(60 + 5 * seed, 99 - seed, seed),
                           1 + seed))
        out.append(native("learned", {"image": b64(png(85, 64 + seed, 50 + seed))},
                          [{"task": "classify", "top_k": 10}]))
    return out


def latecomer(daemon, request):
    """A connection on which a request is on its way. Reading its answer is somebody else's turn."""
    connection = daemon.connect()
    connection.request("POST", request.path, request.body, request.headers)
    return connection


def status_of(connection):
    with_status = connection.getresponse()
    with_status.read()
    connection.close()
    return with_status.status


def error_of(reply):
    error = reply.json["error"]
    return error if isinstance(error, str) else error["code"]


# ---- many clients, mixed ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"image": golden("hf-image-fourier"), "learned": golden("hf-image-learned"),
                "text": golden("hf-masked-lm"), "sentence": golden("hf-text-classification")},
               tmp_path_factory.mktemp("load") / "log", *COMPUTED)
    yield d
    d.stop()


def test_everybody_gets_the_answer_that_is_theirs_bit_by_bit(daemon):
    requests = mixed_requests()
    alone = [r.ask(daemon) for r in requests]
    # No two are the same, or mixing them up would go unnoticed.
    assert len({json.dumps(a, default=bytes.hex) for a in alone}) == len(requests)
    items = daemon.metric("perceiverd_batch_items_sum")
    batches = daemon.metric("perceiverd_batch_items_count")
    single = daemon.metric("perceiverd_batch_items_bucket", le="3")
    together = threading.Barrier(CLIENTS)

    def client(number):
        order = random.Random(number)
        connection = daemon.connect()
        different = []
        for _ in range(ROUNDS):
            together.wait(60)
            for i in order.sample(range(len(requests)), 6):
                if requests[i].ask(daemon, connection) != alone[i]:
                    different.append(requests[i].path + " " + repr(requests[i].body[:120]))
        connection.close()
        return different

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        different = sum(pool.map(client, range(CLIENTS)), [])
    assert not different, f"{len(different)} of {CLIENTS * ROUNDS * 6}: {different[:3]}"
    # No request has more than three items: larger batches are of several clients.
    more = daemon.metric("perceiverd_batch_items_count") - batches
    larger = more - (daemon.metric("perceiverd_batch_items_bucket", le="3") - single)
    assert larger > 0 and daemon.metric("perceiverd_batch_items_sum") - items > more
    assert daemon.metric("perceiverd_in_flight") == 0


def test_a_connection_is_kept_through_good_and_bad_requests(daemon):
    connection = daemon.connect()
    seen = set()
    for i in range(20):
        good = native("text", f"{i} [MASK]", [{"task": "fill-mask"}])
        assert len(good.ask(daemon, connection)[0][0]["masks"]) == 1
        seen.add(connection.sock.getsockname())
        for method, path, body, status in (
                ("POST", "/v1/models/text/perceive", b"{", 400),
                ("POST", "/v1/models/nobody/perceive", b"{}", 404),
                ("GET", "/v1/models/text/perceive", None, 405),
                ("GET", "/v2/health/ready", None, 200)):
            assert daemon.ask(method, path, body, None, connection).status == status
            seen.add(connection.sock.getsockname())
    connection.close()
    assert len(seen) == 1


def test_json_of_150528_numbers_says_the_same_as_bytes(daemon):
    x = pixels(1, 224, 9)
    assert x.size == 150528
    reply = daemon.infer("image", [tensor("inputs", "FP32", x.shape, x.reshape(-1).tolist())])
    assert reply.status == 200, reply.body[:300]
    raw = binary("image", inputs=x).ask(daemon)[1]
    told = np.array(reply.json["outputs"][0]["data"], np.float32)
    assert told.tobytes() == raw and told.size == 10


def test_one_thread_and_two_agree(tmp_path):
    answers = []
    requests = [binary("text", inputs=token_ids(3, 40, 1)), binary("image", inputs=pixels(2, 16, 1)),
                binary("image", inputs=pixels(1, 21, 2)), binary("text", inputs=token_ids(1, 9, 3))]
    for threads in (1, 2):
        d = Daemon({"image": golden("hf-image-fourier"), "text": golden("hf-masked-lm")},
                   tmp_path / f"log{threads}", f"--threads={threads}", *COMPUTED)
        assert f"1 lanes of {threads} threads" in d.log()
        answers.append([np.frombuffer(r.ask(d)[1], np.float32) for r in requests])
        d.stop()
    for one, two in zip(*answers):
        assert one.size and np.abs(one - two).max() <= 1e-5 * np.abs(one).max()


# ---- a lane that is busy ------------------------------------------------------------------------------

SLOW = binary("slow", inputs=pixels(1, 16, 1))


@pytest.fixture(scope="module")
def busy_daemon(tmp_path_factory):
    d = Daemon({"slow": slow(), "image": golden("hf-image-fourier")},
               tmp_path_factory.mktemp("busy") / "log", "--model-max-batch=1", "--model-max-queue=4",
               "--model-max-items=3", "--model-timeout=10min", "--threads=2", *COMPUTED)
    yield d
    d.stop()


@pytest.fixture
def busy(busy_daemon):
    """The daemon with its only lane computing, and the connection that waits for that."""
    assert idle(busy_daemon)
    connection = latecomer(busy_daemon, SLOW)
    assert eventually(lambda: busy_daemon.metric("perceiverd_lanes_busy") == 1)
    yield busy_daemon, connection
    connection.close()
    assert idle(busy_daemon)


def idle(daemon):
    return eventually(lambda: daemon.metric("perceiverd_in_flight") == 0
                      and daemon.metric("perceiverd_lanes_busy") == 0, 60)


def answered(connection):
    return bool(select.select([connection.sock], [], [], 0)[0])


def executions(daemon, model):
    return daemon.get(f"/v2/models/{model}/stats").json["model_stats"][0]["execution_count"]


def queued(daemon, model="image"):
    return daemon.metric("perceiverd_queue_depth", model=model)


def test_health_is_answered_while_a_lane_computes(busy):
    daemon, computing = busy
    for _ in range(20):
        assert daemon.get("/v2/health/live").json == {"live": True}
    assert not answered(computing)
    assert status_of(computing) == 200


def test_what_finds_no_room_in_the_queue_is_429(busy):
    daemon, computing = busy
    rejected = daemon.metric("perceiverd_rejected_total", model="image", reason="queue_full")
    waiting = [latecomer(daemon, binary("image", inputs=pixels(1, 16, i))) for i in range(3)]
    assert eventually(lambda: queued(daemon) == 3)
    # Two items do not fit into what is left; one does; then there is no place at all.
    two = binary("image", inputs=pixels(2, 16, 4))
    one = binary("image", inputs=pixels(1, 16, 5))
    replies = [daemon.ask("POST", two.path, two.body, two.headers)]
    waiting.append(latecomer(daemon, one))
    assert eventually(lambda: queued(daemon) == 4)
    replies.append(daemon.ask("POST", one.path, one.body, one.headers))
    replies.append(daemon.perceive("image", {"image": b64(png())}))
    assert not answered(computing)
    for r in replies:
        assert r.status == 429 and int(r.headers["retry-after"]) >= 1
    assert error_of(replies[2]) == "queue_full"
    assert daemon.metric("perceiverd_rejected_total", model="image",
                         reason="queue_full") == rejected + 3
    computing.close()
    assert [status_of(w) for w in waiting] == [200] * 4


def test_a_deadline_out_of_reach_is_429_at_once(busy):
    daemon, computing = busy
    rejected = daemon.metric("perceiverd_rejected_total", model="slow", reason="deadline")
    ahead = latecomer(daemon, SLOW)
    assert eventually(lambda: queued(daemon, "slow") == 1)
    hasty = binary("slow", {"timeout": 100000}, inputs=pixels(1, 16, 2))
    r = daemon.ask("POST", hasty.path, hasty.body, hasty.headers)
    assert not answered(computing)
    assert r.status == 429 and int(r.headers["retry-after"]) >= 1 and "0.100 s" in r.json["error"]
    assert daemon.metric("perceiverd_rejected_total", model="slow", reason="deadline") == rejected + 1
    assert queued(daemon, "slow") == 1
    ahead.close()


def test_priority_then_deadline_then_arrival(busy):
    daemon, computing = busy
    waiting = []
    # In the order in which they come; their names say the order in which they must go. Each computes for so
    # long that its line is in the log before the next one's can be.
    for name, parameters in (("third", {}), ("fourth", {}), ("second", {"timeout": 300000000}),
                             ("first", {"priority": 1})):
        request = binary("image", parameters, inputs=pixels(1, 1000, 3))
        request.headers["X-Request-Id"] = name
        waiting.append(latecomer(daemon, request))
        assert eventually(lambda: queued(daemon) == len(waiting))
    assert not answered(computing)
    computing.close()
    assert [status_of(w) for w in waiting] == [200] * 4
    # The log has a line for each request in the order in which they were finished.
    names = ("first", "second", "third", "fourth")
    assert eventually(lambda: all(f"[{n}]" in daemon.log() for n in names))
    assert sorted(names, key=lambda n: daemon.log().index(f"[{n}]")) == list(names)


def test_a_request_out_of_time_is_504_and_its_work_ends(busy_daemon):
    assert idle(busy_daemon)
    done = busy_daemon.metric("perceiverd_gmac_total", model="slow")
    cancelled = busy_daemon.metric("perceiverd_cancelled_total", model="slow", reason="timeout")
    hasty = binary("slow", {"timeout": 100000}, inputs=pixels(1, 16, 2))
    r = busy_daemon.ask("POST", hasty.path, hasty.body, hasty.headers)
    assert r.status == 504 and "0.100 s" in r.json["error"]
    assert busy_daemon.metric("perceiverd_cancelled_total", model="slow",
                              reason="timeout") == cancelled + 1
    binary("image", inputs=pixels(1, 16, 1)).ask(busy_daemon)
    assert idle(busy_daemon)
    assert busy_daemon.metric("perceiverd_gmac_total", model="slow") == done


@pytest.mark.parametrize("timeout", [-1, 1.5, 10**15, "1"])
def test_timeouts_that_are_none(busy_daemon, timeout):
    r = busy_daemon.perceive("image", {"image": b64(png())}, timeout_ms=timeout)
    assert r.status == 400 and r.json["error"]["path"] == "$.timeout_ms"


def test_what_a_vanished_client_waited_for_is_never_computed(busy):
    daemon, computing = busy
    before = executions(daemon, "image")
    gone = daemon.metric("perceiverd_cancelled_total", model="image", reason="gone")
    waiting = [latecomer(daemon, binary("image", inputs=pixels(1, 16, i))) for i in range(4)]
    assert eventually(lambda: queued(daemon) == 4)
    for w in waiting[:3]:
        w.close()
    assert eventually(lambda: queued(daemon) == 1)
    assert daemon.metric("perceiverd_cancelled_total", model="image", reason="gone") == gone + 3
    assert not answered(computing)
    computing.close()
    assert status_of(waiting[3]) == 200
    assert idle(daemon) and executions(daemon, "image") == before + 1


def test_what_is_computed_for_a_vanished_client_is_dropped(busy):
    daemon, computing = busy
    done = daemon.metric("perceiverd_gmac_total", model="slow")
    gone = daemon.metric("perceiverd_cancelled_total", model="slow", reason="gone")
    assert not answered(computing)
    computing.close()
    assert eventually(lambda: daemon.metric("perceiverd_cancelled_total", model="slow",
                                            reason="gone") == gone + 1)
    assert daemon.metric("perceiverd_in_flight") == 0
    binary("image", inputs=pixels(1, 16, 1)).ask(daemon)
    assert idle(daemon)
    assert daemon.metric("perceiverd_gmac_total", model="slow") == done
