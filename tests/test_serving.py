"""The server as its clients see it: real processes, real HTTP, Triton's own clients."""

import base64
import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from conftest import ROOT, run_tool
from PIL import Image
from serving import serving

from ppcls_lite.cli import parse
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.sidecar import read_sidecar, write_sidecar
from ppcls_lite.metric import centred_logits
from ppcls_lite.serving.settings import ServeConfig

for _name in ("fastapi", "uvicorn", "prometheus_client", "grpc_tools"):
    pytest.importorskip(_name)
triton_http = pytest.importorskip("tritonclient.http")
triton_grpc = pytest.importorskip("tritonclient.grpc")


CAT, COFFEE = ROOT / "test_images/chelsea.jpg", ROOT / "test_images/coffee.jpg"


@pytest.fixture(scope="session")
def grpc_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def server(exported, tmp_path_factory, grpc_port):
    """All engines, two workers, HTTP and gRPC."""
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ("--engine=all", f"--grpc-port={grpc_port}", "--max-images=4", "--max-body-mb=2")
    with serving(exported, log, *flags, workers=2) as running:
        yield running


def b64(path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def pipeline(server, **fields) -> requests.Response:
    """Sends Step6's request as its client does: JSON without a content type."""
    return server.post("/imagenet/prediction", json.dumps(fields))


def test_the_documents_request_gets_paddle_servings_reply(server, expected):
    answer = pipeline(server, key=["image"], value=[b64(CAT)], logid=10000)
    assert answer.status_code == 200
    best = expected[0][0]
    assert answer.json() == {
        "err_no": 0,
        "err_msg": "",
        "key": ["label", "prob"],
        "value": [f"['{best.name}']", f"[{best.prob}]"],
        "tensors": [],
    }
    assert list(answer.json()) == ["err_no", "err_msg", "key", "value", "tensors"]
    assert server.wait_for('"logid": 10000')["status"] == 200


def test_the_short_flag_of_its_help_is_one():
    assert parse(ServeConfig, ["inference", "-j", "4"], "serve").workers == 4


def test_several_pictures_and_topk_in_one_paddle_serving_request(server, expected):
    value = [b64(CAT), b64(COFFEE)]
    labels, probs = pipeline(server, key=["image", "image_1"], value=value).json()["value"]
    assert labels == str([ranking[0].name for ranking in expected])
    # alone or together, onnxruntime may add in another order
    assert np.allclose(json.loads(probs), [r[0].prob for r in expected], atol=1e-6)
    labels = pipeline(server, key=["a", "b"], value=value, topk=3).json()["value"][0]
    assert labels == str([[p.name for p in ranking[:3]] for ranking in expected])


def test_the_documents_client_script_prints_the_reply(server, expected):
    script = "deploy/serving/pipeline_http_client.py"
    done = run_tool(script, "--url", f"{server.url}/imagenet/prediction", "--image", CAT)
    assert done.returncode == 0, done.stderr
    assert expected[0][0].name in done.stdout


def test_raw_upload_and_form_answer_like_the_predictor(server, expected):
    for answer in (
        server.post("/predict?topk=5", CAT.read_bytes()),
        server.post("/predict?topk=5", files={"file": CAT.open("rb")}),
    ):
        (result,) = answer.json()["results"]
        assert result["topk"] == [vars(prediction) for prediction in expected[0]]
    files = [("file", path.open("rb")) for path in (CAT, COFFEE)]
    results = server.post("/predict?topk=1", files=files).json()["results"]
    assert [result["file"] for result in results] == ["chelsea.jpg", "coffee.jpg"]


@pytest.mark.parametrize("engine", ["onnxruntime", "paddle_inference"])
def test_a_heatmap_comes_when_it_is_asked_for(server, exported, expected, engine):
    files = [("file", path.open("rb")) for path in (CAT, COFFEE)]
    results = server.post(f"/predict?explain=true&engine={engine}", files=files).json()["results"]
    whys = Predictor(exported, engine).explain([CAT, COFFEE])
    for result, why, ranking in zip(results, whys, expected, strict=True):
        probs = [row["prob"] for row in result["topk"]]
        assert np.allclose(probs, [p.prob for p in ranking], atol=1e-5)
        assert (result["explain"]["class_id"], "seen" in result) == (ranking[0].class_id, False)
        assert result["explain"]["method"] == why.method == "grad_cam"
        head, _, data = result["explain"]["heatmap"].partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (head, image.format) == ("data:image/png;base64", "PNG")
        # sums in another order move a colour by a step
        assert np.abs(np.asarray(image, int) - np.asarray(why.overlay(), int)).max() <= 2
    assert "explain" not in server.post("/predict", CAT.read_bytes()).json()["results"][0]
    broken = [("file", CAT.open("rb")), ("file", b"words")]
    failed = server.post("/predict?explain=true", files=broken)
    assert (failed.status_code, failed.json()["error"][:14]) == (400, "image 2 of 2: ")


@pytest.mark.parametrize("explain", ["true", "false"])
def test_features_come_when_they_are_asked_for(server, exported, explain):
    files = [("file", path.open("rb")) for path in (CAT, COFFEE)]
    answer = server.post(f"/predict?features=true&explain={explain}", files=files)
    found = np.array([result["features"] for result in answer.json()["results"]])
    expected = Predictor(exported, "onnxruntime").embed([CAT, COFFEE])
    # alone or together, onnxruntime may add in another order
    assert np.allclose(found, expected, atol=1e-5)
    assert "features" not in server.post("/predict", CAT.read_bytes()).json()["results"][0]


@pytest.mark.parametrize("engine", ["onnxruntime", "paddle_inference"])
def test_every_engine_gives_the_same_classes(server, expected, engine):
    answer = server.post(f"/predict?engine={engine}", CAT.read_bytes()).json()
    assert answer["engine"] == engine
    probs = [row["prob"] for row in answer["results"][0]["topk"]]
    # the two engines sum in different orders
    assert np.allclose(probs, [p.prob for p in expected[0]], atol=1e-5)


def test_sixteen_clients_each_get_the_answers_to_their_own_pictures(server, exported):
    engines = server.get("/models").json()[0]["engines"]
    assert {"onnxruntime", "paddle_inference"} <= set(engines)
    grids = np.random.RandomState(6).randint(0, 256, (8, 6, 8, 3)).astype(np.uint8)
    files = [io.BytesIO() for _ in grids]
    for grid, file in zip(grids, files, strict=True):
        Image.fromarray(grid).resize((96, 80), Image.Resampling.BICUBIC).save(file, "png")
    predictor = Predictor(exported, "onnxruntime")
    alone = predictor([file.getvalue() for file in files], topk=1)

    def ask(number: int) -> dict:
        data = files[number % 8].getvalue()
        engine = engines[number // 8 % len(engines)]
        answer = server.post(f"/predict?topk=1&engine={engine}", data)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"][0]["topk"][0]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(160)))
    assert len({round(ranking[0].prob, 4) for ranking in alone}) == 8  # a mixed-up answer shows
    for number, answer in enumerate(answers):
        (best,) = alone[number % 8]
        assert answer["class_id"] == best.class_id
        assert answer["prob"] == pytest.approx(best.prob, abs=1e-5)  # sums in another order


def test_what_the_network_saw_comes_back(server, exported):
    url = server.post("/predict?seen=true", CAT.read_bytes()).json()["results"][0]["seen"]
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    spec = Predictor(exported).info.preprocess
    assert (np.asarray(Image.open(io.BytesIO(data))) == spec.pixels(Image.open(CAT))).all()


def images(count: int) -> np.ndarray:
    return np.random.RandomState(0).randn(count, 3, 64, 64).astype(np.float32)


def triton(module, server, grpc_port):
    url = f"127.0.0.1:{grpc_port}" if module is triton_grpc else server.url[len("http://") :]
    return module.InferenceServerClient(url)


@pytest.mark.parametrize("module", [triton_http, triton_grpc], ids=["http", "grpc"])
def test_tritons_client_gets_health_metadata_and_answers(server, exported, grpc_port, module):
    client = triton(module, server, grpc_port)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("mobilenet_v3_small", "1")
    options = {"as_json": True} if module is triton_grpc else {}
    assert client.get_server_metadata(**options)["name"] == "ppcls_lite"
    metadata = client.get_model_metadata("mobilenet_v3_small", **options)
    (tensor,) = metadata["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("input", "FP32")
    assert [int(n) for n in tensor["shape"]] == [-1, 3, 64, 64]
    index = client.get_model_repository_index(**options)
    models = index["models"] if isinstance(index, dict) else index
    assert [model["name"] for model in models] == ["mobilenet_v3_small"]
    data = images(2)
    tensor = module.InferInput("input", list(data.shape), "FP32")
    tensor.set_data_from_numpy(data)
    wanted = module.InferRequestedOutput("probabilities")
    for outputs in (None, [wanted]):
        answer = client.infer("mobilenet_v3_small", [tensor], outputs=outputs, request_id="abc")
        probs = answer.as_numpy("probabilities")
        assert np.allclose(probs, Predictor(exported).probabilities(data), atol=1e-6)
    with pytest.raises(module.InferenceServerException, match="no model 'cat'"):
        client.infer("cat", [tensor])


def test_tritons_http_client_sends_and_gets_json_too(server, exported):
    client = triton_http.InferenceServerClient(server.url[len("http://") :])
    data = images(1)
    tensor = triton_http.InferInput("input", list(data.shape), "FP32")
    tensor.set_data_from_numpy(data, binary_data=False)
    wanted = triton_http.InferRequestedOutput("probabilities", binary_data=False)
    answer = client.infer("mobilenet_v3_small", [tensor], outputs=[wanted])
    probs = answer.as_numpy("probabilities")
    assert np.allclose(probs, Predictor(exported).probabilities(data), atol=1e-6)


@pytest.mark.parametrize("module", [triton_http, triton_grpc], ids=["http", "grpc"])
def test_files_of_pictures_go_in_as_bytes_and_features_come_out(
    server, exported, expected, grpc_port, module
):
    client = triton(module, server, grpc_port)
    options = {"as_json": True} if module is triton_grpc else {}
    metadata = client.get_model_metadata("mobilenet_v3_small", **options)
    assert [each["name"] for each in metadata["outputs"]] == ["probabilities", "features"]
    tensor = module.InferInput("input", [2], "BYTES")
    files = np.array([CAT.read_bytes(), COFFEE.read_bytes()], object)
    tensor.set_data_from_numpy(files)
    names = ("features", "probabilities")
    wanted = [module.InferRequestedOutput(name) for name in names]
    answer = client.infer("mobilenet_v3_small", [tensor], outputs=wanted)
    probs = answer.as_numpy("probabilities")
    for row, ranking in zip(probs, expected, strict=True):
        for one in ranking:
            assert row[one.class_id] == pytest.approx(one.prob, abs=1e-6)
    features = Predictor(exported).embed([CAT, COFFEE])
    np.testing.assert_allclose(answer.as_numpy("features"), features, atol=1e-5)
    alone = client.infer("mobilenet_v3_small", [tensor])
    assert alone.as_numpy("features") is None and alone.as_numpy("unknown") is None
    unknown = [module.InferRequestedOutput("unknown")]
    with pytest.raises(module.InferenceServerException, match="no output unknown"):
        client.infer("mobilenet_v3_small", [tensor], outputs=unknown)
    broken = module.InferInput("input", [2], "BYTES")
    broken.set_data_from_numpy(np.array([CAT.read_bytes(), b"words"], object))
    with pytest.raises(module.InferenceServerException, match=r"image 2 of 2: .*no image"):
        client.infer("mobilenet_v3_small", [broken])


def test_pictures_of_json_are_base64_and_lengths_are_looked_at(server, expected):
    def ask(data, shape, raw=b"", **parameters):
        tensor = {"name": "input", "datatype": "BYTES", "shape": shape, "parameters": parameters}
        head = json.dumps({"inputs": [tensor | ({} if data is None else {"data": data})]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))} if raw else {}
        return server.post("/v2/models/mobilenet_v3_small/infer", head + raw, headers=headers)

    (output,) = ask([b64(CAT)], [1]).json()["outputs"]
    best = expected[0][0]
    assert output["data"][best.class_id] == pytest.approx(best.prob, abs=1e-6)
    for data, shape in (
        ([b64(CAT)], [2]), ([b64(CAT)], [1, 1]), (["no base64!"], [1]), ([7], [1]), (["ä"], [1]),
    ):  # fmt: skip
        assert ask(data, shape).status_code == 400
    for raw in (b"\xff\xff\xff\xffab", b"\x01\0\0\0ab", b"\x01\0\0\0a\0\0\0\0", b"\0"):
        told = ask(None, [1], raw, binary_data_size=len(raw))
        assert told.status_code == 400 and "with their lengths" in told.json()["error"]


def test_none_of_these_travels_in_tensors_too(exported, tmp_path):
    """One of two pictures reaches no limit; the answer is what the Predictor's is."""
    shutil.copytree(exported, tmp_path / "strict")
    sidecar = read_sidecar(tmp_path / "strict")
    data = images(2)
    centred = centred_logits(np.log(Predictor(exported).probabilities(data)))
    limits = np.sort(centred.max(axis=1)).mean().repeat(10)
    info = dataclasses.replace(sidecar.info, known_limits=tuple(limits.tolist()))
    write_sidecar(tmp_path / "strict", dataclasses.replace(sidecar, info=info))
    right = [r.unknown for r in Predictor(tmp_path / "strict").rank(
        Predictor(exported).probabilities(data), 1)]  # fmt: skip
    assert sorted(right) == [False, True]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ("--engine=onnxruntime", f"--grpc-port={port}")
    with serving(tmp_path / "strict", tmp_path / "log", *flags) as running:
        with socket.socket() as probe:  # gRPC's port opens after the networks are ready
            while probe.connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
        for module in (triton_http, triton_grpc):
            tensor = module.InferInput("input", list(data.shape), "FP32")
            tensor.set_data_from_numpy(data)
            answer = triton(module, running, port).infer("mobilenet_v3_small", [tensor])
            assert answer.as_numpy("unknown").tolist() == right
            assert answer.as_numpy("probabilities").shape == (2, 10)
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": list(data.shape),
                            "data": data.ravel().tolist()}]}  # fmt: skip
        found = running.post("/v2/models/mobilenet_v3_small/infer", json.dumps(body)).json()
        assert [each["datatype"] for each in found["outputs"]] == ["FP32", "BOOL"]
        assert found["outputs"][1]["data"] == right


