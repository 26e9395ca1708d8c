"""The text files of TIPC: what stands on which line, reading and writing.

Source: `test_tipc/` of PaddlePaddle/models, tutorials/mobilenetv3_prod/Step6. Its shell scripts
know a line by its number alone and read the second field after splitting at `:`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcls_lite.errors import UserError
from ppcls_lite.program import CHECKOUT, command, list_command

# Names of the lines, from the first. "##" separates, "= x =" is a heading.
TRAIN = (
    "= train_params =", "model_name", "python", "gpu_list", "use_gpu", "epochs", "output_dir",
    "batch_size", "pretrained", "train_model_name", "data_path", "##",
    "trainer", "train", "##",
    "= eval_params =", "eval", "##",
    "= infer_params =", "save_infer", "export_weight", "norm_export", "##",
    "train_model", "infer_export", "##",
    "inference", "infer_device", "infer_batch_size", "model_dir", "img_path", "benchmark",
    # The scripts of Step6 stop at line 32; the rest is as at the end of PaddleClas' files.
    "= train_benchmark_params =", "bench_batch_size", "fp_items", "bench_epoch",
    "to_static_train",
)  # fmt: skip
PTQ = (
    "= ptq_params =", "model_name", "python", "use_gpu", "model_path", "output_dir", "data_dir",
    "batch_num", "batch_size", "##", "trainer", "train", "##",
    "= infer_params =", "inference", "infer_device", "infer_batch_size", "model_dir", "img_path",
    "benchmark",
)  # fmt: skip
ONNX = (
    "= paddle2onnx_params =", "model_name", "python", "2onnx", "model_path", "model_filename",
    "params_filename", "save_file", "opset_version", "enable_onnx_checker", "inference",
    "model_dir", "img_path",
)  # fmt: skip
SERVING = (
    "= serving_params =", "model_name", "python", "trans_model", "model_path", "model_filename",
    "params_filename", "serving_server", "serving_client", "serving_dir", "web_service",
    "pipline", "img_path",
)  # fmt: skip
# PaddleClas' form: Step6's is the program's own settings file, without a model name.
CPP = (
    "= cpp_infer_params =", "model_name", "cpp_infer_type", "model_path", "det_model_path",
    "model_url", "det_model_url", "infer_quant", "inference", "use_gpu", "enable_mkldnn",
    "cpu_threads", "batch_size", "use_tensorrt", "precision", "img_path", "benchmark",
)  # fmt: skip
LITE = (
    "runtime_device", "lite_arm_work_path", "lite_arm_so_path", "clas_model_file", "inference",
    "num_threads_list", "batch_size_list", "precision_list", "model_name", "model_path", "img_path",
)  # fmt: skip
FORMS = (TRAIN, PTQ, ONNX, SERVING, CPP, LITE)


@dataclass(frozen=True)
class Line:
    """One line: what stands before and after its colon."""

    key: str
    value: str = ""

    def flag(self, value: str | None = None) -> str:
        """Returns `key=value`, or nothing where either is null: upstream's rule."""
        value = self.value if value is None else value
        return "" if "null" in (self.key, value) or not value.strip() else f"{self.key}={value}"

    def of_mode(self, mode: str) -> str:
        """Returns the value of `mode=value|mode=value`; without modes, the whole value."""
        parts = dict(part.split("=", 1) for part in self.value.split("|") if "=" in part)
        return parts.get(mode, "") if parts else self.value


@dataclass(frozen=True)
class TextFile:
    """A parsed file.

    Attributes:
        form: its names of lines, one of FORMS.
        lines: the lines by name.
    """

    path: Path
    form: Sequence[str]
    lines: Mapping[str, Line]

    def __getitem__(self, name: str) -> Line:
        return self.lines[name]

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.lines["model_name"].value


def is_fixed(name: str) -> bool:
    """Tells whether a line of a form is the same in every file: a heading or a separator."""
    return name == "##" or name.startswith("=")


def fixed_text(name: str) -> str:
    """Returns the text of such a line."""
    return name.replace("= ", "=" * 27).replace(" =", "=" * 27) if name != "##" else name


def render(form: Sequence[str], lines: Mapping[str, Line]) -> str:
    """Returns the text of a file."""
    rows = [
        fixed_text(name) if is_fixed(name) else f"{lines[name].key}:{lines[name].value}"
        for name in form
    ]
    return "\n".join(rows) + "\n"


def parse(path: Path) -> TextFile:
    """Reads a file.

    Raises:
        UserError: it is missing, or a line is not what its number says; names file and line.
    """
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: {error}", list_command(CHECKOUT / "test_tipc/configs/any.txt")
        ) from None
    first = rows[0] if rows else ""
    form = next((each for each in FORMS if _starts(first, each[0])), None)
    if form is None:
        heads = ", ".join(each[0].strip("= ") for each in FORMS)
        raise UserError(
            f"{path}:1: {first!r} begins no file of TIPC", f"begin the file with one of {heads}"
        )
    lines = {}
    for number, name in enumerate(form, 1):
        row = rows[number - 1] if number <= len(rows) else ""
        key, colon, value = row.partition(":")
        if row.strip("=") != name.strip("= ") if is_fixed(name) else not colon:
            raise UserError(
                f"{path}:{number}: {row!r} is not the line {name.strip('= ')}",
                command("tipc", "configs") + "  # writes them afresh; lines count by number",
            )
        if ":" in value:
            raise UserError(
                f"{path}:{number}: a second colon",
                "delete the colon, for shell scripts end a value there",
            )
        lines[name] = Line(key, value.strip())
    if any(row.strip() for row in rows[len(form) :]):
        raise UserError(
            f"{path}:{len(form) + 1}: a line too many", "delete the line; docs/tipc.md has the form"
        )
    return TextFile(path, form, lines)


def _starts(row: str, name: str) -> bool:
    return row.strip("=") == name.strip("= ") if is_fixed(name) else row.startswith(name + ":")
