"""Where on a picture a network sees a class: heatmaps, whichever engine runs the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.deploy.features import onnx_file_of
from ppcls_lite.deploy.first_load import check_whole
from ppcls_lite.deploy.onnx_head import NoHeadError, OnnxMaps
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.errors import UserError
from ppcls_lite.runtimes import Runtime, is_installed

CELLS = 8  # an occlusion's per side; each square that is covered has 2 x 2 of them
# The colours of a heatmap, from nothing to most: anchors of matplotlib's "inferno", RGB.
COLOURS = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21),
     (250, 193, 39), (252, 255, 164)],
    np.float32,
)  # fmt: skip
SHOWN = 440  # about the side of each picture of `side_by_side`, pixels
LEAST, MOST = 0.25, 0.75  # share of the colour over the photograph, where nothing and most is


@dataclass(frozen=True)
class Explanation:
    """Where on one picture a network sees one class.

    Attributes:
        answer: what the Predictor answers for the picture: ranked `Prediction`, the best first.
        class_id: the class that the heatmap is of.
        method: cam, grad_cam or occlusion.
        heatmap: float32 [H, W] of the crop the network saw; 0 counts nothing for the class, 1 most.
        seen: uint8 [H, W, 3], that crop.
        features: float32 [D], what the last layer reads; None where an occlusion explains.
    """

    answer: Any
    class_id: int
    method: str
    heatmap: np.ndarray
    seen: np.ndarray
    features: np.ndarray | None = None

    def overlay(self) -> Image.Image:
        """Returns the crop with the heatmap over it, an RGB image of the same size."""
        place = self.heatmap * (len(COLOURS) - 1)  # [H, W]
        anchors = range(len(COLOURS))
        colours = np.stack([np.interp(place, anchors, c) for c in COLOURS.T], axis=-1)  # [H, W, 3]
        share = (LEAST + (MOST - LEAST) * self.heatmap)[..., None]
        mixed = share * colours + (1 - share) * self.seen
        return Image.fromarray(mixed.round().astype(np.uint8))

    def side_by_side(self) -> Image.Image:
        """Returns the crop and, right of it, the overlay: large enough to look at."""
        scale = max(1, round(SHOWN / max(self.seen.shape[:2])))
        width, height = scale * self.seen.shape[1], scale * self.seen.shape[0]
        gap = width // 40
        both = Image.new("RGB", (2 * width + gap, height), "white")
        for left, image in ((0, Image.fromarray(self.seen)), (width + gap, self.overlay())):
            both.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, 0))
        return both


def maps_of_export(
    file: Path,
    sidecar: Sidecar | None,
    device: str,
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> OnnxMaps | None:
    """Opens the ONNX file of an export for its last maps.

    Args:
        file, sidecar, device: as of `features_of_export`.
        answer: as of `OnnxMaps`.

    Returns:
        None where there is no such file, `onnx` is not installed, or the head is none it knows.

    Raises:
        UserError: the file is not the one that was exported, or cannot be read.
    """
    onnx_file = onnx_file_of(file)
    if not onnx_file.is_file() or not is_installed("onnx"):
        return None
    check_whole(sidecar, [onnx_file], "onnxruntime", device)
    try:
        return OnnxMaps(onnx_file, device, answer)
    except NoHeadError:
        return None


def heatmaps(
    run: Runtime | OnnxMaps,
    logits: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    class_id: int | None = None,
    layer: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str, list[np.ndarray] | list[None]]:
    """Explains a batch.

    A network in dygraph, or an ONNX file whose head is known (`onnx_head`), is explained by
    Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), which is CAM (Zhou et al. 2016, arXiv
    1512.04150) without its negative part where the head is a pooling and one linear layer, as
    MnasNet's is. Other files have no gradients: squares of the picture are covered one after the
    other (Zeiler and Fergus 2014, arXiv 1311.2901).

    Args:
        run: the engine; of an ONNX file its maps.
        logits: images [N, 3, H, W] -> logits [N, K] by that engine.
        images: float32 [N, 3, H, W].
        class_id: to explain; None takes the first class of each picture.
        layer: whose output is looked at, by its name in the network; None takes the last
            convolution's. For dygraph only.

    Returns:
        logits [N, K]; class ids [N]; heatmaps float32 [N, H, W], 0 to 1; the method; the features
        [N] of the same run, each float32 [D], or None where an occlusion explains.

    Raises:
        UserError: there is no such class or layer, or the engine cannot look into layers.
    """
    if layer is not None and not isinstance(run, DygraphRuntime):
        raise UserError(
            f"layer {layer!r}: an exported file gives no gradients of its layers",
            "give the checkpoint it was made of, or leave the layer out",
        )
    features: list[np.ndarray] | list[None]
    if isinstance(run, DygraphRuntime | OnnxMaps):
        choose = partial(chosen, class_id=class_id)
        which = () if isinstance(run, OnnxMaps) else (layer,)
        scores, maps, gradients, has_linear_head, vectors = run.gradients(images, choose, *which)
        ids = choose(scores)
        cells = grad_cam(maps, gradients)
        method, features = "cam" if has_linear_head else "grad_cam", list(vectors)
    else:
        scores = logits(images)
        ids = chosen(scores, class_id)
        cells = np.stack([occlusion(logits, *pair) for pair in zip(images, ids, strict=True)])
        method, features = "occlusion", [None] * len(images)
    size = images.shape[3], images.shape[2]
    return scores, ids, np.stack([stretched(each, size) for each in cells]), method, features


def chosen(scores: np.ndarray, class_id: int | None) -> np.ndarray:
    """The class to explain of each row of scores [N, K]: int64 [N].

    Raises:
        UserError: there is no such class.
    """
    classes = scores.shape[1]
    if class_id is None:
        return scores.argmax(axis=1)
    if not 0 <= class_id < classes:
        raise UserError(
            f"class_id is {class_id}; allowed: 0 to {classes - 1}",
            "leave class_id out: then it is the class that the model predicts",
        )
    return np.full(len(scores), class_id)


def grad_cam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """A layer's output and the score's gradients [N, C, h, w] -> Grad-CAM [N, h, w], 0 or more."""
    weights = gradients.mean(axis=(2, 3), keepdims=True)  # [N, C, 1, 1]
    return np.maximum((weights * maps).sum(axis=1), 0)


def occlusion(
    logits: Callable[[np.ndarray], np.ndarray], image: np.ndarray, class_id: int
) -> np.ndarray:
    """What covering each part of an image costs a class: float32 [8, 8], 0 or more.

    Squares of 2 x 2 cells are covered with the mean colour (zeros, once normalised). A cell's value
    is the mean, over the squares that cover it, of what the logarithm of the probability loses.

    Args:
        logits: images [N, 3, H, W] -> logits [N, K].
        image: float32 [3, H, W].
        class_id: the class.
    """
    rows, columns = (
        np.linspace(0, side, CELLS + 1).round().astype(int) for side in image.shape[1:]
    )
    whole = log_probability(logits(image[None]), class_id)[0]
    lost, covered = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for i in range(CELLS - 1):  # a row of squares at a time: it bounds the memory
        images = np.repeat(image[None], CELLS - 1, axis=0)
        for j in range(CELLS - 1):
            images[j, :, rows[i] : rows[i + 2], columns[j] : columns[j + 2]] = 0
        losses = whole - log_probability(logits(images), class_id)  # [7]
        for j, loss in enumerate(losses):
            lost[i : i + 2, j : j + 2] += loss
            covered[i : i + 2, j : j + 2] += 1
    return np.maximum(lost / covered, 0).astype(np.float32)


def log_probability(logits: np.ndarray, class_id: int) -> np.ndarray:
    """Logits [N, K] -> the logarithm of a class's probability, float64 [N]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide[:, class_id] - np.log(np.exp(wide).sum(axis=1))


def stretched(cells: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Cells [h, w] -> float32 [H, W] by linear interpolation, its values brought to 0 to 1.

    Cells that are all alike say nothing of a place: zeros.

    Args:
        cells: of any range.
        size: W, H.
    """
    image = Image.fromarray(cells.astype(np.float32))
    wide = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    wide = wide - wide.min()
    most = wide.max()
    return wide / most if most > 1e-7 * max(1.0, float(np.abs(cells).max())) else 0 * wide
