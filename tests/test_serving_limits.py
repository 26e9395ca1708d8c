"""What the server refuses, and how it lives through being stopped, killed and reloaded."""

import base64
import concurrent.futures
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import ROOT, no_process_is_left, run_tool
from PIL import Image
from serving import serving
from small_checkpoint import CLASSES

from ppcls_lite.commands.serve import run
from ppcls_lite.errors import UserError
from ppcls_lite.serving.settings import ServeConfig

for _name in ("fastapi", "uvicorn", "prometheus_client", "schemathesis"):
    pytest.importorskip(_name)
hypothesis = pytest.importorskip("hypothesis")


CAT = ROOT / "test_images/chelsea.jpg"
MB = 1_000_000


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    with serving(exported, log, "--max-body-mb=1", "--max-images=2", "--max-megapixels=1") as one:
        yield one
        assert len(one.workers()) == 1, "a worker died of a bad request"
        assert not [line for line in one.lines() if line.get("status") == 500]


def picture(format_: str, size=(8, 8), mode="RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format_)
    return file.getvalue()


def png_of_any_size(width: int, height: int) -> bytes:
    """A PNG whose head promises a size and whose body holds almost nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n8 0 translate\nshowpage\n"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"not a picture", 400, "no image of a known format"),
        (CAT.read_bytes()[:5000], 400, "truncated"),
        (EPS, 400, "no image of a known format"),  # Pillow would start Ghostscript
        (png_of_any_size(2000, 2000), 413, "2000 x 2000 pixels; allowed: 1 million"),
        (png_of_any_size(60000, 60000), 413, "pixels"),
        (png_of_any_size(1, 30000), 413, "too narrow"),
        (bytes(MB + 1), 413, "larger than 1000000 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_pictures_are_told_why(server, body, status, words):
    answer = server.post("/predict", body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    if body and len(body) < 700_000:
        value = {"key": ["image"], "value": [base64.b64encode(body).decode()]}
        reply = server.post("/imagenet/prediction", json.dumps(value))
        assert reply.status_code == status and reply.json()["err_no"] == 5000
        assert words in reply.json()["err_msg"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_usual_kind_of_picture_is_read(server, kind):
    assert server.post("/predict", picture(kind)).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ({"key": ["image"]}, "value"),
        ({"key": ["image"], "value": ["*"]}, "no base64"),
        ({"key": ["a"], "value": ["YQ==", "YQ=="]}, "1 keys but 2 values"),
        ({"key": ["a"] * 3, "value": ["YQ=="] * 3}, "3 images; allowed: 2"),
        ({"key": ["a"], "value": [1]}, "value.0"),
        ({"key": ["a"], "value": ["YQ=="], "topk": 0}, "topk"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"key": ["\\ud800"], "value": [""]}', "Invalid JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_paddle_serving_requests_are_told_why(server, body, words):
    reply = server.post("/imagenet/prediction", body if isinstance(body, str) else json.dumps(body))
    assert 400 <= reply.status_code < 500
    assert words in reply.json()["err_msg"] and reply.json()["err_no"] == 5000


def tensor(**changes) -> dict:
    one = {"name": "input", "shape": [1, 3, 64, 64], "datatype": "FP32", "data": [0.5] * 12288}
    return {"inputs": [one | changes]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tensor(datatype="INT8"), "datatype"),
        (tensor(shape=[1, 3, 65, 64]), "shape [1, 3, 65, 64]"),
        (tensor(shape=[0, 3, 64, 64]), "N from 1 to 2"),
        (tensor(shape=[3, 3, 64, 64]), "N from 1 to 2"),
        (tensor(name="x"), "name"),
        (tensor(data=[1.0]), "holds 1 numbers"),
        (tensor(data=["1"] * 12288), "not a number"),
        (tensor(data=[True] * 12288), "not a number"),
        (tensor(data=[[1.0] * 12287, [1.0]]), "not regular"),
        (tensor(data=[[1.0], [1.0, 2.0]]), "holds 3 numbers"),
        (tensor(data=[1e39] * 12288), "not finite"),
        (tensor(data=[3e38] * 12288), "overflows"),
        (tensor(data=None), "either data or binary_data_size"),
        (tensor(parameters={"binary_data_size": 5}), "binary_data_size is 5"),
        ({"inputs": []}, "inputs"),
        (tensor() | {"outputs": [{"name": "x"}]}, "outputs"),
        (tensor() | {"parameters": {"engine": 1}}, "engine"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_bad_tensors_are_told_why(server, body, words):
    answer = server.post("/v2/models/mobilenet_v3_small/infer", json.dumps(body))
    assert answer.status_code == 400 and words in answer.json()["error"], answer.text


@pytest.mark.parametrize("length", ["99999999", "-1", "x", "9" * 5000, "²"])
def test_a_wrong_length_of_the_json_part_is_told(server, length):
    headers = {"Inference-Header-Content-Length": length.encode()}
    answer = server.post("/v2/models/mobilenet_v3_small/infer", b"{}", headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "multipart/form-data"}, 400),
        ({"content-type": "multipart/form-data; boundary=x"}, 400),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_bad_uploads_are_told_why(server, headers, status):
    answer = server.post("/predict", b"--y\r\n\r\n", headers=headers)
    assert answer.status_code == status and answer.json()["error"]


def test_long_values_are_cut_in_messages_and_in_the_log(server):
    long = "x" * 5000
    for answer in (
        server.post(f"/predict?model={long}", CAT.read_bytes()),
        server.post("/predict", b"", headers={"content-encoding": long}),
        server.post("/imagenet/prediction", json.dumps({"key": [long], "value": ["*"]})),
        server.post("/v2/models/mobilenet_v3_small/infer", json.dumps(tensor(name=long))),
        server.get(f"/{long}"),
    ):
        assert 400 <= answer.status_code < 500 and len(answer.text) < 900, answer.text
    assert long not in server.log.read_text()


def test_a_body_without_a_length_is_limited_too(server):
    parts = (bytes(100_000) for _ in range(20))  # chunked
    assert server.post("/predict", parts).status_code == 413


def test_other_methods_and_addresses(server):
    assert server.get("/predict").status_code == 405
    assert server.get("/predict").headers["allow"] == "POST"
    assert server.get("/nothing").json()["error"]
    assert requests.put(server.url + "/", timeout=60).status_code == 405


st = hypothesis.strategies
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = ["key", "value", "logid", "topk", "inputs", "outputs", "parameters", "id"]
BODIES = st.one_of(
    st.binary(max_size=300),
    st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda value: json.dumps(value).encode()),
    # a true picture with one damaged stretch
    st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=40)).map(
        lambda cut: picture("PNG", (64, 64))[: cut[0]] + cut[1] + CAT.read_bytes()[cut[0] :]
    ),
    st.tuples(st.integers(2, 60_000), st.binary(min_size=1, max_size=40)).map(
        lambda cut: CAT.read_bytes()[: cut[0]] + cut[1] + CAT.read_bytes()[cut[0] + len(cut[1]) :]
    ),
)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(body=BODIES, path=st.sampled_from(["predict", "imagenet/prediction", "infer"]))
def test_no_body_makes_the_server_fail(server, body, path):
    path = "/v2/models/mobilenet_v3_small/infer" if path == "infer" else f"/{path}"
    answer = server.post(path, body)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    reply = answer.json()
    assert answer.status_code == 200 or reply.get("error") or reply.get("err_msg")


def test_the_server_keeps_to_its_own_openapi_document(server, tmp_path):
    """Schemathesis: no failure, no status, content type or answer that is not in the document."""
    config = tmp_path / "schemathesis.toml"
    config.write_text('[parameters]\nname = "mobilenet_v3_small"\nversion = "1"\n')
    command = [Path(sys.executable).parent / "schemathesis", f"--config-file={config}", "run"]
    command += [f"{server.url}/openapi.json", "--seed=1", "--max-examples=5"]
    command += ["--phases=examples,coverage,fuzzing"]
    # A text that is no picture fits the document, and is refused all the same.
    command += ["--exclude-checks=positive_data_acceptance"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "15 selected / 15 total" in done.stdout


def test_overload_is_refused_and_told_when_to_come_back(exported, tmp_path):
    # The one request that there is a place for waits for companions, longer than it may.
    flags = ("--max-concurrency=1", "--batch-delay-ms=60000", "--timeout=3")
    with serving(exported, tmp_path / "log", *flags) as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.post, "/predict", CAT.read_bytes())
            while "ppcls_requests_in_progress 1.0" not in server.get("/metrics").text:
                assert not waiting.done()
            refused = server.post("/predict", CAT.read_bytes())
            assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
            assert server.get("/v2/health/live").status_code == 200  # probes still pass
            late = waiting.result()
        assert late.status_code == 503 and "no answer within 3 seconds" in late.json()["error"]
        assert late.headers["retry-after"] == "1"
        assert "ppcls_requests_in_progress 0.0" in server.get("/metrics").text  # the place is free


def test_as_many_clients_as_places_are_never_refused(exported, tmp_path):
    with serving(exported, tmp_path / "log", "--max-concurrency=3") as server:

        def client(_: int) -> set[int]:
            with requests.Session() as session:
                url = f"{server.url}/predict"
                return {session.post(url, CAT.read_bytes()).status_code for _ in range(150)}

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert list(pool.map(client, range(3))) == [{200}] * 3


def test_a_key_is_asked_for_and_nobody_outlives_the_supervisor(exported, tmp_path):
    (tmp_path / "key").write_text("secret\n")
    with serving(exported, tmp_path / "log", f"--api-key-file={tmp_path / 'key'}") as server:
        for headers in ({}, {"authorization": "Bearer secre"}, {"authorization": "secret"}):
            refused = server.post("/predict", CAT.read_bytes(), headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert server.get("/metrics", headers=headers).status_code == 401
        right = {"authorization": "Bearer secret"}
        assert server.post("/predict", CAT.read_bytes(), headers=right).status_code == 200
        assert server.get("/v2/health/ready").status_code == 200
        assert "secret" not in server.log.read_text()
        strange = {"authorization": "Bearer s\u00e9cret".encode()}
        assert server.post("/predict", CAT.read_bytes(), headers=strange).status_code == 401
        # Workers end when their supervisor is killed.
        server.stop(signal.SIGKILL)
        assert no_process_is_left(server.process.pid)


def test_requests_share_runs_of_the_network_and_sigterm_lets_them_end(exported, tmp_path):
    # With Paddle as well, which brings a handler of SIGTERM that would end the worker at once.
    flags = ("--max-batch=4", "--batch-delay-ms=3000", "--engine=all")
    with serving(exported, tmp_path / "log", *flags) as server:

        def classify(_: int = 0) -> list[float]:
            answer = server.post("/predict", CAT.read_bytes())
            return [row["prob"] for row in answer.json()["results"][0]["topk"]]

        alone = classify()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for probs in pool.map(classify, range(8)):
                assert np.allclose(probs, alone, atol=1e-6)  # a batch sums in another order
            text = server.get("/metrics").text
            runs = float(text.split("ppcls_batch_pictures_count ")[1].split()[0])
            assert "ppcls_batch_pictures_sum 9.0" in text and runs < 9
            assert f'ppcls_batch_pictures_bucket{{le="4.0"}} {runs}' in text  # never more than 4
            waiting = pool.submit(classify)  # for companions, three seconds long
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            refused = False
            while not refused and not waiting.done():
                time.sleep(0.1)
                try:
                    server.get("/v2/health/live")
                except requests.ConnectionError as error:
                    refused = "refused" in str(error)
            assert refused  # at once: nobody waits in a queue that is never served
            assert server.process.wait(60) == 0
            assert np.allclose(waiting.result(), alone, atol=1e-6)
        with pytest.raises(requests.ConnectionError):
            server.get("/v2/health/live")


@pytest.fixture
def library(exported, tmp_path):
    """models/small/{1,2} and models/other."""
    root = tmp_path / "models"
    for name in ("small/1", "small/2", "other"):
        shutil.copytree(exported, root / name)
    return root


def test_models_and_versions_side_by_side_and_replaced_without_a_failed_request(library, tmp_path):
    with serving(library, tmp_path / "log", "--reload-seconds=0.2") as server:
        models = [(m["name"], m["version"]) for m in server.get("/models").json()]
        assert models == [("other", "1"), ("small", "1"), ("small", "2")]
        answer = server.post("/predict?model=small", CAT.read_bytes()).json()
        assert (answer["model"], answer["version"]) == ("small", "2")  # the newest
        assert server.get("/v2/models/small/versions/1/ready").status_code == 200
        assert server.get("/v2/models/small/versions/3/ready").status_code == 404
        assert server.post("/small/prediction", "{}").json()["err_no"] == 5000

        done, failed, names = False, [], set()

        def ask() -> None:
            while not done:
                answer = server.post("/predict?model=small&version=2", CAT.read_bytes())
                if answer.status_code != 200:
                    failed.append(answer.text)
                else:
                    names.add(answer.json()["results"][0]["topk"][0]["name"])

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask) for _ in range(2)]
            # in place, file by file
            sidecar = library / "small/2/inference.yml"
            sidecar.write_text(sidecar.read_text().replace("- kind ", "- sort "))
            server.wait_for("small version 2 was read")
            # as a folder
            shutil.copytree(library / "small/1", tmp_path / "next")
            os.rename(library / "small/2", tmp_path / "last")
            time.sleep(0.3)
            os.rename(tmp_path / "next", library / "small/2")
            server.wait_for("small version 2 was read", 2)
            # a damaged one: the old one stays
            (library / "small/2/inference.onnx").write_bytes(b"damaged")
            server.wait_for("small version 2 stays as it was")
            time.sleep(0.3)
            done = True
            for one in asking:
                one.result()
        assert not failed
        best = server.post("/predict?model=small&version=2", CAT.read_bytes()).json()
        name = best["results"][0]["topk"][0]["name"]
        assert name in CLASSES and names == {name, name.replace("kind", "sort")}
        shutil.rmtree(library / "other")
        server.wait_for("other version 1 is gone")
        shutil.copytree(library / "small/1", library / "third")
        server.wait_for("third version 1 was read")


@pytest.mark.parametrize("key", ["sécret", "two words", "a\nb", "\0", "k" * 2000])
def test_a_key_that_no_header_can_carry_is_told(tmp_path, key):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    with pytest.raises(UserError, match=r"one word|allowed: 1024"):
        run(ServeConfig(exported="inference", api_key_file=str(tmp_path / "key")))


def test_mistakes_at_the_start_are_told(exported, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, words in [
            ({"exported": "nowhere"}, "no folder nowhere"),
            ({"exported": "tests"}, "no export folder"),
            ({"exported": ""}, "--exported is missing"),
            ({"port": port}, "Address already in use"),
            ({"grpc_port": port}, "--grpc-port"),
            ({"host": "no.such.host.invalid"}, "--host"),
            ({"api_key_file": "nowhere"}, "no key in it"),
            ({"request_memory_mb": 20}, "holds no body of --max-body-mb 16, which takes 48"),
        ]:
            with pytest.raises(UserError, match=words):
                run(ServeConfig(**({"exported": str(exported)} | settings)))


# The second name is that of Dockerfiles and manifests written before the server moved.
@pytest.mark.parametrize("module", ["ppcls_lite.serving", "ppcls_lite.deploy.serving"])
def test_a_damaged_file_at_the_start_is_one_message(exported, tmp_path, module):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "inference.onnx").write_bytes(b"damaged")
    done = run_tool("-m", module, copy, "--port=0", "--workers=1")
    assert done.returncode == 1 and "SHA-256 differs" in done.stderr
    assert "Traceback" not in done.stderr
