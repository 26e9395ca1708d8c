"""The ONNX file that the accelerator's compiler reads: one picture at a time, logits, old opset."""

from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.errors import UserError
from ppcls_lite.files import temporary_folder
from ppcls_lite.runtimes import OnnxRuntime
from ppcls_lite.weights.find import Weights


def write_onnx(
    weights: Weights, file: Path, *, opset_version: int, image_size: int | None
) -> Sidecar:
    """Writes a network as the accelerator's compiler wants it: input `input` [1, 3, H, W], logits.

    Args:
        weights: what `find_weights` found.
        file: the ONNX file to write.
        opset_version: 10 or 11; the documents have no network above.
        image_size: H and W; None takes the checkpoint's.

    Returns:
        What `export_model` found.

    Raises:
        UserError: the weights do not fit, or the file disagrees with the trained network.
    """
    with temporary_folder("ppcls-accelerator-") as temporary:
        sidecar = export_model(
            weights,
            Path(temporary),
            formats=("onnx",),
            opset_version=opset_version,
            image_size=image_size,
            softmax_inside=False,
        )
        exported = Path(temporary) / "inference.onnx"
        graph = onnx.load(str(exported))
        for value in (graph.graph.input[0], graph.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        del graph.graph.value_info[:]  # shapes of any batch
        graph = onnx.shape_inference.infer_shapes(graph, strict_mode=True)
        onnx.checker.check_model(graph, full_check=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, str(file))
        image = sidecar.info.preprocess(check_images()[:1])  # [1, 3, H, W]
        difference = np.abs(OnnxRuntime(file)(image) - OnnxRuntime(exported)(image)).max()
    checks = sidecar.verification
    if difference > checks["limit"] or not all(row["passed"] for row in checks["files"].values()):
        file.unlink()
        raise UserError(
            f"the ONNX file of {weights.path} disagrees with the trained model (largest"
            f" difference allowed: {checks['limit']:.1e}); it was not written",
            "give another --opset-version, such as 11",
        )
    return sidecar
