"""`accelerator run`: stand-in of the documents' sample_cls.py."""

import sys
import time
from pathlib import Path

from ppcls_lite.accelerator.labels import read_names
from ppcls_lite.accelerator.lint_bundle import AGAIN
from ppcls_lite.accelerator.results import TEXT_NAME, result_lines
from ppcls_lite.accelerator.settings import SampleClsConfig
from ppcls_lite.accelerator.simulator import NOTE, SimulatedModel, load_planar
from ppcls_lite.accelerator.vdsp import read_vdsp
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically
from ppcls_lite.untrusted import field, read_json, reading


def run(config: SampleClsConfig) -> int:
    """Classifies every picture and writes, or prints, what it found."""
    info = _only("model_info", config.model_info, "model_info/*.json")
    params = _only("vdsp_params_info", config.vdsp_params_info, "vdsp_params/sdk1.0/*.json")
    model = SimulatedModel(_prefix(info), read_vdsp(params))
    names = read_names(Path(config.label_txt))
    pictures = find_images(config.file_path or _bundle_val())
    print(f"sample_cls: {model.prefix}: {NOTE}", file=sys.stderr)
    lines: list[str] = []
    begin = time.perf_counter()
    for path in pictures:
        ranking = model.ranking(load_planar(path), config.topk)
        if any(class_id >= len(names) for class_id, _ in ranking):
            raise UserError(
                f"{config.label_txt} has {len(names)} names, the model has more classes",
                "give --label_txt BUNDLE/labels/label.txt, of the bundle that this model is of",
            )
        if config.task == "run":
            ids, scores = zip(*ranking, strict=True)
            print(f"{path} => ({list(ids)}, {[names[i] for i in ids]}, {list(scores)})")
        else:
            lines += result_lines(str(path), ranking, names)
    seconds = time.perf_counter() - begin
    if config.task == "topk":
        folder = Path(config.save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Differs from the original, which appends: a second run would count every picture twice.
        write_atomically(folder / TEXT_NAME, "".join(f"{x}\n" for x in lines).encode())
    rate = len(pictures) / seconds
    print(f"{len(pictures)} images in {seconds:.3f} seconds, ({rate:.3f} images/second)")
    return 0


def _only(flag: str, given: str | None, pattern: str) -> Path:
    """The file given, or the one that a bundle in the current folder has."""
    if given is not None:
        return Path(given)
    found = sorted(Path().glob(pattern))
    if len(found) != 1:
        raise UserError(
            f"--{flag} is missing, and the current folder has {len(found)} files {pattern}",
            "run this in a bundle's folder, or name the file",
        )
    return found[0]


def _prefix(info: Path) -> str:
    hint = "give the .json in the bundle's model_info/"
    content = read_json(info, "model_info json", hint)
    with reading(info, "model_info json", hint):
        return field(content, str, "model_lib_path")[: -len(".so")]


def _bundle_val() -> str:
    bundle = Path("bundle.json")
    what = "description of a bundle"
    val = read_json(bundle, what, AGAIN).get("val") if bundle.is_file() else None
    if not isinstance(val, str):
        raise UserError(
            "--file_path is missing, and no bundle.json here names a val/ folder",
            "add --file_path and an image, or a folder with class folders",
        )
    return val
