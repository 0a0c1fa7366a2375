"""A daemon that answers what it is told to, and calls of perceiverctl against it."""

import http.server
import json
import os
import socket
import socketserver
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("PERCEIVER_BUILD", "build")
MODEL = {
    "name": "fa/shion", "version": "1", "state": "READY", "reason": "", "platform": "perceiverd",
    "architecture": "PerceiverForImageClassificationFourier", "upstream": "huggingface/transformers",
    "parameters": 1234567, "bytes": 5000000, "max_batch": 64,
    "latents": {"count": 32, "width": 128},
    "inputs": [{"name": "image", "kind": "image", "media": ["image/png", "image/jpeg"],
                "max_tokens": 784}],
    "tasks": [{"name": "classify", "kind": "classify", "width": 3, "max_output_queries": 1,
               "labels": ["Ankle boot", "Sneaker", "Täsche"]}],
    "tensors": {"inputs": [{"name": "inputs", "datatype": "FP32", "shape": [-1, 1, 28, 20]}],
                "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]},
    "cost": {"gmac": {"encode": 0.001, "process": 0.01, "decode": 0.002, "total": 0.013},
             "gmac_dense": {"encode": 1, "process": 0.01, "decode": 0.002, "total": 1.012}},
}
TEXT_MODEL = dict(
    MODEL, name="mlm", parameters=999, inputs=[
        {"name": "text", "kind": "text", "media": ["text/plain"], "max_tokens": 64}],
    tasks=[{"name": "fill-mask", "kind": "fill-mask", "width": 262, "max_output_queries": 64,
            "labels": None}],
    tensors={"inputs": [{"name": "inputs", "datatype": "INT64", "shape": [-1, -1]},
                        {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]}],
             "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, -1, 262]}]})
LOADING = dict(MODEL, name="slow", state="LOADING", architecture="", upstream="", parameters=0,
               inputs=[], tasks=[], latents={"count": 0, "width": 0},
               cost={"gmac": {"encode": 0, "process": 0, "decode": 0},
                     "gmac_dense": {"encode": 0, "process": 0, "decode": 0}})
CONFIG = {"name": "mlm", "input": [{"name": "inputs", "optional": False},
                                   {"name": "attention_mask", "optional": True}]}
USAGE = {
    "usage": {"tokens": 784, "output_queries": 1, "batch": 1, "cached": False,
              "gmac": {"encode": 0.001, "process": 0.01, "decode": 0.002, "total": 0.013}},
    "timing_ms": {"adapt": 0.2, "queue": 0.1, "encode": 1.04, "process": 2.7, "decode": 0.104,
                  "total": 4.1},
}


def native(*results, **more):
    """A reply of the native API."""
    return json.dumps({"model": "m", "version": "1", "id": "r", "results": results} | more |
                      USAGE).encode()


def labels(*pairs):
    return [{"index": i, "label": name, "score": score} for i, (name, score) in enumerate(pairs)]


class Request:
    def __init__(self, handler, body):
        self.method, self.path = handler.command, handler.path
        self.headers, self.body = handler.headers, body
        self.connection = handler.client_address


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a reply leaves in one piece

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self, body)
        with self.server.lock:
            self.server.requests.append(request)
            n = sum(r.path == request.path for r in self.server.requests) - 1
        reply = self.server.replies.get(self.path.split("?")[0], (404, b'{"error":"no such path"}'))
        if callable(reply):
            reply = reply(request, n)
        status, data, *headers = reply
        if isinstance(data, (dict, list)):
            data = json.dumps(data).encode()
        self.send_response(status)
        for name, value in dict(*headers).items():
            self.send_header(name, value)
        if isinstance(data, bytes):
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        else:
            self.send_pieces(data)

    def send_pieces(self, pieces):
        """In chunks, each as soon as it is there; an exception breaks off."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = answer

    def address_string(self):
        return "stub"

    def log_message(self, *args):
        pass


class Stub(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """replies: {path: (status, body[, headers])}, or a function of the request and its number on
    this path; a body that is neither bytes nor JSON is pieces of one. requests: what came in."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, replies, unix=None):
        self.replies = replies
        self.requests = []
        self.lock = threading.Lock()
        if unix:
            self.address_family = socket.AF_UNIX
        super().__init__(unix or ("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}" if not unix else "http://unix"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # without looking up a name

    def of(self, path):
        """The requests for a path, whatever its query string."""
        return [r for r in self.requests if r.path.split("?")[0] == path]


PERCEIVE = "/v1/models/fa%2Fshion/perceive"
CLASSES = {"task": "classify", "labels": labels(("Ankle boot", 0.983), ("Sneaker", 0.0124),
                                                ("Täsche", 0.0046))}
PNG = b"\x89PNG\r\n\x1a\nrest"
METRICS = b"""# TYPE perceiverd_requests_total counter
perceiverd_requests_total{route="/v1/models",model="",task="",code="200"} 3
perceiverd_requests_total{route="x",model="mlm",task="fill-mask",code="200"} 4
perceiverd_requests_total{route="x",model="mlm",task="",code="429"} 2
perceiverd_batch_items_bucket{model="mlm",le="1"} 1
perceiverd_batch_items_sum{model="mlm"} 30
perceiverd_batch_items_count{model="mlm"} 8
perceiverd_batch_items_sum{model="fa/shion"} 10
perceiverd_batch_items_count{model="fa/shion"} 2
perceiverd_queue_depth{model="mlm"} 5
perceiverd_queue_depth{model="fa/shion"} 1
perceiverd_in_flight 7
perceiverd_connections 9
perceiverd_lanes_busy 1
"""


def stat(count, ns):
    return {"count": count, "ns": ns}


def statistics(name, answered, failed, items, batches):
    kinds = ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    return {"name": name, "version": "1", "last_inference": 0, "inference_count": items,
            "execution_count": batches, "batch_stats": [], "response_stats": {}, "memory_usage": [],
            "inference_stats": {"success": stat(answered, answered * 12340000),
                                "fail": stat(failed, 0)} |
            {k: stat(answered, answered * 2000000) for k in kinds}}


REPLIES = {
    "/v2": (200, {"name": "perceiverd", "version": "0.1.0 (abc)", "extensions": []}),
    "/v2/health/ready": (200, {"ready": True}),
    "/v1/models": (200, {"models": [MODEL, TEXT_MODEL, LOADING]}),
    "/v1/models/fa%2Fshion": (200, MODEL),
    "/v1/models/mlm": (200, TEXT_MODEL),
    "/v1/models/slow": (200, LOADING),
    "/v2/models/mlm/config": (200, CONFIG),
    "/v2/models/fa%2Fshion/config": (200, {"input": [{"name": "inputs"}]}),
    "/v2/models/stats": (200, {"model_stats": [statistics("fa/shion", 0, 1, 0, 0),
                                               statistics("mlm", 4, 2, 30, 8)]}),
    "/metrics": (200, METRICS),
    PERCEIVE: (200, native(CLASSES)),
}


def ctl(server, *args, code=0, locale="C.UTF-8", stdin=b"", env=None, cwd=None):
    """(stdout, stderr) of a call that ends with this code."""
    variables = {k: v for k, v in os.environ.items() if k != "PERCEIVERCTL_URL"}
    variables |= {"LC_ALL": locale} | (env or {})
    if server:
        variables["PERCEIVERCTL_URL"] = server if isinstance(server, str) else server.url
    done = subprocess.run([BUILD / "perceiverctl", *args], input=stdin, capture_output=True,
                          env=variables, cwd=cwd, timeout=120, check=False)
    out, err = done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()
    assert done.returncode == code, (done.returncode, out, err)
    return out, err
