"""Flags and YAML files for the dataclasses of `config`: argparse splits, msgspec checks.

A value comes from the dataclass default, then from each `-c FILE` in order, then from the command
line; the last one wins and its origin is remembered. Anything unknown or impossible ends the
program with exit code 2 and one message that names the file and line, or the flag.
"""

import argparse
import functools
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeVar

from ppcls_lite.config import Settings
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.flags import Flag, flags, is_annotated
from ppcls_lite.program import help_command
from ppcls_lite.yaml_files import read_yaml, to_yaml, yaml_value

C = TypeVar("C", bound=Settings)
LONGEST_HELP = 80  # lines; two screens


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are `UserError`s."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError in the place of argparse's own end of the program."""
        if found := re.fullmatch(r"argument (\S+?)(/\S+)?: expected one argument", message):
            flag = found[1] if found[1].startswith("--") else (found[2] or found[1]).lstrip("/")
            message = f"{flag} needs a value; one that begins with - is given as {flag}=VALUE"
        raise UserError(message, help_command(self.prog))


def fill_parser(
    parser: argparse.ArgumentParser,
    config: type[Settings],
    only: Collection[str] | None = None,
    explained: bool = True,
) -> None:
    """Adds the flags of a settings class, group by group, to an argparse parser.

    Args:
        parser: to add them to.
        config: the class.
        only: the groups to add; None adds all.
        explained: with the texts of the help.
    """
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="FILE",
        help="YAML file with flag names as keys; may be repeated, later files win",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print all settings as YAML and exit"
    )
    groups: dict[str, Any] = {}
    for flag in flags(config).values():
        if only is not None and flag.group not in only:
            continue
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        options = _explanation(flag) if explained else {}
        if flag.bare is not None:
            options.update(nargs="?", const=flag.bare)
        groups[flag.group].add_argument(*flag.spellings, dest=flag.name, **options)


def _explanation(flag: Flag) -> dict[str, Any]:
    default = "" if flag.default in (None, "", False, ()) else yaml_value(flag.default)
    allowed = f"allowed: {flag.limits}" if flag.limits else ""
    known = "; ".join(filter(None, (default, allowed)))
    text = f"{flag.help} [{known}]" if known else flag.help
    return {"metavar": _metavar(flag), "help": text.replace("%", "%%")}


def _metavar(flag: Flag) -> str:
    if flag.choices:
        return "{" + ",".join(flag.choices) + "}"
    kinds = (
        typing.get_args(flag.plain)
        if typing.get_origin(flag.plain) in (typing.Union, types.UnionType)
        else (flag.plain,)
    )
    names = {int: "N", float: "X", str: "TEXT", bool: "BOOL"}
    for kind in kinds:
        kind = typing.get_args(kind)[0] if is_annotated(kind) else kind
        if typing.get_origin(kind) is tuple:
            return "A,B"
        if kind in names:
            return names[kind]
    raise TypeError(f"{flag.name}: no form on the command line for {flag.kind}")


def help_text(config: type[Settings], prog: str, full: bool, more: str = "") -> str:
    """Returns the help of a command.

    Args:
        config: the class of its settings.
        prog: the program's name.
        full: explain every flag; else, where that is too long, the first group, and the others
            with their names only.
        more: to say at the end.
    """
    known = flags(config)
    if full or len(known) < LONGEST_HELP:  # a flag takes a line or more
        text = make_parser(config, prog, more=more).format_help()
        if full or len(text.splitlines()) <= LONGEST_HELP:
            return text
    names: dict[str, list[str]] = {}
    for flag in known.values():
        names.setdefault(flag.group, []).append(flag.spellings[0])
    first, *others = names
    lines = [f"More, which `{prog} --help all` explains:"]
    for group in others:
        words = f"{group}: {' '.join(names[group])}"
        lines += textwrap.wrap(
            words, 98, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
        )
    return make_parser(config, prog, only=(first,), more="\n".join([*lines, more])).format_help()


def make_parser(
    config: type[Settings],
    prog: str,
    only: Collection[str] | None = None,
    more: str = "",
    explained: bool = True,
) -> Parser:
    """Returns the argparse parser of a command; the arguments are those of the functions above."""
    parser = Parser(
        prog=prog,
        description=(config.__doc__ or "").strip(),
        epilog=more,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=functools.partial(
            argparse.RawDescriptionHelpFormatter, width=100, max_help_position=34
        ),
        usage=f"{prog} [-c FILE] [--flag VALUE ...]",
    )
    parser.add_argument(
        "-h", "--help", nargs="?", const="", metavar="all",
        help="show this help and exit; all: with every flag",
    )  # fmt: skip
    fill_parser(parser, config, only, explained)
    return parser


