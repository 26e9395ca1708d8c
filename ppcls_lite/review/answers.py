"""What a network answers to a data set, and what its last layer reads of each picture."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppcls_lite.config import Device
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.named import open_train, open_val
from ppcls_lite.deploy.choose import is_export
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.ranking import softmax
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.head import fastest
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.files import readable
from ppcls_lite.flags import flags
from ppcls_lite.metric import Accuracy
from ppcls_lite.program import command
from ppcls_lite.runtimes import load_network
from ppcls_lite.weights.find import Weights, find_weights

BATCH = 32
MOST_TRAINED = 20_000  # training pictures looked at: their features are kept, 4 kB each


@dataclass(frozen=True)
class Answers:
    """A network's answers to N pictures of known classes.

    Attributes:
        data: the pictures, with the network's class ids.
        indices: int64 [N], their positions in it.
        labels: int64 [N]; of several labels an image 0 or 1, [N, K].
        logits: float32 [N, K].
        features: float32 [N, D], what the last layer reads; None of an export without an ONNX file.
        broken: why pictures could not be read, by path.
    """

    data: ImageDataset
    indices: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray | None
    broken: dict[str, str]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 [N, K], of networks that give one label an image, as what follows."""
        return softmax(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The first class of each picture, int64 [N]."""
        return self.logits.argmax(axis=1)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether it is the picture's class, bool [N]."""
        return self.predicted == self.labels

    @cached_property
    def accuracy(self) -> Accuracy:
        """The counts."""
        found = Accuracy(self.logits.shape[1])
        found.add(self.logits, self.labels)
        return found


class Network:
    """A network to look at, and the settings that it was trained with.

    Args:
        text: a run's folder, a checkpoint, a tag, an export folder or a file in one.
        data_path: the pictures; None takes those it was trained on.
        device: where to compute.

    Attributes:
        name: what to call it.
        weights: where it is from.
        predictor: it, for single pictures.
        description: what the JSON beside the weights says.
        settings: of its training; the defaults where they are not known.

    Raises:
        UserError: there is no such network, or its pictures are not known.
    """

    def __init__(self, text: str, data_path: str | None, device: Device) -> None:
        best = Path(text) / "best.pdparams"
        self.name = text
        self.weights: Weights = find_weights(str(best) if best.is_file() else text)
        self.is_export = is_export(self.weights.path)
        self.description: dict[str, Any] = {}
        if not self.is_export:
            self.description = self.weights.description or {}
        self.predictor = Predictor(self.weights, device=device)
        self.info = self.predictor.info
        self.settings = self._settings(data_path)
        self._device = device

    def _settings(self, data_path: str | None) -> TrainConfig:
        known, stored = flags(TrainConfig), self.description.get("config", {})
        where = f"{self.weights.path.stem}.json"
        kept = {k: known[k].check(v, f"{where}: {k}") for k, v in stored.items() if k in known}
        if data_path is not None:
            kept = {"data_path": data_path, "dataset": kept.get("dataset", "folder")}
        if self.info.multi_label:
            kept["labels"] = "several"
        if "data_path" not in kept:
            raise UserError(
                f"{self.name} does not say what it was trained on",
                command("report", *self.weights.flags) + " --data-path DATA",
            )
        return TrainConfig(**kept)

    @cached_property
    def val(self) -> ImageDataset:
        """The validation pictures, with the network's class ids.

        Raises:
            UserError: they are not there, or have other classes.
        """
        run, settings = str(self.weights.path), self.settings
        data = open_val(settings, True, settings.train_list, run)
        return self._matched(data, "val")

    @cached_property
    def train(self) -> ImageDataset | None:
        """The training pictures, evenly chosen where there are many; None where there are none."""
        run, settings = str(self.weights.path), self.settings
        try:
            data = self._matched(open_train(settings, True, settings.val_list, run), "train")
        except UserError:
            return None
        if len(data) <= MOST_TRAINED:
            return data
        return data.subset(np.linspace(0, len(data) - 1, MOST_TRAINED).round().astype(int))

    def _matched(self, data: ImageDataset, split: str) -> ImageDataset:
        listed = "several" if data.labels.ndim == 2 else "one"
        given = "several" if self.info.multi_label else "one"
        if listed != given:
            raise UserError(
                f"{data.place} lists {listed} labels an image, and {self.name} gives {given}",
                f"give lists with {given} an image",
            )
        hint = "give images of the classes that the model knows"
        return data.matched(self.info.class_set("the model"), split, hint)[0]

    def shown_path(self, data: ImageDataset, index: int) -> str:
        """Returns what to call a picture: its path below the data root, if it lies there."""
        path, root = data.path(index), self.settings.data_path
        inside = os.path.relpath(path, root) if os.path.exists(path) else path
        return readable(path if inside.startswith("..") else inside)

    def answers(self, data: ImageDataset, workers: int) -> Answers:
        """Runs every picture of a data set once; those that cannot be read are left out.

        Raises:
            UserError: no picture of a known class can be read, or the answers are not finite.
        """
        loader = Loader(
            data, self.info.preprocess, BATCH, training=False, workers=workers, on_error="skip"
        )
        found: list[tuple[np.ndarray, ...]] = []
        with closing(loader):
            for batch in loader.epoch(0):
                known = batch.labels.reshape(len(batch.labels), -1).min(axis=1) >= 0
                if known.any():
                    logits, features = self._run(batch.images[known])
                    found.append((batch.indices[known], batch.labels[known], logits, features))
        if not found:
            raise UserError("none of the images can be read", command("data check"))
        indices, labels, logits, features = (np.concatenate(x) for x in zip(*found, strict=True))
        if not np.isfinite(logits).all():
            raise UserError(
                f"{self.name} answers with numbers that are not finite",
                "give other weights: these are damaged, or their training diverged",
            )
        kept = features if features.shape[1] else None
        return Answers(data, indices, labels, logits, kept, loader.broken)

    def _run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, H, W, 3] -> logits [N, K], features [N, D], or [N, 0] where there are none."""
        images = self.info.preprocess.normalize(pixels)
        if self._both is not None:
            return self._both(images)
        logits = self.predictor.logits(images)
        try:
            return logits, self.predictor.embed_seen(list(pixels))
        except UserError:
            return logits, np.zeros((len(pixels), 0), np.float32)

    def logits(self, files: Sequence[Path]) -> np.ndarray:
        """Answers to pictures of no class, float32 [M, K]; those that cannot be read are left out.

        Raises:
            UserError: none can be read.
        """
        data = ImageDataset([str(file) for file in files], [0] * len(files), [""])
        return self.answers(data, 0).logits

    @cached_property
    def _both(self) -> "LogitsAndFeatures | None":
        """A checkpoint's way: one run for both, in the kernels of training where they run."""
        if self.is_export:
            return None
        return LogitsAndFeatures(self.weights, self._device)


class LogitsAndFeatures:
    """A checkpoint: images float32 [N, 3, H, W] -> logits [N, K], features [N, D]."""

    def __init__(self, weights: Weights, device: Device) -> None:
        network, _ = load_network(weights, weights.info)
        self._caught: list[paddle.Tensor] = []
        # Before the network is wrapped: the kernels leave a layer with a hook to Paddle.
        last_linear(network).register_forward_pre_hook(
            lambda layer, inputs: self._caught.append(inputs[0])
        )
        on_gpu = device != "cpu" and paddle.is_compiled_with_cuda()
        self._network = network
        if weights.info.quant_skip is None:
            self._network = fastest(network, TrainConfig(), "gpu" if on_gpu else "cpu")
            network.training = True  # the kernels run; every layer answers as in evaluation

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with paddle.no_grad():
            logits = self._network(paddle.to_tensor(images)).numpy()
        return logits, self._caught.pop().numpy()
