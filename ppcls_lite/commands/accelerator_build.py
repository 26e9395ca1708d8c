"""`accelerator build`: stand-in of `vamc build` and `vamc compile`."""

from pathlib import Path

from ppcls_lite.accelerator.lint_bundle import AGAIN
from ppcls_lite.accelerator.settings import AcceleratorBuildConfig
from ppcls_lite.accelerator.simulator import NOTE, build
from ppcls_lite.program import command
from ppcls_lite.untrusted import field, read_json, reading

ENOUGH = 0.95  # share of the answers that int8 should keep; as quantize's --min-agreement


def run(config: AcceleratorBuildConfig) -> int:
    """Builds and says what was written."""
    config.require("file")
    layers = [name.strip() for name in config.float_layers.split(",") if name.strip()]
    built = build(Path(config.file), layers, config.calibration_mode)
    for finding in built.findings:
        print(finding)
    print(f"wrote {built.prefix}.onnx and .json: {NOTE}")
    if built.pictures:
        print(f"calibrated with {built.pictures} images")
    if built.float_layers:
        print(f"kept in float: {', '.join(built.float_layers)}")
    if built.kept:
        _report_kept(built.kept)
    return 0


def _report_kept(kept: list[bool]) -> None:
    """Says how many calibration pictures keep the class that float gives them, and what to do."""
    share = sum(kept) / len(kept)
    print(f"int8 gives {sum(kept)} of {len(kept)} calibration images the float model's class")
    if share >= ENOUGH:
        return
    print(
        f"warning: int8 changes {1 - share:.0%} of the predictions. The fp16 build keeps them;"
        f" quantize makes a graph that int8 can follow, of which a bundle can be made\n"
        f"  next: {command('quantize', *_quantize_flags(), '--out', 'int8')}"
        "  # then export accelerator --pretrained int8"
    )


def _quantize_flags() -> list[str]:
    """What the bundle in the current folder says of its weights and its data."""
    file, what = Path("bundle.json"), "description of a bundle"
    bundle = read_json(file, what, AGAIN) if file.is_file() else {}
    with reading(file, what, AGAIN):
        if "quantize" in bundle:
            return [str(word) for word in field(bundle, list, "quantize")]
    return ["--target", "accelerator", "--pretrained", "WEIGHTS", "--data-path", "DATA"]
