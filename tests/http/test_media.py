"""Media in and out: optical flow of two pictures, video and sound.

Expectations are computed here with NumPy, from tiles that go through the tensor API one by one."""

import base64
import io
import json
import struct
import uuid
import wave

import numpy as np
import pytest
from PIL import Image

from daemon import Daemon, png
from models import golden

TILE_H, TILE_W = 16, 24


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"flow": golden("hf-optical-flow"), "video": golden("hf-multimodal-autoencoding"),
                "language": golden("hf-masked-lm"), "image": golden("hf-image-fourier")},
               tmp_path_factory.mktemp("media") / "log")
    yield d
    d.stop()


def form(daemon, model, parts, query=""):
    """parts: (name, bytes) is a file, (name, str) a field."""
    edge = uuid.uuid4().hex
    body = b""
    for name, data in parts:
        file = isinstance(data, bytes)
        body += (f'--{edge}\r\nContent-Disposition: form-data; name="{name}"'
                 + ('; filename="f"\r\nContent-Type: application/octet-stream' if file else "")
                 + "\r\n\r\n").encode() + (data if file else data.encode()) + b"\r\n"
    body += f"--{edge}--\r\n".encode()
    return daemon.ask("POST", f"/v1/models/{model}/perceive{query}", body,
                      {"Content-Type": f"multipart/form-data; boundary={edge}"})


def pair(width, height):
    return png(width, height, 1), png(width, height, 2)


def flow_form(daemon, frames, query="", *more):
    return form(daemon, "flow", [("first", frames[0]), ("second", frames[1]), *more], query)


# ---- what the flow must be ------------------------------------------------------------------------


def patches(rgb):
    """[H, W, 3] bytes to [27, H, W]: 3 x 3 neighbours, zero outside."""
    x = rgb.astype(np.float32) / 255 * 2 - 1
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return np.stack([padded[dy:dy + h, dx:dx + w, c]
                     for dy in range(3) for dx in range(3) for c in range(3)])


def starts(side, tile):
    """Tiles along one axis: as far apart as an overlap of 20 (or half a small tile) allows, the
    last one flush."""
    step = tile - min(20, tile // 2)
    at = [0]
    while at[-1] + tile < side:
        at.append(min(at[-1] + step, side - tile))
    return at


def expected_flow(daemon, first, second):
    a, b = (np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in (first, second))
    h, w, _ = a.shape
    total, weights = np.zeros((h, w, 2)), np.zeros((h, w, 1))
    ys, xs = np.mgrid[:TILE_H, :TILE_W]
    weight = np.minimum.reduce([xs + 1, TILE_W - xs, ys + 1, TILE_H - ys])[..., None]
    for y in starts(h, TILE_H):
        for x in starts(w, TILE_W):
            cut = np.s_[y:y + TILE_H, x:x + TILE_W]
            tile = np.stack([patches(a[cut]), patches(b[cut])])[None]
            r = daemon.infer("flow", [{"name": "inputs", "datatype": "FP32",
                                       "shape": list(tile.shape),
                                       "data": [float(v) for v in tile.ravel()]}])
            assert r.status == 200, r.body
            uv = np.array(r.json["outputs"][0]["data"]).reshape(TILE_H, TILE_W, 2)
            total[cut] += weight * uv
            weights[cut] += weight
    return 20 * total / weights


def read_flo(data):
    assert data[:4] == b"PIEH"
    w, h = np.frombuffer(data[4:12], "<i4")
    uv = np.frombuffer(data[12:], "<f4")
    assert uv.size == w * h * 2
    return uv.reshape(h, w, 2)


@pytest.mark.parametrize("width,height", [(24, 16), (25, 16), (36, 24), (61, 47)])
def test_flow_of_any_size(daemon, width, height):
    frames = pair(width, height)
    r = flow_form(daemon, frames, "?format=flo")
    assert r.status == 200, r.body
    assert r.headers["content-type"] == "application/octet-stream"
    want = expected_flow(daemon, *frames)
    assert np.abs(want).max() > 1e-4
    np.testing.assert_allclose(read_flo(r.body), want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_a_picture_of_the_training_size_is_one_tile(daemon):
    r = flow_form(daemon, pair(TILE_W, TILE_H))
    assert r.status == 200, r.body
    assert r.json["usage"]["tokens"] == TILE_W * TILE_H
    assert r.json["results"][0]["shape"] == [TILE_H, TILE_W, 2]
    r = flow_form(daemon, pair(61, 47))
    assert r.json["usage"]["tokens"] == TILE_W * TILE_H * len(starts(61, 24)) * len(starts(47, 16))


def test_the_forms_of_a_flow_agree(daemon):
    frames = pair(36, 24)
    uv = read_flo(flow_form(daemon, frames, "?format=flo").body)
    raw = flow_form(daemon, frames, "", ("format", "raw"))
    np.testing.assert_array_equal(np.frombuffer(raw.body, "<f4").reshape(uv.shape), uv)
    inputs = {n: {"b64": base64.b64encode(f).decode()} for n, f in zip(("first", "second"), frames)}
    r = daemon.perceive("flow", inputs, [{"task": "flow"}])
    assert r.status == 200, r.body
    answer = r.json["results"][0]
    assert answer["task"] == "flow" and answer["shape"] == [24, 36, 2]
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(answer["b64"]), "<f4").reshape(uv.shape), uv)


