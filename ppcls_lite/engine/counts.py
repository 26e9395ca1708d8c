"""What an evaluation counts."""

import dataclasses

from ppcls_lite.label_metric import LabelAccuracy
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo

# What an evaluation counts: one label a picture, or several.
Counts = Accuracy | LabelAccuracy


def counts(info: ModelInfo) -> Counts:
    """Returns what counts the answers of a network."""
    if info.multi_label:
        return LabelAccuracy(info.num_classes, info.thresholds)
    return Accuracy(info.num_classes)


def judged(info: ModelInfo, accuracy: Counts | None) -> ModelInfo:
    """Returns the network with the thresholds that an evaluation chose, if it chose any."""
    if isinstance(accuracy, LabelAccuracy):
        return dataclasses.replace(info, thresholds=accuracy.thresholds)
    return info
