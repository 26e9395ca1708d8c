"""Settings of the test chains."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ppcls_lite.config import Settings


@dataclass(frozen=True)
class TipcConfig(Settings):
    """Run a test chain in the convention of TIPC: every step's output is checked.

    python -m ppcls_lite.tipc lite_train_lite_infer \\
        test_tipc/configs/mobilenet_v3_small/train_infer_python_cpu.txt
    python -m ppcls_lite.tipc cpu          what runs on any machine, as make tipc does
    python -m ppcls_lite.tipc configs      writes test_tipc/configs afresh
    """

    mode: Annotated[str, Meta(extra={"positional": True})] = ""
    """What to run: a mode of the file, or cpu, or configs; see docs/tipc.md."""
    config_file: Annotated[str, Meta(extra={"positional": True})] = ""
    """Text file with the lines of TIPC."""
    output: str = "test_tipc/output"
    """Folder for MODEL/MODE/: logs, results_*.log, JUnit XML."""
    only_prepare: bool = False
    """Lay the data and weights that the chain needs, and stop."""
