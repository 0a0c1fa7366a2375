"""The shipped model is as good as its README says, measured as its users would see it."""

import subprocess
import sys

import pytest

from models import BUILD, ROOT

MODEL = ROOT / "etc" / "models" / "fashion"
# Sanitizers are slow, and change no answer: the first of the pictures are enough for them.
COUNT, AT_LEAST = (1000, 0.85) if "san" in BUILD.name else (10000, 0.88)


@pytest.mark.skipif(not (MODEL / "model.safetensors").exists(), reason="the model is not trained yet")
def test_pictures_through_the_daemon(start_daemon):
    d = start_daemon({"fashion": MODEL}, "--log-level=warn")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "http" / "accuracy.py", "--url", f"http://{d.address}",
         "--model", "fashion", "--limit", str(COUNT), "--at-least", str(AT_LEAST)],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" of {COUNT})" in done.stdout, done.stdout
    assert d.metric("perceiverd_requests_total", model="fashion", code="200") == COUNT
    d.stop()
