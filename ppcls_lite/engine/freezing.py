"""Which parts of a network learn, and whether batch norm keeps its statistics."""

from collections.abc import Iterator

from paddle import nn

from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.arch.mobilenet_v3 import MobileNetV3
from ppcls_lite.engine.network_settings import StepSettings
from ppcls_lite.errors import UserError

NORMS = (nn.BatchNorm2D, nn.SyncBatchNorm)


def stages(model: nn.Layer) -> list[list[nn.Layer]]:
    """Returns the convolutional part by resolution: a stage begins where a stride halves it.

    The first stage is the stem and what follows at its resolution, the last one ends before the
    pooling.
    """
    features = model.features if isinstance(model, MobileNetV3) else model.layers
    found: list[list[nn.Layer]] = [[]]
    for layer in _leaves(features):
        convs = [x for x in layer.sublayers(include_self=True) if isinstance(x, nn.Conv2D)]
        if found[-1] and any(2 in conv._stride for conv in convs):
            found.append([])
        found[-1].append(layer)
    return found


def _leaves(layer: nn.Layer) -> Iterator[nn.Layer]:
    if isinstance(layer, nn.Sequential) and not isinstance(layer, InvertedResidual):
        for child in layer:
            yield from _leaves(child)
    else:
        yield layer


def last_linear(model: nn.Layer) -> nn.Linear:
    """Returns the layer that gives the logits."""
    linear: nn.Linear = [layer for layer in model.sublayers() if isinstance(layer, nn.Linear)][-1]
    return linear


def frozen_layers(model: nn.Layer, freeze: str) -> list[nn.Layer]:
    """Returns the layers that do not learn, without those that have no values, like dropout.

    Args:
        freeze: none; body: all but the last linear layer; stages:N: the first N of `stages`.

    Raises:
        UserError: there are not so many stages.
    """
    if freeze == "none":
        return []
    if freeze == "body":
        head = last_linear(model)
        with_values = [x for x in model.sublayers() if x.parameters(include_sublayers=False)]
        blocks = [x for x in model.sublayers() if isinstance(x, InvertedResidual)]
        return [layer for layer in (*with_values, *blocks) if layer is not head]
    found, count = stages(model), int(freeze.removeprefix("stages:"))
    if count > len(found):
        raise UserError(
            f"--freeze {freeze}: the model has {len(found)} stages",
            f"--freeze stages:{len(found)}  # every convolution; body is all but the last layer",
        )
    return [layer for stage in found[:count] for layer in stage]


def freeze(model: nn.Layer, settings: StepSettings) -> None:
    """Takes the frozen parts' parameters out of the training."""
    for layer in frozen_layers(model, settings.freeze):
        for parameter in layer.parameters():
            parameter.stop_gradient = True


def training_mode(model: nn.Layer, settings: StepSettings) -> None:
    """Puts a network into training mode; frozen parts, and with `norm_eval` every batch norm, stay
    in evaluation mode, so that they compute with their running statistics and keep them."""
    model.train()
    for layer in frozen_layers(model, settings.freeze):
        layer.eval()
    for layer in model.sublayers():
        if settings.norm_eval and isinstance(layer, NORMS):
            layer.eval()


def lines(model: nn.Layer, settings: StepSettings) -> list[str]:
    """Says what is frozen, as lines of the plan."""
    said = []
    if settings.freeze != "none":
        learning = sum(p.size for p in model.parameters() if not p.stop_gradient)
        said.append(f"--freeze {settings.freeze}: {learning:,} values learn")
    if settings.norm_eval:
        said.append("batch norm keeps its statistics (--norm-eval)")
    return [f"frozen    {'; '.join(said)}"] if said else []
