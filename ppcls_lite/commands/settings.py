"""Settings of commands that belong to no room."""

from dataclasses import dataclass
from typing import Literal

from ppcls_lite.config import Settings


@dataclass(frozen=True)
class PlotRunConfig(Settings):
    """Draw loss, accuracy and learning rate of a run as one PNG."""

    run: str = "output"
    """Run folder, the --output-dir of a training."""
    out: str | None = None
    """PNG to write. Without it: curves.png in the run folder."""


@dataclass(frozen=True)
class CompletionConfig(Settings):
    """Print a shell completion script: eval "$(ppcls-lite completion)"."""

    shell: Literal["bash", "zsh", "tcsh"] = "bash"
    """Shell to complete in."""


@dataclass(frozen=True)
class DoctorConfig(Settings):
    """Say what a report of a fault needs of this machine: versions, CPU, kernels, engines, disk."""

    json: bool = False
    """Print one JSON object."""
