"""What the measurements share: programs, a daemon of our own, the machine's peak, targets."""

import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

B = pathlib.Path(os.environ.get("B", "build"))
WORK = B / "bench"
SHIPPED = pathlib.Path("etc/models/senses")
CLIENTS = 64
THREADS = sorted({1, min(2, len(os.sched_getaffinity(0)))})
sys.stdout.reconfigure(line_buffering=True)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def say(text):
    """What is going on, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def beside(value, target):
    """A figure's target and whether it holds: ">= 0.8" or "<= 30"."""
    sign, _, limit = target.partition(" ")
    holds = value >= float(limit) if sign == ">=" else value <= float(limit)
    return f"target {target}: {'holds' if holds else 'MISSED'}"


# ---- offline ------------------------------------------------------------------------------------

class Peak:
    """GFLOP/s of SGEMM, looked at again and again: the machine is not the same all the time."""

    def __init__(self):
        self.looks = {t: [] for t in THREADS}
        self.usual = {t: [] for t in THREADS}  # the median product of each look, as a share of its best

    def look(self, threads):
        best, usual = map(float, run(B / "sgemm", threads).split())
        self.looks[threads].append(best)
        self.usual[threads].append(usual / best)
        return best

    def around(self, threads, measure):
        """What measure() gives, and the better of a look before and a look after it."""
        before = self.look(threads)
        result = measure()
        return result, max(before, self.look(threads))


# A program begins with the peak RSS of whoever starts it: a shell that stays is small, Python is not.
SMALL_PARENT = ("sh", "-c", '"$@"; exit $?', "sh")


def evaluate(model, given, threads, repeat, *options):
    """The report of perceiverctl eval, and the file of the results."""
    out = WORK / "out.safetensors"
    report = json.loads(run(*SMALL_PARENT, B / "perceiverctl", "eval", model, given, out, "--threads", threads,
                            "--repeat", repeat, *options))
    return report, out


# ---- a daemon of our own ------------------------------------------------------------------------

class Daemon:
    """perceiverd with one model; `seconds` is from its start to the word that it is ready."""

    def __init__(self, *options, name="senses", model=SHIPPED):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        address = f"@perceiverd-bench-{os.getpid()}-{self.port}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind("\0" + address[1:])
            told.settimeout(60)
            start = time.monotonic()
            self.process = subprocess.Popen(
                [B / "perceiverd", "--listen", f"127.0.0.1:{self.port}", "--model", f"{name}={model}",
                 "--access-log", "no", "--log-level", "warn", *options],
                env={**os.environ, "NOTIFY_SOCKET": address})
            try:
                while b"READY=1" not in told.recv(4096).splitlines():
                    pass
            except TimeoutError:
                self.__exit__()
                sys.exit("bench: the daemon is not ready after a minute")
            self.seconds = time.monotonic() - start

    def ask(self, method, path, body=None, connection=None, headers=None):
        """Status and body; a dict is sent as JSON."""
        c = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if isinstance(body, dict):
            body = json.dumps(body)
        c.request(method, path, body=body, headers=headers or {"Content-Type": "application/json"})
        reply = c.getresponse()
        data = reply.read()
        if not connection:
            c.close()
        return reply.status, data

    def send(self, path, body, connection=None, headers=None):
        """The reply's bytes."""
        status, data = self.ask("POST", path, body, connection, headers)
        if status != 200:
            sys.exit(f"bench: {path}: {status} {data[:300].decode(errors='replace')}")
        return data

    def post(self, path, document, connection=None):
        return json.loads(self.send(path, document, connection))

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = self.ask("GET", "/metrics")[1].decode()
        return sum(float(v) for v in re.findall(rf"^perceiverd_{name}(?:{{.*}})? (\S+)$", text, re.M))

    def loop_cpu(self):
        """Seconds of processor that the event loop has taken: it is the first thread."""
        pid = self.process.pid
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def wrk(url, path, seconds, script=None):
    """{"rate", "requests", "p50", "p99"} of a plain HTTP client; milliseconds."""
    options = ["-s", script] if script else []
    out = run("wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", "--timeout", "60s", *options, url + path)
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"bench: wrk {path}: {out}")
    unit = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    found = {"rate": float(re.search(r"Requests/sec:\s+(\S+)", out)[1]),
             "requests": int(re.search(r"(\d+) requests in", out)[1])}
    for percent in ("50", "99"):
        value, kind = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)", out).groups()
        found["p" + percent] = float(value) * unit[kind]
    return found
