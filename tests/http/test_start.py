"""What is done before a daemon says that it is ready: its first requests find their memory there."""

import re

import pytest

from daemon import COMPUTED, tensor
from models import BUILD, senses

PAGE = 4096
BATCH = 8  # so large that the workspace has hundreds of pages, and none of them huge


def page_faults(daemon):
    with open(f"/proc/{daemon.process.pid}/stat") as f:
        return int(f.read().rsplit(") ", 1)[1].split()[7])


def ask(daemon, n):
    """n short texts in one request; how many page faults the daemon took for it."""
    before = page_faults(daemon)
    ids = [4, 70, 3, 80, 5] * n
    r = daemon.infer("senses", [tensor("text", "INT64", [n, 5], ids)], outputs=[{"name": "spam"}])
    assert r.status == 200, r.body[:500]
    assert r.json["outputs"][0]["shape"][0] == n
    return page_faults(daemon) - before


@pytest.mark.skipif("san" in BUILD.name, reason="sanitizers take pages of their own")
@pytest.mark.parametrize("lanes", [1, 2])
def test_first_requests_find_their_memory(start_daemon, lanes):
    d = start_daemon({"senses": senses()}, f"--lanes={lanes}", "--threads=1",
                     f"--model-max-batch={BATCH}", *COMPUTED)
    # Rounded to whole megabytes; of all lanes.
    megabytes = int(re.search(r"workspaces (\d+) MB", d.log())[1])
    pages = (megabytes - 1) * 1000000 // PAGE // lanes
    assert pages > 100
    first = ask(d, 1), ask(d, BATCH)
    assert sum(first) < pages / 2, first
    assert ask(d, BATCH) < pages / 10
    d.stop()
