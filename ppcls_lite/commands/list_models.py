"""`tools/list_models.py`: the networks that can be asked for by name."""

import json
from dataclasses import asdict, dataclass

from ppcls_lite.arch import count_macs, count_parameters, create_model, list_models
from ppcls_lite.arch.count import count_parameters_with_bn_stats
from ppcls_lite.arch.zoo import model_spec
from ppcls_lite.config import ListModelsConfig
from ppcls_lite.errors import UserError


@dataclass(frozen=True)
class Row:
    """One model: parameters and MACs are counted here and now, top1/top5 are the source's."""

    name: str
    source: str
    width: float
    input_size: int
    params: int
    params_with_bn_stats: int
    macs: int
    top1: float
    top5: float
    weights: tuple[str, ...] = ()  # released weights and their tags are not offered yet


def run(config: ListModelsConfig) -> int:
    """Prints a table, or a JSON list, of the matching models."""
    names = list_models(config.pattern, config.source)
    if not names:
        raise UserError(f"no model matches {config.pattern!r}", "--pattern '*'")
    rows = [count(name) for name in names]
    if config.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print("name                  source       width  size      params  MACs (M)   top-1   top-5")
    for r in rows:
        print(
            f"{r.name:<22}{r.source:<13}{r.width:>5}{r.input_size:>6}{r.params:>12,}"
            f"{r.macs / 1e6:>10.3f}{r.top1:>8.3f}{r.top5:>8.3f}"
        )
    print("\ntop-1 and top-5 are the source's published ImageNet accuracy, in percent.")
    return 0


def count(name: str) -> Row:
    """Builds a model and counts it."""
    spec, model = model_spec(name), create_model(name)
    return Row(
        name=name,
        source=spec.source,
        width=spec.width,
        input_size=spec.input_size,
        params=count_parameters(model),
        params_with_bn_stats=count_parameters_with_bn_stats(model),
        macs=count_macs(model, spec.input_size),
        top1=spec.top1,
        top5=spec.top5,
    )
