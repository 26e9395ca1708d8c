"""`accelerator eval_imagenet`: top-1 and top-5 of the scores that vamp wrote."""

from pathlib import Path

from ppcls_lite.accelerator.npz_eval import picture_labels, score_npz
from ppcls_lite.accelerator.profile import read_datalist
from ppcls_lite.accelerator.settings import EvalImagenetConfig


def run(config: EvalImagenetConfig) -> int:
    """Prints the documents' line."""
    config.require("result_path", "datalist", "label")
    pictures = read_datalist(Path(config.datalist))
    labels = picture_labels(pictures, Path(config.label), config.classes)
    scores = score_npz(Path(config.result_path), pictures, labels)
    print(f"{scores.images} images")
    print(scores.line())
    return 0
