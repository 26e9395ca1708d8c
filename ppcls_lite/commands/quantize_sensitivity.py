"""`quantize sensitivity`: which layers int8 damages."""

import json
from pathlib import Path

from ppcls_lite.files import write_atomically
from ppcls_lite.quantize.job import open_job
from ppcls_lite.quantize.recipe import Recipe, prepare
from ppcls_lite.quantize.sensitivity import as_json, lines, noise_by_role, plot, sensitivity
from ppcls_lite.quantize.settings import SensitivityConfig


def run(config: SensitivityConfig) -> int:
    """Measures, prints the ranking, and writes it with a plot."""
    config.require("out")
    folder = Path(config.out)
    job = open_job(config, 1)  # the float network is the yardstick, on calibration pictures
    recipe = Recipe(config.calibration_mode, config.remedies)
    graph, _, _ = prepare(job.graph, job.calibration, recipe)
    rows = sensitivity(graph, job.calibration, recipe)
    print("\n".join(lines(rows, config.rows)))
    print("by role: " + ", ".join(f"{k} {v:.5f}" for k, v in noise_by_role(rows).items()))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(
        folder / "sensitivity.json", (json.dumps(as_json(rows), indent=1) + "\n").encode()
    )
    title = f"{job.sidecar.info.name}, {config.calibration_mode}: each layer alone in int8"
    plot(rows, title, folder / "sensitivity.png")
    print(f"wrote {folder / 'sensitivity.json'} and .png")
    return 0
