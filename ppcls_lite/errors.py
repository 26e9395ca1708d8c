"""What a user sees when something they gave cannot work: one message, no traceback, exit code 2."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake the user can mend.

    Args:
        message: what was received and what is allowed.
        hint: what to run or change next, a command or one act; printed on a line of its own. Every
            message of this package has one; a hook of a user's own may go without.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class RankLost(Exception):
    """Another process of a training ended, or does not answer.

    Args:
        message: which one, and what it said.
        status: exit status of this process; 75 is EX_TEMPFAIL, "try again".

    As a text it also says what to do next, unless what the other one said does.
    """

    def __init__(self, message: str, status: int = 75) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        if "\n  next: " in self.message:
            return self.message
        return (
            f"{self.message}\n  next: start the same command again on every machine, with --resume"
            " auto; a longer --rank-timeout waits for a slow one"
        )


def shortened(value: object, limit: int = 300) -> str:
    """Returns a text on one line and not longer than `limit`, for messages that quote a file."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text):,} letters)"


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns '; did you mean X?' for the closest known name, or '' when none is close."""
    match = difflib.get_close_matches(word[:100], list(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""


def some(items: Sequence[str], limit: int = 8) -> str:
    """Returns the first few of many, for a message."""
    more = f", and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
