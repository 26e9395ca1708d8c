"""The two folders that Paddle Serving starts from, without its packages.

Source: `paddle_serving_client.convert` 0.9.0, its file names and `general_model_config.proto`. It
needs paddle.fluid, which Paddle dropped with 2.5, and Python 3.9 at most; its work needs neither.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pool, json_format, message_factory, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from paddle.base.proto import framework_pb2

from ppcls_lite.deploy.first_load import check_whole
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.files import write_atomically
from ppcls_lite.runtimes import PaddleInferenceRuntime

FLOAT32 = 1  # 0 is int64, 2 int32
PACKAGE = "baidu.paddle_serving.configure"


def convert(
    model_file: Path, params_file: Path, server: Path, client: Path
) -> tuple[list[str], list[str]]:
    """Writes the folders of the server (network and description) and of the client (description).

    Args:
        model_file: a .pdmodel, images float32 [N, 3, H, W] to float32 [N, K].
        params_file: its weights.
        server: created when missing, as `client`.
        client: where a client finds the names and shapes.

    Returns:
        Names of the inputs and of the outputs.

    Raises:
        UserError: Paddle Inference cannot read the files.
    """
    sidecar = read_sidecar(model_file.parent)
    check_whole(sidecar, [model_file, params_file], "paddle_inference")
    runtime = PaddleInferenceRuntime(model_file, params=params_file)
    program = framework_pb2.ProgramDesc.FromString(model_file.read_bytes())
    (sizes,) = (v.type.dense_tensor.tensor.dims for v in program.blocks[0].vars
                if v.name == runtime.input_name)  # fmt: skip
    shape = [size for size in sizes if size >= 0]  # without the batch
    scores = runtime(np.zeros([1, *shape], np.float32))  # [1, K]
    text, stream = description(runtime.input_name, shape, runtime.output_name, [scores.shape[1]])
    for folder in (server, client):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (model_file, params_file):
        shutil.copyfile(file, server / file.name)
    for folder, name in ((server, "serving_server_conf"), (client, "serving_client_conf")):
        write_atomically(folder / f"{name}.prototxt", text.encode())
        write_atomically(folder / f"{name}.stream.prototxt", stream)
    return [runtime.input_name], [runtime.output_name]


def description(
    input_name: str, input_shape: list[int], output_name: str, output_shape: list[int]
) -> tuple[str, bytes]:
    """Returns Paddle Serving's description of a network: as text, and serialised."""
    common = {"is_lod_tensor": False}
    feed = {"name": input_name, "alias_name": input_name, "feed_type": FLOAT32}
    fetch = {"name": output_name, "alias_name": output_name, "fetch_type": FLOAT32}
    content = {
        "feed_var": [common | feed | {"shape": input_shape}],
        "fetch_var": [common | fetch | {"shape": output_shape}],
    }
    message = json_format.ParseDict(content, _model_config())
    return text_format.MessageToString(message), message.SerializeToString()


def _model_config() -> Message:
    """Returns an empty GeneralModelConfig."""
    fields: dict[str, list[dict[str, Any]]] = {
        "GeneralModelConfig": [
            _field("feed_var", 1, "FeedVar", repeated=True),
            _field("fetch_var", 2, "FetchVar", repeated=True),
        ]
    }
    for name, type_name in (("FeedVar", "feed_type"), ("FetchVar", "fetch_type")):
        fields[name] = [
            _field("name", 1, "STRING"),
            _field("alias_name", 2, "STRING"),
            _field("is_lod_tensor", 3, "BOOL"),
            _field(type_name, 4, "INT32"),
            _field("shape", 5, "INT32", repeated=True),
        ]
    content = {
        "name": "general_model_config.proto",
        "package": PACKAGE,
        "message_type": [{"name": name, "field": rows} for name, rows in fields.items()],
    }
    pool = descriptor_pool.DescriptorPool()
    pool.Add(json_format.ParseDict(content, FileDescriptorProto()))
    found = pool.FindMessageTypeByName(f"{PACKAGE}.GeneralModelConfig")
    return message_factory.GetMessageClass(found)()


def _field(name: str, number: int, kind: str, repeated: bool = False) -> dict[str, Any]:
    label = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
    field = {"name": name, "number": number, "label": label}
    if kind.isupper():
        return field | {"type": f"TYPE_{kind}"}
    return field | {"type": "TYPE_MESSAGE", "type_name": f".{PACKAGE}.{kind}"}