def test_flow_as_colours(daemon):
    frames = pair(36, 24)
    uv = read_flo(flow_form(daemon, frames, "?format=flo").body).astype(np.float64)
    r = flow_form(daemon, frames, "?format=png")
    assert r.status == 200 and r.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(r.body))
    assert picture.size == (36, 24) and picture.mode == "RGB"
    # Corners of the wheel, clockwise from the right, and the steps between them.
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
    at = np.cumsum([0, 15, 6, 4, 11, 13, 6])
    length = np.hypot(uv[..., 0], uv[..., 1])
    turn = np.arctan2(uv[..., 1], uv[..., 0]) / (2 * np.pi) % 1 * 55
    hue = np.stack([np.interp(turn, at, corners[:, c]) for c in range(3)], -1)
    want = 255 * (1 - (length / length.max())[..., None] * (1 - hue))
    assert np.abs(np.asarray(picture) - want).max() < 0.52


def test_flow_at_points_is_the_flow_there(daemon):
    frames = pair(61, 47)
    uv = read_flo(flow_form(daemon, frames, "?format=flo").body)
    inputs = {n: {"b64": base64.b64encode(f).decode()} for n, f in zip(("first", "second"), frames)}
    points = [[0, 0], [60, 46], [30, 20], [13, 9], [30, 20], [12, 8]]
    r = daemon.perceive("flow", inputs, [{"task": "flow", "points": points}])
    assert r.status == 200, r.body
    for p, (x, y) in zip(r.json["results"][0]["points"], points):
        assert (p["x"], p["y"]) == (x, y)
        np.testing.assert_allclose([p["u"], p["v"]], uv[y, x], rtol=1e-4, atol=1e-6)
    # One point in the corner is one tile and one output query.
    r = daemon.perceive("flow", inputs, [{"task": "flow", "points": [[0, 0]]}])
    assert r.json["usage"]["tokens"] == TILE_W * TILE_H
    assert r.json["usage"]["output_queries"] == 1


def refused(r, status, *words):
    assert r.status == status, r.body
    error = r.json["error"]
    text = f"{error['path']} {error['message']}"
    for w in words:
        assert w in text, text


def test_pairs_that_are_none(daemon):
    good, other = pair(36, 24), png(37, 24)
    refused(flow_form(daemon, pair(23, 16)), 400, "first", "23 x 16", "24 x 16")
    refused(flow_form(daemon, (good[0], other)), 400, "second", "37 x 24", "36 x 24")
    refused(form(daemon, "flow", [("first", good[0])]), 400, "second", "missing")
    refused(form(daemon, "flow", [("first", good[0]), ("third", good[1])]), 400, "third")
    refused(flow_form(daemon, (good[0], b"no picture")), 415, "second")
    refused(flow_form(daemon, (good[0], good[1][:60])), 400, "second")


