"""Large, slow and endless uploads: a worker's memory stays within what it says, others go on."""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import socket
import time
import urllib.error
import urllib.request

import pytest
import requests
from conftest import ROOT
from serving import memory, serving

for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)

CAT = ROOT / "test_images/chelsea.jpg"
LARGE = 15_900_000
BUDGET = 160e6  # of a worker, at the default limits


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def upload(length, path="/predict"):
    """The head of a request and the first byte of its body."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nx".encode()


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    # The engine whose own memory does not grow with the batch sizes that it meets.
    engine = "--engine=onnxruntime"
    with serving(exported, tmp_path_factory.mktemp("log") / "log", engine) as one:
        yield one
        assert len(one.workers()) == 1, "a worker died"
        assert not [line for line in one.lines() if line.get("status") == 500]


def large_bodies():
    """A picture with much behind its end: as it is, as base64, in a form, and as JSON numbers."""
    cat = CAT.read_bytes()
    raw = cat + bytes(LARGE - len(cat))
    text = base64.b64encode(cat + bytes(LARGE * 3 // 4 - len(cat) - 300)).decode()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form += raw[: LARGE - 200] + b"\r\n--b--\r\n"
    numbers = ["0.12345"] * (32 * 3 * 64 * 64)
    tensor = {"name": "input", "shape": [32, 3, 64, 64], "datatype": "FP32", "data": 0}
    infer = json.dumps({"inputs": [tensor]}).replace('"data": 0', f'"data": [{",".join(numbers)}]')
    return {
        "/predict": raw,
        "/imagenet/prediction": json.dumps({"key": ["image"], "value": [text]}).encode(),
        "/predict?topk=1": form,
        "/v2/models/mobilenet_v3_small/infer": infer.encode(),
    }


def test_sixty_four_clients_with_large_bodies_stay_within_the_budget(server):
    (pid,) = server.workers()
    message = server.lines()[0]["message"]
    assert "160 MB for requests" in message and "320 MB for the one image" in message
    for path, body in large_bodies().items():
        headers = {"content-type": "multipart/form-data; boundary=b"} if "topk" in path else {}
        assert server.post(path, body, headers=headers).status_code == 200
        before = memory(pid)
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")  # VmHWM starts again

        def client(_, path=path, body=body, headers=headers):
            return server.post(path, body, headers=headers).status_code

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            statuses = list(pool.map(client, range(64)))
        assert set(statuses) <= {200, 429} and 200 in statuses, statuses
        assert memory(pid, "VmHWM") - before < BUDGET + 12 * LARGE, path
        assert "ppcls_request_bytes 0.0" in server.get("/metrics").text  # all is given back
        for _ in range(300):  # the last answer is out before its body is given back
            if memory(pid) - before < BUDGET / 4:
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"{path}: {(memory(pid) - before) / 1e6:.0f} MB stay taken")
    assert server.post("/predict", CAT.read_bytes()).status_code == 200


def test_slow_uploads_keep_nobody_out_and_are_told(server):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(140)]
        for one in slow:
            one.sendall(upload(1_000_000))
        # More than there are places: pictures are still answered, and so are probes.
        assert server.post("/predict", CAT.read_bytes()).status_code == 200
        assert server.get("/v2/health/live").status_code == 200
        for one in slow:
            answer = http.client.HTTPResponse(one)
            answer.begin()
            text = answer.read()
            assert answer.status == 408 and answer.getheader("connection") == "close"
        assert b"1 bytes came in 5" in text and b"10 kB" in text


def test_a_body_that_is_too_large_gets_its_413_from_every_client(server):
    body = bytes(40_000_000)
    for _ in range(5):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{server.url}/predict", body, timeout=60)
        assert error.value.code == 413 and b"16000000" in error.value.read()
        assert requests.post(f"{server.url}/predict", body, timeout=60).status_code == 413
        parts = (body[:100_000] for _ in range(400))
        assert requests.post(f"{server.url}/predict", parts, timeout=60).status_code == 413
    # Neither are those cut off that another method or a missing key refuses.
    put = urllib.request.Request(f"{server.url}/predict", body, method="PUT")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(put, timeout=60)
    assert error.value.code == 405


@pytest.mark.parametrize(
    "body",
    [b'{"key":["a"],"value":[' + b'"a",' * 400_000 + b'"a"]}', b"[" + b"[]," * 400_000 + b"[]]"],
)
def test_json_of_countless_values_is_refused_before_it_is_unpacked(server, body):
    answer = server.post("/imagenet/prediction", body)
    assert answer.status_code == 413 and "values; allowed" in answer.json()["err_msg"]
    tensor = b'{"inputs":[{"name":"input","shape":[1,3,64,64],"datatype":"FP32","data":%b}]}'
    infer = "/v2/models/mobilenet_v3_small/infer"
    assert "holds" in server.post(infer, tensor % body).json()["error"]
    beside = server.post(infer, b'{"inputs":[],"parameters":%b}' % (b"[" + b"[]," * 40_000 + b"1]"))
    assert beside.status_code == 413 and "beside data" in beside.json()["error"]
