"""A real perceiverd on a free port, and a client of the standard library."""

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import time

from PIL import Image

from models import BUILD


# Every request is computed, and for itself: answers of equal inputs are then equal bit by bit.
COMPUTED = ("--latents-cache=no", "--latents-share=no")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Daemon:
    def __init__(self, models, log, *options, listen=None, env=None, ready=True, command=()):
        self.log_path = log
        self.address = listen or f"127.0.0.1:{free_port()}"
        named = [f"--model={name}={path}" for name, path in models.items()]
        binds = [] if command else [f"--listen={self.address}"]
        self.process = subprocess.Popen(
            [*command, str(BUILD / "perceiverd"), *binds, *named, *options],
            stderr=open(log, "wb"), env=dict(os.environ, **(env or {})))
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"exit {self.process.returncode}: {self.log()}")
            try:
                if self.get("/v2/health/ready").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.log()}")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def connect(self, timeout=60):
        host, port = self.address.rsplit(":", 1)
        return http.client.HTTPConnection(host, int(port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, connection=None):
        c = connection or self.connect()
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return Reply(r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read())
        finally:
            if connection is None:
                c.close()

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, document, headers=None, connection=None):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **(headers or {})},
                        connection)

    def perceive(self, model, inputs, queries=None, **more):
        document = {"inputs": inputs, **({"queries": queries} if queries else {}), **more}
        return self.post(f"/v1/models/{model}/perceive", document)

    def infer(self, model, inputs, **more):
        return self.post(f"/v2/models/{model}/infer", {"inputs": inputs, **more})

    def metric(self, name, **labels):
        """Sum of a metric's samples whose labels agree."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total

    def stop(self, how=signal.SIGTERM, code=0):
        if self.process.poll() is None:
            self.process.send_signal(how)
        assert self.process.wait(60) == code, self.log()
        assert "Sanitizer" not in self.log() and "runtime error" not in self.log(), self.log()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def png(width=16, height=16, seed=0):
    """A small picture, different for each seed."""
    data = bytes((x * 7 + y * 13 + c * 31 + seed * 101) % 256
                 for y in range(height) for x in range(width) for c in range(3))
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), data).save(out, "PNG")
    return out.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def tensor(name, datatype, shape, data, **more):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data, **more}


def eventually(condition, seconds=20):
    """Polls until the condition holds; what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.01)
