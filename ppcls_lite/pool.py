"""What only one thread may use at a time, for many threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Pool(Generic[Item]):
    """Lends items of one kind to threads, one at a time; makes another when all are lent.

    A thread that comes alone gets the same item every time.

    Args:
        first: of the items.
        make: makes another like it; called by one thread at a time.
        most: items there may be; further threads wait for one.
    """

    def __init__(self, first: Item, make: Callable[[], Item], most: int) -> None:
        self._free = [first]  # append() and pop() are atomic
        self._make = make
        self._making = threading.Lock()
        self._places = threading.Semaphore(most)

    @contextmanager
    def one(self) -> Iterator[Item]:
        """Lends an item for the length of a `with` statement."""
        with self._places:
            try:
                item = self._free.pop()  # the last used, whose memory is warm
            except IndexError:
                with self._making:
                    item = self._make()
            try:
                yield item
            finally:
                self._free.append(item)