def test_formats_and_points_that_do_not_fit(daemon):
    frames = pair(36, 24)
    refused(flow_form(daemon, frames, "?format=bmp"), 400, "format", "png")
    refused(flow_form(daemon, frames, "?format=wav"), 400, "format", "flow")
    refused(flow_form(daemon, frames, "?task=flow&task=flow&format=png"), 400, "format")
    refused(flow_form(daemon, frames, "?format=png", ("format", "png")), 400, "format", "twice")

    def points(value, **more):
        inputs = {n: {"b64": base64.b64encode(f).decode()}
                  for n, f in zip(("first", "second"), frames)}
        return daemon.perceive("flow", inputs, [{"task": "flow", "points": value}], **more)

    refused(points([[36, 0]]), 400, "points[0]", "36 x 24")
    refused(points([[0, 0], [0, 24]]), 400, "points[1]")
    refused(points([[-1, 0]]), 400, "points[0][0]")
    refused(points([[1]]), 400, "points[0]")
    refused(points([[1, 2, 3]]), 400, "points[0]")
    refused(points([]), 400, "points")
    refused(points([[0.5, 0]]), 400, "points[0][0]")
    refused(points([[0, 0]], format="png"), 400, "format")
    r = daemon.perceive("image", {"image": {"b64": base64.b64encode(png()).decode()}},
                        [{"task": "classify", "points": [[0, 0]]}])
    refused(r, 400, "$.queries[0].points")


# ---- video and sound ------------------------------------------------------------------------------

CONFIG = json.loads((golden("hf-multimodal-autoencoding") / "config.json").read_text())
FRAMES, SIDE = CONFIG["output_shape"][-3], CONFIG["output_shape"][-1]
PATCH = CONFIG["samples_per_patch"]
SAMPLES = CONFIG["num_frames"] * CONFIG["audio_samples_per_frame"]


def wav(samples, rate=48000, channels=1):
    """16 bits; samples -1..1, the same in each channel."""
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(channels)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(np.repeat(np.round(np.asarray(samples) * 32767), channels)
                      .astype("<i2").tobytes())
    return out.getvalue()


def tone(n, rate=48000):
    return 0.5 * np.sin(2 * np.pi * 2000 * np.arange(n) / rate)


def clip():
    return [png(SIDE, SIDE, i) for i in range(FRAMES)]


def video(daemon, frames, sound, *more, query=""):
    return form(daemon, "video", [("image", f) for f in frames] + [("audio", sound), *more], query)


def autoencoded(daemon, frames, sound):
    """Outputs of the tensor API for the numbers that these media are."""
    image = np.stack([np.asarray(Image.open(io.BytesIO(f))).transpose(2, 0, 1) for f in frames])
    image = image.astype(np.float32) / 255
    with wave.open(io.BytesIO(sound)) as w:
        audio = np.frombuffer(w.readframes(w.getnframes()), "<i2") / np.float32(32768)
    r = daemon.infer("video", [
        {"name": "inputs.image", "datatype": "FP32", "shape": [1, *image.shape],
         "data": [float(v) for v in image.ravel()]},
        {"name": "inputs.audio", "datatype": "FP32", "shape": [1, SAMPLES, 1],
         "data": [float(v) for v in audio]}])
    assert r.status == 200, r.body
    return {o["name"]: np.array(o["data"], np.float32) for o in r.json["outputs"]}


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def float_wav(data):
    assert data[:4] == b"RIFF" and data[8:16] == b"WAVEfmt " and data[36:40] == b"data"
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", data[20:36])
    assert (kind, channels, rate, bits) == (3, 1, 48000, 32)
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert struct.unpack("<I", data[40:44])[0] == len(data) - 44
    return np.frombuffer(data[44:], "<f4")


def test_a_video_is_what_its_tensors_are(daemon):
    frames, sound = clip(), wav(tone(SAMPLES))
    want = autoencoded(daemon, frames, sound)
    r = video(daemon, frames, sound, query="?task=image&format=raw")
    assert r.status == 200, r.body
    close(np.frombuffer(r.body, "<f4"), want["logits.image"])
    r = video(daemon, frames, sound, query="?task=audio&format=wav")
    assert r.status == 200 and r.headers["content-type"] == "audio/wav", r.body
    close(float_wav(r.body), want["logits.audio"])


