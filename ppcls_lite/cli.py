"""Flags and YAML files for the dataclasses of `config`: argparse splits, msgspec checks.

A value comes from the dataclass default, then from each `-c FILE` in order, then from the command
line; the last one wins and its origin is remembered. Anything unknown or impossible ends the
program with exit code 2 and one message that names the file and line, or the flag.
"""

import argparse
import dataclasses
import functools
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import docstring_parser
import msgspec
import yaml

from ppcls_lite.config import Settings
from ppcls_lite.errors import UserError, nearest

C = TypeVar("C", bound=Settings)
_WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclasses.dataclass(frozen=True)
class Flag:
    """One field of a settings class, as the command line and YAML see it."""

    name: str
    kind: Any  # the annotated type, with its limits
    default: Any
    help: str
    group: str
    spellings: tuple[str, ...]
    positional: bool  # the value alone, without a flag, will do

    @property
    def plain(self) -> Any:
        """The type without its limits."""
        return typing.get_args(self.kind)[0] if _is_annotated(self.kind) else self.kind

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed words; empty when the type is not a list of words."""
        kinds = (self.plain, *typing.get_args(self.plain))
        literals = [k for k in kinds if typing.get_origin(k) is typing.Literal]
        return tuple(word for k in literals for word in typing.get_args(k))

    def accepts(self, kind: type | None) -> bool:
        """Tells whether the type is `kind`, or a union with it."""
        kind = type(None) if kind is None else kind
        return self.plain is kind or kind in typing.get_args(self.plain)

    def check(self, value: Any, where: str) -> Any:
        """Converts a text of the command line, or a YAML value, to the field's type.

        Raises:
            UserError: the value is of another type or out of its limits.
        """
        given = value
        is_text = isinstance(value, str)
        if is_text and value.lower() in _WORDS:
            word = _WORDS[value.lower()]
            value = word if self.accepts(type(word) if word is not None else None) else value
        if isinstance(value, str) and typing.get_origin(self.plain) is tuple:
            value = value.split(",") if value else []
        try:
            value = msgspec.convert(value, self.kind, strict=not is_text)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise msgspec.ValidationError("Expected a finite number")
            return value
        except msgspec.ValidationError as error:
            reason = str(error)
            if self.choices:
                reason = f"allowed: {', '.join(self.choices)}{nearest(str(given), self.choices)}"
            raise UserError(f"{where}: {given!r} is not possible ({reason})", self.help) from None


def _is_annotated(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Annotated


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def flags(config: type[Settings]) -> dict[str, Flag]:
    """Returns the flags of a settings class by field name: its own first, then group by group."""
    kinds = typing.get_type_hints(config, include_extras=True)
    found = {}
    groups = (config, *reversed(config.__mro__[1:]))
    for group in [c for c in groups if c not in (object, Settings)]:
        helps = {
            p.arg_name: (p.description or "").replace("\n", " ")
            for p in docstring_parser.parse_from_object(group).params
        }
        for field in [f for f in dataclasses.fields(group) if f.name in group.__annotations__]:
            kind = kinds[field.name]
            limits = typing.get_args(kind)[1:] if _is_annotated(kind) else ()
            extra = {key: value for meta in limits for key, value in (meta.extra or {}).items()}
            found[field.name] = Flag(
                name=field.name,
                kind=kind,
                default=field.default,
                help=helps.get(field.name, ""),
                group=(group.__doc__ or "").strip().splitlines()[0].rstrip("."),
                spellings=("--" + field.name.replace("_", "-"), *extra.get("flags", ())),
                positional=extra.get("positional", False),
            )
    return found


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are `UserError`s."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, f"{self.prog} --help")


def fill_parser(parser: argparse.ArgumentParser, config: type[Settings]) -> None:
    """Adds every flag of a settings class, group by group, to an argparse parser."""
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="FILE",
        help="YAML file with flag names as keys; may be repeated, later files win",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as YAML and exit"
    )
    groups: dict[str, Any] = {}
    for flag in flags(config).values():
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        default = "" if flag.default in (None, "", False) else f" [{_yaml_value(flag.default)}]"
        options: dict[str, Any] = {"metavar": _metavar(flag)}
        if flag.accepts(bool):
            options.update(nargs="?", const="true")
        groups[flag.group].add_argument(
            *flag.spellings,
            dest=flag.name,
            help=(flag.help + default).replace("%", "%%"),
            **options,
        )


def _metavar(flag: Flag) -> str:
    if flag.choices:
        return "{" + ",".join(flag.choices) + "}"
    kinds = typing.get_args(flag.plain) if _is_union(flag.plain) else (flag.plain,)
    names = {int: "N", float: "X", str: "TEXT", bool: "BOOL"}
    for kind in kinds:
        kind = typing.get_args(kind)[0] if _is_annotated(kind) else kind
        if typing.get_origin(kind) is tuple:
            return "A,B"
        if kind in names:
            return names[kind]
    raise TypeError(f"{flag.name}: no form on the command line for {flag.kind}")


def make_parser(config: type[Settings], prog: str) -> Parser:
    """Returns the argparse parser of a command."""
    parser = Parser(
        prog=prog,
        description=(config.__doc__ or "").strip(),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=functools.partial(
            argparse.RawDescriptionHelpFormatter, width=100, max_help_position=34
        ),
        usage=f"{prog} [-c FILE] [--flag VALUE ...]",
    )
    fill_parser(parser, config)
    return parser


def parse(config: type[C], argv: list[str], prog: str) -> C:
    """Builds the settings of a command from its arguments.

    Raises:
        UserError: an unknown flag or key, a value of a wrong type, an impossible combination.
        SystemExit: after `--help` or `--print-config`.
    """
    known = flags(config)
    parser = make_parser(config, prog)
    namespace, rest = parser.parse_known_args([_spell(a, known) for a in argv])
    for flag in known.values():
        if flag.positional and flag.name not in namespace and rest and rest[0][:1] != "-":
            setattr(namespace, flag.name, rest.pop(0))
    if rest:
        raise UserError(
            f"unknown argument {rest[0]}{nearest(rest[0], parser._option_string_actions)}",
            f"{prog} --help",
        )
    given = vars(namespace)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path in given.pop("config"):
        for name, value, line in read_yaml(path, known):
            values[name], sources[name] = value, f"{path}:{line}"
    print_config = given.pop("print_config", False)
    for name, text in given.items():
        values[name] = known[name].check(text, known[name].spellings[0])
        sources[name] = "command line"
    settings = config(**values, sources=sources)
    if print_config:
        print(to_yaml(settings), end="")
        sys.exit(0)
    return settings


def _spell(argument: str, known: Mapping[str, Flag]) -> str:
    """Turns `--batch_size=8` into `--batch-size=8` and `--no-x` into `--x=false`."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    flag = flag.replace("_", "-")
    positive = known.get(flag[5:].replace("-", "_"))
    if flag.startswith("--no-") and not equals and positive and positive.accepts(bool):
        return f"--{flag[5:]}=false"
    return flag + equals + value


