"""Replies in pieces: what the server sees of its clients, and what they see of it.

Times below are settings of the server or ends for failing tests, never what is asserted."""

import concurrent.futures
import http.client
import random
import signal
import socket
import time
from pathlib import Path

import pytest
from rawhttp import Client, Closed, chaos, leave_somehow, stats, wait_for

LOW = 256 << 10  # SRV_STREAM_LOW
PATTERN = bytes(range(251)) * 4096


def content(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


def closed(target, seconds=10):
    """Every stream has come to its end, and its connection is closed."""
    wait_for(lambda: stats(target)["streams"] == 0 and stats(target)["connections"] == 1,
             "the stream's end", seconds)
    return stats(target)


# ---- whole streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("n,size", [(1, 1), (3, 10), (1, 100_000), (200, 7), (40, 60_000), (0, 0)])
@pytest.mark.parametrize("how", ["", "&greedy=1", "&later_ms=5", "&every_ms=1"])
def test_all_of_it_arrives(fixture_server, n, size, how):
    target = fixture_server().target()
    with Client(target) as c:
        reply = c.ask("GET", f"/stream?n={n}&size={size}{how}")
        assert (reply.status, reply.body) == (200, content(n * size))
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.headers["x-kind"] == "stream"
        assert len(reply.headers["x-request-id"]) == 32
        assert c.ask("GET", "/hello").body == b"hello\n"  # the connection is as good as new
    seen = stats(target)
    assert (seen["gone_replied"], seen["gone_unreplied"]) == (2, 0)
    assert seen["stream_bytes"] == n * size
    assert seen["replied"] == 2


def test_empty_pieces_are_none(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        assert c.ask("GET", "/stream?n=5&size=0&every_ms=1").body == b""
        assert c.ask("GET", "/hello").status == 200


def test_a_piece_arrives_before_the_next_is_made(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        c.request("GET", "/stream?n=1&size=5&idle=1")
        assert c.head()[0] == 200
        assert c.chunk() == content(5)
        assert stats(target)["streams"] == 1


def test_headers_arrive_before_the_first_piece(fixture_server):
    with Client(fixture_server().target()) as c:
        c.request("GET", "/stream?n=0&idle=1")
        assert c.head()[1]["x-kind"] == "stream"


def test_requests_behind_a_stream_wait_for_their_turn(fixture_server):
    with Client(fixture_server().target()) as c:
        one = b"GET /stream?n=4&size=3000&every_ms=2 HTTP/1.1\r\nHost: t\r\n\r\n"
        two = b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n"
        c.send((one + two) * 5)
        for _ in range(5):
            assert c.reply().body == content(12_000)
            assert c.reply().body == b"hello\n"


@pytest.mark.parametrize("keep", [[], [("Connection", "keep-alive")]])
def test_http_1_0_gets_it_until_the_end_of_the_connection(fixture_server, keep):
    target = fixture_server().target()
    with Client(target) as c:
        c.request("GET", "/stream?n=30&size=10000&every_ms=1", headers=keep, version="HTTP/1.0")
        status, headers = c.head()
        assert status == 200
        assert not {"transfer-encoding", "content-length"} & set(headers)
        assert not c.at_end()
        assert c.buffer == content(300_000)
    assert closed(target)["gone_unreplied"] == 0


def test_head_has_headers_alone(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        status, headers, _ = c.ask("HEAD", "/stream?n=3&size=1000")
        assert (status, headers["x-kind"]) == (200, "stream")
        assert c.at_end()
    with Client(target) as c:
        assert c.ask("HEAD", "/stream?n=1&size=10&idle=1").status == 200
        assert c.at_end()
    seen = closed(target)
    assert (seen["gone_unreplied"], seen["stream_bytes"]) == (0, 0)


def test_many_at_once(fixture_server):
    target = fixture_server().target()

    def one(i):
        size = random.Random(i).choice([1, 100, 5000, 40_000])
        how = ("", "&every_ms=1", "&later_ms=2", "&greedy=1")[i % 4]
        with Client(target, timeout=60) as c:
            return all(c.ask("GET", f"/stream?n=20&size={size}{how}").body == content(20 * size)
                       for _ in range(5))

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        assert all(pool.map(one, range(120)))
    assert closed(target)["gone_unreplied"] == 0


# ---- slow on either side --------------------------------------------------------------------------


def test_idle_streams_cost_no_processor(fixture_server):
    server = fixture_server(HTTPD_HEADER_TIMEOUT=1)
    clients = [Client(server.target()) for _ in range(50)]
    for c in clients:
        c.request("GET", "/stream?n=1&size=9&idle=1")
        c.head()
        c.chunk()
    before = server.cpu_seconds()
    time.sleep(2)  # twice the timeout: waiting for the handler is not the client's fault
    assert server.cpu_seconds() - before < 0.3
    assert stats(server.target())["streams"] == 50
    for c in clients:
        c.close()
    assert closed(server.target())["gone_unreplied"] == 50


def test_a_slow_reader_bounds_what_is_queued(fixture_server):
    server = fixture_server()
    target, n, size = server.target(), 400, 100_000
    memory = Path(f"/proc/{server.process.pid}/statm")
    before = int(memory.read_text().split()[1])
    with Client(target) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.request("GET", f"/stream?n={n}&size={size}")
        c.head()
        for _ in range(5):
            time.sleep(0.1)
            assert int(memory.read_text().split()[1]) - before < 1500  # pages
            c.chunk()
        assert stats(target)["streams"] == 1
        assert b"".join([c.buffer[:0], *iter(c.chunk, b"")])[-size:] == content(n * size)[-size:]
        assert c.ask("GET", "/hello").status == 200
    seen = stats(target)
    assert seen["stream_queued"] < LOW + size
    assert seen["stream_bytes"] == n * size
    assert seen["stream_rooms"] > 10


def test_a_stalled_reader_is_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1).target()
    with Client(target) as c:
        c.request("GET", "/stream?n=1000&size=100000")
        c.head()
        assert closed(target)["gone_unreplied"] == 1
        with pytest.raises((Closed, ConnectionResetError)):
            while c.chunk():
                pass


def test_a_reader_below_the_least_rate_is_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1, HTTPD_MIN_RATE=100_000_000).target()
    with Client(target) as c:
        c.request("GET", "/stream?n=100000&size=100000")
        c.head()

        def cut():
            c._take(100_000)  # never stalls
            return stats(target)["streams"] == 0

        wait_for(cut, "the cut")
    assert closed(target)["gone_unreplied"] == 1


def test_a_slow_handler_is_not_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1, HTTPD_MIN_RATE=100_000).target()
    with Client(target) as c:
        assert c.ask("GET", "/stream?n=3&size=10&every_ms=1200").body == content(30)
        assert c.ask("GET", "/hello").status == 200


# ---- clients that leave -----------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("path", [
    "/stream?n=1&size=5&idle=1",        # waits for the handler
    "/stream?n=100000&size=20&every_ms=1",
    "/stream?n=100000&size=100000",     # waits for the client
    "/stream?n=50&size=100000&greedy=1",  # and the handler has ended it
])
def test_a_client_that_leaves_is_noticed(fixture_server, path, leave):
    target = fixture_server().target()
    c = Client(target)
    c.request("GET", path)
    c.head()
    c.chunk()
    getattr(c, leave)()
    seen = closed(target)
    assert (seen["gone_unreplied"], seen["requests"] - seen["gone_replied"]) == (1, 2)
    assert seen["stream_bytes"] > 0  # on_replied came all the same


