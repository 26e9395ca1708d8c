"""An export folder as a model repository of Triton Inference Server.

Source: "Model Repository" and "Model Configuration" of Triton's user guide.
"""

import json
from pathlib import Path

from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically

MAX_BATCH = 32
QUEUE_MICROSECONDS = 2000


def write_triton_model(folder: Path, sidecar: Sidecar, repository: Path) -> Path:
    """Writes REPOSITORY/NETWORK/{config.pbtxt,labels.txt,1/model.onnx}, replacing what is there.

    Triton feeds the file tensors, float32 [N, 3, H, W]: pictures are prepared by the client, with
    `preprocess` of the export folder's `inference.yml`, which is copied beside the configuration.

    Args:
        folder: the export folder; it holds inference.onnx.
        sidecar: of the folder.
        repository: created when missing.

    Returns:
        The model's folder.

    Raises:
        UserError: a file stands where the folder should be.
    """
    model = repository / sidecar.info.name
    try:
        (model / "1").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{error.filename} is a file, not a folder", "give another folder"
        ) from error
    names = [sidecar.info.class_name(i) for i in range(sidecar.info.num_classes)]
    # One class a line: what Triton's classification extension returns.
    labels = "".join(" ".join(name.split()) + "\n" for name in names)
    files = {
        "labels.txt": labels.encode(),
        SIDECAR: (folder / SIDECAR).read_bytes(),
        "1/model.onnx": (folder / "inference.onnx").read_bytes(),
        "config.pbtxt": triton_config(sidecar).encode(),
    }
    for name, data in files.items():  # a server that looks for changes must not read half of one
        write_atomically(model / name, data)
    return model


def triton_config(sidecar: Sidecar) -> str:
    """Returns the text of `config.pbtxt`, a protobuf message `inference.ModelConfig`."""
    dims = sidecar.input["shape"][1:]
    output = sidecar.outputs["inference.onnx"]["name"]
    return f"""\
name: {json.dumps(sidecar.info.name)}
platform: "onnxruntime_onnx"
max_batch_size: {MAX_BATCH}
input [
  {{
    name: {json.dumps(sidecar.input["name"])}
    data_type: TYPE_FP32
    dims: {dims}
  }}
]
output [
  {{
    name: {json.dumps(output)}
    data_type: TYPE_FP32
    dims: [{sidecar.info.num_classes}]
    label_filename: "labels.txt"
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {QUEUE_MICROSECONDS}
}}
model_warmup [
  {{
    name: "zeros"
    batch_size: 1
    inputs {{
      key: {json.dumps(sidecar.input["name"])}
      value {{
        data_type: TYPE_FP32
        dims: {dims}
        zero_data: true
      }}
    }}
  }}
]
"""
