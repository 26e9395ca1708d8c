"""What every process of a training has to be given alike, as short values to compare."""

import hashlib
from typing import Any

from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.engine import plan
from ppcls_lite.engine.checkpoint import Checkpoint, Progress
from ppcls_lite.engine.sets import Sets
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.flags import flags
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import git_commit

# Where things lie on a machine, and how many hands it has for them; what lies there is compared.
OWN = {
    "data_path", "train_list", "val_list", "unlabelled_path", "pretrained", "teacher_pretrained",
    "resume", "output_dir", "workers", "rank_timeout",
}  # fmt: skip
SAME_SETTINGS = "start all processes with the same flags, files and versions"
SAME_DATA = "give all machines the same images, lists, weights and run folder"


def given(config: TrainConfig) -> dict[str, Any]:
    """Returns versions and settings, by flag: {"--batch-size": "8"}."""
    settings = {
        "--" + name.replace("_", "-"): str(getattr(config, name))
        for name in flags(TrainConfig)
        if name not in OWN
    }
    return plan.versions() | {"git": git_commit()} | settings


def found(
    sets: Sets, progress: Progress, info: ModelInfo, checkpoint: Checkpoint | None
) -> dict[str, Any]:
    """Returns what the settings led to: pictures by digest, classes, place in the run."""
    classes = hashlib.sha256("\n".join(info.classes).encode()).hexdigest()[:12]
    return {
        "classes": f"{info.num_classes}, names {classes}",
        "training images": digest(sets.train),
        "validation images": digest(sets.val),
        "batches": progress.batching,
        "seed": progress.seed,
        "network": str(info.to_dict() | {"classes": None}),
        "start": f"epoch {progress.epoch}, batch {progress.batch}"
        + (f" of {checkpoint.path.name}" if checkpoint else ", no checkpoint"),
        "weights": weights_digest(checkpoint),
    }


def digest(data: ImageDataset) -> str:
    """Returns the number of pictures and a digest of their order, names and labels.

    What the pictures show is not read.
    """
    names = hashlib.sha256(data.labels.tobytes())
    for index in range(len(data)):
        names.update("/".join(data.path(index).split("/")[-2:]).encode(errors="surrogateescape"))
        names.update(b"\0")
    return f"{len(data)}, list {names.hexdigest()[:12]}"


def weights_digest(checkpoint: Checkpoint | None) -> str:
    """Returns a digest of the weights and the optimizer state to go on with."""
    total = hashlib.sha256()
    for part in (checkpoint.params, checkpoint.optimizer) if checkpoint else ():
        for name in sorted(part):
            total.update(name.encode() + part[name].tobytes())
    return total.hexdigest()[:12]
