"""Ctrl-C, SIGTERM and a closed terminal ask a run to stop at the next safe point instead of
tearing it apart; a second Ctrl-C ends it at once, whatever it is at."""

import os
import signal
import socket
import threading
import types

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Remembers that the user or the system asked the run to stop.

    A Ctrl-C after that ends the process at once. Other signals do not: paddle.distributed.launch
    sends SIGTERM three times in a row.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        # Under nohup the end of the terminal is none of the run's business.
        numbers = [s for s in SIGNALS if s != signal.SIGHUP or is_heard(s)]
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        # Python's own handlers wait for the main thread, which may wait for another process.
        self._seen, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(self._seen,), daemon=True).start()

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        self.signal = self.signal or number

    @staticmethod
    def _watch(seen: socket.socket) -> None:
        asked = False
        while numbers := seen.recv(64):
            for number in numbers:
                if asked and number == signal.SIGINT:
                    os._exit(128 + number)  # nothing is cleaned up: that may be what hangs
                asked = asked or number in SIGNALS

    def check(self) -> None:
        """Raises Stopped when a stop was asked for."""
        if self.signal:
            raise Stopped(self.signal)

    def restore(self) -> None:
        """Puts the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._wake.close()  # ends the thread


def is_heard(number: int) -> bool:
    """Tells whether a signal is not ignored."""
    return signal.getsignal(number) != signal.SIG_IGN


class Stopped(Exception):
    """Raised inside the loop at a safe point after a stop request."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
