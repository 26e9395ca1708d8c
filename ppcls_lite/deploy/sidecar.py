"""`inference.yml`, the sidecar of an export folder: how to feed the files beside it.

Needs neither Paddle nor ONNX, so a server can read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from ppcls_lite.errors import UserError, shortened
from ppcls_lite.files import file_sha256
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import export_command
from ppcls_lite.safe_yaml import load_yaml

SIDECAR = "inference.yml"
# Of networks whose answers are a softmax, and of those with several labels a picture: a sigmoid,
# which programs that know version 1 alone would read wrongly.
VERSION, MULTI_LABEL = 1, 2


@dataclass(frozen=True)
class Sidecar:
    """What is known about an export folder.

    Attributes:
        info: the network, its class names and its preprocessing.
        source: `file` and `sha256` of the checkpoint that was exported.
        input: `name`, `shape` (-1 = any batch size) and `dtype` of the one input.
        outputs: per model file the output's `name` and whether `softmax` is inside; of several
            labels a picture whether `sigmoid` is.
        files: per file `sha256` and `bytes`, for ONNX also the `opset`.
        verification: how far each runtime's answers were from the trained model's, and how fast.
        versions: of the packages that made the files.
        created_by: the command.
    """

    info: ModelInfo
    source: dict[str, str]
    input: dict[str, Any]
    outputs: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    verification: dict[str, Any]
    versions: dict[str, str]
    created_by: str

    @property
    def int8_target(self) -> str | None:
        """Whose arithmetic `quantize` wrote; None where the network is float."""
        return self.verification.get("int8", {}).get("target")

    def check_file(self, path: Path) -> None:
        """Compares a file with what was exported.

        Paddle Inference dies of a segmentation fault on a damaged model file, and a file of another
        training answers confidently with the wrong class names, so a difference is an error.

        Raises:
            UserError: the file is not the one that was exported.
        """
        if path.is_file() and file_sha256(path) != self.files.get(path.name, {}).get("sha256"):
            raise UserError(
                f"{path} is not the file that {SIDECAR} beside it describes (SHA-256 differs)",
                f"{export_command(path.parent)}  # again; a file made in another way needs a"
                " folder of its own",
            )


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Writes `inference.yml`; the class names come last because there may be a thousand."""
    network = sidecar.info.to_dict()
    preprocess = network.pop("preprocess")
    names = network.pop("labels" if sidecar.info.multi_label else "classes")
    # Other programs show them as they are here: a wnid gets its name.
    classes = [sidecar.info.class_name(class_id) for class_id in range(len(names))]
    content = {
        "version": MULTI_LABEL if sidecar.info.multi_label else VERSION,
        "created_by": sidecar.created_by,
        "model": network | {"source": sidecar.source},
        "input": sidecar.input,
        "preprocess": preprocess,
        "pixels": sidecar.info.preprocess.in_words(),
        "outputs": sidecar.outputs,
        "files": sidecar.files,
        "verification": sidecar.verification,
        "versions": sidecar.versions,
        "classes": classes,
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    (folder / SIDECAR).write_text(text, encoding="utf-8")


def read_sidecar(folder: Path) -> Sidecar | None:
    """Reads `inference.yml`; None when the folder has none.

    Raises:
        UserError: it is damaged, or of a newer version.
    """
    path = folder / SIDECAR
    if not path.is_file():
        return None
    again = export_command(folder)
    content = load_yaml(path, again)
    try:
        if content["version"] not in (VERSION, MULTI_LABEL):
            raise UserError(
                f"{path} has version {shortened(content['version'])}; this program reads versions"
                f" {VERSION} and {MULTI_LABEL}",
                f"{again}  # with this program",
            )
        return _from_yaml(content)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} cannot be understood ({type(error).__name__}: {shortened(error)})", again
        ) from error


class _Input(msgspec.Struct):
    name: str
    shape: Annotated[list[int], msgspec.Meta(min_length=4, max_length=4)]
    dtype: str


class _Output(msgspec.Struct):
    name: str
    softmax: bool
    sigmoid: bool = False


class _File(msgspec.Struct):
    sha256: str


class _EngineRow(msgspec.Struct):
    file: str
    engine: str
    passed: bool
    ms: float | None = None
    ms_in_eight: float | None = None


class _Verification(msgspec.Struct):
    engines: list[_EngineRow] = []


# What this program relies on; other keys may stand beside these.
FORMS: Mapping[str, Any] = {
    "created_by": str,
    "input": _Input,
    "outputs": dict[str, _Output],
    "files": dict[str, _File],
    "verification": _Verification,
    "versions": dict[str, str],
}


def _from_yaml(content: Mapping[str, Any]) -> Sidecar:
    network = dict(content["model"])
    source = msgspec.convert(network.pop("source"), dict[str, str])
    info = network | {"preprocess": content["preprocess"], "classes": content["classes"]}
    for key, form in FORMS.items():
        try:
            msgspec.convert(content[key], form)
        except msgspec.ValidationError as error:
            raise ValueError(f"{key}: {error}") from None
    parts = {key: content[key] for key in FORMS}
    return Sidecar(info=ModelInfo.from_dict(info), source=source, **parts)
