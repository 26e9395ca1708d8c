"""Files that are whole or not there, and how to tell two of them apart."""

import hashlib
import os
from functools import cached_property
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Puts a file in place in one step: whoever reads it sees the old bytes or the new ones."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
