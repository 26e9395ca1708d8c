"""`accelerator eval_topk`: top-1 and top-5 of a result text."""

from pathlib import Path

from ppcls_lite.accelerator.npz_eval import true_classes
from ppcls_lite.accelerator.results import (
    read_results,
    result_file,
    score_by_id,
    score_by_name,
)
from ppcls_lite.accelerator.settings import EvalTopkConfig


def run(config: EvalTopkConfig) -> int:
    """Prints the documents' line."""
    config.require("result")
    file = result_file(Path(config.result))
    if config.compat:
        print(score_by_name(file).line())
        return 0
    results = read_results(file)
    scores = score_by_id(results, true_classes([Path(path) for path in results], config.classes))
    print(f"{scores.images} images")
    print(scores.line())
    return 0
