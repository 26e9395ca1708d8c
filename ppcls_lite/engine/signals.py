"""Ctrl-C and SIGTERM ask a run to stop at the next safe point instead of tearing it apart."""

import signal
import types


class StopRequest:
    """Remembers that the user or the system asked the run to stop.

    A second Ctrl-C ends the process at once. A second SIGTERM does not: paddle.distributed.launch
    sends three in a row.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def restore(self) -> None:
        """Puts the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Stopped(Exception):
    """Raised inside the loop at a safe point after a stop request."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
