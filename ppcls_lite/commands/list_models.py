"""`tools/list_models.py`: the networks that can be asked for by name."""

import json

from ppcls_lite.arch import count_macs, count_parameters, create_model, list_models
from ppcls_lite.arch.count import count_parameters_with_bn_stats
from ppcls_lite.arch.zoo import model_spec
from ppcls_lite.config import ListModelsConfig
from ppcls_lite.errors import UserError


def run(config: ListModelsConfig) -> int:
    """Prints a table, or a JSON list, of the matching models with counts made here and now."""
    names = list_models(config.pattern, config.source)
    if not names:
        raise UserError(f"no model matches {config.pattern!r}", "--pattern '*'")
    rows = []
    for name in names:
        spec, model = model_spec(name), create_model(name)
        rows.append(
            {
                "name": name,
                "source": spec.source,
                "width": spec.width,
                "input_size": spec.input_size,
                "params": count_parameters(model),
                "params_with_bn_stats": count_parameters_with_bn_stats(model),
                "macs": count_macs(model, spec.input_size),
                "top1": spec.top1,
                "top5": spec.top5,
                "weights": [],  # released weights and their tags are not offered yet
            }
        )
    if config.json:
        print(json.dumps(rows, indent=1))
        return 0
    print("name                  source       width  size      params  MACs (M)   top-1   top-5")
    for name, source, width, size, params, _, macs, top1, top5, _ in map(dict.values, rows):
        counts = f"{params:>12,}{macs / 1e6:>10.3f}{top1:>8}{top5:>8}"
        print(f"{name:<22}{source:<13}{width:>5}{size:>6}{counts}")
    print("\ntop-1 and top-5 are the source's published ImageNet accuracy, in percent.")
    return 0