class _Loader(yaml.SafeLoader):
    """YAML without dates: no setting is one, and a folder may be called 2024-01-31."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: str, known: Mapping[str, Flag]) -> Iterator[tuple[str, Any, int]]:
    """Yields (field name, checked value, line number) of a flat YAML file.

    Raises:
        UserError: no such file, broken YAML, an unknown or repeated key, a wrong value.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
        loader = _Loader(text)
        loader.name = path  # in its complaints
        root = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: the file is not UTF-8", "save it as UTF-8") from None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot read {path}: {' '.join(str(error).split())}", "ls configs"
        ) from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: expected lines of `key: value`", "--print-config shows the form")
    seen: dict[str, int] = {}
    for key_node, value_node in root.value:
        line = key_node.start_mark.line + 1
        name = str(key_node.value).replace("-", "_")
        where = f"{path}:{line}"
        if name not in known:
            raise UserError(
                f"{where}: unknown key {key_node.value!r}{nearest(name, known)}",
                "--print-config lists every key",
            )
        if name in seen:
            raise UserError(f"{where}: {name} is already set in line {seen[name]}", "delete one")
        seen[name] = line
        try:
            value = loader.construct_object(value_node, deep=True)
        # PyYAML converts a value after an explicit tag, like `!!int five`, without a check.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            cause = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            raise UserError(
                f"{where}: {name}: no value can be made of it ({cause})", known[name].help
            ) from None
        yield name, known[name].check(value, f"{where}: {name}"), line


def to_yaml(settings: Settings) -> str:
    """Returns the settings as flat YAML with their help as comments; a valid `-c` file."""
    lines: list[str] = []
    group = ""
    for flag in flags(type(settings)).values():
        if flag.group != group:
            group = flag.group
            lines += [*([""] if lines else []), f"# {group}"]
        value = f"{flag.name}: {_yaml_value(getattr(settings, flag.name))}"
        lines.append(f"{value:<32} # {flag.help}")
    return "\n".join(lines) + "\n"


def _yaml_value(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.splitlines()[0]