def test_metrics_count_what_all_workers_did(server):
    before = metric(server, 'ppcls_requests_total{protocol="http",route="/predict",status="200"}')
    for _ in range(6):  # connections of their own: both workers get some
        server.post("/predict", CAT.read_bytes())
    after = metric(server, 'ppcls_requests_total{protocol="http",route="/predict",status="200"}')
    assert after - before == 6
    assert metric(server, "ppcls_requests_in_progress") == 0
    server.post("/predict", b"no picture")
    assert metric(server, 'ppcls_errors_total{kind="bad_picture"}') >= 1
    names = ("ppcls_request_seconds_bucket", "ppcls_queue_length", "ppcls_batch_pictures_sum")
    assert all(name in server.get("/metrics").text for name in names)


def metric(server, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_request_id_goes_into_answer_and_log(server):
    headers = {"x-request-id": "from-the-client.1"}
    assert server.get("/models", headers=headers).headers["x-request-id"] == "from-the-client.1"
    assert server.wait_for("from-the-client.1")["path"] == "/models"
    bad = server.get("/models", headers={"x-request-id": "two words"}).headers["x-request-id"]
    assert len(bad) == 32  # one of our own


def test_a_killed_worker_is_replaced(server):
    before = server.workers()
    os.kill(sorted(before)[0], signal.SIGKILL)
    server.wait_for('"ready after', len(before) + 1)
    assert server.post("/predict", CAT.read_bytes()).status_code == 200
    assert metric(server, "ppcls_requests_in_progress") == 0


def test_grpc_bytes_that_are_no_message_are_an_invalid_argument(server, grpc_port):
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        for name in ("ModelInfer", "ModelReady", "ModelMetadata", "RepositoryIndex"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            # No field, a length beyond the end, and more empty tensors than anybody sends.
            for data in (b"\xff" * 50, b"\x0a\x7fx", b"\x2a\x00" * 200_000):
                with pytest.raises(grpc.RpcError) as error:
                    call(data, timeout=60, wait_for_ready=True)
                assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
                assert len(error.value.details()) < 400
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(bytes(3_000_000))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    text = server.log.read_text()
    assert "Traceback" not in text and "traceback" not in text
