"""YAML files whose keys know their line, for messages that name it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ppcls_lite.errors import UserError
from ppcls_lite.safe_yaml import PlainLoader, load_yaml, read_text

KeyPath = tuple[str | int, ...]  # of a key in the file: ("engine", "calibration", "quant_mode")


@dataclass(frozen=True)
class Document:
    """A YAML file and the line of each of its keys."""

    path: Path
    content: dict[str, Any]
    lines: dict[KeyPath, int]

    @property
    def era(self) -> int:
        """2 when the file has the second era's top-level keys."""
        return 2 if {"frontend", "backend"} & self.content.keys() else 1

    def line(self, *keys: str | int) -> int:
        """Line of a key, or of the nearest one above it that exists."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def get(self, *keys: str | int) -> Any:
        """Returns a value, or None when any key on the way to it is missing."""
        value: Any = self.content
        for key in keys:
            if not isinstance(value, dict | list) or (isinstance(value, dict) and key not in value):
                return None
            value = value[key]  # type: ignore[index]  # a list is only asked for its own numbers
        return value


def read_document(path: Path) -> Document:
    """Reads a YAML file with its lines.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    hint = "name a build YAML; a bundle has two in build/"
    content = load_yaml(path, hint)
    root = yaml.compose(read_text(path, hint), Loader=PlainLoader)
    if not isinstance(content, dict):
        raise UserError(f"{path}: no build YAML: allowed are lines of `key: value`", hint)
    return Document(path, content, dict(_lines(root, ())))


def _lines(node: yaml.Node | None, keys: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*keys, key.value), key.start_mark.line + 1
            yield from _lines(value, (*keys, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*keys, number), value.start_mark.line + 1
            yield from _lines(value, (*keys, number))
