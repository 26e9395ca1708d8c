"""What a run tells: console and train.log for people, metrics.jsonl and VisualDL for curves."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppcls_lite.engine.tracking import numbers
from ppcls_lite.errors import shortened

if TYPE_CHECKING:
    from rich.console import Console

VISUALDL_FOLDER = "visualdl"
FAILS = "cannot be written"


class RunLog:
    """Writes to the console and, when it has a folder, to the files of the run.

    Processes other than rank 0 hold a silent one. What cannot be written (a full disk, a terminal
    that was closed) does not end the run: the others get the line, and one of them says so.

    Args:
        folder: run folder, or None to write no files.
        enabled: False silences everything.
        visualdl: write VisualDL records too.
        track: opens what the numbers go to, too, see `engine.tracking`; None for nothing.

    Raises:
        UserError: the package that --track asks for is not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        enabled: bool = True,
        visualdl: bool = False,
        track: Callable[[Path], Any] | None = None,
    ) -> None:
        self._enabled = enabled
        self._terminal: Console | None = None  # while a bar is shown beneath the lines
        self._text = self._records = self._visualdl = self._tracker = None
        self._failing: set[str] = set()  # what could not be written to the last time
        if enabled and folder:
            self._tracker = track(folder) if track else None
            # A path in another encoding is written as the console shows it: \udcca for a byte.
            self._text = (folder / "train.log").open(
                "a", encoding="utf-8", errors="backslashreplace", buffering=1
            )
            self._records = (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
            if visualdl:
                # Its thread ends at a full disk; nobody may wait for it then.
                os.environ.setdefault("VDL_QUEUE_TIMEOUT", "1")
                from visualdl import LogWriter  # takes a second to import: only where it is used

                self._visualdl = LogWriter(logdir=str(folder / VISUALDL_FOLDER))

    def line(self, text: str) -> None:
        """Prints a line, and keeps it in train.log."""
        terminal, file = self._terminal, self._text
        if self._enabled and terminal:
            self._try(
                "the console",
                lambda: terminal.print(text, soft_wrap=True, markup=False, highlight=False),
            )
        elif self._enabled:
            self._try("the console", lambda: print_or_stop(text))
        if file:
            self._try(file.name, lambda: file.write(text + "\n"))

    def _try(self, name: str, write: Callable[[], object]) -> None:
        """Writes, and says so once where it cannot be done: what is kept is written with a later
        line, when there is room again."""
        try:
            write()
            self._failing.discard(name)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            if name in self._failing:
                return
            self._failing.add(name)
            self.line(f"{name} {FAILS}: {error.strerror}; the run goes on")

    def record(self, event: str, step: int, values: dict[str, Any]) -> None:
        """Adds one JSON line; its numbers become VisualDL scalars named `event/key`.

        Args:
            event: "train" or "eval".
            step: optimizer steps done, the horizontal axis of the curves.
            values: numbers and texts.
        """
        if self._records:
            record = {"event": event, "step": step} | values
            text, records = json.dumps(record, allow_nan=False) + "\n", self._records
            self._try(records.name, lambda: records.write(text))
        if self._visualdl and not visualdl_lives():
            self._visualdl = None
            self.line(f"VisualDL's records {FAILS}; there will be none from here on")
        if self._visualdl:
            for key, value in values.items():
                if isinstance(value, float):
                    self._visualdl.add_scalar(tag=f"{event}/{key}", value=value, step=step)

        if follow := self._tracker:
            self._track(lambda: follow(numbers(event, values), step))

    def _track(self, job: Callable[[], object]) -> None:
        """Runs what a tracking library does; whatever it raises ends the tracking, not the run."""
        try:
            job()
        except Exception as error:
            self._tracker = None
            self.line(f"--track {FAILS}: {shortened(error)}; the run goes on without it")

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator["Bar"]:
        """Shows a bar with the time left while a terminal looks on, and nothing elsewhere."""
        if not (self._enabled and sys.stderr.isatty()):
            yield Bar()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
            task = progress.add_task(title, total=total)
            # Lines for a file or a pipe go there; lines for the terminal must not cross the bar.
            self._terminal = console if sys.stdout.isatty() else None
            try:
                yield Bar(
                    lambda done, text: progress.update(task, completed=done, description=text)
                )
            finally:
                self._terminal = None

    def close(self) -> None:
        """Closes the files."""
        for file in (self._text, self._records):
            if file:
                self._try(file.name, file.close)
        if self._visualdl and visualdl_lives():
            self._try("VisualDL's file", self._visualdl.close)
        if self._tracker:
            self._track(self._tracker.close)
        if self._enabled and "the console" in self._failing:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again


def visualdl_lives() -> bool:
    """Tells whether VisualDL's writing thread, which ends at its first error, is still there."""
    return any(type(thread).__name__ == "_AsyncWriterThread" for thread in threading.enumerate())


def print_or_stop(text: str) -> None:
    """Prints a line; when its reader went away (`| head`), asks a running training to stop."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # nobody would save anything
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)


class Bar:
    """A progress bar, or nothing at all."""

    def __init__(self, update: Any = None) -> None:
        self._update = update

    def __call__(self, done: int, text: str) -> None:
        """Moves the bar to `done` and shows `text` before it."""
        if self._update:
            self._update(done, text)
