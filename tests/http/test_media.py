"""Media in and out: optical flow of two pictures.

Expectations are computed here with NumPy, from tiles that go through the tensor API one by one."""

import base64
import io
import uuid

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
