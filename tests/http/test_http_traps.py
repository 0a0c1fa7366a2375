"""What is known to go wrong with requests between libmicrohttpd, libuv and clients, each as a test:
connections, bodies, refusals, framing.

Times below are settings of the server or ends for failing tests, never what is asserted."""

import gzip
import http.client
import json
import socket
import zlib

import pytest
from rawhttp import MB, Client, alone, chunked, crc_line, multipart, noise, stats, wait_for

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
