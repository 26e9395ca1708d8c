"""`export timm_torchvision`: the documents' exporter, without timm and torchvision."""

from pathlib import Path

from ppcls_lite.accelerator.settings import TimmTorchvisionConfig
from ppcls_lite.accelerator.static_onnx import write_onnx
from ppcls_lite.arch.zoo import list_models, model_spec
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.program import command
from ppcls_lite.weights.find import find_weights

OPSET = 11  # the original's


def run(config: TimmTorchvisionConfig) -> int:
    """Writes SAVE_DIR/MODEL_SIZE.onnx."""
    config.require("model_name", "pretrained_weights")
    known = list_models(source=config.model_library)
    if config.model_name not in known:
        where = ""
        if config.model_name in list_models():
            where = f"; it is one of {model_spec(config.model_name).source}"
        raise UserError(
            f"{config.model_library} model {config.model_name!r}: not one of {', '.join(known)}"
            f"{where or nearest(config.model_name, known)}",
            command("list_models", "--source", config.model_library),
        )
    file = Path(config.save_dir) / f"{config.model_name}_{config.size}.onnx"
    weights = find_weights(config.pretrained_weights or "", config.model_name)
    sidecar = write_onnx(weights, file, opset_version=OPSET, image_size=config.size)
    classes = sidecar.info.num_classes
    print(f"wrote {file}: input `input` [1, 3, {config.size}, {config.size}], {classes} logits")
    return 0
