"""What is known to go wrong between libmicrohttpd, libuv and clients, each as a test.

Times below are settings of the server or ends for failing tests, never what is asserted."""

import concurrent.futures
import gzip
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
import zlib

import pytest
from rawhttp import Client, Closed, chunked, multipart, stats, wait_for

MB = 1 << 20


def crc_line(data):
    return b"%d %08x" % (len(data), zlib.crc32(data))


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def alone(target):
    """Only the connection that asks for the statistics is left."""
    return stats(target)["connections"] == 1


# ---- one connection, many requests --------------------------------------------------------------


def test_reply_has_date_and_request_id(fixture_server):
    with Client(fixture_server().target()) as c:
        made = c.ask("GET", "/hello")
        assert (made.status, made.body) == (200, b"hello\n")
        assert "date" in made.headers
        assert len(made.headers["x-request-id"]) == 32
        assert int(made.headers["x-request-id"], 16) >= 0
        again = c.ask("GET", "/hello")
        assert again.headers["x-request-id"] != made.headers["x-request-id"]


@pytest.mark.parametrize("sent,taken", [
    ("abc-1", True), ("~" * 128, True), ("x" * 129, False), ("a b", False), ("\xe9", False),
])
def test_request_id_is_taken_when_it_may_be(fixture_server, sent, taken):
    with Client(fixture_server().target()) as c:
        c.send(b"GET /hello HTTP/1.1\r\nHost: t\r\nX-Request-Id: %s\r\n\r\n" % sent.encode("latin-1"))
        assert (c.reply().headers["x-request-id"] == sent) == taken


def test_connection_is_reused(fixture_server):
    with Client(fixture_server().target()) as c:
        for i in range(100):
            body = b"%d" % i
            assert c.ask("POST", "/echo", body).body == body
        for i in range(3):
            assert c.ask("POST", "/echo?delay_ms=5", b"late").body == b"late"
        assert c.ask("GET", "/hello", headers=[("Connection", "close")]).status == 200
        assert c.at_end()


def test_http_1_0(fixture_server):
    with Client(fixture_server().target()) as c:
        assert c.ask("GET", "/hello", headers=[("Connection", "keep-alive")],
                     version="HTTP/1.0").status == 200
        assert c.ask("GET", "/hello", version="HTTP/1.0").status == 200
        assert c.at_end()


def test_head_has_headers_alone(fixture_server):
    with Client(fixture_server().target()) as c:
        reply = c.ask("HEAD", "/hello")
        assert (reply.status, reply.headers["content-length"]) == (200, "6")
        assert c.ask("GET", "/hello").body == b"hello\n"
        assert c.ask("HEAD", "/nowhere").status == 404
        assert c.ask("GET", "/hello").body == b"hello\n"


def test_pipelined_requests_are_all_answered_in_order(fixture_server):
    with Client(fixture_server().target()) as c:
        wanted, out = [], b""
        for i in range(60):
            body = b"request %d" % i
            path = (b"/echo", b"/echo?delay_ms=2", b"/sink")[i % 3]
            wanted.append(crc_line(body) if i % 3 == 2 else body)
            out += b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (
                path, len(body), body)
        c.send(out)
        assert [c.reply().body for _ in wanted] == wanted


def test_query_string_is_decoded(fixture_server):
    with Client(fixture_server().target()) as c:
        reply = c.ask("GET", "/args?a=1&b=%20x%26&c&d=&a=two+words&%c3%bc=%e2%82%ac")
        assert reply.body.decode() == "a=1\nb= x&\nc=(none)\nd=\na=two words\nü=€\n"
        assert c.ask("GET", "/h%65llo").body == b"hello\n"


def test_absolute_target(fixture_server):
    with Client(fixture_server().target()) as c:
        assert c.ask("GET", "http://test/hello").body == b"hello\n"
        assert c.ask("GET", "http://test").status == 404
        assert c.ask("GET", "hello").status == 400
        assert c.at_end()


# ---- bodies ---------------------------------------------------------------------------------------


def test_large_upload_does_not_stall(fixture_server):
    data = noise(8 * MB)
    with Client(fixture_server().target()) as c:
        assert c.ask("POST", "/sink", data).body == crc_line(data)
        assert c.ask("POST", "/echo", data).body == data


