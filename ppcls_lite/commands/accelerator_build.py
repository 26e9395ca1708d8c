"""`accelerator build`: stand-in of `vamc build` and `vamc compile`."""

from pathlib import Path

from ppcls_lite.accelerator.settings import AcceleratorBuildConfig
from ppcls_lite.accelerator.simulator import NOTE, build


def run(config: AcceleratorBuildConfig) -> int:
    """Builds and says what was written."""
    config.require("file")
    layers = [name.strip() for name in config.float_layers.split(",") if name.strip()]
    built = build(Path(config.file), layers, config.calibration_mode)
    for finding in built.findings:
        print(finding)
    print(f"wrote {built.prefix}.onnx and .json: {NOTE}")
    if built.pictures:
        print(f"calibrated with {built.pictures} pictures")
    if built.float_layers:
        print(f"kept in float: {', '.join(built.float_layers)}")
    return 0
