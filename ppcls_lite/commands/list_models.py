"""`tools/list_models.py`: the networks that can be asked for by name."""

import json
from dataclasses import asdict, dataclass

from ppcls_lite.arch.count import count_macs, count_parameters, count_parameters_with_bn_stats
from ppcls_lite.arch.explain import explain
from ppcls_lite.arch.zoo import build_model, list_models, model_spec
from ppcls_lite.errors import UserError
from ppcls_lite.weights.settings import ListModelsConfig
from ppcls_lite.weights.tags import tags_of


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
    top1: float | None
    top5: float | None
    weights: tuple[dict[str, object], ...]  # published ones, the default first


def run(config: ListModelsConfig) -> int:
    """Prints a table, or a JSON list, of the matching models."""
    if config.explain is not None:
        return _explain(config.explain, config.json)
    names = list_models(config.pattern, config.source)
    if not names:
        raise UserError(
            f"no model matches {config.pattern!r}",
            "leave --pattern and --source out: then all are listed",
        )
    rows = [count(name) for name in names]
    if config.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    wide = max(len(name) for name in names)
    header = "source       width  size      params  MACs (M)   top-1   top-5  weights"
    print(f"{'name':<{wide}}  {header}")
    for r in rows:
        print(
            f"{r.name:<{wide}}  {r.source:<11}{r.width:>7}{r.input_size:>6}{r.params:>12,}"
            f"{r.macs / 1e6:>10.3f}{_percent(r.top1)}{_percent(r.top5)}"
            f"  {', '.join(tag.tag for tag in tags_of(r.name)) or '-'}"
        )
    print("\ntop-1 and top-5 are the source's published ImageNet accuracy, in percent.")
    print("weights: published ones, the default first; --pretrained TAG fetches them.")
    return 0


def _percent(accuracy: float | None) -> str:
    return f"{'-':>8}" if accuracy is None else f"{accuracy:>8.3f}"


def _explain(name: str, as_json: bool) -> int:
    spec, model = model_spec(name), build_model(name)
    rows = explain(model, spec.input_size)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print(f"{name} ({spec.source}), input {spec.input_size} x {spec.input_size} x 3")
    print("operator      exp size   out    SE  NL  stride  shortcut    output")
    for row in rows:
        cells = (row.expanded, row.out, row.squeezed, row.act, row.stride)
        exp, out, se, act, stride = ("-" if cell is None else cell for cell in cells)
        shortcut = "yes" if row.shortcut else "-"
        size = "{} x {}".format(*row.output)
        print(
            f"{row.operator:<13}{exp:>9}{out:>6}{se:>6}{act:>4}{stride:>8}{shortcut:>10}{size:>10}"
        )
    print("\nSE: channels that squeeze-excite squeezes to. NL: RE ReLU, R6 ReLU6, HS h-swish.")
    return 0


def count(name: str) -> Row:
    """Builds a model and counts it."""
    spec, model = model_spec(name), build_model(name)
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
        weights=tuple(
            {
                "tag": str(tag),
                "url": tag.url,
                "digest": tag.digest,
                "licence": tag.licence,
                "top1": tag.top1,
                "top5": tag.top5,
                "preprocess": tag.preprocess.to_dict(),
            }
            for tag in tags_of(name)
        ),
    )
