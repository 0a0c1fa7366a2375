"""The shipped model is as good as its README says, measured as its users would see it."""

import subprocess
import sys

import pytest

from models import ROOT

MODEL = ROOT / "etc" / "models" / "fashion"


@pytest.mark.skipif(not (MODEL / "model.safetensors").exists(), reason="the model is not trained yet")
def test_ten_thousand_pictures_through_the_daemon(start_daemon):
    d = start_daemon({"fashion": MODEL}, "--log-level=warn")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "http" / "accuracy.py", "--url", f"http://{d.address}",
         "--model", "fashion", "--at-least", "0.88"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " of 10000)" in done.stdout, done.stdout
    assert d.metric("perceiverd_requests_total", model="fashion", code="200") == 10000
    d.stop()
