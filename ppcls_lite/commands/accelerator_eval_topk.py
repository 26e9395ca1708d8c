"""`accelerator eval_topk`: top-1 and top-5 of a result text."""

from pathlib import Path

from ppcls_lite.accelerator.labels import folder_ids
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
    folders = sorted({Path(path).parent.name for path in results})
    scores = score_by_id(results, folder_ids(config.classes, folders))
    print(f"{scores.images} pictures")
    print(scores.line())
    return 0
