"""Batch norm's statistics taken afresh before an evaluation, and kept where they are better.

The running ones lag behind weights that change fast, and fresh ones are of fewer pictures: neither
is better everywhere (docs/measurements/few_pictures.md), so both are evaluated.
"""

from collections.abc import Callable

import paddle
from paddle import nn

from ppcls_lite.engine.counts import Counts
from ppcls_lite.engine.distributed import share_statistics
from ppcls_lite.engine.freezing import NORMS, training_mode
from ppcls_lite.engine.run import Run


def set_bn_momentum(model: nn.Layer, keep: float) -> None:
    """Sets the share of the running statistics that batch norm keeps at each step."""
    for layer in model.sublayers():
        if isinstance(layer, NORMS):
            layer._momentum = keep


def evaluate_both(run: Run, evaluate: Callable[[], Counts]) -> Counts:
    """Evaluates; with --bn-estimate a second time, with statistics of training pictures.

    The statistics that give the better --best-metric, of equal ones the lower loss, stay in the
    network, and a line says which they are.
    """
    before = evaluate()
    if not run.config.bn_estimate:
        return before
    kept = {
        name: tensor.clone()
        for name, tensor in run.model.state_dict().items()
        if name.endswith(("._mean", "._variance"))
    }
    better = False
    try:
        pictures = estimate(run)
        after = evaluate()
        metric = run.config.best_metric
        better = (after.score(metric), -after.loss) > (before.score(metric), -before.loss)
    finally:  # after a stop, too: what resumes goes on from what was trained
        if not better:
            run.model.set_state_dict(kept)
    (name, value), (_, old) = (next(iter(x.values().items())) for x in (after, before))
    run.log.line(
        f"batch norm of {pictures} training images: val {name} {value:.5f}, loss"
        f" {after.loss:.5f}; as trained {old:.5f}, {before.loss:.5f};"
        f" {'the former' if better else 'the latter'} stays"
    )
    return after if better else before


@paddle.no_grad()
def estimate(run: Run) -> int:
    """Gives every batch norm that learns the mean of the statistics of batches of training
    pictures, about as many as --bn-estimate says; returns how many there were."""
    training_mode(run.model, run.config)
    norms = [x for x in run.model.sublayers() if isinstance(x, NORMS) and x.training]
    momentum, seen = [norm._momentum for norm in norms], 0
    batches = run.loader.epoch(run.progress.epoch)
    for number, batch in enumerate(batches):
        for norm in norms:
            norm._momentum = number / (number + 1)
        run.parallel(paddle.to_tensor(run.info.preprocess.normalize(batch.images)))
        seen += len(batch.labels)
        if seen >= run.config.bn_estimate:
            break
    batches.close()
    for norm, own in zip(norms, momentum, strict=True):
        norm._momentum = own
    share_statistics(run.model.state_dict(), run.world, "reduce")
    return seen
