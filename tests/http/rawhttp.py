"""HTTP/1.1 by hand: sockets that can be as rude as a test needs, and just enough parsing."""

import concurrent.futures
import json
import os
import random
import socket
import struct
import time
import zlib
from collections import namedtuple

MB = 1 << 20
Reply = namedtuple("Reply", "status headers body")


class Closed(Exception):
    """The server closed the connection where bytes were due."""


class Client:
    """One connection. target is (host, port) or the path of a Unix socket."""

    def __init__(self, target, timeout=15):
        if isinstance(target, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            self.sock.connect(target)
        else:
            self.sock = socket.create_connection(target, timeout=timeout)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- sending

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, path, body=None, headers=(), version="HTTP/1.1"):
        """Sends a whole request; a body goes with Content-Length."""
        lines = [f"{method} {path} {version}", "Host: test"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def ask(self, method, path, body=None, headers=(), version="HTTP/1.1"):
        self.request(method, path, body, headers, version)
        return self.reply(head=method == "HEAD")

    def close(self):
        self.sock.close()

    def reset(self):
        """Leaves with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    # ---- receiving

    def _fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Closed(self.buffer)
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def _take(self, n):
        while len(self.buffer) < n:
            self._fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def head(self):
        """Status and headers of the next reply."""
        version, status = self._line().split(" ", 2)[:2]
        assert version == "HTTP/1.1"
        headers = {}
        while line := self._line():
            name, value = line.split(":", 1)
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        return int(status), headers

    def chunk(self):
        """The next chunk of a reply in chunks; b"" is the last."""
        data = self._take(int(self._line(), 16))
        assert self._line() == ""
        return data

    def reply(self, head=False):
        """The next reply; 100 Continue is a reply of its own."""
        status, headers = self.head()
        if not head and headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            return Reply(status, headers, b"".join(iter(self.chunk, b"")))
        n = 0 if head or status in (100, 204) else int(headers["content-length"])
        return Reply(status, headers, self._take(n))

    def at_end(self):
        """Waits for the end of the connection; True when nothing more came before it."""
        try:
            while data := self.sock.recv(65536):
                self.buffer += data
        except ConnectionResetError:
            pass
        return self.buffer == b""


def stats(target):
    with Client(target) as c:
        return json.loads(c.ask("GET", "/stats").body)


def wait_for(condition, what, seconds=10):
    """Asks again and again; the time is only there to end a failing test."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def chunked(data, sizes, trailers=b""):
    """data in chunks of the sizes, again from the start when they are used up."""
    out, at, i = [], 0, 0
    while at < len(data):
        piece = data[at : at + sizes[i % len(sizes)]]
        out.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        at += len(piece)
        i += 1
    return b"".join(out) + b"0\r\n" + trailers + b"\r\n"


def multipart(parts, boundary=b"----b0undary"):
    """parts: (disposition parameters, type or None, data)."""
    out = b""
    for parameters, kind, data in parts:
        out += b"--" + boundary + b"\r\nContent-Disposition: form-data; " + parameters + b"\r\n"
        out += b"Content-Type: " + kind + b"\r\n" if kind else b""
        out += b"\r\n" + data + b"\r\n"
    return out + b"--" + boundary + b"--\r\n"


def crc_line(data):
    return b"%d %08x" % (len(data), zlib.crc32(data))


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def alone(target):
    """Only the connection that asks for the statistics is left."""
    return stats(target)["connections"] == 1


def chaos(misbehave, target):
    """misbehave(target, seed, until) by many clients at once: what went wrong, and how much went well.
    CHAOS_SECONDS and CHAOS_CLIENTS make it longer and wider."""
    until = time.monotonic() + float(os.environ.get("CHAOS_SECONDS", "2"))
    clients = int(os.environ.get("CHAOS_CLIENTS", "40"))
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(lambda seed: misbehave(target, seed, until), range(clients)))
    return [wrong for wrong, _ in results if wrong], sum(good for _, good in results)


def leave_somehow(r, c):
    r.choice([c.close, c.reset, c.half_close])()
