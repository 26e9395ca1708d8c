"""The part of an export that needs a process of its own; `deploy.export` starts it.

`.pdmodel` can only be written when FLAGS_enable_pir_api=0 is set before paddle is imported, and
paddle2onnx writes on the terminal from C++ and may abort the whole process.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ppcls_lite.environment import load_paddle
from ppcls_lite.graph import StaticGraph
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import load_network

# What paddle2onnx leaves behind: each constant as a node of its own, and nodes that do nothing.
# Differs from paddle2onnx: its own optimizer starts pip to install what it misses.
TIDY = ["extract_constant_to_initializer", "eliminate_identity", "eliminate_unused_initializer"]


def write_pdmodel(request: dict[str, Any]) -> None:
    """Writes `.pdmodel`, `.pdiparams` and `.pdiparams.info`."""
    info = ModelInfo.from_dict(request["info"])
    network, _ = load_network(Path(request["pretrained"]), info)
    from ppcls_lite.slim.int8 import deployable

    size = info.preprocess.crop_size
    network = deployable(network, info)
    graph = StaticGraph(network, size, request["activation"], request["batch"])
    graph.save(Path(request["prefix"]))


def write_onnx(prefix: str, opset_version: int, int8: bool) -> None:
    """Converts `.json` and `.pdiparams` to `.onnx` of exactly the asked opset, and checks it.

    Args:
        int8: the network is one of `slim.int8`; its file gets QuantizeLinear and DequantizeLinear.

    Raises:
        ValueError: the file has another opset, or the ONNX checker refuses it.
    """
    load_paddle()
    import onnx
    import onnxoptimizer
    import paddle2onnx

    written = paddle2onnx.export(
        f"{prefix}.json",
        f"{prefix}.pdiparams",
        opset_version=opset_version,
        auto_upgrade_opset=False,
        optimize_tool="None",
    )
    model = onnxoptimizer.optimize(onnx.load_from_string(written), TIDY)
    if int8:
        from ppcls_lite.slim.onnx_qdq import to_qdq

        to_qdq(model)
        model = onnxoptimizer.optimize(model, TIDY)
    onnx.checker.check_model(model, full_check=True)
    if model.opset_import[0].version != opset_version:
        raise ValueError(f"opset {model.opset_import[0].version} instead of {opset_version}")
    onnx.save(model, f"{prefix}.onnx")


if __name__ == "__main__":
    request = json.load(sys.stdin)
    if request["pdmodel"]:
        write_pdmodel(request)
    if request["opset"] is not None:
        int8 = request["info"]["quant_skip"] is not None
        write_onnx(request["prefix"], request["opset"], int8)
