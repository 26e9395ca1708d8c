"""A function of each picture of a data set, in other processes, in order."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from ppcls_lite.data.packed import Source
from ppcls_lite.data.watch import dead_worker
from ppcls_lite.data.workers import worker_pool

Item = TypeVar("Item")
Result = TypeVar("Result")
PART = 16  # pictures that a process decodes at a time


def each(
    function: Callable[[Source], Result], sources: Sequence[Source], workers: int
) -> Iterator[Result]:
    """Yields what a function makes of each picture, in order; other processes run it, if any."""
    if workers == 0:
        yield from _with_progress(map(function, sources), len(sources))
        return
    pool = worker_pool(workers)
    try:
        yield from _with_progress(_mapped(pool, function, sources, workers), len(sources))
    except BrokenProcessPool as error:
        raise dead_worker() from error
    finally:
        pool.shutdown(cancel_futures=True)


def _mapped(
    pool: ProcessPoolExecutor,
    function: Callable[[Source], Result],
    sources: Sequence[Source],
    workers: int,
) -> Iterator[Result]:
    """`pool.map`, but only a few parts ahead of whoever takes the results."""
    waiting: deque[Future[list[Result]]] = deque()
    for part in batched(sources, PART):
        waiting.append(pool.submit(_applied, function, part))
        if len(waiting) > 2 * workers:
            yield from waiting.popleft().result()
    for results in waiting:
        yield from results.result()


def _applied(function: Callable[[Source], Result], sources: Sequence[Source]) -> list[Result]:
    return [function(source) for source in sources]


def batched(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """itertools.batched, which Python has from 3.12 on."""
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part


def _with_progress(items: Iterable[Result], total: int) -> Iterable[Result]:
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, "scanning", total, console=console, transient=True)
