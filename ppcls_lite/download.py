"""Fetches published files: once, whole, and checked."""

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import requests
from filelock import FileLock, Timeout

from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent
from ppcls_lite.program import quoted

PAUSES = (1.0, 3.0, 9.0)  # seconds before the second, third and fourth attempt
TIMEOUTS = (10.0, 30.0)  # seconds to connect, and to wait for more bytes
_PASSING = (408, 429)  # of the answers 4xx, those that may be better a little later


class Remote(Protocol):
    """A published file; its text is what to call it."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def digest(self) -> str | None:
        """`algorithm:hexadecimal digits` as published, perhaps the first digits only, or None."""

    @property
    def file_name(self) -> str:
        """What to call it on disk."""


def fetch_file(
    remote: Remote, folder: Path, examine: Callable[[FileContent], str], folder_hint: str
) -> FileContent:
    """The file, downloaded at first use.

    Processes that ask at the same time download once. A download that was interrupted goes on
    where it stopped. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY, ...).

    Args:
        remote: what to download.
        folder: where to keep it; made when missing.
        examine: says what is wrong with a file that has no published digest, "" when nothing is.
        folder_hint: what to do when the folder cannot be written.

    Raises:
        UserError: the file cannot be had, or is not the published one; says where to put it by
            hand.
    """
    target = folder / remote.file_name
    content = FileContent(target)
    complaint = functools.partial(_complaint, remote, examine)
    try:
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with _one_process(target):
                if not target.is_file():
                    return _download(remote, target, complaint)
        wrong = complaint(content)  # put there by hand, or by another process
    except OSError as error:
        raise UserError(
            f"{remote} cannot be kept in {folder}: {error.strerror or error}", folder_hint
        ) from None
    if wrong:
        hint = f"rm {quoted(str(target))}"
        raise UserError(f"{target} is not the file of {remote}: {wrong}", hint)
    return content


@contextmanager
def _one_process(target: Path) -> Iterator[None]:
    # A lock of the kernel: it ends with the process that holds it, however that ends.
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"waiting for the process that downloads {target.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(remote: Remote, target: Path, complaint: Callable[[FileContent], str]) -> FileContent:
    part = target.with_name(f"{target.name}.part")
    hint = f"download it elsewhere and put it at {target}"
    pauses = iter((*PAUSES, None))
    while True:
        pause = next(pauses)
        try:
            resumed = _receive(remote.url, part)
        except requests.RequestException as error:
            if pause is None or _is_final(error):
                message = f"{remote} cannot be downloaded from {remote.url}: {_cause(error)}"
                raise UserError(message, hint) from None
        else:
            content = FileContent(part)
            wrong = complaint(content)
            if not wrong:
                os.replace(part, target)
                _note(part).unlink(missing_ok=True)
                content.path = target
                _say(f"saved {target} ({_verdict(remote)})")
                return content
            part.unlink()
            # A file put together from two downloads gets a second chance, a whole one does not.
            if pause is None or not resumed:
                raise UserError(f"{remote.url} is not the file of {remote}: {wrong}", hint)
        time.sleep(pause)


def _receive(url: str, part: Path) -> bool:
    """Downloads into `part`, after the bytes it has; returns whether it had some."""
    note = _note(part)
    start = part.stat().st_size if part.is_file() and note.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file itself
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": note.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return True  # it had them all
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        if not resumed:
            start = 0
            part.unlink(missing_ok=True)
            _write_note(note, response)  # before the bytes that it vouches for
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise requests.ConnectionError("the server sent another part than was asked for")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _say(f"downloading {url}" + (f" ({total / 1e6:.1f} MB)" if total else ""))
        with part.open("ab") as file, _progress(part.stem, start, total) as advance:
            for chunk in response.iter_content(2**16):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    # urllib3 1, unlike 2, takes a connection that ends early for the end of the file.
    if total not in (None, part.stat().st_size):
        raise requests.ConnectionError(f"{part.stat().st_size} of {total} bytes arrived")
    return resumed


def _note(part: Path) -> Path:
    """Holds what tells the version of the file at the server; without it nothing is resumed."""
    return part.with_suffix(".version")


def _write_note(note: Path, response: requests.Response) -> None:
    version = response.headers.get("ETag", "")
    if not version or version.startswith("W/"):  # a weak one does not promise the same bytes
        version = response.headers.get("Last-Modified", "")
    if version:
        note.write_text(version)
    else:
        note.unlink(missing_ok=True)


def _complaint(remote: Remote, examine: Callable[[FileContent], str], content: FileContent) -> str:
    """Says what is wrong with a file, "" when nothing is."""
    if remote.digest is None:
        return examine(content)
    algorithm, _, published = remote.digest.partition(":")
    found = content.digest(algorithm)
    if found.startswith(published):
        return ""
    return f"its {algorithm} is {found}, published is {published}"


def _verdict(remote: Remote) -> str:
    if remote.digest is None:
        return "not verified: no published hash"
    return f"{remote.digest.replace(':', ' ')} as published"


def _is_final(error: requests.RequestException) -> bool:
    """Whether the server said that it will not give the file."""
    status = error.response.status_code if error.response is not None else 500
    return status < 500 and status not in _PASSING


def _cause(error: Exception) -> str:
    """The innermost reason in a few words; requests wraps it in several layers of its own."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    # Without the name of urllib3's object before it, and without the URL after it.
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", text).partition(" for url: ")[0]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _progress(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar while a terminal looks on, nothing elsewhere; yields what moves it, in bytes."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, completed=done, total=total)
        yield lambda count: progress.advance(task, count)
