"""The shipped model is as good as its README says, measured as its users would see it."""

import subprocess
import sys

from models import BUILD, ROOT

MODEL = ROOT / "etc" / "models" / "senses"
SAMPLES = MODEL / "samples"
# Sanitizers are slow, and change no answer: the first of the pictures are enough for them.
COUNT, AT_LEAST = (1000, 0.85) if "san" in BUILD.name else (10000, 0.88)


def test_garments_through_the_daemon(start_daemon):
    d = start_daemon({"senses": MODEL}, "--log-level=warn")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "http" / "accuracy.py", "--url", f"http://{d.address}",
         "--limit", str(COUNT), "--at-least", f"garment={AT_LEAST}"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" of {COUNT} pictures" in done.stdout, done.stdout
    assert d.metric("perceiverd_requests_total", model="senses", code="200") == COUNT
    d.stop()


def best(d, sample, task, kind):
    reply = d.ask("POST", f"/v1/models/senses/perceive?task={task}&top_k=1",
                  (SAMPLES / sample).read_bytes(), {"Content-Type": kind})
    assert reply.status == 200, reply.body
    return reply.json["results"][0]["labels"][0]["label"]


def test_samples_are_what_they_are_called(start_daemon):
    """Files of held-out data, each named by what it shows or says."""
    d = start_daemon({"senses": MODEL}, "--log-level=warn")
    garments = {"ankle-boot.png": "Ankle boot", "bag.png": "Bag", "trouser.png": "Trouser",
                "pullover.png": "Pullover"}
    assert {s: best(d, s, "garment", "image/png") for s in garments} == garments
    digits = sorted(SAMPLES.glob("digit-*.png"))
    assert digits and [best(d, p.name, "digit", "image/png") for p in digits] == [
        p.stem.split("-")[1] for p in digits]
    sounds = sorted(SAMPLES.glob("spoken-*.wav"))
    assert sounds and [best(d, p.name, "spoken-digit", "audio/wav") for p in sounds] == [
        p.stem.split("-")[1] for p in sounds]
    d.stop()


def test_held_out_digits_and_verses(start_daemon):
    """The first of what training never saw; bounds are what the model must reach at least."""
    d = start_daemon({"senses": MODEL}, "--log-level=warn")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "http" / "accuracy.py", "--url", f"http://{d.address}",
         "--held-out", ROOT / "tests" / "http" / "held_out", "--only", "digit,fill-mask",
         "--at-least", "digit=0.97", "fill-mask=0.6"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " of 200 pictures" in done.stdout and " of 1520 masked bytes" in done.stdout, done.stdout
    d.stop()