def test_all_tasks_from_one_encoding(daemon):
    frames, sound = clip(), wav(tone(SAMPLES))
    want = autoencoded(daemon, frames, sound)
    pixels = want["logits.image"].reshape(FRAMES, SIDE, SIDE, 3)
    last = FRAMES - 1
    queries = [{"task": "image", "frames": [last, 0]}, {"task": "image", "frames": [1]},
               {"task": "audio"}, {"task": "classify", "top_k": 2}]
    r = video(daemon, frames, sound, ("queries", json.dumps(queries)))
    assert r.status == 200, r.body
    some, one, heard, labels = r.json["results"]
    assert [f["index"] for f in some["files"]] == [last, 0]
    for f in some["files"] + one["files"]:
        assert f["type"] == "image/png"
        got = np.asarray(Image.open(io.BytesIO(base64.b64decode(f["b64"]))))
        assert np.abs(got - np.clip(255 * pixels[f["index"]], 0, 255)).max() < 0.52
    close(float_wav(base64.b64decode(heard["files"][0]["b64"])), want["logits.audio"])
    assert labels["labels"][0]["index"] == want["logits.label"].argmax()
    # Encoded once: as many tokens as one input has, and only the rows asked.
    assert r.json["usage"]["output_queries"] == 3 * SIDE * SIDE + SAMPLES // PATCH + 1


def test_one_frame_is_a_picture(daemon):
    frames, sound = clip(), wav(tone(SAMPLES))
    r = video(daemon, frames, sound, ("queries", '[{"task": "image", "frames": [1]}]'),
              query="?format=png")
    assert r.status == 200 and r.headers["content-type"] == "image/png", r.body
    assert Image.open(io.BytesIO(r.body)).size == (SIDE, SIDE)
    inputs = {"image": [{"b64": base64.b64encode(f).decode()} for f in frames],
              "audio": {"b64": base64.b64encode(sound).decode()}}
    again = daemon.perceive("video", inputs, [{"task": "image", "frames": [1]}], format="png")
    assert again.body == r.body


def test_frames_keep_their_order_and_are_cropped(daemon):
    sound = wav(tone(SAMPLES))
    big = [png(SIDE * 2 + 6, SIDE * 2, i) for i in range(FRAMES)]
    small = []
    for f in big:
        im = Image.open(io.BytesIO(f)).crop((3, 0, SIDE * 2 + 3, SIDE * 2))
        out = io.BytesIO()
        im.resize((SIDE, SIDE), Image.BILINEAR).save(out, "PNG")
        small.append(out.getvalue())
    ask = {"query": "?task=image&format=raw"}
    assert video(daemon, big, sound, **ask).body == video(daemon, small, sound, **ask).body
    assert video(daemon, small[::-1], sound, **ask).body != video(daemon, small, sound, **ask).body


def labels_of(daemon, sound):
    """Computed from these numbers: an answer from kept latents is theirs to float rounding only."""
    r = video(daemon, clip(), sound, query="?task=audio&format=raw&cache=false")
    assert r.status == 200, r.body
    return np.frombuffer(r.body, "<f4")


