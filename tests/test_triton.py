"""The exporter's Triton repository, read with Triton's own messages and run in ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
from conftest import run_tool
from small_checkpoint import CLASSES, checkpoint, trained_probabilities

from ppcls_lite.deploy.settings import ExportConfig
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.deploy.triton import write_triton_model
from ppcls_lite.errors import UserError

text_format = pytest.importorskip("google.protobuf.text_format")
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Written by the command, with a sidecar beside it."""
    folder = tmp_path_factory.mktemp("triton")
    out, root = folder / "out", folder / "repository"
    flags = ("--save-inference-dir", out, "--format=onnx", "--triton-repository", root)
    done = run_tool("tools/export_model.py", "--pretrained", checkpoint(folder), *flags)
    assert done.returncode == 0, done.stderr
    assert str(root) in done.stdout
    return root


def test_tritons_own_message_reads_the_configuration_and_the_file_keeps_to_it(repository):
    model = repository / "mobilenet_v3_small"
    text = (model / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config.ModelConfig())  # no unknown field, no wrong type
    assert (config.name, config.platform) == (model.name, "onnxruntime_onnx")  # Triton's rule
    (given,), (answer,) = config.input, config.output
    assert {given.data_type, answer.data_type} == {model_config.TYPE_FP32}
    session = onnxruntime.InferenceSession(model / "1/model.onnx")
    (tensor,), (result,) = session.get_inputs(), session.get_outputs()
    # Triton adds the batch, which must be free in the file.
    assert (tensor.name, tensor.shape[1:]) == (given.name, list(given.dims))
    assert (result.name, result.shape[1:]) == (answer.name, list(answer.dims))
    assert not isinstance(tensor.shape[0], int)
    labels = (model / answer.label_filename).read_text().splitlines()
    assert labels == list(CLASSES)
    (warm_up,) = config.model_warmup
    assert warm_up.inputs[given.name].dims == given.dims and warm_up.inputs[given.name].zero_data
    images = np.random.RandomState(0).randn(config.max_batch_size, *given.dims).astype("float32")
    probs = session.run([answer.name], {given.name: images})[0]
    expected = trained_probabilities(repository.parent, images)
    assert np.allclose(probs, expected, atol=1e-5)  # the export's own limit


def test_the_network_is_replaced_and_a_file_in_the_way_is_told(repository):
    out = repository.parent / "out"
    sidecar = read_sidecar(out)
    assert write_triton_model(out, sidecar, repository) == repository / "mobilenet_v3_small"
    left = sorted(p.name for p in (repository / "mobilenet_v3_small").rglob("*"))
    assert left == ["1", "config.pbtxt", "inference.yml", "labels.txt", "model.onnx"]
    with pytest.raises(UserError, match="is a file, not a folder"):
        write_triton_model(out, sidecar, out / "inference.yml")


def test_without_the_onnx_file_there_is_nothing_to_write():
    with pytest.raises(UserError, match="needs the ONNX file"):
        ExportConfig(format="pdmodel", triton_repository="repository")
