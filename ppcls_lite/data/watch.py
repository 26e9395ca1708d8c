"""What a loader does while it waits for pictures, and whom it tells when reading goes wrong."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from ppcls_lite.errors import UserError

POLL = 0.2  # seconds between two looks at whether a stop was asked for


def _nothing() -> None:
    pass


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass(frozen=True)
class Watch:
    """How long to wait for a picture, what may end the waiting, and who is told.

    Attributes:
        picture_timeout: seconds that one picture may take in a worker; 0 waits for ever.
        check_stop: called again and again while nothing arrives; raises to leave.
        say: is told of workers that were replaced and pictures that are tried again.
    """

    picture_timeout: float = 0.0
    check_stop: Callable[[], None] = _nothing
    say: Callable[[str], None] = _to_stderr

    def pause(self, seconds: float) -> None:
        """Waits, unless a stop is asked for."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check_stop()
            time.sleep(min(POLL, left))


def dead_worker(how: str = "ended unexpectedly (its message, if any, is above)") -> UserError:
    """What to say when a process that decodes pictures is gone for good."""
    return UserError(
        f"a worker process that decodes images {how}",
        "give a smaller --workers, if memory ran out; dmesg tells. --workers 0 starts none",
    )