def test_a_client_that_leaves_before_it_begins(fixture_server):
    target = fixture_server().target()
    c = Client(target)
    c.request("GET", "/stream?n=1&size=5&later_ms=100000")
    wait_for(lambda: stats(target)["streams"] == 1, "the request")
    c.close()
    assert closed(target)["gone_unreplied"] == 1


@pytest.mark.parametrize("ok", [0, 1])
@pytest.mark.parametrize("how", ["&every_ms=50", "&later_ms=100", ""])
def test_a_client_that_only_stops_sending(fixture_server, ok, how):
    target = fixture_server(HTTPD_HALF_CLOSE=ok).target()
    with Client(target) as c:
        n = 400 if how == "" else 5
        c.request("GET", f"/stream?n={n}&size=100000{how}")
        c.half_close()
        if ok:
            assert c.reply().body[-100_000:] == content(n * 100_000)[-100_000:]
        else:
            with pytest.raises((Closed, ConnectionResetError)):
                c.reply()
    assert closed(target)["gone_unreplied"] == (0 if ok else 1)


def test_half_closed_and_then_gone(fixture_server):
    target = fixture_server(HTTPD_HALF_CLOSE=1).target()
    c = Client(target)
    c.request("GET", "/stream?n=1&size=5&idle=1")
    c.head()
    c.chunk()
    c.half_close()
    time.sleep(0.3)
    assert stats(target)["streams"] == 1
    c.reset()
    assert closed(target)["gone_unreplied"] == 1


