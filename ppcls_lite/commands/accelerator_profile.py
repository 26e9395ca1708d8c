"""`accelerator profile`: stand-in of vamp."""

import re
from datetime import datetime
from pathlib import Path

from ppcls_lite.accelerator.profile import (
    Load,
    made_up,
    measure,
    printout,
    read_datalist,
    run_list,
)
from ppcls_lite.accelerator.settings import AcceleratorProfileConfig
from ppcls_lite.accelerator.simulator import SimulatedModel
from ppcls_lite.accelerator.vdsp import read_vdsp
from ppcls_lite.errors import UserError


def run(config: AcceleratorProfileConfig) -> int:
    """Runs the list, or made-up pictures, and prints what vamp would."""
    config.require("model", "vdsp_params")
    model = SimulatedModel(config.model, read_vdsp(Path(config.vdsp_params)))
    begin = datetime.now()
    if config.datalist and config.path_output:
        measured = run_list(model, read_datalist(Path(config.datalist)), Path(config.path_output))
    else:
        match = re.fullmatch(r"\[?(3),(\d+),(\d+)\]?", config.shape.replace(" ", ""))
        if match is None:
            raise UserError(f"--shape {config.shape}: allowed: [3,H,W]", "-s '[3,224,224]'")
        shape = [int(size) for size in match.groups()]
        measured = measure(model, made_up(shape, config.iterations))
    load = Load(config.instance, config.processes, config.batch_size, config.device_ids)
    print("\n".join(printout(measured, load, begin)))
    return 0
