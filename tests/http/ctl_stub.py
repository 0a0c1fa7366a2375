"""A daemon that answers what it is told to: what perceiverctl is tested against."""

import http.server
import json
import socket
import socketserver
import threading

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


def native(*results):
    """A reply of the native API."""
    return json.dumps({"model": "m", "version": "1", "id": "r", "results": results} | USAGE).encode()


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
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def address_string(self):
        return "stub"

    def log_message(self, *args):
        pass


class Stub(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """replies: {path: (status, body[, headers])}, or a function of the request and its number on
    this path. requests: what came in."""

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
