"""From the command line to the exit code: what refuses to start, who configures, how it ends."""

import configparser
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess

import numpy as np
import pytest

from daemon import COMPUTED, b64, eventually, free_port, png, tensor
from models import BUILD, ROOT, golden, slow

IMAGE = golden("hf-image-fourier")
LATENTS = "perceiver.embeddings.latents"
LAST = "perceiver.decoder.decoder.final_layer.weight"
NORM = "perceiver.encoder.cross_attention.attention.self.layernorm1.weight"
WEIGHTS = "model.safetensors"


def run(*args, **variables):
    """Runs perceiverd where it should end by itself: exit code, stdout, stderr."""
    done = subprocess.run([BUILD / "perceiverd", *args], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **variables}, check=False)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def refused(*args, **variables):
    """What it says when it refuses to start."""
    code, out, err = run(*args, **variables)
    assert code == 1 and not out, (code, out, err)
    return err


# ---- models that are none -----------------------------------------------------------------------------

class Broken:
    """A model's files, to be damaged."""

    def __init__(self):
        raw = (IMAGE / WEIGHTS).read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        self.header = json.loads(raw[8:8 + size])
        self.data = bytearray(raw[8 + size:])
        self.config = json.loads((IMAGE / "config.json").read_text())

    def write(self, out):
        out.mkdir()
        (out / "config.json").write_text(json.dumps(self.config))
        head = json.dumps(self.header).encode()
        (out / WEIGHTS).write_bytes(struct.pack("<Q", len(head)) + head + self.data)


def edit_config(**keys):
    return lambda m: m.config.update(keys)


def edit_tensor(name, **keys):
    return lambda m: m.header[name].update(keys)


def cut_data(m):
    del m.data[-100:]


def add_tensor(m):
    m.header["extra.weight"] = {"dtype": "F32", "shape": [1],
                                "data_offsets": [len(m.data), len(m.data) + 4]}
    m.data += bytes(4)


def rename_tensor(m):
    m.header["renamed"] = m.header.pop(NORM)


def remove_tensor(m):
    name, entry = max(m.header.items(), key=lambda t: t[1]["data_offsets"][0])
    del m.header[name]
    del m.data[entry["data_offsets"][0]:]


def not_a_number(m):
    at = m.header[LATENTS]["data_offsets"][0]
    m.data[at:at + 4] = struct.pack("<f", float("nan"))


def overlap(m):
    m.header[NORM]["data_offsets"] = [128, 384]


def beyond(m):
    m.header[LATENTS]["data_offsets"] = [0, 2 * len(m.data)]


