"""A network that is read again, however long it takes, holds nobody up."""

import threading

import pytest
from conftest import ROOT

for _name in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
    pytest.importorskip(_name)

CAT = (ROOT / "test_images/chelsea.jpg").read_bytes()


def test_probes_and_pictures_are_answered_while_a_network_loads(exported, tmp_path, monkeypatch):
    import shutil

    from starlette.testclient import TestClient

    from ppcls_lite.serving.app import create_app
    from ppcls_lite.serving.settings import ServeConfig
    from ppcls_lite.serving.store import Store

    folder = shutil.copytree(exported, tmp_path / "models")
    app = create_app(ServeConfig(exported=str(folder), engine="onnxruntime", reload_seconds=0.05))
    loading, go_on = threading.Event(), threading.Event()
    read = Store._read

    def held_up(store, key, place):
        loading.set()
        assert go_on.wait(60)
        return read(store, key, place)

    with TestClient(app) as client:
        before = client.get("/models").json()[0]["loaded_at"]
        monkeypatch.setattr(Store, "_read", held_up)
        sidecar = folder / "inference.yml"
        sidecar.write_text(sidecar.read_text().replace("- kind ", "- sort "))
        assert loading.wait(60)
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        answer = client.post("/predict", content=CAT).json()
        assert "kind" in answer["results"][0]["topk"][0]["name"]
        go_on.set()
        while client.get("/models").json()[0]["loaded_at"] == before:
            pass
        answer = client.post("/predict", content=CAT).json()
        assert "sort" in answer["results"][0]["topk"][0]["name"]


def test_a_successor_starts_with_what_is_whole(exported, tmp_path):
    import shutil

    from ppcls_lite.errors import UserError
    from ppcls_lite.serving.compute import ComputeThread
    from ppcls_lite.serving.settings import ServeConfig
    from ppcls_lite.serving.store import Store

    for version in ("1", "2"):
        shutil.copytree(exported, tmp_path / "cats" / version)
    damaged = tmp_path / "cats/2/inference.onnx"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000])
    store = Store(ServeConfig(exported=str(tmp_path), engine="onnxruntime"), ComputeThread())
    with pytest.raises(UserError, match=r"inference\.onnx"):
        store.load()  # at the start of a server a person reads it
    store.load(successor=True)
    assert [key for key, _ in store] == [("cats", "1")]
    store.refresh(), store.refresh()
    assert [key for key, _ in store] == [("cats", "1")]
    damaged.write_bytes(whole)
    store.refresh(), store.refresh()  # it has to be the same in two looks
    assert [key for key, _ in store] == [("cats", "1"), ("cats", "2")]

    for version in ("1", "2"):
        (tmp_path / "cats" / version / "inference.onnx").write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"inference\.onnx"):
        Store(ServeConfig(exported=str(tmp_path), engine="onnxruntime"), ComputeThread()).load(True)
