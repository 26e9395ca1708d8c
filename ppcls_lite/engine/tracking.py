"""`--track`: the numbers of metrics.jsonl in other people's tools, by their own client libraries.

Nothing of it is imported without the flag. Each keeps to local files; the environment variables of
MLflow and Weights & Biases send it elsewhere.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ppcls_lite.config import Settings
from ppcls_lite.engines import import_engine

# Of a run folder: what belongs to its run alone.
FILES = ("tensorboard", "mlruns", "mlflow_run", "wandb", "wandb_run")
Values = Mapping[str, float]


class TensorBoard:
    """Event files in FOLDER/tensorboard.

    Raises:
        UserError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        summary = import_engine("tensorboard.summary", "tensorboard")
        self._writer = summary.Writer(str(folder / "tensorboard"))

    def __call__(self, values: Values, step: int) -> None:
        """Writes scalars by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


class MLflow:
    """A run in MLflow's store: FOLDER/mlruns, or where MLFLOW_TRACKING_URI says.

    Raises:
        UserError: mlflow is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks before it
        mlflow = import_engine("mlflow", "mlflow-skinny")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri((folder.resolve() / "mlruns").as_uri())
        self._client, known = mlflow.MlflowClient(), folder / "mlflow_run"
        if known.is_file():
            self._run: str = known.read_text()
            self._client.update_run(self._run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ppcls_lite")
        self._run = self._client.create_run(mlflow.set_experiment(name).experiment_id).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)
        known.write_text(self._run)

    def __call__(self, values: Values, step: int) -> None:
        """Writes metrics by name."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Says that the run has ended."""
        self._client.set_terminated(self._run)


class WandB:
    """A run in FOLDER/wandb, offline unless WANDB_MODE says otherwise.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb, known = import_engine("wandb", "wandb"), folder / "wandb_run"
        if not known.is_file():
            known.write_text(uuid.uuid4().hex[:8])
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ppcls_lite"), dir=str(folder), mode=mode,
            id=known.read_text(), resume="allow", config=dict(settings),
        )  # fmt: skip

    def __call__(self, values: Values, step: int) -> None:
        """Writes a row of history."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Ends the run's files."""
        self._run.finish()


TRACKERS: dict[str, Any] = {
    "tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB,
}  # fmt: skip


def tracker(name: str, config: Settings) -> Callable[[Path], Any]:
    """Returns what opens a tracker for a run folder; its settings are the run's.

    An opened one takes values by name and a step; `close` ends it.
    """
    settings = {key: value for key, value in vars(config).items() if key != "sources"}
    return partial(TRACKERS[name], settings=settings)


def numbers(event: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Returns a record's numbers under the names of VisualDL's curves, `event/key`."""
    return {f"{event}/{key}": value for key, value in values.items() if isinstance(value, float)}
