"""The folder of `quantize --target accelerator`, of which a bundle can be made."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar, read_sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import file_sha256
from ppcls_lite.int8.calibrate import MODES
from ppcls_lite.int8.qdq import FOR_COMPILER
from ppcls_lite.program import command
from ppcls_lite.untrusted import field, reading


@dataclass(frozen=True)
class QuantizedFolder:
    """What `quantize --target accelerator` wrote.

    Attributes:
        path: the folder.
        sidecar: its `inference.yml`.
        mode: the calibration mode that its figures were measured with.
        float_layers: names of the layers that stay in float.
        top1: of the float network on the pictures it was measured with.
    """

    path: Path
    sidecar: Sidecar
    mode: str
    float_layers: tuple[str, ...]
    top1: float

    def copy_graph(self, file: Path) -> None:
        """Copies the float graph for the compiler: input `input` [1, 3, H, W], logits.

        Raises:
            UserError: it is not there, or not the one that was written.
        """
        graph = self.path / FOR_COMPILER
        if not graph.is_file():
            raise UserError(f"{self.path} has no {FOR_COMPILER}", _again())
        if self.sidecar.files.get(FOR_COMPILER, {}).get("sha256") != file_sha256(graph):
            raise UserError(f"{graph} is not the file that {SIDECAR} beside it describes", _again())
        shutil.copyfile(graph, file)


def read_quantized(path: Path) -> QuantizedFolder | None:
    """Reads the folder that `quantize --target accelerator` wrote; None when it is no folder.

    Raises:
        UserError: the folder holds something else, or its description is damaged.
    """
    if not path.is_dir():
        return None
    sidecar = read_sidecar(path)
    measured = sidecar.verification.get("int8") if sidecar else None
    if sidecar is None or measured is None or measured.get("target") != "accelerator":
        raise UserError(
            f"{path} is a folder; a bundle is made of a checkpoint, or of the folder that quantize"
            " wrote for the target accelerator",
            _again(),
        )
    with reading(path / SIDECAR, "description of an int8 model", _again()):
        mode = field(measured, str, "recipe", "mode")
        layers = field(measured, list, "recipe", "float_layers")
        if mode not in MODES or not all(isinstance(layer, str) for layer in layers):
            raise ValueError(f"mode {mode}, float_layers {layers}")
        top1 = field(measured, float, "top1_float")
    return QuantizedFolder(path, sidecar, mode, tuple(layers), top1)


def _again() -> str:
    return command(
        "quantize", "--target", "accelerator", "--pretrained", "WEIGHTS", "--data-path", "DATA",
        "--out", "int8",
    )  # fmt: skip
