"""What the chains need before they run: lite data, weights, export folders. Twice changes nothing.

Differs from upstream: nothing is downloaded or installed, and a `data` that is not ours stays.
"""

import os
import tarfile
from pathlib import Path

from ppcls_lite.tipc.checks import files_exist
from ppcls_lite.tipc.steps import Step, StepFailed
from ppcls_lite.tipc.table import NETWORKS, inference_folder

ARCHIVE = Path("test_images/lite_data.tar")
DATA, LINK = Path("lite_data"), Path("data")
NEEDS_EXPORT = ("paddle2onnx_infer", "serving_infer", "cpp_infer", "lite_infer")


def preparation(model: str, mode: str, logs: Path) -> list[Step]:
    """Returns the steps that lay what a mode needs."""
    steps = [Step("data", "", logs / "data.log", lambda text: lay_data())]
    weights = NETWORKS[model].weights if model in NETWORKS else ""
    if weights.startswith("./") and not Path(weights).is_file():
        steps.append(
            Step(
                "weights",
                f"python3 -m ppcls_lite.tipc.weights {model} {DATA} {weights}",
                logs / "weights.log",
                files_exist(Path(weights)),
            )
        )
    if mode in NEEDS_EXPORT and weights:
        folder = inference_folder(model)
        steps.append(
            Step(
                "export",
                f"python3 tools/export_model.py --model={model} --pretrained={weights}"
                f" --save-inference-dir={folder}",
                logs / "prepare_export.log",
                files_exist(Path(folder, "inference.pdmodel"), Path(folder, "inference.yml")),
            )
        )
    return steps


def lay_data() -> str:
    """Unpacks what of the lite data is missing, and links data to it where nothing is called so."""
    if not ARCHIVE.is_file():
        raise StepFailed(f"{ARCHIVE} is missing; run this in the checkout")
    with tarfile.open(ARCHIVE) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and ".." not in m.name]
        missing = [
            m
            for m in members
            if not Path(m.name).is_file() or Path(m.name).stat().st_size != m.size
        ]
        for member in missing:
            Path(member.name).parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            if source:
                Path(member.name).write_bytes(source.read())
    if not os.path.lexists(LINK):
        LINK.symlink_to(DATA, target_is_directory=True)
    if LINK.resolve() != DATA.resolve():
        return f"{LINK} is not ours and stays; upstream's scripts would train on it"
    return f"{len(members)} files, {len(missing)} of them new"