def test_sounds_of_other_rates_and_channels(daemon):
    want = labels_of(daemon, wav(tone(SAMPLES)))
    np.testing.assert_array_equal(labels_of(daemon, wav(tone(SAMPLES), channels=2)), want)
    half = tone(SAMPLES // 2, 24000)
    np.testing.assert_allclose(labels_of(daemon, wav(half, 24000)), want,
                               atol=0.05 * np.abs(want).max())
    # Up to a patch more or less: cut, or silence.
    np.testing.assert_array_equal(labels_of(daemon, wav(tone(SAMPLES + PATCH))), want)
    cut = tone(SAMPLES)
    cut[-PATCH:] = 0
    np.testing.assert_array_equal(labels_of(daemon, wav(cut[:-PATCH])), labels_of(daemon, wav(cut)))


def test_sounds_and_videos_that_are_none(daemon):
    frames, good = clip(), wav(tone(SAMPLES))

    def sound(data, status, *words):
        refused(video(daemon, frames, data), status, "audio", *words)

    sound(wav([]), 400)
    sound(b"", 415)
    sound(b"no sound at all", 415, "WAV, FLAC nor OGG")
    sound(good[:len(good) // 2], 400)
    sound(good[:40], 400)
    sound(b"OggS" + bytes(100), 400)
    sound(b"fLaC" + bytes(100), 400)
    sound(wav(tone(SAMPLES + PATCH + 1)), 400, "s of sound", str(SAMPLES))
    sound(wav(tone(SAMPLES - PATCH - 1)), 400, "s of sound")
    sound(wav(tone(SAMPLES), channels=9), 413, "9 channels")
    sound(wav(tone(SAMPLES), rate=900), 413, "900")
    refused(video(daemon, frames[:-1], good), 400, "image", f"{FRAMES - 1} pictures", str(FRAMES))
    refused(video(daemon, frames + frames[:1], good), 400, "image", str(FRAMES))
    refused(video(daemon, frames[:-1] + [b"x"], good), 415, "image")
    refused(form(daemon, "video", [("audio", good)]), 400, "image", "missing")
    refused(video(daemon, frames, good, ("audio", good)), 400, "audio", "twice")
    refused(form(daemon, "image", [("image", png()), ("image", png())]), 400, "image", "twice")

    def frames_asked(value, *words):
        query = json.dumps([{"task": "image", "frames": value}])
        refused(video(daemon, frames, good, ("queries", query)), 400, *words)

    frames_asked([FRAMES], "frames[0]", f"0..{FRAMES - 1}")
    frames_asked([-1], "frames[0]")
    frames_asked([], "frames")
    refused(video(daemon, frames, good, query="?task=image&format=png"), 400, "format")
    refused(video(daemon, frames, good, query="?task=classify&format=png"), 400, "format")


# ---- embeddings and characters --------------------------------------------------------------------


@pytest.mark.parametrize("model,inputs", [
    ("language", {"text": "caf\u00e9 [MASK]"}),
    ("image", {"image": {"b64": base64.b64encode(png(64, 64)).decode()}})])
def test_embeddings(daemon, model, inputs):
    info = daemon.get(f"/v1/models/{model}").json
    r = daemon.perceive(model, inputs, [{"task": "embed", "pool": "none"}, {"task": "embed"},
                                        {"task": info["tasks"][0]["name"]}])
    assert r.status == 200, r.body
    every, mean, other = r.json["results"]
    latents = np.array(every["embedding"], np.float32)
    assert latents.shape == (info["latents"]["count"], info["latents"]["width"])
    assert len(np.unique(latents)) > latents.size // 2
    np.testing.assert_allclose(mean["embedding"], latents.mean(0, dtype=np.float64), rtol=1e-5,
                               atol=1e-6)
    assert "embedding" not in other
    raw = daemon.perceive(model, inputs, [{"task": "embed", "pool": "none"}], format="raw")
    np.testing.assert_array_equal(np.frombuffer(raw.body, "<f4").reshape(latents.shape), latents)
    # Nobody gets it unasked.
    assert [x["task"] for x in daemon.perceive(model, inputs).json["results"]] == [
        t["name"] for t in info["tasks"]]
    refused(daemon.perceive(model, inputs, [{"task": info["tasks"][0]["name"], "pool": "mean"}]),
            400, "$.queries[0].pool")


def test_embeddings_differ_with_the_input(daemon):
    def embed(text):
        r = daemon.perceive("language", {"text": text}, [{"task": "embed"}])
        return np.array(r.json["results"][0]["embedding"])

    assert np.abs(embed("one") - embed("two")).max() > 1e-6
    np.testing.assert_array_equal(embed("one"), embed("one"))


def test_flow_has_no_embedding(daemon):
    refused(flow_form(daemon, pair(24, 16), "?task=embed"), 400, "$.queries[0].task")


def test_masks_are_placed_in_characters_too(daemon):
    text = "caf\u00e9 \U0001f600 [MASK]!"
    r = daemon.perceive("language", {"text": text}, [{"task": "fill-mask", "top_k": 1}])
    mask = r.json["results"][0]["masks"][0]
    assert mask["byte_offset"] == text.encode().index(b"[MASK]") == 11
    assert mask["char_offset"] == text.index("[MASK]") == 7
