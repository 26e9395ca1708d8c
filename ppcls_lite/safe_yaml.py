"""YAML of unknown origin: bounded in size and depth, and without aliases.

A few hundred bytes of aliases that name each other unfold to gigabytes; nothing here needs them.
"""

from pathlib import Path
from typing import Any

import yaml

from ppcls_lite.errors import UserError, shortened

LARGEST = 2**24  # bytes of a file; a sidecar with the names of 21,841 classes has 0.6 MB
MOST = 200_000  # values in all; each takes some 700 bytes while it is read, however short it is
DEEPEST = 32  # levels of lists and mappings in each other; our own files have five


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses aliases, deep nesting and countless values."""

    _depth = 0
    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Reads one value; see PyYAML's Composer."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.composer.ComposerError(
                None, None, f"found the alias *{event.anchor}; write the value itself",
                event.start_mark,
            )  # fmt: skip
        self._count += 1
        if self._count > MOST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"more than {MOST:,} values", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(
                None, None, f"more than {DEEPEST} levels of lists and mappings", mark
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def read_text(path: Path, hint: str) -> str:
    """Returns the text of a YAML file; `hint` says where another one is to be found.

    Raises:
        UserError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(
                f"{path} has {size:,} bytes; allowed: {LARGEST:,}", "name a YAML file of settings"
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: the file is not UTF-8", "save this file as UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", hint) from None


def load_yaml(path: Path, hint: str) -> Any:
    """Returns the content of a YAML file as dicts, lists, texts and numbers; `hint` as above.

    Raises:
        UserError: as `read_text`, or it is no YAML, or has aliases or too many levels.
    """
    text = read_text(path, hint)
    try:
        return yaml.load(text, Loader=PlainLoader)
    # ValueError: a number or a date that is none, such as 2024-99-99
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"cannot read {path}: {shortened(error)}", hint) from None
