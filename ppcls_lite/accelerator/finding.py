"""What the linter says of a file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One thing the linter has to say.

    Attributes:
        level: error (it cannot work as meant), warning (it may not be what is meant), note (nothing
            can be done about it).
        line: in the file; 0 for the file as a whole.
    """

    level: str
    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.level}: {self.message}"