BROKEN = {
    "truncated": (cut_data, [WEIGHTS, LAST]),
    "offsets beyond the file": (beyond, [WEIGHTS, LATENTS]),
    "overlapping tensors": (overlap, [WEIGHTS, NORM]),
    "offsets that do not fit the shape": (edit_tensor(NORM, shape=[65]), [WEIGHTS, NORM]),
    "a wrong shape": (edit_tensor(LATENTS, shape=[64, 24]), [WEIGHTS, LATENTS, "[24,64]"]),
    "a negative shape": (edit_tensor(LATENTS, shape=[-24, -64]), [WEIGHTS, LATENTS]),
    "a datatype for none": (edit_tensor(LATENTS, dtype="I32"), [WEIGHTS, LATENTS, "I32"]),
    "an unknown datatype": (edit_tensor(LATENTS, dtype="F33"), [WEIGHTS, LATENTS]),
    "a tensor too many": (add_tensor, [WEIGHTS, "extra.weight"]),
    "a tensor too few": (remove_tensor, [WEIGHTS, "final_layer.bias", "missing"]),
    "another name": (rename_tensor, [WEIGHTS, NORM]),
    "a weight that is not a number": (not_a_number, [WEIGHTS, LATENTS]),
    "an unknown architecture": (edit_config(architectures=["BertForMaskedLM"]),
                                ["config.json", "BertForMaskedLM"]),
    "NaN in the configuration": (edit_config(layer_norm_eps=float("nan")), ["config.json", "NaN"]),
    "no latents": (edit_config(num_latents=0), ["config.json", "num_latents"]),
    "too many latents": (edit_config(num_latents=10**12), ["config.json", "num_latents"]),
    "a number in quotes": (edit_config(num_latents="24"), ["config.json", "num_latents"]),
    "heads that do not divide": (edit_config(num_self_attention_heads=7), ["7 heads"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused(name, tmp_path):
    damage, places = BROKEN[name]
    model = Broken()
    damage(model)
    model.write(tmp_path / "m")
    err = refused("--listen=127.0.0.1:0", f"--model=good={IMAGE}", f"--model=bad={tmp_path / 'm'}")
    last = err.splitlines()[-1]
    assert "model bad" in last and all(p in last for p in places), err


def test_an_untouched_copy_is_served(start_daemon, tmp_path):
    """So that what is refused above is refused for its damage."""
    Broken().write(tmp_path / "m")
    d = start_daemon({"m": tmp_path / "m"})
    assert d.perceive("m", {"image": b64(png())}).status == 200
    d.stop()


@pytest.mark.parametrize("file,size,place", [
    (WEIGHTS, None, WEIGHTS), ("config.json", None, "config.json"), (WEIGHTS, 0, WEIGHTS),
    (WEIGHTS, 7, WEIGHTS), (WEIGHTS, 100, WEIGHTS), ("config.json", 0, "config.json"),
    ("config.json", 100, "config.json")])
def test_files_that_are_missing_or_cut(file, size, place, tmp_path):
    shutil.copytree(IMAGE, tmp_path / "m")
    if size is None:
        (tmp_path / "m" / file).unlink()
    else:
        os.truncate(tmp_path / "m" / file, size)
    last = refused("--listen=127.0.0.1:0", f"--model=bad={tmp_path / 'm'}").splitlines()[-1]
    assert "model bad" in last and place in last and str(tmp_path / "m") in last


def test_a_header_that_claims_more_than_the_file_has(tmp_path):
    shutil.copytree(IMAGE, tmp_path / "m")
    raw = (IMAGE / WEIGHTS).read_bytes()
    for claimed in (len(raw), 2**60, 2**64 - 1, 0):
        (tmp_path / "m" / WEIGHTS).write_bytes(struct.pack("<Q", claimed) + raw[8:])
        err = refused("--listen=127.0.0.1:0", f"--model=bad={tmp_path / 'm'}")
        assert WEIGHTS in err and "header" in err


def test_what_does_not_fit_into_memory_is_refused():
    err = refused("--listen=127.0.0.1:0", f"--model=m={IMAGE}", "--memory-limit=1M")
    assert "memory" in err and "do not fit into 1 MB" in err


# ---- options ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args,variables,said", [
    (["--nope"], {}, "--nope"),
    (["--nope=3"], {}, "--nope"),
    (["nope"], {}, "nope"),
    (["--listen"], {}, "--listen: needs a value"),
    ([], {}, "no model to serve"),
    (["--model=x"], {}, "NAME=DIR"),
    ([f"--model=a/b={IMAGE}"], {}, "a/b"),
    ([f"--model=m={IMAGE}", f"--model=m={IMAGE}"], {}, "m is named twice"),
    (["--model=m=/nonexistent"], {}, "[model m]: /nonexistent/config.json"),
    ([f"--model=m={IMAGE}", "--lanes=0"], {}, "--lanes: 0 is not within"),
    ([f"--model=m={IMAGE}", "--lanes=1x"], {}, "--lanes"),
    ([f"--model=m={IMAGE}", "--drain-delay=5"], {}, "--drain-delay"),
    ([f"--model=m={IMAGE}", "--http-max-body=99999G"], {}, "--http-max-body"),
    ([f"--model=m={IMAGE}", "--access-log=maybe"], {}, "--access-log"),
    ([f"--model=m={IMAGE}", "--log-level=loud"], {}, "--log-level"),
    ([f"--model=m={IMAGE}", "--model-max-items=300"], {}, "max_items 300 is more than max_queue 256"),
    ([f"--model=m={IMAGE}", "--listen=localhost:80"], {}, "localhost:80"),
    ([f"--model=m={IMAGE}", "--models-dir=/nonexistent"], {}, "/nonexistent"),
    ([f"--model=m={IMAGE}"], {"PERCEIVERD_LANEZ": "1"}, "PERCEIVERD_LANEZ"),
    ([f"--model=m={IMAGE}"], {"PERCEIVERD_LANES": "65"}, "PERCEIVERD_LANES: 65 is not within"),
    (["--config=/nonexistent.conf"], {}, "/nonexistent.conf"),
])
def test_wrong_options(args, variables, said):
    assert said in refused("--check-config", *args, **variables)


@pytest.mark.parametrize("text,line,said", [
    ("[server]\nlanes = 1\nlane = 2\n", 3, '"lane"'),
    ("[server]\n\n[sever]\nlanes = 1\n", 4, "[sever]"),
    ("[server]\nlanes = 1\n# again\nlanes = 1\n", 4, "twice"),
    ("[server]\nlanes = 65\n", 2, "65 is not within 1..64"),
    ("lanes = 1\n", 1, "before the first [section]"),
    ("[server]\nlanes\n", 2, ""),
    ("[model]\npath = /x\n", 2, "path belongs in a section [model NAME]"),
    ("[model a/b]\npath = /x\n", 2, "a/b"),
    ("[server]\nmodel = x\n" + "#" * 20000 + "\n", 3, "longer"),
])
def test_errors_in_a_file_name_the_line(text, line, said, tmp_path):
    conf = tmp_path / "bad.conf"
    conf.write_text(text)
    for more in ([], ["--check-config"], ["--print-config"]):
        err = refused(f"--config={conf}", *more)
        assert f"{conf}:{line}: " in err and said in err, err


def printed(*args, **variables):
    code, out, err = run("--print-config", *args, **variables)
    assert code == 0 and not err, err
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(out)
    return parser, out


def test_environment_overrides_file_and_command_line_both(tmp_path):
    conf = tmp_path / "good.conf"
    conf.write_text(f"[server]\nlanes = 2\nthreads = 2\ndrain_delay = 2s\nlisten = 127.0.0.1:1\n"
                    f"[model]\nmax_queue = 200\ntimeout = 20s\n"
                    f"[model one]\npath = {IMAGE}\nmax_queue = 70\n")
    got, _ = printed(f"--config={conf}", "--threads=4", "--listen", "127.0.0.1:3",
                     PERCEIVERD_THREADS="3", PERCEIVERD_DRAIN_DELAY="3s", PERCEIVERD_LISTEN="[::1]:2",
                     PERCEIVERD_MODEL_TIMEOUT="30s")
    assert dict(got["server"]) == {"lanes": "2", "threads": "4", "drain_delay": "3s",
                                   "listen": "127.0.0.1:3"}
    assert dict(got["model"]) == {"max_queue": "200", "timeout": "30s"}
    assert dict(got["model one"]) == {"path": str(IMAGE), "max_queue": "70"}
    got, _ = printed(f"--config={conf}", PERCEIVERD_LISTEN="[::1]:2")
    assert got["server"]["listen"] == "[::1]:2"


def test_a_printed_configuration_reads_back_the_same(tmp_path):
    _, text = printed("--listen=127.0.0.1:1", "--listen=[::1]:2", f"--model=a={IMAGE}",
                      "--model=b=/some where", "--model-max-queue=300", "--drain-timeout=90s",
                      "--http-max-body=3M", "--access-log=no", "--log-format=json",
                      "--memory-limit=5G", PERCEIVERD_MODEL_PRIORITY="7")
    conf = tmp_path / "printed.conf"
    conf.write_text(text)
    got, again = printed(f"--config={conf}")
    assert again == text
    assert got["server"]["listen"].split() == ["127.0.0.1:1", "[::1]:2"]
    assert got["model b"]["path"] == "/some where" and got["model"]["priority"] == "7"
    assert got["http"]["max_body"] == "3M"
    sample = (ROOT / "etc" / "perceiverd.conf")
    _, again = printed(f"--config={sample}")
    assert [l for l in again.splitlines() if not l.startswith("#")] == \
        [l for l in sample.read_text().splitlines() if not l.startswith("#")]


def test_check_config(tmp_path):
    conf = tmp_path / "c.conf"
    conf.write_text(f"[server]\nlisten = 127.0.0.1:1\n[model one]\npath = {IMAGE}\n")
    code, out, err = run("--check-config", f"--config={conf}", f"--model=two={IMAGE}")
    assert (code, out, err) == (0, "configuration is good: 2 models\n", "")
    (tmp_path / "empty").mkdir()
    err = refused("--check-config", f"--config={conf}", f"--model=two={tmp_path / 'empty'}")
    assert "[model two]" in err and "config.json" in err


def test_help_and_version_need_no_model():
    code, out, err = run("--help")
    assert code == 0 and "--drain-delay" in out and not err
    code, out, err = run("--version")
    assert code == 0 and out.startswith("perceiverd ") and not err


# ---- listening ----------------------------------------------------------------------------------------

def test_a_port_in_use_is_told():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        address = f"127.0.0.1:{s.getsockname()[1]}"
        assert f"{address}: address already in use" in refused(f"--listen={address}",
                                                               f"--model=m={IMAGE}")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def test_several_addresses_a_unix_socket_among_them(start_daemon, tmp_path):
    path = tmp_path / "s"
    other = f"127.0.0.1:{free_port()}"
    d = start_daemon({"m": IMAGE}, f"--listen=unix:{path},mode=0600", f"--listen={other}")
    assert path.is_socket() and path.stat().st_mode & 0o777 == 0o600
    connection = UnixConnection(str(path))
    for _ in range(3):
        r = d.ask("POST", "/v1/models/m/perceive", png(), {"Content-Type": "image/png"}, connection)
        assert r.status == 200 and r.json["results"]
    connection.close()
    # A second daemon does not take the socket of one that lives.
    assert "address already in use" in refused(f"--listen=unix:{path}", f"--model=m={IMAGE}")
    host, port = other.split(":")
    http.client.HTTPConnection(host, int(port), timeout=60).request("GET", "/v2/health/live")
    d.stop()
    assert not path.exists()


def test_a_socket_left_behind_is_taken_over(start_daemon, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
    d = start_daemon({"m": IMAGE}, f"--listen=unix:{path}")
    assert d.ask("GET", "/v2/health/live", connection=UnixConnection(str(path))).status == 200
    d.stop()


# ---- models -------------------------------------------------------------------------------------------

def test_a_directory_of_models_and_models_by_name(start_daemon, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "fourier").symlink_to(IMAGE)
    (models / "learned").symlink_to(golden("hf-image-learned"))
    (models / "notes").mkdir()
    (models / ".hidden").symlink_to(IMAGE)
    # A name given by hand stands before the directory's.
    d = start_daemon({"text": golden("hf-masked-lm"), "learned": IMAGE}, f"--models-dir={models}")
    listed = {m["name"]: m["architecture"] for m in d.get("/v1/models").json["models"]}
    assert listed == {"fourier": "PerceiverForImageClassificationFourier",
                      "learned": "PerceiverForImageClassificationFourier",
                      "text": "PerceiverForMaskedLM"}
    for name in ("fourier", "learned"):
        assert d.perceive(name, {"image": b64(png())}).status == 200
    d.stop()


# ---- readiness, and the end ---------------------------------------------------------------------------

def pixels():
    return [tensor("inputs", "FP32", [1, 3, 16, 16], np.linspace(-1, 1, 768).tolist())]


def on_its_way(d, model):
    connection = d.connect()
    connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": pixels()}),
                       {"Content-Type": "application/json"})
    return connection


def status_of(connection):
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status


def first_answer(d, path):
    """The first answer that there is: the daemon listens before it loads."""
    def ask():
        assert d.process.poll() is None, d.log()
        try:
            return d.get(path)
        except OSError:
            return None
    return eventually(ask)


def test_503_until_models_are_loaded_and_warmed(start_daemon):
    d = start_daemon({"slow": slow(), "image": IMAGE}, "--threads=2", "--retry-after=7s",
                     ready=False)
    ready = first_answer(d, "/v2/health/ready")
    alive = d.get("/v2/health/live")
    model = d.get("/v2/models/image/ready")
    infer = d.infer("image", pixels())
    native = d.perceive("image", {"image": b64(png())})
    listed = d.get("/v1/models").json["models"]
    metric = d.metric("perceiverd_ready")
    assert d.get("/v2/health/ready").status == 503
    assert ready.status == 503 and ready.json == {"ready": False}
    assert alive.status == 200
    assert model.status == 503 and model.json == {"name": "image", "ready": False}
    assert infer.status == native.status == 503 and infer.headers["retry-after"] == "7"
    assert native.json["error"]["code"] == "not_ready"
    assert [m["state"] for m in listed] == ["LOADING"] * 2 and metric == 0
    # A signal while it loads ends it at once, and well.
    d.stop()
    assert "ready:" not in d.log()


def test_sigterm_drains_and_loses_nothing(start_daemon):
    d = start_daemon({"slow": slow(), "image": IMAGE}, "--threads=2", "--model-max-batch=1",
                     "--drain-delay=1s", *COMPUTED)
    accepted = [on_its_way(d, "slow")]
    assert eventually(lambda: d.metric("perceiverd_lanes_busy") == 1)
    accepted += [on_its_way(d, "image") for _ in range(5)]
    assert eventually(lambda: d.metric("perceiverd_queue_depth", model="image") == 5)
    waiting = d.connect()
    waiting.connect()  # open, and idle
    d.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: d.get("/v2/health/ready").status == 503)
    assert d.get("/v2/health/live").status == 200 and d.metric("perceiverd_ready") == 0
    assert [status_of(c) for c in accepted] == [200] * 6
    assert d.process.wait(60) == 0
    assert "draining: " in d.log() and "stopped" in d.log()
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        d.get("/v2/health/live")


def test_what_comes_too_late_is_503_while_it_drains(start_daemon):
    d = start_daemon({"slow": slow(), "image": IMAGE}, "--threads=2", "--retry-after=3s")
    accepted = on_its_way(d, "slow")
    assert eventually(lambda: d.metric("perceiverd_lanes_busy") == 1)
    d.process.send_signal(signal.SIGINT)
    assert eventually(lambda: "draining: 1 requests" in d.log())
    late = d.infer("image", pixels())
    assert late.status == 503 and late.headers["retry-after"] == "3" and "shutting" in late.json["error"]
    accepted.close()  # nobody waits any more: nothing is left to do
    assert d.process.wait(60) == 0, d.log()


def test_a_second_signal_ends_at_once(start_daemon):
    d = start_daemon({"image": IMAGE}, "--drain-delay=10min")
    d.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: d.get("/v2/health/ready").status == 503)
    # Until the delay is over new work is taken.
    assert d.infer("image", pixels()).status == 200
    d.stop(code=128 + signal.SIGTERM)
    assert "stopping at once" in d.log()
