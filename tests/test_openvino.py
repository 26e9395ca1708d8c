"""OpenVINO's graphs by batch size and the folder they are kept in, with the real engine."""

import contextlib
import os
import shutil
import threading

import numpy as np
import pytest
from small_checkpoint import checkpoint, trained_probabilities

from ppcls_lite.deploy.export import export_model
from ppcls_lite.environment import cpu_cores
from ppcls_lite.openvino_runtime import FIXED_BATCHES, OpenVinoRuntime

openvino = pytest.importorskip("openvino")
CLOSE = 1e-5  # fp32 engines differ in the order of their sums


def images(count):
    return np.random.RandomState(2).randn(count, 3, 64, 64).astype("float32")


@pytest.mark.parametrize("file", ["inference.onnx", "inference.pdmodel"])
def test_every_batch_size_gets_the_answers_of_its_pictures(exported, file):
    expected = trained_probabilities(exported.parent, images(9))
    runtime = OpenVinoRuntime(exported / file)
    for count in (1, 8, 2, 5, 9, 3, 1, 7, 8, 4):
        np.testing.assert_allclose(runtime(images(9)[:count]), expected[:count], atol=CLOSE)
    assert len(runtime._requests) == FIXED_BATCHES + 1  # further sizes share one


def test_a_file_of_one_batch_size_says_so(exported, tmp_path):
    core = openvino.Core()
    model = core.read_model(exported / "inference.onnx")
    model.reshape([4, 3, 64, 64])
    openvino.save_model(model, tmp_path / "fixed.xml", compress_to_fp16=False)
    runtime = OpenVinoRuntime(tmp_path / "fixed.xml")
    assert runtime.batch == 4 and runtime.image_size == 64
    expected = trained_probabilities(exported.parent, images(4))
    np.testing.assert_allclose(runtime(images(4)), expected, atol=CLOSE)


def test_kept_graphs_are_found_again_and_are_never_another_networks(exported, tmp_path):
    cache = tmp_path / "cache"
    first = OpenVinoRuntime(exported / "inference.onnx", cache=cache)(images(1))
    kept = {file.name: file.stat().st_mtime_ns for file in cache.rglob("*.blob")}
    assert len(kept) == 1
    again = OpenVinoRuntime(exported / "inference.onnx", cache=cache)(images(1))
    assert {file.name: file.stat().st_mtime_ns for file in cache.rglob("*.blob")} == kept
    np.testing.assert_array_equal(again, first)

    # The same layers under the same path with other weights, as a training exports them.
    path = tmp_path / "inference.onnx"
    shutil.copy(exported / "inference.onnx", path)
    OpenVinoRuntime(path, cache=cache)(images(1))
    weights = checkpoint(tmp_path, seed=3)
    export_model(weights, tmp_path / "other", formats=["onnx"])
    shutil.copy(tmp_path / "other/inference.onnx", path)
    answer = OpenVinoRuntime(path, cache=cache)(images(1))
    expected = trained_probabilities(tmp_path, images(1))
    assert np.abs(expected - first).max() > 100 * CLOSE
    np.testing.assert_allclose(answer, expected, atol=CLOSE)


def test_a_kept_graph_that_is_not_as_it_was_written_is_compiled_again(exported, tmp_path):
    first = OpenVinoRuntime(exported / "inference.onnx", cache=tmp_path)(images(1))
    (graph,) = tmp_path.rglob("*.blob")
    written = graph.read_bytes()
    for damage in (written + b"0", b""):  # the check sees any other bytes
        graph.write_bytes(damage)
        again = OpenVinoRuntime(exported / "inference.onnx", cache=tmp_path)(images(1))
        np.testing.assert_array_equal(again, first)
        assert graph.read_bytes() not in (b"", damage)
    graph.with_suffix(".sha256").unlink()  # of a version that kept no sums
    before = graph.stat().st_mtime_ns
    OpenVinoRuntime(exported / "inference.onnx", cache=tmp_path)
    assert graph.stat().st_mtime_ns != before and graph.with_suffix(".sha256").exists()


def test_without_a_place_for_kept_graphs_it_works(exported, tmp_path):
    (tmp_path / "file").write_text("no folder")
    runtime = OpenVinoRuntime(exported / "inference.onnx", cache=tmp_path / "file/cache")
    expected = trained_probabilities(exported.parent, images(1))
    np.testing.assert_allclose(runtime(images(1)), expected, atol=CLOSE)


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells of each thread")
@pytest.mark.skipif(cpu_cores() < 2, reason="one core has no other to share")
def test_no_run_is_bound_to_a_core_that_another_worker_takes_too(exported, monkeypatch):
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", str(cpu_cores()))  # as each worker of a server has it
    free = os.sched_getaffinity(0)
    # ONNX Runtime binds threads of its own, and tests before this one may have left some.
    others = {t for t in threads() if os.sched_getaffinity(int(t)) != free}
    runtime = OpenVinoRuntime(exported / "inference.onnx")
    run = threading.Thread(target=lambda: [runtime(images(1)) for _ in range(300)])
    run.start()
    seen = set()
    while run.is_alive():
        for thread in threads() - others:
            with contextlib.suppress(ProcessLookupError):
                seen.add(frozenset(os.sched_getaffinity(int(thread))))
    assert seen == {frozenset(free)}
