"""The network that `benchmark eval` and `infer` run: given weights, or fresh ones."""

from pathlib import Path

from ppcls_lite.arch.zoo import build_model
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import Weights, find_weights


def weights_of(config: BenchmarkConfig, folder: Path) -> Weights:
    """Returns the weights to measure; fresh ones are written to `folder`."""
    if config.pretrained:
        return find_weights(config.pretrained, config.model)
    path = folder / "fresh.pdparams"
    weights = {k: v.numpy() for k, v in build_model(config.model).state_dict().items()}
    save_weights(path, weights, ModelInfo(config.model))
    # Older builds read it as well: theirs would not know what ours writes there one day.
    path.with_suffix(".json").unlink()
    return find_weights(path, config.model)
