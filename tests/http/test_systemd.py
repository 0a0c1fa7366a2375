"""What systemd hands over and is told: notification, watchdog, sockets, and the units themselves."""

import os
import shutil
import signal
import socket
import subprocess

import pytest

from daemon import b64, eventually, free_port, png
from models import BUILD, ROOT, golden, slow

UNITS = ROOT / "deploy" / "systemd"


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.told = []  # (name, value), in the order in which they came

    def hear(self):
        """All that was told until now."""
        while True:
            try:
                lines = self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told
            self.told += [tuple(line.split("=", 1)) for line in lines]

    def values(self, name):
        return [v for n, v in self.hear() if n == name]


@pytest.fixture
def manager(tmp_path):
    m = Manager(tmp_path / "notify")
    yield m
    m.socket.close()


def test_ready_is_told_after_loading_and_warming(start_daemon, manager):
    d = start_daemon({"slow": slow(), "image": golden("hf-image-fourier")}, "--threads=2",
                     env={"NOTIFY_SOCKET": str(manager.path)}, ready=False)
    assert eventually(lambda: "Warming slow" in manager.values("STATUS"))
    ready = d.get("/v2/health/ready").status
    assert not manager.values("READY") and ready == 503
    assert eventually(lambda: manager.values("READY") == ["1"], 120)
    assert d.get("/v2/health/ready").status == 200
    told = manager.hear()
    before = told[:told.index(("READY", "1"))]
    statuses = [v for n, v in before if n == "STATUS"]
    assert statuses[:2] == ["Loading slow (1 of 2)", "Loading image (2 of 2)"]
    assert statuses[-2:] == ["Warming slow", "Warming image"]
    assert all(int(v) > 0 for n, v in before if n == "EXTEND_TIMEOUT_USEC")
    assert eventually(lambda: manager.values("STATUS")[-1] == "Serving 2 models")
    assert "STOPPING" not in dict(told) and "WATCHDOG" not in dict(told)
    d.stop()
    assert manager.values("STOPPING") == ["1"] and manager.values("READY") == ["1"]


def test_a_model_that_cannot_be_loaded_is_never_ready(start_daemon, manager, tmp_path):
    shutil.copytree(golden("hf-image-fourier"), tmp_path / "bad")
    os.truncate(tmp_path / "bad" / "model.safetensors", 5000)
    d = start_daemon({"bad": tmp_path / "bad"}, env={"NOTIFY_SOCKET": str(manager.path)}, ready=False)
    assert d.process.wait(60) == 1
    assert manager.values("STATUS") and not manager.values("READY")


def test_the_watchdog_is_fed(start_daemon, manager):
    d = start_daemon({"image": golden("hf-image-fourier")},
                     env={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "100000"})
    assert eventually(lambda: len(manager.values("WATCHDOG")) >= 3)
    # A daemon that stands still does not feed it.
    d.process.send_signal(signal.SIGSTOP)
    assert eventually(lambda: open(f"/proc/{d.process.pid}/stat").read().rsplit(") ")[1][0] == "T")
    fed = len(manager.values("WATCHDOG"))
    d.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: len(manager.values("WATCHDOG")) >= fed + 3)
    assert set(manager.values("WATCHDOG")) == {"1"}
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(60) == 0 and manager.values("STOPPING") == ["1"]


def test_sockets_are_taken_from_systemd(start_daemon):
    program = shutil.which("systemd-socket-activate")
    if not program:
        pytest.skip("systemd-socket-activate is not installed")
    addresses = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    d = start_daemon({"image": golden("hf-image-fourier")}, "--listen=127.0.0.1:1",
                     command=[program, *(f"--listen={a}" for a in addresses)], listen=addresses[0])
    # It listens where it was told to by systemd, and nowhere else.
    listening = [l.rsplit(" ", 1)[1] for l in d.log().splitlines() if " listening on " in l]
    assert listening == addresses
    for address in addresses:
        d.address = address
        assert d.perceive("image", {"image": b64(png())}).status == 200
    d.stop()
    assert "stopped" in d.log()


def test_the_units_are_good(tmp_path):
    """As installed: systemd looks whether the program is there."""
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not installed")
    service = (UNITS / "perceiverd.service").read_text()
    assert service.count("ExecStart=/usr/bin/perceiverd ") == 1
    (tmp_path / "perceiverd.service").write_text(
        service.replace("/usr/bin/perceiverd", str((BUILD / "perceiverd").resolve())))
    shutil.copy(UNITS / "perceiverd.socket", tmp_path)
    units = sorted(p.name for p in UNITS.iterdir() if p.suffix in (".service", ".socket"))
    assert units == ["perceiverd.service", "perceiverd.socket"]
    done = subprocess.run([program, "verify", "--man=no", *(tmp_path / u for u in units)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr and not done.stdout, done