def test_large_reply_does_not_stall(fixture_server):
    with Client(fixture_server().target()) as c:
        assert c.ask("GET", f"/bytes?n={8 * MB}").body == b"b" * (8 * MB)
        assert c.ask("GET", "/hello").status == 200


def test_body_in_small_pieces(fixture_server):
    with Client(fixture_server().target()) as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello":
            c.send(bytes([byte]))
        assert c.reply().body == b"hello"


@pytest.mark.parametrize("sizes", [[1], [7, 1, 4096, 15], [16383], [16384, 1], [65536]])
def test_chunked_bodies(fixture_server, sizes):
    data = noise(300 if sizes == [1] else 200_000, seed=sizes[0])
    head = b"POST /sink HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(fixture_server().target()) as c:
        c.send(head + chunked(data, sizes))
        assert c.reply().body == crc_line(data)
        c.send(head + chunked(data, sizes, trailers=b"X-Sum: 1\r\n"))
        assert c.reply().body == crc_line(data)
        c.send(head + b"5;ext=1\r\nhello\r\n0\r\n\r\n")
        assert c.reply().body == crc_line(b"hello")
        c.send(head + b"0\r\n\r\n")
        assert c.reply().body == crc_line(b"")


def test_expect_100_continue(fixture_server):
    with Client(fixture_server().target()) as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert c.reply().status == 100
        c.send(b"yes")
        assert c.reply().body == b"yes"


