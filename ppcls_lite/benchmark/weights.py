"""The network that `benchmark eval` and `infer` run: given weights, or fresh ones."""

from pathlib import Path

from ppcls_lite.arch.zoo import build_model
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.engine.checkpoint import read_model_info, save_weights
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.published import pretrained_file


def weights_of(config: BenchmarkConfig, folder: Path) -> tuple[Path, ModelInfo]:
    """Returns the weights to measure and what they are; fresh ones are written to `folder`."""
    if config.pretrained:
        given = pretrained_file(config.pretrained, config.model)
        return given, read_model_info(given, config.model)
    info = ModelInfo(config.model)
    path = folder / "fresh.pdparams"
    save_weights(path, build_model(info.name, info.num_classes).state_dict(), info)
    return path.resolve(), info
