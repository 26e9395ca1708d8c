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
    info = ModelInfo(config.model)
    path = folder / "fresh.pdparams"
    save_weights(path, build_model(info.name, info.num_classes).state_dict(), info)
    return find_weights(path.resolve())
