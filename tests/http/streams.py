"""Streams: their rows, one that is long, and clients that do not read it."""

import json
import time

import numpy as np

from daemon import eventually
from rawhttp import Client
from senses import FRESH, floats, item

PIECE = 128  # rows of a line, at most: --stream-rows
MANY = 784 * 300  # more than a million bytes of base64
ORDER = [(i * 5) % 784 for i in range(MANY)]
LONG = {"inputs": item("image", 9), "queries": [{"task": "reconstruct", "positions": ORDER}],
        "stream": True, **FRESH}


def rows_of(lines, task, item=None):
    """All rows of a task, which come in order and without gaps."""
    out = []
    for x in lines:
        if x.get("task") == task and x.get("input") == item:
            first, n = x["rows"]
            assert first == sum(len(r) for r in out) and 1 <= n <= PIECE
            out.append(floats(x["b64"]).reshape(x["shape"]))
            assert len(out[-1]) == n
    return np.concatenate(out)


def slow_reader(daemon, body, path="/v1/models/senses/perceive"):
    """A client of the Unix socket, where the kernel holds few of the bytes that are not read."""
    c = Client(str(daemon.log_path) + ".socket", timeout=120)
    c.request("POST", path, json.dumps(body).encode(), [("Content-Type", "application/json")])
    return c


def stalled(daemon, since):
    """Rows computed when nothing is computed any more and the client does not read."""
    seen = []

    def still():
        seen.append((since("output_queries_total", task="reconstruct"),
                     daemon.metric("perceiverd_lanes_busy")))
        time.sleep(0.05)
        return len(set(seen[-8:])) == 1 and len(seen) > 8 and seen[-1][0] > 0 == seen[-1][1]

    assert eventually(still, 60), seen[-8:]
    return seen[-1][0]
