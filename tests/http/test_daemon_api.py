"""The daemon's APIs: native and Open Inference Protocol, good requests and bad ones."""

import json
import struct
import subprocess

import numpy as np
import pytest
import tritonclient.http as triton

from daemon import COMPUTED, Daemon, b64, png, tensor
from models import golden

IDS = [4, 78, 107, 3, 114, 5]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon({"image": golden("hf-image-fourier"), "learned": golden("hf-image-learned"),
                "text": golden("hf-masked-lm"), "sentence": golden("hf-text-classification")},
               tmp_path_factory.mktemp("api") / "log", "--http-max-body", "2M", *COMPUTED)
    yield d
    d.stop()


def mask_query(**more):
    return [{"task": "fill-mask", **more}]


# ---- native -------------------------------------------------------------------------------------------

def test_models_are_described(daemon):
    names = {m["name"]: m for m in daemon.get("/v1/models").json["models"]}
    assert set(names) == {"image", "learned", "text", "sentence"}
    one = daemon.get("/v1/models/image").json
    assert one["tasks"][0]["name"] == "classify" and one["tasks"][0]["labels"][3] == "label 3"
    assert one["latents"] == {"count": 24, "width": 64}


def test_fill_mask_names_the_byte_where_the_mask_stands(daemon):
    r = daemon.perceive("text", {"text": "héy [MASK]!"}, mask_query(top_k=3))
    assert r.status == 200
    (mask,) = r.json["results"][0]["masks"]
    assert mask["byte_offset"] == len("héy ".encode())
    assert mask["position"] == 1 + len("héy ".encode())
    scores = [c["score"] for c in mask["candidates"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and scores[0] <= 1
    assert r.json["usage"]["output_queries"] == 1
    assert r.json["usage"]["tokens"] == len("héy !".encode()) + 1 + 2


def test_the_three_forms_of_a_picture_agree(daemon):
    picture = png(20, 14)
    a = daemon.perceive("image", {"image": b64(picture)}, [{"task": "classify", "top_k": 4}])
    b = daemon.ask("POST", "/v1/models/image/perceive?task=classify&top_k=4", picture,
                   {"Content-Type": "image/png"})
    boundary = "cut-here"
    form = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
            "Content-Type: image/png\r\n\r\n").encode() + picture + (
                f"\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"top_k\"\r\n\r\n4"
                f"\r\n--{boundary}--\r\n").encode()
    c = daemon.ask("POST", "/v1/models/image/perceive", form,
                   {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert a.status == b.status == c.status == 200, c.body
    assert a.json["results"] == b.json["results"] == c.json["results"]
    assert len(a.json["results"][0]["labels"]) == 4


def test_usage_and_timing_are_told(daemon):
    r = daemon.perceive("sentence", {"text": "hello"}, [{"task": "classify"}]).json
    gmac = r["usage"]["gmac"]
    assert gmac["total"] == pytest.approx(gmac["encode"] + gmac["process"] + gmac["decode"])
    assert gmac["process"] > 0 and r["usage"]["tokens"] == 7
    assert set(r["timing_ms"]) >= {"adapt", "queue", "encode", "process", "decode", "total"}


def test_the_request_id_comes_back_and_is_logged(daemon):
    r = daemon.post("/v1/models/text/perceive", {"inputs": "a[MASK]"}, {"X-Request-Id": "mine-7"})
    assert r.headers["x-request-id"] == "mine-7" and r.json["id"] == "mine-7"
    assert "mine-7" in daemon.log()


# ---- bad requests: the right status, the place, and the next good one is answered ----------------------

BAD = [
    ("nope", {"inputs": "a"}, 404, None),
    ("text", {"inputs": "a", "queries": [{"task": "paint"}]}, 400, "$.queries[0].task"),
    ("text", {"inputs": "a", "queries": mask_query(top_k=0)}, 400, "$.queries[0].top_k"),
    ("text", {"inputs": "a", "queries": mask_query(top_k=1e9)}, 400, "$.queries[0].top_k"),
    ("text", {"inputs": "a", "queries": mask_query(topk=3)}, 400, "$.queries[0]"),
    ("text", {"inputs": "a" * 200}, 413, "$.inputs"),
    ("text", {"inputs": {"image": {"b64": "AAAA"}}}, 400, "$.inputs"),
    ("image", {"inputs": {"image": {"b64": "!!!"}}}, 400, "$.inputs.image.b64"),
    ("image", {"inputs": {"image": b64(b"GIF89a...............")}}, 415, "$.inputs.image"),
    ("image", {"inputs": {"image": b64(png()[:-30])}}, 400, "$.inputs.image"),
    ("image", {}, 400, None),
]


@pytest.mark.parametrize("model,document,status,place", BAD)
def test_bad_native_requests(daemon, model, document, status, place):
    r = daemon.post(f"/v1/models/{model}/perceive", document)
    assert r.status == status, r.body
    error = r.json["error"]
    assert error["code"] and error["message"] and error["request_id"] == r.headers["x-request-id"]
    if place:
        assert error["path"].startswith(place), error
    assert daemon.perceive("text", "a[MASK]").status == 200


def test_an_image_that_claims_sixty_thousand_squared_is_refused_unread(daemon):
    head = png()
    claimed = head[:16] + struct.pack(">II", 60000, 60000) + head[24:]
    import zlib
    claimed = claimed[:29] + struct.pack(">I", zlib.crc32(claimed[12:29])) + claimed[33:]
    r = daemon.perceive("image", {"image": b64(claimed)})
    assert r.status == 413 and "60000" in r.json["error"]["message"], r.body


def test_json_nested_ten_thousand_deep(daemon):
    for path in ("/v1/models/text/perceive", "/v2/models/text/infer"):
        for deep in (b"[" * 10000, b'{"inputs":' * 10000, b'{"inputs":' + b"[" * 10000):
            assert daemon.post(path, deep).status == 400
    assert daemon.perceive("text", "a[MASK]").status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(daemon):
    c = daemon.connect()
    c.putrequest("POST", "/v1/models/image/perceive")
    c.putheader("Content-Length", str(1 << 40))
    c.putheader("Expect", "100-continue")
    c.endheaders()
    assert c.getresponse().status == 413
    c.close()


@pytest.mark.parametrize("method,path,allow", [
    ("DELETE", "/v1/models/text", "GET"), ("GET", "/v1/models/text/perceive", "POST"),
    ("POST", "/v2/health/live", "GET"), ("PUT", "/v2/models/text/infer", "POST")])
def test_wrong_methods(daemon, method, path, allow):
    r = daemon.ask(method, path)
    assert r.status == 405 and allow in r.headers["allow"]


# ---- Open Inference Protocol -----------------------------------------------------------------------------

def test_health_and_metadata(daemon):
    assert daemon.get("/v2/health/live").json == {"live": True}
    assert daemon.get("/v2/health/ready").json == {"ready": True}
    server = daemon.get("/v2").json
    assert {"binary_tensor_data", "statistics", "classification"} <= set(server["extensions"])
    model = daemon.get("/v2/models/text").json
    assert model["inputs"][0] == {"name": "inputs", "datatype": "INT64", "shape": [-1, -1]}
    assert model["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, -1, 262]}
    assert daemon.get("/v2/models/text/ready").json == {"name": "text", "ready": True}
    assert daemon.get("/v2/models/text/versions/1").status == 200
    assert daemon.get("/v2/models/text/versions/2").status == 404


def test_padding_changes_nothing(daemon):
    short = daemon.infer("text", [tensor("inputs", "INT64", [1, 6], IDS)]).json
    padded = daemon.infer("text", [
        tensor("inputs", "INT64", [1, 20], IDS + [0] * 14),
        tensor("attention_mask", "INT64", [1, 20], [1] * 6 + [0] * 14)]).json
    one = np.array(short["outputs"][0]["data"], np.float32).reshape(6, 262)
    two = np.array(padded["outputs"][0]["data"], np.float32).reshape(20, 262)[:6]
    assert np.abs(one - two).max() <= 1e-5 * np.abs(one).max()
    assert short["parameters"]["tokens"] == padded["parameters"]["tokens"] == 6


def test_a_real_client_json_and_binary(daemon):
    client = triton.InferenceServerClient(daemon.address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("text")
    assert client.get_server_metadata()["name"] == "perceiverd"
    assert client.get_model_metadata("text")["platform"]
    assert "max_batch_size" in client.get_model_config("text")
    ids = np.array([IDS, IDS[:3] + [70] + IDS[4:]], np.int64)
    answers = []
    for binary_in in (True, False):
        for binary_out in (True, False):
            given = triton.InferInput("inputs", list(ids.shape), "INT64")
            given.set_data_from_numpy(ids, binary_data=binary_in)
            wanted = [triton.InferRequestedOutput("logits", binary_data=binary_out)]
            result = client.infer("text", [given], outputs=wanted, request_id="seven")
            assert result.get_response()["id"] == "seven"
            answers.append(result.as_numpy("logits"))
    for a in answers:
        assert a.shape == (2, 6, 262) and np.array_equal(a, answers[0])
    stats = client.get_inference_statistics("text")["model_stats"][0]
    assert stats["inference_count"] >= 8 and stats["inference_stats"]["success"]["count"] >= 4
    client.close()


def test_a_real_client_gets_classes(daemon):
    client = triton.InferenceServerClient(daemon.address)
    given = triton.InferInput("inputs", [1, 3, 16, 16], "FP32")
    given.set_data_from_numpy(np.random.default_rng(1).standard_normal((1, 3, 16, 16), np.float32))
    result = client.infer("image", [given], outputs=[
        triton.InferRequestedOutput("logits", class_count=3)])
    rows = [r.decode().split(":") for r in result.as_numpy("logits").reshape(-1)]
    assert len(rows) == 3 and rows[0][2] == f"label {rows[0][1]}"
    assert float(rows[0][0]) >= float(rows[1][0])
    with pytest.raises(triton.InferenceServerException, match="no_such"):
        client.infer("image", [given], outputs=[triton.InferRequestedOutput("no_such")])
    client.close()


def test_media_travel_as_bytes(daemon):
    client = triton.InferenceServerClient(daemon.address)
    picture = png(20, 14)
    given = triton.InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([picture], object))
    result = client.infer("image", [given])
    native = daemon.perceive("image", {"image": b64(picture)}, [{"task": "classify", "top_k": 1}])
    assert result.as_numpy("logits").shape == (1, 10)
    assert result.as_numpy("logits").argmax() == native.json["results"][0]["labels"][0]["index"]
    client.close()


OIP_BAD = [
    ([tensor("inputs", "INT64", [1, 6], IDS[:5])], "inputs[0]"),
    ([tensor("inputs", "INT64", [1, 3], [4, 999, 5])], "999"),
    ([tensor("inputs", "INT64", [1, 3], [4, 1.5, 5])], "inputs[0]"),
    ([tensor("inputs", "INT64", [1, 3], [4, 2**70, 5])], "inputs[0]"),
    ([tensor("inputs", "INT64", [1, -3], IDS)], "shape"),
    ([tensor("inputs", "FP17", [1, 6], IDS)], "datatype"),
    ([tensor("input", "INT64", [1, 6], IDS)], "input"),
    ([tensor("inputs", "INT64", [1, 6], IDS), tensor("inputs", "INT64", [1, 6], IDS)], "inputs"),
    ([tensor("inputs", "INT64", [6], IDS)], "shape"),
    ([], "inputs"),
]


@pytest.mark.parametrize("inputs,place", OIP_BAD)
def test_bad_infer_requests(daemon, inputs, place):
    r = daemon.infer("text", inputs)
    assert r.status in (400, 413) and place in r.json["error"], r.body
    assert daemon.infer("text", [tensor("inputs", "INT64", [1, 6], IDS)]).status == 200


@pytest.mark.parametrize("header_len,size", [("5", 48), ("99999", 48), ("-1", 48), ("x", 48),
                                             (None, 47), (None, 49), (None, 10**15)])
def test_bad_binary_lengths(daemon, header_len, size):
    head = json.dumps({"inputs": [{"name": "inputs", "datatype": "INT64", "shape": [1, 6],
                                   "parameters": {"binary_data_size": size}}]}).encode()
    body = head + np.array(IDS, "<i8").tobytes()
    r = daemon.ask("POST", "/v2/models/text/infer", body,
                   {"Inference-Header-Content-Length": header_len or str(len(head))})
    assert r.status == 400 and r.json["error"], r.body


# ---- what observers read ----------------------------------------------------------------------------------

def test_metrics_pass_promtool(daemon):
    daemon.perceive("text", "a[MASK]")
    text = daemon.get("/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    names = {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}
    assert all(n.startswith("perceiverd_") for n in names) and len(names) > 15
    assert daemon.metric("perceiverd_tokens_total", model="text") > 0


def test_openapi_names_every_path_and_is_served(daemon):
    document = daemon.get("/openapi.json").json
    assert document["openapi"].startswith("3.")
    assert {"/v1/models", "/v1/models/{m}/perceive", "/v2/models/{m}/infer", "/metrics"} <= set(
        document["paths"])
