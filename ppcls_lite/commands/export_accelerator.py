"""`export accelerator`: a checkpoint becomes a bundle for the accelerator's tools."""

import shlex
import sys
from pathlib import Path

from ppcls_lite.accelerator.bundle import Request, write_bundle
from ppcls_lite.accelerator.lint_bundle import lint_bundle
from ppcls_lite.accelerator.settings import ExportAcceleratorConfig
from ppcls_lite.program import python_path, quoted


def run(config: ExportAcceleratorConfig) -> int:
    """Writes the bundle, lints it and says how to go on.

    Returns:
        1 when the linter finds an error, else 0.
    """
    config.require("pretrained", "out")
    folder = Path(config.out)
    request = Request(
        pretrained=config.pretrained,
        model=config.model,
        num_classes=config.num_classes,
        data_path=config.data_path,
        split=config.calibration_split,
        count=config.calibration_images,
        mode=config.calibration_mode,
        opset_version=config.opset_version,
        image_size=config.img_size,
        created_by=shlex.join(["python", *sys.argv]),
    )
    bundle = write_bundle(folder, request)
    accuracy = bundle["fp32_accuracy"]
    calibration = bundle["calibration"]
    print(
        f"{bundle['name']}, {bundle['num_classes']} classes, fp32 top-1 {accuracy['top1']:.4f}"
        if accuracy
        else f"{bundle['name']}, {bundle['num_classes']} classes, fp32 accuracy not on file"
    )
    print(
        f"{calibration['pictures']} calibration images from {calibration['split']},"
        f" {len(calibration['missing_classes'])} classes without one"
        if calibration["pictures"]
        else "no calibration images: --data-path gives them; fp16 does without"
    )
    for how in bundle["classes_matched"]:
        print(f"classes: {how}")
    findings = lint_bundle(folder)
    for finding in findings:
        print(finding)
    print(f"wrote {folder} ({len(bundle['files']) + 1} files)")
    script = quoted(str(folder / "run.sh"))
    print(f"next: {python_path()}sh {script} sim VAL  # with VAL/CLASS/*.jpg, no card")
    return int(any(finding.level == "error" for finding in findings))
