"""Pages of every flag, by command and group, from the settings; `make docs` adds them."""

import re

from ppcls_lite.cli import _metavar
from ppcls_lite.flags import Flag, flags
from ppcls_lite.program import NAMES
from ppcls_lite.verbs import COMMANDS, SUBJECTS, actions, summary, verbs
from ppcls_lite.yaml_files import yaml_value

HEAD = """# Flags of every command

Each flag is also a key of a YAML file (`-c FILE`), with `_` for `-`. `COMMAND --help all` prints
the same on a terminal, `--print-config` what is in force.

| command | file | what it is for |
|---|---|---|
"""


def pages() -> dict[str, str]:
    """Returns the text of each page by its name."""
    found = {f"{verb}.md": page(verb) for verb in verbs()}
    rows = []
    for verb in verbs():
        for name in [verb] * (verb in COMMANDS) + [f"{verb} {each}" for each in actions(verb)]:
            anchor = f"{verb}.md#{name.replace(' ', '-')}"
            rows.append(f"| [`{name}`]({anchor}) | {files(name)} | {escaped(summary(name))} |")
    return found | {"index.md": HEAD + "\n".join(rows) + "\n"}


def files(name: str) -> str:
    """Returns the file that documents name for a command; that of its subject and the action."""
    words = [file for file, named in NAMES.items() if named == name and file.endswith(".py")]
    if words:
        return f"`{words[0]}`"
    verb, _, action = name.partition(" ")
    own = [file for file, named in NAMES.items() if named == verb and file.endswith(".py")]
    return f"`{own[0]} {action}`" if own else f"`ppcls-lite {name}`"


def page(verb: str) -> str:
    """Returns the page of a verb and its actions."""
    lines = [f"# Flags: {verb}", ""]
    if verb in SUBJECTS:
        lines += [SUBJECTS[verb], ""]
    for name in [verb] * (verb in COMMANDS) + [f"{verb} {each}" for each in actions(verb)]:
        lines += [f"## {name}", "", escaped(summary(name)), "", f"File: {files(name)}", ""]
        groups: dict[str, list[Flag]] = {}
        for flag in flags(COMMANDS[name].settings).values():
            groups.setdefault(flag.group, []).append(flag)
        for group, members in groups.items():
            # The first group of a command bears the command's own name.
            title = group if f"{group}." != summary(name) else "Its own"
            lines += [f"### {name}: {escaped(title)}", ""]
            lines += ["| flag | value | default | what it does |", "|---|---|---|---|"]
            lines += [row(flag) for flag in members]
            lines.append("")
    return "\n".join(lines)


def row(flag: Flag) -> str:
    """Returns the row of a flag."""
    names = ", ".join(f"`{spelling}`" for spelling in flag.spellings)
    default = f"`{yaml_value(flag.default)}`" if flag.default not in (None, "", ()) else ""
    value = f"`{escaped(_metavar(flag))}`" + (f", {flag.limits}" if flag.limits else "")
    return f"| {names} | {value} | {escaped(default)} | {escaped(flag.help)} |"


def escaped(text: str) -> str:
    """Returns a text that a table's cell holds, whose [words] and <words> stay words."""
    text = re.sub(r"(?<!\\)\|", r"\\|", text)
    return re.sub(r"<(?=\w)", "&lt;", text)
