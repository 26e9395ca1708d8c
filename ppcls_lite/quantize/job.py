"""What int8 starts from: a float graph, pictures to calibrate with, pictures to measure on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.label_lists import Labels
from ppcls_lite.data.shares import Shares
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import temporary_folder
from ppcls_lite.int8.pictures import choose_pictures, pictures_of
from ppcls_lite.int8.qdq import float_graph
from ppcls_lite.program import export_command
from ppcls_lite.quantize.recipe import logits
from ppcls_lite.quantize.scaling import plant_outliers
from ppcls_lite.quantize.settings import Int8Settings
from ppcls_lite.weights.find import Weights, find_weights

OPSET = 11  # the accelerator's, so that layers have the same names here and there


@dataclass(frozen=True)
class Job:
    """A network about to be quantized.

    Attributes:
        graph: what `float_graph` made of it; with `outliers`, its twin.
        sidecar: of its float export.
        calibration: float32 [1, 3, H, W] each, from train.
        pictures: the same from val.
        labels: of those, int64 [N].
        reference: the float network's answers to them, float32 [N, K].
        others: pictures of train that are not calibrated with, for choosing between recipes.
        others_reference: the float network's answers to those.
        training: pictures of train for the technique train, none of them among the others.
        planted: channels that were made too large.
        matched: how the classes of train and val were matched to the network's, in words.
    """

    graph: onnx.ModelProto
    sidecar: Sidecar
    calibration: Sequence[np.ndarray]
    pictures: Sequence[np.ndarray]
    labels: np.ndarray
    reference: np.ndarray
    others: Sequence[np.ndarray]
    others_reference: np.ndarray
    training: Sequence[np.ndarray]
    planted: int
    matched: tuple[str, str]


def open_job(
    settings: Int8Settings, eval_images: int = 0, other_images: int = 0, train_images: int = 0
) -> Job:
    """Exports the network and reads the pictures.

    Args:
        settings: of the command.
        eval_images: pictures of val, as many of each class as possible; 0 takes all.
        other_images: pictures of train beside those to calibrate with.
        train_images: pictures of train to train with, those to calibrate with among them.

    Raises:
        UserError: weights and data do not fit each other, or cannot be read.
    """
    settings.require("pretrained", "data_path")
    weights = find_weights(str(settings.pretrained), settings.model, settings.num_classes)
    train, val = _open_splits(settings, weights)
    graph, sidecar = _float_export(settings, weights)
    known = sidecar.info.class_set(str(settings.pretrained))
    hint = "give data of the model's classes"
    train, of_train = train.matched(known, "train", hint)
    val, of_val = val.matched(known, "val", hint)
    chosen = choose_pictures(train.labels, len(train))
    count, end = settings.calibration_images, settings.calibration_images + other_images
    measured = choose_pictures(val.labels, eval_images or len(val))
    spec = sidecar.info.preprocess
    pictures = list(pictures_of(val, measured, spec))
    calibration = list(pictures_of(train, chosen[:count], spec))
    others = list(pictures_of(train, chosen[count:end], spec))
    training = pictures_of(train, [*chosen[:count], *chosen[end:]][:train_images], spec)
    reference = logits(graph, pictures)
    others_reference = logits(graph, others) if others else reference[:0]
    planted = plant_outliers(graph, settings.outliers) if settings.outliers > 1 else 0
    return Job(
        graph,
        sidecar,
        calibration,
        pictures,
        np.asarray(val.labels)[measured],
        reference,
        others,
        others_reference,
        training,
        planted,
        (of_train.how, of_val.how),
    )


def _open_splits(settings: Int8Settings, weights: Weights) -> list[ImageDataset]:
    """Returns train and val, shared out as the run of the weights did."""
    shares = Shares(run=str(weights.path))
    how: Labels = "several" if weights.info.multi_label else "auto"
    splits = ("train", "val")
    return [open_split(settings.data_path, x, shares=shares, labels=how) for x in splits]


def _float_export(settings: Int8Settings, weights: Weights) -> tuple[onnx.ModelProto, Sidecar]:
    """Returns the float graph that int8 starts from, with logits, and what is known of it."""
    if weights.info.quant_skip is not None:
        raise UserError(
            f"{settings.pretrained} was trained for 8 bits: its export is int8 already",
            export_command("inference", *weights.flags),
        )
    with temporary_folder("ppcls-int8-") as temporary:
        sidecar = export_model(
            weights,
            Path(temporary),
            formats=("onnx",),
            opset_version=OPSET,
            image_size=settings.img_size,
            softmax_inside=False,
        )
        return float_graph(Path(temporary) / "inference.onnx"), sidecar