def parse(
    config: type[C],
    argv: list[str],
    prog: str,
    others: Callable[[], Mapping[str, str]] = dict,
    more: str = "",
) -> C:
    """Builds the settings of a command from its arguments.

    Args:
        config: the class of the settings.
        argv: flags and values.
        prog: the program's name, for messages.
        others: gives the names of other commands' settings, and a command that has each. A `-c`
            file may hold them: they are passed over with one line.
        more: to say at the end of the help.

    Raises:
        UserError: an unknown flag or key, a value of a wrong type, an impossible combination.
        SystemExit: after `--help` or `--print-config`.
    """
    known = flags(config)
    parser = make_parser(config, prog, explained=False)
    argv, words = without_rest(argv, known)
    namespace, rest = parser.parse_known_args([spell(a, known) for a in argv])
    if "help" in namespace:
        if namespace.help not in ("", "all"):
            parser.error(f"--help: {namespace.help!r} is not possible (allowed: all)")
        print(help_text(config, prog, namespace.help == "all", more), end="")
        sys.exit(0)
    for flag in known.values():
        if flag.positional and flag.name not in namespace and rest and rest[0][:1] != "-":
            setattr(namespace, flag.name, rest.pop(0))
    if rest:
        raise UserError(_unknown(rest[0], parser, others()), help_command(prog))
    given = vars(namespace)
    if words:
        given[next(flag.name for flag in known.values() if flag.rest)] = words
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path in given.pop("config"):
        found, passed_over = read_yaml(path, known, others)
        for name, value, line in found:
            values[name], sources[name] = value, f"{path}:{line}"
        if passed_over:
            _say_passed_over(prog, path, passed_over)
    print_config = given.pop("print_config", False)
    for name, text in given.items():
        flag = known[name]
        values[name] = tuple(text) if flag.rest else flag.check(text, flag.spellings[0])
        sources[name] = "command line"
    settings = config(**values, sources=sources, prog=prog)
    if print_config:
        print(to_yaml(settings), end="")
        sys.exit(0)
    return settings


def without_rest(argv: list[str], known: Mapping[str, Flag]) -> tuple[list[str], list[str]]:
    """Splits off the words of another command, which a command may take at its end."""
    if not any(flag.rest for flag in known.values()):
        return argv, []
    bare = {s for flag in known.values() if flag.bare is not None for s in flag.spellings}
    bare |= {"--print-config"}
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        word = spell(argv[position], known)
        position += 1 if "=" in word or word in bare else 2
    return argv[:position], argv[position:]


def _unknown(argument: str, parser: Parser, others: Mapping[str, str]) -> str:
    flag = "--" + argument.lstrip("-").partition("=")[0].replace("_", "-")
    name = flag[2:].replace("-", "_")
    if argument.startswith("--") and name in others:
        return f"unknown argument {argument}: {flag} is a setting of {others[name]}"
    if os.path.exists(argument):  # a shell wrote out a pattern without quotes
        return f"unknown argument {argument}: no flag takes more than one file; quote a pattern"
    return f"unknown argument {argument}{nearest(flag, parser._option_string_actions)}"


def _say_passed_over(prog: str, path: str, names: list[str]) -> None:
    print(f"{prog}: {path}: passed over, not of this command: {', '.join(names)}", file=sys.stderr)


def narrowed(settings: Settings, config: type[C], prog: str, when: str) -> C:
    """Returns the settings of a command that reads fewer.

    What a file set beyond them is passed over with a line.

    Args:
        settings: as parsed.
        config: the class of the smaller ones.
        prog: the program's name, for messages.
        when: the flag that chooses the other command.

    Raises:
        UserError: the command line sets one that the command does not read.
    """
    known = flags(config)
    beyond: dict[str, list[str]] = {}
    for name in [n for n in settings.sources if n not in known and f"--{_dashed(n)}" != when]:
        origin = settings.sources[name]
        if origin == "command line":
            raise UserError(f"--{_dashed(name)} has no effect with {when}", "leave it out")
        beyond.setdefault(origin.rpartition(":")[0], []).append(name)
    for path, names in beyond.items():
        _say_passed_over(f"{prog} {when}", path, names)
    sources = {name: origin for name, origin in settings.sources.items() if name in known}
    values = {name: getattr(settings, name) for name in known}
    return config(**values, sources=sources, prog=settings.prog)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def spell(argument: str, known: Mapping[str, Flag]) -> str:
    """Turns `--batch_size=8` into `--batch-size=8` and `--no-x` into `--x=false`."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    flag = flag.replace("_", "-")
    positive = known.get(flag[5:].replace("-", "_"))
    if flag.startswith("--no-") and not equals and positive and positive.accepts(bool):
        return f"--{flag[5:]}=false"
    return flag + equals + value
