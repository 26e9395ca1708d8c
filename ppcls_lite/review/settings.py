"""Settings of the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ppcls_lite.config import Device, PictureLimit


@dataclass(frozen=True)
class ReportConfig(PictureLimit):
    """Write one page on a run, or on several side by side: curves, tables, images; no Internet.

    python tools/report.py --run output
    python tools/report.py --pretrained mobilenet_v3_small.clothing10 --data-path clothing10
    python tools/report.py --run output --compare output/previous-1,inference
    """

    run: str | None = None
    """Run folder, the --output-dir of a training; its best.pdparams is looked at. Without it:
    output, unless --pretrained is given."""
    pretrained: str | None = None
    """Instead of --run: a checkpoint, a tag, an export folder, or a file in one."""
    data_path: Annotated[str | None, Meta(extra={"flags": ["--data-dir"]})] = None
    """Images to look at, as of a training. Without it: those that the run was trained on."""
    exported: tuple[str, ...] = ()
    """Export folders whose sizes and times are listed. Without it: those inside of the run
    folder."""
    compare: tuple[str, ...] = ()
    """Other runs, checkpoints, tags or exports: writes a page that sets all side by side."""
    others: str | None = None
    """Images that show none of the classes: how many pass at which limit of "unknown"."""
    out: str | None = None
    """Page to write. Without it: report.html, or with --compare compare.html, in the run's
    folder."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that decode images; 0 decodes in the main process."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.run and self.pretrained:
            yield "--run and --pretrained both name the model; give one of them"
        if self.compare and (self.exported or self.others):
            yield "--exported and --others are for the page of one run; leave --compare out"
