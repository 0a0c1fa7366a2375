"""The model of several inputs through the Open Inference Protocol: one kind in a request, adapters and
positions as tensors, outputs that fit."""

import numpy as np
import pytest
import tritonclient.http as triton

from daemon import Daemon, png, tensor
from models import senses
from senses import (ALL, FRESH, KINDS, SIDE, Counted, close, item, numbers, perceive, pixels, scores,
                    sound, text)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"senses": senses()}, tmp_path_factory.mktemp("tensors") / "log")
    yield d
    d.stop()


def grey(seed):
    """The picture of item("image", seed) as its adapter has it: [1, 28, 28, 1], -1..1. The daemon's
    answer to the file is what this is held to."""
    rgb = pixels(png(SIDE, SIDE, seed))
    luma = (rgb[..., 0] * 19595 + rgb[..., 1] * 38470 + rgb[..., 2] * 7471 + 0x8000) >> 16
    return ((luma / 255 - 0.5) / 0.5).astype(np.float32).reshape(1, SIDE, SIDE, 1)


def samples(seed):
    return (np.frombuffer(sound(seed)[44:], "<i2") / np.float32(32768)).reshape(1, -1)


def tokens(seed):
    said = text(seed).replace("[MASK]", "\x7f").encode()
    return np.array([[4, *(3 if c == 0x7f else c + 6 for c in said), 5]], np.int64)


TENSORS = {"image": grey, "audio": samples, "text": tokens}
OUTPUTS = {"image": {"garment", "digit", "reconstruct", "embed"}, "audio": {"spoken-digit", "embed"},
           "text": {"fill-mask", "spam", "embed"}}


def as_tensor(kind, seed=0):
    x = TENSORS[kind](seed)
    return tensor(kind, "INT64" if kind == "text" else "FP32", x.shape, x.reshape(-1).tolist())


def infer(daemon, inputs, outputs=()):
    more = {"outputs": [{"name": n} for n in outputs]} if outputs else {}
    r = daemon.infer("senses", inputs, parameters=FRESH, **more)
    assert r.status == 200, r.body[:500]
    return ({o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in r.json["outputs"]},
            r.json["parameters"])


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_say_the_same_as_media(daemon, kind):
    out, usage = infer(daemon, [as_tensor(kind, 2)])
    assert set(out) == OUTPUTS[kind]  # of all the model's outputs, those that fit the input
    r = perceive(daemon, item(kind, 2), [q for q in ALL if q["task"] in out], **FRESH)
    assert usage["tokens"] == r["usage"]["tokens"]
    for want in r["results"]:
        got = out[want["task"]]
        if "labels" in want:
            by_class = scores(want["labels"])
            close(softmax(got[0]), [by_class[i] for i in range(got.shape[1])])
        elif "masks" in want:
            for m in want["masks"]:
                by_class = scores(m["candidates"])
                close(softmax(got[0, m["position"]]), [by_class[i] for i in range(262)])
        elif "embedding" in want:
            close(got[0], numbers(want))
        else:
            drawn = numbers(want)[0, ..., 0].reshape(-1)
            assert np.abs(drawn - np.clip(127.5 * got[0, :, 0] + 127.5, 0, 255)).max() < 0.52


def test_only_the_outputs_that_are_asked(daemon):
    since = Counted(daemon)
    whole, _ = infer(daemon, [as_tensor("image")])
    out, usage = infer(daemon, [as_tensor("image")], ["digit"])
    assert set(out) == {"digit"} and usage["output_queries"] == 1
    close(out["digit"], whole["digit"])
    assert since("output_queries_total", task="digit") == 2
    assert since("output_queries_total", task="reconstruct") == SIDE * SIDE


def test_positions_are_tensors(daemon):
    order = [783, 0, 27, 28, 27]
    whole, _ = infer(daemon, [as_tensor("image")], ["reconstruct"])
    assert whole["reconstruct"].shape == (1, SIDE * SIDE, 1)
    at = tensor("reconstruct.positions", "INT64", [len(order)], order)
    out, usage = infer(daemon, [as_tensor("image"), at], ["reconstruct"])
    assert out["reconstruct"].shape == (1, len(order), 1) and usage["output_queries"] == len(order)
    close(out["reconstruct"], whole["reconstruct"][:, order])
    whole, _ = infer(daemon, [as_tensor("text")], ["fill-mask"])
    at = tensor("fill-mask.positions", "INT64", [3], [7, 0, 2])
    out, usage = infer(daemon, [as_tensor("text"), at], ["fill-mask", "spam"])
    assert usage["output_queries"] == 4
    close(out["fill-mask"], whole["fill-mask"][:, [7, 0, 2]])


def test_a_batch_of_tensors(daemon):
    x = np.concatenate([grey(s) for s in range(3)])
    out, usage = infer(daemon, [tensor("image", "FP32", x.shape, x.reshape(-1).tolist())])
    assert usage["batch"] == 3
    for s in range(3):
        one, _ = infer(daemon, [as_tensor("image", s)])
        for name in OUTPUTS["image"]:
            close(out[name][s], one[name][0])


def test_a_real_client_asks_several_outputs(daemon):
    client = triton.InferenceServerClient(daemon.address)
    given = triton.InferInput("audio", [1, len(sound(4)[44:]) // 2], "FP32")
    given.set_data_from_numpy(samples(4))
    out = client.infer("senses", [given], outputs=[
        triton.InferRequestedOutput("embed"),
        triton.InferRequestedOutput("spoken-digit", binary_data=False)])
    (embed,) = perceive(daemon, item("audio", 4), [{"task": "embed"}])["results"]
    close(out.as_numpy("embed")[0], numbers(embed))
    assert out.as_numpy("spoken-digit").shape == (1, 10)
    client.close()


AT = tensor("reconstruct.positions", "INT64", [2], [0, 784])
MISFITS = [
    ([as_tensor("image"), as_tensor("text")], [], "image and text are given"),
    ([AT], [], "one of image, audio, text"),
    ([as_tensor("image")], ["spam"], "$.outputs[0].name: "),
    ([as_tensor("audio")], ["embed", "garment"], "$.outputs[1].name: "),
    ([as_tensor("image")], ["attention"], "attention"),
    ([as_tensor("image"), AT], [], "784"),
    ([tensor("text.mask", "INT64", [1, 3], [1, 1, 1])], [], "text"),
]


@pytest.mark.parametrize("inputs,outputs,words", MISFITS)
def test_tensors_that_do_not_fit(daemon, inputs, outputs, words):
    r = daemon.infer("senses", inputs, outputs=[{"name": n} for n in outputs])
    assert r.status == 400 and words in r.json["error"], r.body