# ---- the server breaks off ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["n=3&size=1000", "n=3&size=1000&every_ms=5", "n=0&every_ms=1",
                                 "n=2&size=1000&later_ms=5", "n=40&size=100000&greedy=1"])
def test_a_reply_that_breaks_off_is_incomplete(fixture_server, how):
    target = fixture_server().target()
    host, port = target
    h = http.client.HTTPConnection(host, port, timeout=15)
    h.request("GET", f"/stream?{how}&abort=1")
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected,
                        ConnectionResetError)):
        h.getresponse().read()
    h.close()
    assert closed(target)["gone_unreplied"] == 1


def test_a_reply_that_breaks_off_is_no_whole_one_in_http_1_0(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        c.request("GET", "/stream?n=3&size=1000&every_ms=5&abort=1", version="HTTP/1.0")
        c.head()
        with pytest.raises(ConnectionResetError):
            c._take(1 << 30)
    assert closed(target)["gone_unreplied"] == 1


# ---- the end of the server ------------------------------------------------------------------------------


def test_drain_lets_streams_end(fixture_server):
    server = fixture_server(HTTPD_DRAIN_MS=20_000)
    with Client(server.target()) as c, Client(server.target()) as late:
        c.request("GET", "/stream?n=5&size=1000&every_ms=100")
        late.request("GET", "/stream?n=2&size=1000&later_ms=300")
        c.head()
        server.terminate()
        assert b"".join(iter(c.chunk, b"")) == content(5000)
        reply = late.reply()
        assert (reply.body, reply.headers["connection"]) == (content(2000), "close")
    assert server.wait() == 0


@pytest.mark.parametrize("how", ["n=1&size=5&idle=1", "n=100000&size=100000"])
def test_drain_cuts_streams_at_its_deadline(fixture_server, how):
    server = fixture_server(HTTPD_DRAIN_MS=300)
    with Client(server.target()) as c:
        c.request("GET", f"/stream?{how}")
        c.head()
        server.terminate()
        assert server.wait() == 0
        with pytest.raises((Closed, ConnectionResetError)):
            while c.chunk():
                pass


def test_an_end_at_once_with_streams_open(fixture_server):
    server = fixture_server()
    clients = [Client(server.target()) for _ in range(12)]
    for i, c in enumerate(clients):
        c.request("GET", ("/stream?n=1&size=5&idle=1", "/stream?n=100000&size=100000",
                          "/stream?n=100000&size=10&every_ms=1", "/stream?later_ms=90000")[i % 4])
        if i % 4 != 3:
            c.head()
    server.terminate(signal.SIGINT)
    assert server.wait() == 0
    for c in clients:
        c.close()


# ---- everything at once ---------------------------------------------------------------------------------


def misbehave(target, seed, until):
    """One client that picks its streams and its manners at random; what went wrong."""
    r, wrong, good = random.Random(seed), [], 0
    while time.monotonic() < until:
        with Client(target) as c:
            try:
                for _ in range(r.randrange(1, 5)):
                    n, size = r.choice([0, 1, 3, 40]), r.choice([1, 300, 9000, 70_000])
                    how = r.choice(["", "", "&every_ms=1", "&greedy=1", "&later_ms=2", "&abort=1"])
                    c.request("GET", f"/stream?n={n}&size={size}{how}")
                    if r.random() < 0.2:
                        time.sleep(r.choice([0, 0.003]))
                        leave_somehow(r, c)
                        break
                    c.head()
                    got = c.chunk()
                    if r.random() < 0.1:
                        leave_somehow(r, c)
                        break
                    got += b"".join(iter(c.chunk, b"")) if got else b""
                    if how == "&abort=1" or got != content(n * size):
                        wrong.append((n, size, how))
                    good += 1
            except (Closed, OSError) as e:
                if how != "&abort=1":
                    wrong.append((how, e))
    return wrong, good


def test_chaos(fixture_server):
    server = fixture_server()
    wrong, good = chaos(misbehave, server.target())
    assert wrong == []
    assert good > 100
    seen = closed(server.target())
    assert seen["requests"] == seen["gone_replied"] + seen["gone_unreplied"] + 1
