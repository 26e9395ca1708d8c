"""`export`: a checkpoint becomes a folder that any runtime can serve."""

import shlex
import sys
from pathlib import Path

from ppcls_lite.deploy.export import OPSET, export_model
from ppcls_lite.deploy.settings import ExportConfig
from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar
from ppcls_lite.deploy.triton import write_triton_model
from ppcls_lite.program import command


def run(config: ExportConfig) -> int:
    """Exports, prints how far each file is from the trained network, and what to do next.

    Returns:
        1 when a file disagrees with the trained network, else 0.
    """
    config.require("pretrained", "save_inference_dir")
    folder = Path(config.save_inference_dir)
    sidecar = export_model(
        config.pretrained,
        folder,
        formats=[name.strip() for name in config.format.split(",")],
        opset_version=config.opset_version,
        image_size=config.img_size,
        batch=config.batch,
        softmax_inside=config.softmax and not config.logits,
        model=config.model,
        num_classes=config.num_classes,
        created_by=shlex.join(["python", *sys.argv]),
    )
    print("\n".join(_report(folder, sidecar)))
    failed = [name for name, row in sidecar.verification["files"].items() if not row["passed"]]
    if failed:
        print(
            f"export_model: {', '.join(failed)} disagrees with the trained model; the files were"
            " left in place, do not deploy them\n"
            "  next: check the versions in inference.yml, or export with another --opset-version",
            file=sys.stderr,
        )
        return 1
    if config.triton_repository is not None:
        model = write_triton_model(folder, sidecar, Path(config.triton_repository))
        print(f"\n{model}: for tritonserver --model-repository={config.triton_repository}")
    predict = command("predict", "--pretrained", folder, "--img-path", "IMAGE_OR_FOLDER")
    print(f"\nnext: {predict}")
    # paddle2onnx alone would not write int8 as ONNX has it.
    if "inference.pdmodel" in sidecar.files and sidecar.info.quant_skip is None:
        print(
            f"      paddle2onnx --model_dir {shlex.quote(str(folder))}"
            " --model_filename inference.pdmodel --params_filename inference.pdiparams"
            f" --save_file model.onnx --opset_version {config.opset_version or OPSET}"
            " --optimize_tool None"
        )
    return 0


def _report(folder: Path, sidecar: Sidecar) -> list[str]:
    size, spec = sidecar.input["shape"][-1], sidecar.info.preprocess
    checks = sidecar.verification
    lines = [
        f"{sidecar.info.name}, {sidecar.info.num_classes} classes, {size} x {size} pixels"
        f" (short side resized to {spec.resize_size}, centre {spec.crop_size} taken)",
        "",
        f"{'file':<28}{'bytes':>12}",
        *(f"{name:<28}{entry['bytes']:>12,}" for name, entry in sidecar.files.items()),
        f"{SIDECAR:<28}{(folder / SIDECAR).stat().st_size:>12,}",
        "",
        f"against the trained model, {checks['images']} images"
        f" (largest difference allowed: {checks['limit']:.1e})",
        f"{'file':<20}{'runtime':<18}{'difference':>12}{'same top-1':>12}{'ms':>10}",
    ]
    for row in checks["engines"]:
        start = f"{row['file']:<20}{row['engine']:<18}"
        if "error" in row:
            lines.append(f"{start}{row['error']}")
            continue
        same = f"{row['same_top1']}/{checks['images']}"
        verdict = "" if row["passed"] else "  DISAGREES"
        lines.append(f"{start}{row['max_abs_diff']:>12.1e}{same:>12}{row['ms']:>10.2f}{verdict}")
    return lines
