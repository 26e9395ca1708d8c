"""Settings of `launch`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ppcls_lite.config import Count, CountOrZero, Settings

LOST = 75  # exit status where machines or processes are missing: EX_TEMPFAIL, "try again"


@dataclass(frozen=True)
class LaunchConfig(Settings):
    """Train in several processes, on one machine or more, and start again when one dies.

    python tools/launch.py --nproc-per-node 2 train.py --data-path my_pictures
    python tools/launch.py --nodes 2 --master 10.0.0.1:6170 train.py ...   on each machine
    """

    nodes: Annotated[int, Meta(ge=1, extra={"flags": ["--nnodes"]})] = 1
    """Number of machines; start the same command on each of them."""
    min_nodes: Count | None = None
    """Number of machines to go on with when the others do not come back within --node-timeout.
    Without it: wait for all."""
    restarts: CountOrZero = 3
    """Number of times that all processes start again, from the newest checkpoint, when one dies."""
    nproc_per_node: Count | None = None
    """Number of training processes on this machine. Without it: one for each GPU, or one on a
    CPU."""
    devices: Annotated[str | None, Meta(extra={"flags": ["--gpus"]})] = None
    """Numbers of this machine's GPUs to use, such as 0,1. Without it: all."""
    master: str | None = None
    """ADDRESS:PORT of the first machine, such as 10.0.0.1:6170, the same on all machines. The first
    machine writes the checkpoints. Needed with --nodes 2 and more."""
    host: str | None = None
    """This machine's address. Without it: the one that the way to --master starts from."""
    node_timeout: Count = 300
    """Seconds to wait for machines, at the start and when one is gone."""
    log_dir: str = "log"
    """Folder of what each process prints, workerlog.N; only this user can read it."""
    command: Annotated[tuple[str, ...], Meta(extra={"rest": True})] = ()
    """What to run: train.py and all that follows it."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.nodes > 1 and not self.master:
            yield f"--nodes {self.nodes} needs --master ADDRESS:PORT, of the first machine"
        if self.master and not self.master.rpartition(":")[2].isdigit():
            yield f"--master {self.master}: give ADDRESS:PORT, such as 10.0.0.1:6170"
        if self.min_nodes and self.min_nodes > self.nodes:
            yield f"--min-nodes {self.min_nodes} is more than --nodes {self.nodes}"