@pytest.mark.parametrize("coding,pack", [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("identity", lambda data: data),
    ("GZIP", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
])
def test_compressed_bodies(fixture_server, coding, pack):
    data = b"perceiver " * 50_000
    with Client(fixture_server().target()) as c:
        for _ in range(2):
            reply = c.ask("POST", "/sink", pack(data), [("Content-Encoding", coding)])
            assert reply.body == crc_line(data)


@pytest.mark.parametrize("body,coding,status", [
    (gzip.compress(b"x" * 10_000)[:-9], "gzip", 400),
    (b"not gzip at all", "gzip", 400),
    (gzip.compress(b"x") + b"garbage", "gzip", 400),
    (zlib.compress(b"x") + b"garbage", "deflate", 400),
    (gzip.compress(b"\0" * 1_000_001), "gzip", 413),
    (gzip.compress(b"\0" * (64 * MB)), "gzip", 413),
    (b"x", "br", 415),
    (b"x", "gzip, gzip", 415),
])
def test_refused_compressed_bodies(fixture_server, body, coding, status):
    with Client(fixture_server(HTTPD_MAX_BODY=1_000_000).target()) as c:
        reply = c.ask("POST", "/sink", body, [("Content-Encoding", coding)])
        assert reply.status == status
        assert json.loads(reply.body)["status"] == status
        full = gzip.compress(b"\0" * 1_000_000)
        assert c.ask("POST", "/sink", full, [("Content-Encoding", "gzip")]).status == 200


def test_multipart(fixture_server):
    image, big = b"\x89PNG\r\n\x1a\n\0" + noise(5000), noise(600_000)
    form = [("Content-Type", "multipart/form-data; boundary=----b0undary")]
    with Client(fixture_server().target()) as c:
        for data in (image, big):  # the large one goes to the thread pool
            body = multipart([
                (b'name="image"; filename="a \\"b\\".png"', b"image/png", data),
                (b'name="top_k"', None, b"3"),
                (b'name="empty"', None, b""),
            ])
            lines = c.ask("POST", "/parts", body, form).body.decode().splitlines()
            assert lines == [
                'image|a "b".png|image/png|%d|%08x' % (len(data), zlib.crc32(data)),
                "top_k|-|-|1|%08x" % zlib.crc32(b"3"),
                "empty|-|-|0|00000000",
            ]
        packed = gzip.compress(body)
        assert c.ask("POST", "/parts", packed, [("Content-Encoding", "gzip"), *form]).body.decode()\
            .splitlines() == lines
        assert c.ask("POST", "/parts", b"x", [("Content-Type", "text/plain")]).body == b""
        assert c.ask("POST", "/parts", multipart([(b"name=a", None, b"")] * 80), form).status == 200


@pytest.mark.parametrize("body", [
    b"no boundary here",
    multipart([(b'name="a"', None, b"1")])[:-6],
    multipart([(b'filename="a"', None, b"1")]),
    multipart([(b"name=a", None, b"")] * 81),
    multipart([(b"name=a", None, b"1")]).replace(b"form-data", b"attachment"),
])
def test_refused_multipart(fixture_server, body):
    form = [("Content-Type", "multipart/form-data; boundary=----b0undary")]
    with Client(fixture_server().target()) as c:
        assert c.ask("POST", "/parts", body, form).status == 400
        assert c.ask("GET", "/hello").status == 200


def test_bodies_have_one_budget(fixture_server):
    target = fixture_server(HTTPD_BODY_MEMORY=1_000_000).target()
    with Client(target) as a, Client(target) as b:
        a.request("POST", "/never", b"x" * 900_000)
        wait_for(lambda: stats(target)["never"] == 1, "the first body is held")
        reply = b.ask("POST", "/sink", b"y" * 200_000)
        assert reply.status == 503 and "retry-after" in reply.headers
        assert b.ask("POST", "/sink", b"y" * 50_000).status == 200
        a.close()
        wait_for(lambda: b.ask("POST", "/sink", b"y" * 200_000).status == 200, "memory is given back")


# ---- 404, 405, 413 ----------------------------------------------------------------------------------


def test_unknown_path_and_method(fixture_server):
    with Client(fixture_server().target()) as c:
        assert c.ask("GET", "/nowhere").status == 404
        assert c.ask("POST", "/nowhere", b"body " * 10_000).status == 404
        reply = c.ask("POST", "/hello", b"body " * 10_000)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        reply = c.ask("DELETE", "/echo")
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert json.loads(reply.body)["id"] == reply.headers["x-request-id"]
        assert c.ask("GET", "/hello").status == 200  # all on one connection


def test_413_after_the_body_when_a_little_too_large(fixture_server):
    with Client(fixture_server(HTTPD_MAX_BODY=1000).target()) as c:
        assert c.ask("POST", "/sink", b"x" * 1000).status == 200
        assert c.ask("POST", "/sink", b"x" * 1001).status == 413
        assert c.ask("POST", "/sink", b"x" * (4 * MB)).status == 413
        assert c.ask("POST", "/sink", b"x" * 1000).status == 200


def test_413_reaches_clients_that_write_first(fixture_server):
    host, port = fixture_server(HTTPD_MAX_BODY=1000).target()
    c = http.client.HTTPConnection(host, port, timeout=15)
    c.request("POST", "/sink", b"x" * (6 * MB))
    assert c.getresponse().status == 413
    c.close()


def test_413_at_once_when_far_too_large(fixture_server):
    with Client(fixture_server(HTTPD_MAX_BODY=1000).target()) as c:
        c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n")
        reply = c.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert c.at_end()


@pytest.mark.parametrize("path,length,status", [
    ("/sink", 1001, 413), ("/nowhere", 5, 404), ("/hello", 5, 405)])
def test_refusal_instead_of_100_continue(fixture_server, path, length, status):
    with Client(fixture_server(HTTPD_MAX_BODY=1000).target()) as c:
        c.send(b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" %
               (path.encode(), length))
        assert c.reply().status == status  # and not one byte of body was sent
        assert c.at_end()


def test_413_for_chunked(fixture_server):
    head = b"POST /sink HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(fixture_server(HTTPD_MAX_BODY=1000).target()) as c:
        c.send(head + chunked(b"x" * 1001, [10]))
        assert c.reply().status == 413
        c.send(head + chunked(b"x" * 1000, [10]))
        assert c.reply().status == 200


def test_chunked_without_end_is_cut(fixture_server):
    target = fixture_server(HTTPD_MAX_BODY=1000).target()
    with Client(target) as c, pytest.raises((BrokenPipeError, ConnectionResetError)):
        c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    wait_for(lambda: alone(target), "the connection is gone")


@pytest.mark.parametrize("head,status", [
    (b"GET /hello HTTP/1.1\r\nHost: t\r\n" + b"X-Filler: %s\r\n" % (b"x" * 40_000), 431),
    (b"GET /%s HTTP/1.1\r\nHost: t\r\n" % (b"x" * 40_000), 414),
])
def test_overlong_heads(fixture_server, head, status):
    with Client(fixture_server().target()) as c:
        try:
            c.send(head + b"\r\n")
        except OSError:
            pass  # the server need not have read it all
        assert c._line().split()[1] == str(status)
        c.at_end()


# ---- framing: what smuggles requests past other servers ---------------------------------------------

SMUGGLED = b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.mark.parametrize("head,status", [
    (b"Host: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    (b"Host: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    (b"Host: t\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 400),
    (b"Host: t\r\nContent-Length: 5\r\ncontent-length: 6\r\n", 400),
    (b"Host: t\r\nContent-Length : 5\r\n", 400),
    (b"Host: t\r\nContent-Length\t: 5\r\n", 400),
    (b"Host: t\r\nTransfer-Encoding : chunked\r\n", 400),
    (b"Host: t\r\nTransfer-Encoding: gzip\r\n", 501),
    (b"Host: t\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
    (b"Host: t\r\nTransfer-Encoding: xchunked\r\n", 501),
    (b"Host: t\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    (b"Host: t\r\nTransfer-Encoding:\r\n chunked\r\nX-A: b\r\n", 400),
    (b"Host: t\r\nContent-Length: 1\r\n 5\r\nX-A: b\r\n", 400),
    (b"Host: t\r\nHost: u\r\n", 400),
    (b"X-No: host\r\n", 400),
    (b"Host: t\r\nX-A: one\rX-B: two\r\n", 400),
    (b"Host: t\r\nX-A: \x01\r\n", 400),
    (b"Host: t\r\nX A: blank in name\r\n", 400),
    (b"Host: t\r\nX-A\xe9: not ASCII\r\n", 400),
])
def test_bad_framing_is_refused_and_closes(fixture_server, head, status):
    target = fixture_server().target()
    with Client(target) as c:
        c.send(b"POST /echo HTTP/1.1\r\n" + head + b"\r\n" + SMUGGLED)
        reply = c.reply()
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert json.loads(reply.body)["message"]
        assert c.at_end()  # nothing behind it was answered
    seen = stats(target)
    assert seen["requests"] == 1  # that of the statistics


@pytest.mark.parametrize("line", [
    b"GET /hello%00/x HTTP/1.1", b"GET /args?a=%00b HTTP/1.1", b"GET /hello x HTTP/1.1",
    b"GET /hel\x01lo HTTP/1.1", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked",
])
def test_bad_request_lines(fixture_server, line):
    with Client(fixture_server().target()) as c:
        c.send(line + b"\r\nHost: t\r\n\r\n" + SMUGGLED)
        assert c.reply().status == 400
        assert c.at_end()


@pytest.mark.parametrize("value", [b"abc", b"-1", b"+5", b"5, 5", b"0x5", b"", b"1" * 30])
def test_unreadable_content_length(fixture_server, value):
    """libmicrohttpd's own answer, which repeats its head: only status and the end are certain."""
    target = fixture_server().target()
    with Client(target) as c:
        c.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: " + value + b"\r\n\r\n" + SMUGGLED)
        assert c._line().split()[1] in ("400", "413")
        c.at_end()
        assert b"hello\n" not in c.buffer
    assert stats(target)["requests"] == 1


# ---- clients that dawdle ----------------------------------------------------------------------------


def drip(c, data, pause=0.1):
    """Sends byte by byte until the server has had enough. False: it took everything."""
    try:
        for byte in data:
            c.send(bytes([byte]))
            c.sock.settimeout(pause)
            try:
                if c.sock.recv(1) == b"":
                    return True
            except socket.timeout:
                pass
    except OSError:
        return True
    return False


def test_slow_headers_are_cut(fixture_server):
    with Client(fixture_server(HTTPD_HEADER_TIMEOUT=1).target()) as c:
        assert drip(c, b"GET /hello HTTP/1.1\r\nHost: " + b"x" * 100)


def test_slow_body_is_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1, HTTPD_MIN_RATE=10_000).target()
    with Client(target) as c:
        c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n")
        assert drip(c, b"x" * 100)
    assert stats(target)["requests"] == 1


def test_connections_without_a_request_are_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1).target()
    with Client(target) as fresh, Client(target) as used:
        assert used.ask("GET", "/hello").status == 200
        assert fresh.at_end() and used.at_end()


def test_reader_that_does_not_read_is_cut(fixture_server):
    target = fixture_server(HTTPD_HEADER_TIMEOUT=1).target()
    with Client(target) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.request("GET", f"/bytes?n={32 * MB}")
        wait_for(lambda: alone(target), "the connection is gone")
        assert stats(target)["gone_replied"] >= 1


def test_waiting_for_a_reply_is_not_dawdling(fixture_server):
    with Client(fixture_server(HTTPD_HEADER_TIMEOUT=1).target()) as c:
        assert c.ask("POST", "/echo?delay_ms=2500", b"late").body == b"late"
        assert c.ask("GET", "/hello").status == 200


# ---- clients that vanish ----------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_vanished_client_is_noticed_before_the_reply(fixture_server, leave):
    target = fixture_server().target()
    clients = [Client(target) for _ in range(100)]
    for c in clients:
        c.request("POST", "/never", b"work")
    wait_for(lambda: stats(target)["never"] == 100, "all have asked")
    for c in clients:
        getattr(c, leave)()
    wait_for(lambda: stats(target)["gone_unreplied"] == 100, "all are noticed")
    wait_for(lambda: alone(target), "no connection is left")


def test_vanished_client_with_more_requests_behind(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        c.request("POST", "/never", b"1")
        c.request("POST", "/never", b"2")
        wait_for(lambda: stats(target)["never"] == 1, "the first has arrived")
    wait_for(lambda: stats(target)["gone_unreplied"] == 1, "noticed behind unread data")
    wait_for(lambda: alone(target), "no connection is left")


def test_pipelined_data_is_not_taken_for_leaving(fixture_server):
    with Client(fixture_server().target()) as c:
        c.request("POST", "/echo?delay_ms=200", b"1")
        time.sleep(0.05)
        c.request("GET", "/hello")
        assert c.reply().body == b"1"
        assert c.reply().body == b"hello\n"


def test_half_close_means_gone_by_default(fixture_server):
    target = fixture_server().target()
    clients = [Client(target) for _ in range(50)]
    for i, c in enumerate(clients):  # half of them with the FIN right behind the request
        c.request("POST", "/never", b"work")
        if i % 2:
            c.half_close()
    for c in clients[::2]:
        c.half_close()
    for c in clients:
        c.at_end()
        c.close()
    wait_for(lambda: alone(target), "no connection is left")
    seen = stats(target)
    assert seen["requests"] - seen["gone_unreplied"] - seen["gone_replied"] == 1


def test_request_whose_client_is_known_to_be_gone_is_not_begun(fixture_server):
    """The second epoll, woken by the first client, tells of the second before its request is read."""
    server = fixture_server()
    first, second = Client(server.target()), Client(server.target())
    first.request("POST", "/never", b"1")
    assert second.ask("GET", "/hello").status == 200
    wait_for(lambda: stats(server.target())["never"] == 1, "the first has asked")
    with server.stopped():
        first.close()
        second.request("POST", "/never", b"2")
        second.half_close()
    assert second.at_end()
    wait_for(lambda: alone(server.target()), "no connection is left")


@pytest.mark.parametrize("allowed", [0, 1])
def test_half_closed_idle_connections_do_not_leak(fixture_server, allowed):
    """A FIN that arrives together with data is lost by libmicrohttpd."""
    server = fixture_server(HTTPD_HALF_CLOSE=allowed)
    target = server.target()
    clients = [Client(target) for _ in range(100)]
    for c in clients[::2]:
        assert c.ask("GET", "/hello").status == 200
    with server.stopped():
        for c in clients:
            c.send(b"GET /hel")
            c.half_close()
    assert all(c.at_end() for c in clients)
    wait_for(lambda: alone(target), "no connection is left")


@pytest.mark.parametrize("path", ["/hello", "/echo", "/echo?delay_ms=50"])
def test_last_request_with_its_fin(fixture_server, path):
    server = fixture_server(HTTPD_HALF_CLOSE=1)
    clients = [Client(server.target()) for _ in range(100)]
    with server.stopped():
        for c in clients:
            c.request("GET" if path == "/hello" else "POST", path)
            c.half_close()
    assert all(c.reply().status == 200 and c.at_end() for c in clients)
    wait_for(lambda: alone(server.target()), "no connection is left")


def test_half_close_can_be_allowed(fixture_server):
    target = fixture_server(HTTPD_HALF_CLOSE=1).target()
    clients = [Client(target) for _ in range(50)]
    for c in clients:
        c.request("POST", "/echo?delay_ms=100", b"work")
        c.half_close()
    assert all(c.reply().body == b"work" for c in clients)
    assert all(c.at_end() for c in clients)
    with Client(target) as c:
        c.request("POST", "/never", b"work")
        c.half_close()
        wait_for(lambda: stats(target)["never"] == 1, "it has arrived")
        c.reset()
        wait_for(lambda: stats(target)["gone_unreplied"] == 1, "a reset is noticed all the same")
    wait_for(lambda: alone(target), "no connection is left")


def test_held_request_outlives_its_client(fixture_server):
    target = fixture_server().target()
    with Client(target) as c:
        c.request("POST", "/held?delay_ms=50", b"held", [("X-Request-Id", "h1"), ("X-Held", "yes")])
        wait_for(lambda: stats(target)["requests"] >= 2, "it has arrived")
        c.close()
    wait_for(lambda: stats(target)["held_good"] == 1, "body and strings were read afterwards")
    assert stats(target)["gone_unreplied"] == 1


def test_client_that_vanishes_while_its_body_is_unpacked(fixture_server):
    server = fixture_server(HTTPD_MAX_BODY=64 * MB)
    body = gzip.compress(noise(MB) * 10, 1)
    for _ in range(5):
        with Client(server.target()) as c:
            c.request("POST", "/sink", body, [("Content-Encoding", "gzip")])
    wait_for(lambda: alone(server.target()), "no connection is left")


# ---- the loop ---------------------------------------------------------------------------------------


def test_replies_wake_an_idle_loop(fixture_server):
    clients = []
    target = fixture_server().target()
    for i in range(64):
        clients.append(Client(target))
        clients[-1].request("POST", "/echo?delay_ms=300", b"%d" % i)
    assert [c.reply().body for c in clients] == [b"%d" % i for i in range(64)]
    for c in clients:
        c.close()
    # A reply that waited for the sweep's next wake-up would come a quarter of a second late.
    end = time.monotonic() + 30
    with Client(target) as c:
        for path in ["/echo", "/echo?delay_ms=1"] * 100:
            assert c.ask("POST", path, b"one").body == b"one"
    assert time.monotonic() < end


def test_200_connections_at_once(fixture_server):
    target = fixture_server().target()
    clients = [Client(target) for _ in range(200)]
    for round_ in range(3):
        for i, c in enumerate(clients):
            c.request("POST", "/echo" if i % 2 else "/echo?delay_ms=20", b"%d %d" % (round_, i))
        for i, c in enumerate(clients):
            assert c.reply().body == b"%d %d" % (round_, i)
    for c in clients:
        c.close()


def test_waiting_costs_no_processor_time(fixture_server):
    """Requests that wait, clients that left together, and half-sent requests: nothing may spin."""
    server = fixture_server()
    clients = [Client(server.target()) for _ in range(150)]
    for c in clients[:120]:
        c.request("POST", "/never", b"work")
    for c in clients[120:]:
        c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nhalf")
    wait_for(lambda: stats(server.target())["never"] == 120, "all have asked")
    for c in clients[:80]:
        c.close()
    wait_for(lambda: stats(server.target())["gone_unreplied"] == 80, "80 have left")
    before = server.cpu_seconds()
    time.sleep(1)
    assert server.cpu_seconds() - before < 0.3
    for c in clients:
        c.close()


def test_uploads_do_not_starve_others(fixture_server):
    target = fixture_server().target()
    data, stop = noise(8 * MB), threading.Event()

    def upload():
        with Client(target) as c:
            n = 0
            while not stop.is_set():
                assert c.ask("POST", "/sink", data).body == crc_line(data)
                n += 1
            return n

    with concurrent.futures.ThreadPoolExecutor() as pool:
        uploads = [pool.submit(upload) for _ in range(3)]
        with Client(target) as c:
            for i in range(50):
                assert c.ask("POST", "/echo", b"%d" % i).body == b"%d" % i
        stop.set()
        assert all(u.result() >= 1 for u in uploads)


def test_connections_over_the_limit_wait(fixture_server):
    server = fixture_server(HTTPD_MAX_CONNECTIONS=4)
    target = server.target()
    inside = [Client(target) for _ in range(4)]
    for c in inside:
        assert c.ask("GET", "/hello").status == 200
    with Client(target) as outside:
        outside.request("GET", "/hello")
        outside.sock.settimeout(0.6)
        before = server.cpu_seconds()
        with pytest.raises(socket.timeout):
            outside.reply()
        assert server.cpu_seconds() - before < 0.2  # the backlog is left alone meanwhile
        outside.sock.settimeout(15)
        inside.pop().close()
        assert outside.reply().status == 200
    for c in inside:
        c.close()


def test_running_out_of_files_is_survived(fixture_server):
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))  # noqa: E731
    server = fixture_server(popen={"preexec_fn": limit})
    clients = [Client(server.target()) for _ in range(60)]
    for c in clients:
        c.request("GET", "/hello")
    assert clients[0].reply().status == 200
    wait_for(lambda: "Too many open files" in server.log(), "accept has failed")
    for c in clients[:40]:
        c.close()
    assert all(c.reply().status == 200 for c in clients[40:])
    for c in clients:
        c.close()


# ---- the end ----------------------------------------------------------------------------------------


def refused(target):
    try:
        Client(target).close()
    except (ConnectionRefusedError, ConnectionResetError):  # a handshake the close cut short
        return True
    return False


def test_drain_answers_what_is_under_way(fixture_server):
    server = fixture_server(HTTPD_DRAIN_MS=0)
    target = server.target()
    idle = Client(target)
    assert idle.ask("GET", "/hello").status == 200
    clients = [Client(target) for _ in range(100)]
    for i, c in enumerate(clients):
        c.request("POST", "/echo?delay_ms=1500", b"%d" % i)
    wait_for(lambda: stats(target)["requests"] >= 101, "all have arrived")
    server.terminate()
    wait_for(lambda: refused(target), "nobody is taken any more")
    late = idle.ask("GET", "/hello")  # an old connection still is
    assert (late.status, late.headers["connection"]) == (200, "close")
    for i, c in enumerate(clients):
        reply = c.reply()
        assert (reply.body, reply.headers["connection"]) == (b"%d" % i, "close")
        assert c.at_end()
    assert server.wait() == 0


def test_drain_waits_for_half_sent_requests(fixture_server):
    server = fixture_server(HTTPD_DRAIN_MS=0)
    body, head, idle = Client(server.target()), Client(server.target()), Client(server.target())
    body.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nha")
    head.send(b"GET /hello HTTP/1.1\r\nHost:")
    assert idle.ask("GET", "/hello").status == 200
    server.terminate()
    wait_for(lambda: refused(server.target()), "the drain has begun")
    head.send(b" t\r\n\r\n")
    assert head.reply().headers["connection"] == "close"
    body.send(b"lf")
    assert body.reply().body == crc_line(b"half")
    assert idle.at_end()
    assert server.wait() == 0


def test_drain_waits_for_the_first_request_of_a_new_connection(fixture_server):
    """For half a second only, so a slow machine may need another try."""
    for _ in range(5):
        server = fixture_server(HTTPD_DRAIN_MS=0)
        fresh = Client(server.target())
        server.terminate()
        wait_for(lambda: refused(server.target()), "the drain has begun")
        try:
            assert fresh.ask("GET", "/hello").headers["connection"] == "close"
            return
        except (Closed, OSError):
            pass
    pytest.fail("never answered")


def test_drain_has_a_deadline(fixture_server):
    server = fixture_server(HTTPD_DRAIN_MS=300)
    clients = [Client(server.target()) for _ in range(100)]
    for i, c in enumerate(clients):
        if i % 4 == 0:
            c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nha")
        else:
            c.request("POST", "/never", b"work")
    wait_for(lambda: stats(server.target())["never"] == 75, "they have arrived")
    server.terminate()
    assert all(c.at_end() for c in clients)
    assert server.wait() == 0
    assert "time is up, 100 requests" in server.log()


def test_end_without_drain(fixture_server):
    """libmicrohttpd aborts the process when it is stopped with a suspended connection."""
    server = fixture_server(HTTPD_MAX_BODY=64 * MB)
    target = server.target()
    clients = [Client(target) for _ in range(60)]
    packed = gzip.compress(noise(MB) * 10, 1)
    for i, c in enumerate(clients):
        if i % 3 == 0:
            c.send(b"POST /sink HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nha")
        elif i % 3 == 1:
            c.request("POST", "/never", b"work")
        else:
            c.send(b"GET /hello HTTP/1.1\r\n")
    wait_for(lambda: stats(target)["never"] == 20, "they have asked")
    with Client(target) as c:
        c.request("POST", "/sink", packed, [("Content-Encoding", "gzip")])
        server.terminate(signal.SIGINT)
        c.at_end()
    assert all(c.at_end() for c in clients)
    assert server.wait() == 0


# ---- where it listens -------------------------------------------------------------------------------


def test_several_listeners(fixture_server, tmp_path):
    path = tmp_path / "s.sock"
    server = fixture_server(HTTPD_LISTEN=f"127.0.0.1:0 [::1]:0 unix:{path},mode=0600")
    assert path.stat().st_mode & 0o777 == 0o600
    for i in range(3):
        with Client(server.target(i)) as c:
            assert c.ask("GET", "/hello").status == 200
            assert c.ask("POST", "/echo?delay_ms=10", b"late").body == b"late"
            c.request("POST", "/never", b"work")
            wait_for(lambda: stats(server.target())["never"] == i + 1, "it has arrived")
        wait_for(lambda: stats(server.target())["gone_unreplied"] == i + 1, "it has left")


def test_address_in_use_is_said(fixture_server, fixture_binary):
    server = fixture_server()
    result = subprocess.run([fixture_binary], env=dict(os.environ, HTTPD_LISTEN=server.addresses[0]),
                            capture_output=True, text=True)
    assert result.returncode == 1
    assert f"{server.addresses[0]}: address already in use" in result.stderr


def test_socket_activation_and_notification(fixture_server, fixture_binary, tmp_path):
    """The listener outlives the server: systemd would start the next one on it."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(10)
    listener = socket.create_server(("127.0.0.1", 0))
    fd = listener.fileno()
    command = ["bash", "-c", f"exec 3<&{fd}; LISTEN_PID=$$ LISTEN_FDS=1 exec {fixture_binary}"]
    for _ in range(2):
        server = fixture_server(command=command, popen={"pass_fds": [fd]}, HTTPD_LISTEN="",
                                NOTIFY_SOCKET=tmp_path / "notify")
        assert notify.recv(100) == b"READY=1"
        with Client(listener.getsockname()) as c:
            assert c.ask("GET", "/hello").status == 200
        server.terminate()
        assert notify.recv(100) == b"STOPPING=1"
        assert server.wait() == 0
    Client(listener.getsockname()).close()  # still not refused
    listener.close()
    notify.close()


# ---- everything at once -----------------------------------------------------------------------------


def misbehave(target, seed, until):
    """One client that picks its manners at random; returns the replies that were wrong."""
    r, wrong, good = random.Random(seed), [], 0
    while time.monotonic() < until:
        with Client(target) as c:
            try:
                for _ in range(r.randrange(1, 6)):
                    n = r.choice([1, 1, 2, 5])
                    bodies = [r.randbytes(r.choice([0, 3, 700, 5000])) for _ in range(n)]
                    delay = r.choice(["", "", "?delay_ms=1", "?delay_ms=15"])
                    out = b""
                    for body in bodies:
                        head = f"POST /echo{delay} HTTP/1.1\r\nHost: t\r\n".encode()
                        if r.random() < 0.5:
                            out += head + b"Content-Length: %d\r\n\r\n" % len(body) + body
                        else:
                            out += head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, [999])
                    cut = r.randrange(len(out) + 1)
                    c.send(out[:cut])
                    if r.random() < 0.1:
                        r.choice([c.close, c.reset, c.half_close])()
                        break
                    c.send(out[cut:])
                    if r.random() < 0.1:
                        r.choice([c.close, c.reset, c.half_close])()
                        break
                    for body in bodies:
                        if c.reply().body != body:
                            wrong.append(body)
                        good += 1
            except (Closed, OSError) as e:
                wrong.append(e)
    return wrong, good


def test_chaos(fixture_server):
    """CHAOS_SECONDS and CHAOS_CLIENTS make it longer and wider."""
    server = fixture_server()
    until = time.monotonic() + float(os.environ.get("CHAOS_SECONDS", "2"))
    clients = int(os.environ.get("CHAOS_CLIENTS", "40"))
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(lambda seed: misbehave(server.target(), seed, until), range(clients)))
    assert [wrong for wrong, _ in results if wrong] == []
    assert sum(good for _, good in results) > 100
    wait_for(lambda: alone(server.target()), "no connection is left")
    seen = stats(server.target())
    assert seen["requests"] == seen["gone_replied"] + seen["gone_unreplied"] + 1
