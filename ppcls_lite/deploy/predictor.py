"""From images to named probabilities, whichever engine runs the model."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.config import Tta
from ppcls_lite.data.jpeg import Picture, PlainJpeg
from ppcls_lite.deploy import assumed
from ppcls_lite.deploy.choose import find_model
from ppcls_lite.deploy.explain import Explanation, heatmaps, maps_of_export
from ppcls_lite.deploy.features import features_of_export
from ppcls_lite.deploy.first_load import check_whole
from ppcls_lite.deploy.hooks import Postprocessor, Preprocessor, network_input, visible
from ppcls_lite.deploy.inputs import ChannelOrder, pictures
from ppcls_lite.deploy.onnx_head import OnnxMaps
from ppcls_lite.deploy.ranking import Ranking, probabilities, rank, scores
from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar, read_sidecar
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.engines import import_engine
from ppcls_lite.errors import UserError
from ppcls_lite.files import cache_folder
from ppcls_lite.runtimes import (
    FILE_RUNTIMES,
    OpenVinoRuntime,
    Runtime,
    in_batches,
    load_network,
    with_flips,
)
from ppcls_lite.weights.find import Weights, find_weights


class Predictor:
    """Classifies images with a checkpoint or an exported model.

    Preprocessing, class names and whether softmax is inside the file come from the checkpoint's
    JSON or the export folder's `inference.yml`.

    Any number of threads may call one Predictor at the same time, with every engine: each gets the
    predictions for its own images (`runtimes`). A run takes all cores already, so threads gain
    little on two: for throughput give several images at once.

    Args:
        path: a checkpoint (.pdparams), weights of any framework, a tag of published ones (fetched
            at first use), an export folder, or a file in it (.pdmodel, .json, .onnx); or weights
            that were found already.
        engine: auto, dygraph, paddle_inference, onnxruntime or openvino. auto follows the file; in
            a folder the fastest for this batch size of those that agreed (`choose.find_model`).
        device: auto, cpu or gpu.
        batch_size: images per run of the model.
        model: that of weights which do not name theirs (Step6's files have no JSON).
        num_classes: K to assume for such a checkpoint; None takes it from the weights.
        preprocess: your own function in the place of resizing and cropping: an upright RGB PIL
            image and `info` -> uint8 [H, W, 3], which is then normalised, or float32 [3, H, W],
            which the model reads as it is. See docs/serving.md.
        postprocess: your own function in the place of ranking: probabilities float32 [K] and `info`
            -> whatever the call is to return for that image.
        tta: flip: logits are means over an image and its mirror image; `raw` is of one run.

    Attributes:
        engine, file: the engine in use, and what it runs.
        info: the model, its class names and preprocessing.
        has_softmax: `raw` gives probabilities, not logits; of several labels an image, too.
        note: what had to be assumed, in one sentence; empty when everything was on file.
        preprocess, postprocess: as given.
        choice: why auto took this engine; empty when there was nothing to choose.

    Raises:
        UserError: for everything that cannot work, naming the file.
    """

    def __init__(
        self,
        path: str | Path | Weights,
        engine: str = "auto",
        device: str = "auto",
        batch_size: int = 32,
        model: str | None = None,
        num_classes: int | None = None,
        preprocess: Preprocessor | None = None,
        postprocess: Postprocessor | None = None,
        tta: Tta = "none",
    ) -> None:
        weights = find_weights(path, model, num_classes)
        found = find_model(weights.path, engine, device, batch_size)
        self.engine, file, self.choice = found.engine, found.file, found.why
        self._weights, self.file, self._device = weights, file, device
        self.batch_size = batch_size
        self.note = ""
        self.tta = tta
        self.preprocess, self.postprocess = preprocess, postprocess
        self._run: Runtime
        self._sidecar: Sidecar | None = None
        if self.engine == "dygraph":
            self._open_weights(weights, device)
        else:
            self._open_export(file, device)

    def _open_weights(self, weights: Weights, device: str) -> None:
        import_engine("paddle", "paddlepaddle")
        self.info = weights.info
        network, report = load_network(weights, self.info)
        self._run = DygraphRuntime(network, device)
        self.has_softmax = False
        if weights.description is None:
            self.note = assumed.said_of_weights(weights) + report.choice

    def _open_export(self, file: Path, device: str) -> None:
        sidecar = self._sidecar = read_sidecar(file.parent)
        parts = [file] if file.suffix == ".onnx" else [file, file.with_suffix(".pdiparams")]
        check_whole(sidecar, parts, self.engine, device)
        if self.engine == "openvino":
            self._run = OpenVinoRuntime(file, device, cache=cache_folder() / "openvino")
        else:
            self._run = FILE_RUNTIMES[self.engine](file, device)
        if sidecar is not None:
            self.info = sidecar.info
            if file.name in sidecar.outputs:
                listed = sidecar.outputs[file.name]
                self.has_softmax = bool(listed["softmax"] or listed.get("sigmoid"))
                return
        spec = assumed.usual_preprocess(self._run) if sidecar is None else sidecar.info.preprocess
        # paddle2onnx's own command adds files that no sidecar lists: they must show it themselves.
        output = self.raw(np.zeros((1, 3, spec.crop_size, spec.crop_size), np.float32))  # [1, K]
        several = sidecar is not None and sidecar.info.multi_label
        self.has_softmax = assumed.are_probabilities(output, several)
        if sidecar is not None:
            self.note = (
                f"{SIDECAR} does not list {file.name}; preprocessing and names are taken from it"
            )
            return
        self.info, self.note = assumed.info_of_file(file.parent, output.shape[1], spec)

    def raw(self, images: np.ndarray) -> np.ndarray:
        """Runs the model: float32 [N, 3, H, W] -> float32 [N, K], logits or probabilities."""
        return in_batches(self._run, images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, H, W] -> float32 [N, K], scores before a softmax.

        A file with a softmax inside has lost them; the logarithms of its probabilities are logits
        of the same probabilities, losses and ranks.
        """
        return with_flips(self._logits)(images) if self.tta == "flip" else self._logits(images)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        return self._as_logits(self.raw(images))

    def _as_logits(self, output: np.ndarray) -> np.ndarray:
        return scores(output, self.info) if self.has_softmax else output

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, H, W] -> float32 [N, K]; sums of 1, but for several labels."""
        if self.tta == "flip":
            return probabilities(self.logits(images), self.info)
        output = self.raw(images)
        return output if self.has_softmax else probabilities(output, self.info)

    def __call__(
        self, images: Any, topk: int = 5, channel_order: ChannelOrder = "RGB"
    ) -> list[Any]:
        """Classifies one or several images.

        An image is the same, and so is the prediction, whichever way it is handed over: the EXIF
        orientation of a PIL image counts as a file's does, and 16-bit values become 8 bits by the
        same rule (`data.decode.eight_bits`).

        Args:
            images: one image or any iterable of them, a generator included. An image is a path;
                the bytes of a file (bytes, bytearray, memoryview); an open binary file; a PIL
                image; or a uint8 or uint16 array or tensor (numpy, Paddle, torch, whatever has
                `__array__`): [H, W, 3], [3, H, W], with 1 or 4 channels (alpha is dropped)
                likewise, or [H, W]. An array [N, ...] is N images.
            topk: classes per image, the most probable first; at most K. Without effect on your
                own postprocess.
            channel_order: of arrays and tensors: RGB, or BGR as OpenCV reads images.

        Returns:
            One `Ranking`, a list of `Prediction`, per image, or what your own postprocess
            returned for it, in the order given, also for a single one.

        Raises:
            ImageError: an image cannot be decoded.
            UserError: what was given is no image, such as an address or an array of floats.
        """
        if topk < 1:
            raise UserError(f"topk is {topk}; allowed: 1 or more", "give topk=1 for the best")
        results, crops = [], (self.see(image) for image in pictures(images, channel_order))
        while made := list(itertools.islice(crops, self.batch_size)):
            probs = self.probabilities(network_input(made, self.info))  # [N, K]
            results += self.answers(probs, topk)
        return results

    def explain(
        self,
        images: Any,
        topk: int = 5,
        channel_order: ChannelOrder = "RGB",
        class_id: int | None = None,
        layer: str | None = None,
    ) -> list[Explanation]:
        """Classifies images and says where on each the model sees the class.

        In dygraph and of an ONNX file (Grad-CAM) this takes one run, which gives the features, too,
        and the way back through its head; other exports are run 50 times: see `heatmaps`.

        Args:
            images, topk, channel_order: as of a call.
            class_id: of the heatmap; None takes the most probable of each image.
            layer: to look at, in dygraph only, by its name; None takes the last convolution.

        Raises:
            ImageError: an image cannot be decoded.
            UserError: as a call; there is no such class or layer.
        """
        results, crops = [], (self.see(image) for image in pictures(images, channel_order))
        while made := list(itertools.islice(crops, self.batch_size)):
            results += self.explain_seen(made, topk, class_id, layer)
        return results

    def explain_seen(
        self,
        made: list[np.ndarray],
        topk: int = 5,
        class_id: int | None = None,
        layer: str | None = None,
    ) -> list[Explanation]:
        """`explain` of what `see` made of the images, in one batch."""
        images = network_input(made, self.info)
        run = self._maps or self._run
        logits, ids, maps, method, vectors = heatmaps(run, self.logits, images, class_id, layer)
        answers = self.answers(probabilities(logits, self.info), topk)
        seen = [visible(each, self.info) for each in made]
        return [
            Explanation(answer, int(of), method, *rest)
            for answer, of, *rest in zip(answers, ids, maps, seen, vectors, strict=True)
        ]

    def embed(self, images: Any, channel_order: ChannelOrder = "RGB") -> np.ndarray:
        """Images -> float32 [N, D], what the model's last layer reads of each.

        An export's come from its ONNX file by ONNX Runtime, whichever engine classifies.

        Args: as of a call.

        Raises: as a call; UserError, too, where the export has no ONNX file.
        """
        parts, crops = [], (self.see(image) for image in pictures(images, channel_order))
        while made := list(itertools.islice(crops, self.batch_size)):
            parts.append(self.embed_seen(made))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def embed_seen(self, made: list[np.ndarray]) -> np.ndarray:
        """`embed` of what `see` made of the images, in one batch."""
        return self.with_features(network_input(made, self.info))[1]

    @functools.cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, or of what an export's sidecar says it was made of."""
        sidecar = self._sidecar
        return self._weights.sha256 if sidecar is None else sidecar.source["sha256"]

    @functools.cached_property
    def with_features(self) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """float32 [N, 3, H, W] -> the output [N, K] and features [N, D]; made at first use."""
        if isinstance(self._run, DygraphRuntime):
            return self._run.with_features
        return features_of_export(self.file, self._sidecar, self._device)

    @functools.cached_property
    def _maps(self) -> OnnxMaps | None:
        """Of an export's ONNX file, whichever engine answers; made at first use."""
        if self.engine == "dygraph":
            return None
        own = self.engine == "onnxruntime" and self.tta == "none"  # its run is the answer, too
        return maps_of_export(
            self.file, self._sidecar, self._device,
            lambda images, output: self._as_logits(output) if own else self.logits(images),
        )  # fmt: skip

    def see(self, image: Picture) -> np.ndarray:
        """Upright RGB image -> uint8 [H, W, 3], or what the user's own preprocess makes of it."""
        if self.preprocess is None:
            return self.info.preprocess.pixels(image)
        return self.preprocess(image.whole() if isinstance(image, PlainJpeg) else image, self.info)

    def answers(self, probs: np.ndarray, topk: int) -> list[Any]:
        """Probabilities [N, K] -> an answer each: `rank`, or the user's own postprocess."""
        if self.postprocess is None:
            return self.rank(probs, topk)
        return [self.postprocess(row, self.info) for row in probs]

    def rank(self, probs: np.ndarray, topk: int) -> list[Ranking]:
        """Probabilities [N, K] -> the topk classes of each row, the most probable first."""
        return rank(probs, topk, self.info)
