"""Files that are whole or not there, and how to tell two of them apart."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from ppcls_lite.errors import UserError

OWNER = ".owner"  # locked while the process lives that made a temporary folder


def write_atomically(path: Path, data: bytes) -> None:
    """Puts a file in place in one step: whoever reads it sees the old bytes or the new ones."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)  # its bytes count among those that are left
        raise told_of_room(error, path, len(data)) from None
    finally:
        part.unlink(missing_ok=True)


def told_of_room(error: OSError, path: Path, size: int = 0) -> OSError:
    """Returns an error that says what is left, and what was needed, where a disk is full.

    Args:
        error: any; one of another kind is returned as it is.
        path: what was to be written.
        size: bytes of it; 0 when nobody knows.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or " left)" in str(error.strerror):
        return error
    folder = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    left = f"{shutil.disk_usage(folder).free / 1e6:.1f} MB are left"
    need = f"{size / 1e6:.1f} MB are needed, {left}" if size else left
    return OSError(error.errno, f"{error.strerror} ({need})", str(path))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds a name to the errors of a disk that come without one, as those of a write do."""
    try:
        yield
    except OSError as error:
        error = told_of_room(error, path)
        if error.filename is not None or error.errno is None:
            raise error from None
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a name to write a file under; at the end it takes the name `path`.

    For libraries that write files themselves. What ends in an error or an interruption is removed.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with naming(path):
            yield part
            os.replace(part, path)
    except OSError as error:
        if error.filename not in (part, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # as asked for
    finally:
        part.unlink(missing_ok=True)


def reserve(folder: Path, size: int) -> None:
    """Raises OSError unless a folder has room for so many bytes: Paddle writes what fits."""
    probe = folder / ".room"
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        probe.unlink(missing_ok=True)
        raise told_of_room(error, folder, size) from None
    finally:
        probe.unlink(missing_ok=True)


def staged(path: Path) -> Path:
    """The name under which a set of files waits, complete, to take the place of `path`'s."""
    return path.with_name(f"{path.stem}.saving{path.suffix}")


@contextmanager
def replacing(path: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Replaces files that belong together, so that the old or the new set is whole at any instant.

    The new ones are written under the name `staged` gives, which is yielded, and reach the disk;
    only then do they take the old ones' names, one after the other, and lose their own.

    Args:
        path: one of the files.
        suffixes: of the files of the set; the last one vouches for the others.
    """
    waiting = staged(path)
    try:
        yield waiting
        sync_folder(path.parent)
    except BaseException:
        remove_set(waiting, suffixes)
        raise
    link_set(waiting, path, suffixes)
    remove_set(waiting, suffixes)


def link_set(source: Path, target: Path, suffixes: Sequence[str]) -> None:
    """Gives the files of a set second names without a second copy (a copy where links fail)."""
    for suffix in suffixes:
        part = target.with_name(f".{target.stem}{suffix}.part")
        try:
            part.unlink(missing_ok=True)
            try:
                os.link(source.with_suffix(suffix), part)
            except OSError:
                shutil.copy2(source.with_suffix(suffix), part)
            os.replace(part, target.with_suffix(suffix))
        finally:
            part.unlink(missing_ok=True)  # renaming between two links of one file does nothing
    sync_folder(target.parent)


def remove_set(path: Path, suffixes: Sequence[str]) -> None:
    """Deletes the files of a set, the one that vouches for the others first."""
    for suffix in reversed(suffixes):
        path.with_suffix(suffix).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder have reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[str]:
    """A folder that goes at the end; what a killed process left under this prefix goes first.

    Each is locked by its owner for as long as it lives: a lock that can be had is an orphan's.

    Args:
        prefix: of its name.
        parent: where it lies; None is the system's place for temporary files.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    for left in place.glob(f"{prefix}*/{OWNER}"):
        # in use, another user's, or gone meanwhile
        with suppress(Timeout, OSError), FileLock(left, blocking=False):
            shutil.rmtree(left.parent, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=place) as folder,
        FileLock(Path(folder) / OWNER),
    ):
        yield folder


def readable(name: str) -> str:
    r"""Returns a name from the disk as text that can be written anywhere.

    Bytes that are no UTF-8, which Python keeps as lone surrogates, become \xca and the like.
    """
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def check_utf8(path: Path) -> None:
    """Raises UserError when a path is not UTF-8, which the engines cannot open."""
    if readable(str(path)) != str(path):
        raise UserError(
            f"{path}: its name is not UTF-8; Paddle, ONNX Runtime and OpenVINO cannot open it",
            "give another folder, or give the one in this path another name with mv",
        )


def cache_folder() -> Path:
    """PPCLS_LITE_HOME, or ppcls-lite in the user's cache folder."""
    home = os.environ.get("PPCLS_LITE_HOME")
    if home:
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ppcls-lite"


class FileContent:
    """A file that is read at first need, once, whoever asks for its bytes and their digests.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, str] = {}

    @cached_property
    def data(self) -> bytes:
        """Its bytes."""
        return self.path.read_bytes()

    def digest(self, algorithm: str = "sha256") -> str:
        """Their digest in hexadecimal digits; `algorithm` is one of `hashlib`'s."""
        if algorithm not in self._digests:
            found = hashlib.new(algorithm, self.data, usedforsecurity=False)
            self._digests[algorithm] = found.hexdigest()
        return self._digests[algorithm]


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, as 64 hexadecimal digits."""
    return FileContent(path).digest()
