"""One training at a time writes into a run folder."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ppcls_lite.engine.checkpoint import finish_saves
from ppcls_lite.engine.distributed import World, wait_for_all
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically

LOCK = ".lock"  # held by the kernel: it goes with its process, however that ends
HOLDER = "running.json"  # who holds it, for messages


@contextmanager
def locked(folder: Path, world: World) -> Iterator[None]:
    """Keeps a run folder for this run, made ready: what an interrupted save left is completed.

    Raises:
        UserError: another training writes there.
    """
    if not world.is_main:
        wait_for_all(world)
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"{folder}: {_holder(folder)} is training into this folder",
            "give another --output-dir; or end that process, then go on with --resume auto",
        ) from None
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv}
        write_atomically(folder / HOLDER, (json.dumps(holder) + "\n").encode())
        finish_saves(folder)
        wait_for_all(world)
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_bytes())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
