"""A measured process's side of the conversation: "take N steps" in, the seconds of each out.

Standard library only, because torch_peer.py runs in interpreters without this package.
"""

import json
import socket
import time
from collections.abc import Callable
from typing import Any, TextIO


def serve(
    path: str,
    step: Callable[[], float],
    facts: dict[str, Any],
    is_main: bool = True,
    share: Callable[[int], int] = int,
    warm_up: int = 2,
) -> None:
    """Warms up, says `facts`, then takes steps when it is asked to, until the other side goes.

    Between two requests the process sleeps in a read, so it does not disturb the others.

    Args:
        path: the Unix socket to report to.
        step: does the work once and returns a number worth reporting, such as the loss.
        facts: what is worth knowing before the first step; `images` is the work of one step.
        is_main: False in the other processes of a launcher, which follow this one.
        share: brings the main process's number of steps to all processes.
        warm_up: steps before it calls itself ready; the first ones allocate and compile.
    """
    for _ in range(warm_up):
        step()
    main = connect(path) if is_main else None
    if main:
        say(main, facts)
    while count := share(int(main.readline() or 0) if main else 0):
        seconds, value = [], 0.0
        for _ in range(count):
            begin = time.perf_counter()
            value = step()
            seconds.append(time.perf_counter() - begin)
        if main:
            say(main, {"seconds": seconds, "value": value, "peak_mib": peak_mib()})


def peak_mib() -> float:
    """The most memory this process ever had, MiB; 0 where Linux's /proc is missing.

    Not `getrusage`: it starts from what the parent had, which loaded Paddle.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            peaks = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    except FileNotFoundError:
        return 0.0
    return int(peaks[0]) / 1024 if peaks else 0.0


def connect(path: str) -> TextIO:
    """Opens the socket as lines of text."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return connection.makefile("rw", encoding="utf-8")


def say(file: TextIO, message: dict[str, Any]) -> None:
    """Sends one line of JSON."""
    file.write(json.dumps(message) + "\n")
    file.flush()
