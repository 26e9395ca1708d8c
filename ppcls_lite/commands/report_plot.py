"""`tools/plot_run.py`: the curves of a run as one picture."""

from pathlib import Path

from ppcls_lite.commands.settings import PlotRunConfig
from ppcls_lite.errors import UserError
from ppcls_lite.report import plot_curves, read_metrics


def run(config: PlotRunConfig) -> int:
    """Draws metrics.jsonl of a run folder."""
    folder = Path(config.run)
    picture = Path(config.out) if config.out else folder / "curves.png"
    if picture.suffix != ".png":
        raise UserError(f"--out {picture}: allowed: a name that ends in .png", "--out curves.png")
    events = read_metrics(folder / "metrics.jsonl")
    plot_curves(events, folder.resolve().name, picture)
    if events["eval"]:
        best = max(reversed(events["eval"]), key=lambda record: record["top1"])  # as in training
        print(f"best val top1 {best['top1']:.4f} in epoch {best['epoch']}")
    print(f"wrote {picture}")
    return 0
