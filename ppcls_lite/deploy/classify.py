"""Files of pictures through a network: what became of each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, load_image
from ppcls_lite.deploy.explain import Explanation
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.ranking import Ranking
from ppcls_lite.deploy.settings import NetworkSettings


@dataclass(frozen=True)
class Result:
    """What became of one file: ranked classes, why on request, or an error."""

    file: Path
    ranking: Ranking
    image: Image.Image | None = None
    milliseconds: float = 0.0
    error: str = ""
    why: Explanation | None = None

    def to_dict(self, engine: str) -> dict[str, object]:
        """Returns it as --json prints it."""
        if self.error:
            return {"file": str(self.file), "error": self.error}
        return {"file": str(self.file), "engine": engine} | self.ranking.to_dict()


def open_predictor(config: NetworkSettings) -> Predictor:
    """Opens the network of the command's settings."""
    return Predictor(
        config.pretrained,
        engine=config.engine,
        device=config.device,
        batch_size=config.batch_size,
        model=config.model,
        num_classes=config.num_classes,
        tta=config.tta,
    )


def classify(
    predictor: Predictor,
    files: Sequence[Path],
    topk: int,
    explain: bool = False,
    layer: str | None = None,
) -> Iterator[Result]:
    """Yields one result per file, in order; with `explain` also why, by `Predictor.explain`."""
    size = predictor.info.preprocess.crop_size
    # The first run of an engine prepares its kernels; it would blur the times shown.
    predictor.raw(np.zeros((1, 3, size, size), np.float32))
    for start in range(0, len(files), predictor.batch_size):
        chunk = files[start : start + predictor.batch_size]
        images: dict[Path, Image.Image] = {}
        errors: dict[Path, str] = {}
        for file in chunk:
            try:
                images[file] = load_image(file)
            except ImageError as error:
                errors[file] = error.message
        begin = time.perf_counter()
        given, reasons = list(images.values()), dict[Path, Explanation]()
        if explain:
            reasons = dict(zip(images, predictor.explain(given, topk, layer=layer), strict=True))
            rankings = {file: why.answer for file, why in reasons.items()}
        else:
            rankings = dict(zip(images, predictor(given, topk), strict=True))
        milliseconds = 1000 * (time.perf_counter() - begin) / max(1, len(images))
        for file in chunk:
            if file in errors:
                yield Result(file, Ranking([]), error=errors[file])
            else:
                why = reasons.get(file)
                yield Result(file, rankings[file], images[file], milliseconds, why=why)
