"""What clients and their connections do to the HTTP layer: they dawdle, vanish, come in crowds, and the
server ends under them; each as a test.

Times below are settings of the server or ends for failing tests, never what is asserted."""

import concurrent.futures
import gzip
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from rawhttp import MB, Client, Closed, alone, chaos, chunked, crc_line, leave_somehow, noise, stats, wait_for

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
                        leave_somehow(r, c)
                        break
                    c.send(out[cut:])
                    if r.random() < 0.1:
                        leave_somehow(r, c)
                        break
                    for body in bodies:
                        if c.reply().body != body:
                            wrong.append(body)
                        good += 1
            except (Closed, OSError) as e:
                wrong.append(e)
    return wrong, good


def test_chaos(fixture_server):
    server = fixture_server()
    wrong, good = chaos(misbehave, server.target())
    assert wrong == []
    assert good > 100
    wait_for(lambda: alone(server.target()), "no connection is left")
    seen = stats(server.target())
    assert seen["requests"] == seen["gone_replied"] + seen["gone_unreplied"] + 1
