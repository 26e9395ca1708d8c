"""What `best` gets at the end of a run: probabilities that mean what they say, limits of the known.

`latest` and `model_N` stay as trained, and what resumes from `best` sees it as trained, too.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.calibration import answers, calibrate
from ppcls_lite.engine.calibration import said as calibration_lines
from ppcls_lite.engine.checkpoint import UNCALIBRATED, load_checkpoint, save_checkpoint
from ppcls_lite.engine.run import Run
from ppcls_lite.engine.unknown import said as limits_line
from ppcls_lite.engine.unknown import some_of_each, with_limits
from ppcls_lite.files import FileContent
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.description import read_description

FEWEST_VAL = 20  # pictures, of which KEEP leaves one out


def finish_best(run: Run, path: Path) -> Iterator[str]:
    """Finishes the best checkpoint of a run as its settings ask, on one process; yields lines.

    With several labels a picture the thresholds do that work: temperature and limits are of a
    softmax.
    """
    config = run.config
    if run.info.multi_label or not (run.world.is_main and path.is_file()):
        return
    yield from finish_checkpoint(
        path,
        run.loader.dataset,
        run.evaluate.loader.dataset,
        calibrated=config.calibrate,
        limited=config.unknown,
        kernels=config.cpu_kernels != "off" and run.world.device == "cpu",
        workers=config.workers,
        train_answers=None if config.epochs or config.bn_estimate else run.loaded.answers,
    )


def finish_checkpoint(
    path: Path,
    train: ImageDataset,
    val: ImageDataset,
    calibrated: bool,
    limited: bool,
    kernels: bool = False,
    workers: int = 0,
    train_answers: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[str]:
    """Finishes a checkpoint, once; yields lines. Other names of the same bytes keep them.

    Args:
        path: of the `.pdparams` file.
        train: the training pictures.
        val: the validation pictures.
        calibrated: a temperature goes into the last layer.
        limited: limits of the known go into the JSON, where there are pictures enough.
        kernels: run the network in those that train, where they can.
        workers: processes that decode.
        train_answers: what the network answers to the training pictures, where that is known:
            logits float [N, K], labels int [N].
    """
    if limited and (pictures := int((val.labels >= 0).sum())) < FEWEST_VAL:
        limited = False
        yield (
            f"unknown: no limits, since {pictures} validation images do not show which images"
            f" are like them; from {FEWEST_VAL} on they would"
        )
    if not (calibrated or limited):
        return
    state = read_description(FileContent(path)) or {}
    calibrated = calibrated or "calibration" in state  # what is done again is done as a whole
    reports = {"calibration": calibrated, "unknown": limited}
    if all(name in state for name, asked in reports.items() if asked):
        return
    found = load_checkpoint(path)
    info, params, optimizer = found.info, found.params, found.optimizer

    def loader_of(data: ImageDataset) -> Loader:  # what must not be broken has stopped the run
        spec = found.info.preprocess
        return Loader(data, spec, 32, training=False, workers=workers, on_error="skip")

    model = network_of(info)
    model.set_state_dict(params)
    logits, labels = answers(model, info, loader_of(val), kernels)
    temperature = 1.0
    if calibrated:
        scaled, state["calibration"] = calibrate(model, logits, labels)
        temperature = state["calibration"]["temperature"]
        optimizer = optimizer | {name + UNCALIBRATED: params[name] for name in scaled}
        params = params | scaled
        yield from calibration_lines(state["calibration"])
    if limited:
        some = train.subset(some_of_each(train.labels))
        seen = train_answers or answers(model, info, loader_of(some), kernels)
        chosen = some_of_each(seen[1])
        of_train = seen[0][chosen] / temperature, seen[1][chosen]
        info, state["unknown"] = with_limits(info, of_train, logits / temperature)
        yield limits_line(state["unknown"])
    own = {"progress", "sha256", *info.to_dict()}
    extra = {key: value for key, value in state.items() if key not in own}
    tensors = {name: paddle.to_tensor(array) for name, array in params.items()}
    save_checkpoint(path, tensors, optimizer, info, found.progress, extra)
