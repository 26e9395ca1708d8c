"""Settings as YAML files: read with the line of every value, written with their help."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ppcls_lite.config import Settings
from ppcls_lite.errors import UserError, nearest, shortened
from ppcls_lite.flags import Flag, flags
from ppcls_lite.program import CHECKOUT, list_command
from ppcls_lite.safe_yaml import PlainLoader, read_text


class _Loader(PlainLoader):
    """YAML without dates: no setting is one, and a folder may be called 2024-01-31."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(
    path: str, known: Mapping[str, Flag], others: Callable[[], Mapping[str, str]] = dict
) -> tuple[list[tuple[str, Any, int]], list[str]]:
    """Reads a flat YAML file.

    Args:
        path: the file.
        known: the command's flags.
        others: gives the names of other commands' flags, whose keys are passed over.

    Returns:
        (field name, checked value, line number) of each key; names of the keys passed over.

    Raises:
        UserError: no such file, broken YAML, an unknown or repeated key, a wrong value.
    """
    recipes = list_command(CHECKOUT / "configs/any.yaml")
    try:
        loader = _Loader(read_text(Path(path), recipes))
        loader.name = path  # in its complaints
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        raise UserError(f"cannot read {path}: {shortened(error)}", recipes) from None
    if root is None:
        return [], []
    if not isinstance(root, yaml.MappingNode):
        raise UserError(
            f"{path}: expected lines of `key: value`", "write a line for each flag: epochs: 5"
        )
    seen: dict[str, int] = {}
    found, passed_over = [], []
    for key_node, value_node in root.value:
        line = key_node.start_mark.line + 1
        name = str(key_node.value).replace("-", "_")
        where = f"{path}:{line}"
        if name in seen:
            raise UserError(
                f"{where}: {name} is already set in line {seen[name]}",
                "delete one of the two lines",
            )
        seen[name] = line
        if name not in known:
            if name not in others():
                raise UserError(
                    f"{where}: unknown key {shortened(repr(key_node.value))}{nearest(name, known)}",
                    "rename this key, or delete its line",
                )
            passed_over.append(name)
            continue
        try:
            value = loader.construct_object(value_node, deep=True)
        # PyYAML converts a value after an explicit tag, like `!!int five`, without a check.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            cause = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            raise UserError(
                f"{where}: {name}: no value can be made of it ({cause})",
                f"give such a value: {known[name].help}",
            ) from None
        found.append((name, known[name].check(value, f"{where}: {name}"), line))
    return found, passed_over


def to_yaml(settings: Settings) -> str:
    """Returns the settings as flat YAML with their help as comments; a valid `-c` file."""
    lines: list[str] = []
    group = ""
    for flag in flags(type(settings)).values():
        if flag.group != group:
            group = flag.group
            lines += [*([""] if lines else []), f"# {group}"]
        value = f"{flag.name}: {yaml_value(getattr(settings, flag.name))}"
        lines.append(f"{value:<32} # {flag.help}")
    return "\n".join(lines) + "\n"


def yaml_value(value: Any) -> str:
    """Returns a value as YAML writes it, on one line."""
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.splitlines()[0]
