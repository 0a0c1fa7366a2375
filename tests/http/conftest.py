"""Servers for the black-box tests: each on a free port, ended by its pid, and judged by its exit."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ctl_stub import REPLIES, Stub
from daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
FIXTURE_SOURCES = [
    "tests/http/httpd_fixture.c",
    "tests/http/httpd_stream.c",
    *(f"server/{name}.c" for name in (
        "http", "http_exchange", "http_frame", "http_stream", "http_watch", "body", "multipart",
        "listen", "log", "notify")),
    "lib/base/err.c",
]


def build_fixture(directory):
    """Compiles the fixture with what it needs and nothing else. SAN as for make."""
    out = directory / "httpd_fixture"
    san = os.environ.get("SAN", "")
    libs = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libuv", "libmicrohttpd", "libsystemd", "zlib"],
        check=True, capture_output=True, text=True).stdout.split()
    subprocess.run(
        [os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-I.", "-Wall", "-Wextra",
         "-Werror", "-g", "-O2", "-pthread",
         *([f"-fsanitize={san}", "-fno-omit-frame-pointer"] if san else []),
         *FIXTURE_SOURCES, "-o", str(out), *libs], cwd=ROOT, check=True)
    return out


@pytest.fixture(scope="session")
def fixture_binary(tmp_path_factory):
    """HTTPD_FIXTURE names a program that is built already."""
    built = os.environ.get("HTTPD_FIXTURE")
    return Path(built) if built else build_fixture(tmp_path_factory.mktemp("fixture"))


class Server:
    """A running server program that prints "listening ADDRESS" lines, then "ready"."""

    def __init__(self, command, env, log, **popen):
        self.log_path = log
        self.terminated = False
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, **popen)
        self.addresses = []
        for line in self.process.stdout:
            if line.startswith("listening "):
                self.addresses.append(line.split(" ", 1)[1].strip())
            if line == "ready\n":
                return
        raise AssertionError(f"no server (exit {self.process.wait()}): {self.log()}")

    def log(self):
        return Path(self.log_path).read_text(errors="replace")

    def target(self, i=0):
        """What rawhttp.Client connects to."""
        address = self.addresses[i]
        if address.startswith("unix:"):
            return address[len("unix:"):]
        host, port = address.rsplit(":", 1)
        return host.strip("[]"), int(port)

    def terminate(self, how=signal.SIGTERM):
        """Once: while it ends, a second signal may find no handler any more."""
        if not self.terminated:
            self.terminated = True
            self.process.send_signal(how)

    @contextlib.contextmanager
    def stopped(self):
        """Inside, the server sleeps; afterwards it sees everything that happened at once."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout=20):
        return self.process.wait(timeout)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        """Ends it if it still runs. Anything but a clean exit is an error, leaks included."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed: it did not drain"
        self.process.stdout.close()
        log = self.log()
        assert code == 0, f"exit {code}: {log}"
        assert "runtime error" not in log and "Sanitizer" not in log, log


@pytest.fixture
def fixture_server(fixture_binary, tmp_path):
    """fixture_server(HTTPD_MAX_BODY=1000, ...) -> Server; see httpd_fixture.c for the variables."""
    servers = []

    def start(command=None, popen=None, **variables):
        env = dict(os.environ, HTTPD_DRAIN_MS="3000")
        env.update({name: str(value) for name, value in variables.items()})
        server = Server(command or [str(fixture_binary)], env,
                        tmp_path / f"server{len(servers)}.log", **(popen or {}))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def start_daemon(tmp_path):
    """start_daemon({NAME: DIR}, OPTION, ...) -> Daemon. What a failing test left running is ended."""
    started = []

    def start(models, *options, ready=True, **more):
        d = Daemon(models, tmp_path / f"daemon{len(started)}.log", *options, ready=False, **more)
        started.append(d)
        if ready:
            d.wait_ready()
        return d

    yield start
    for d in started:
        if d.process.poll() is None:
            d.process.kill()
            d.process.wait()


@pytest.fixture
def stub():
    """stub(REPLIES, unix=PATH) -> Stub: a daemon that answers what it is told to."""
    started = []

    def start(replies=None, unix=None):
        started.append(Stub(REPLIES | (replies or {}), unix))
        return started[-1]

    yield start
    for s in started:
        s.shutdown()
        s.server_close()
