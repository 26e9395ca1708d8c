"""What the documents tell people to type exists."""

import re
import shlex
import subprocess

import pytest
from conftest import ROOT

from ppcls_lite import cli
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.program import NAMES
from ppcls_lite.verbs import find, settle

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*.yaml")]


def commands():
    found = set()
    for path in DOCUMENTS:
        for match in re.finditer(
            r"python (?:-m paddle\S+ (?:--\S+ )*)?((?:train|validate|tools/[\w/]+)\.py[^`\n|>;)]*)",
            path.read_text(),
        ):
            found.add((path.name, match.group(1).split("  ")[0].replace("…", "").strip()))
    return sorted(found)


@pytest.mark.parametrize(("document", "command"), commands())
def test_documented_commands_parse(document, command):
    program, *flags = shlex.split(command.rstrip(",."))
    assert (ROOT / program).is_file()
    name, flags, _ = find(NAMES[program], flags, program)
    if flags and flags[-1] == "--print-config":
        flags = flags[:-1]
    flags = [f for f in flags if not f.endswith("my.yaml")] if "my.yaml" in command else flags
    flags = flags[:-1] if flags and flags[-1] == "-c" else flags
    if "--help" not in flags:
        settle(name, flags, program)


def test_there_are_documented_commands():
    assert len(commands()) > 20


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_the_first_command_is_on_the_readmes_first_screen():
    for name in ("README.md", "README_cn.md"):
        lines = (ROOT / name).read_text().splitlines()
        assert next(i for i, line in enumerate(lines) if line.startswith("```")) < 15


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_recipes_are_valid_and_hold_only_what_differs(path):
    settings, defaults = cli.parse(TrainConfig, ["-c", str(path)], "train.py"), TrainConfig()
    for name in settings.sources:
        assert getattr(settings, name) != getattr(defaults, name), f"{name} is the default"
    head = path.read_text().split("\n\n")[0]
    assert all(word in path.read_text() for word in ("# Source:", "# Command:", "# Result:")), head


def test_the_map_in_the_readme_is_the_tree():
    """In both directions: what it names exists, and what a stranger sees is named."""
    text = (ROOT / "README.md").read_text()
    tree = text[text.index("```\ntrain.py") :].split("```")[1]
    named = {"": set(), "  ": set()}
    for indent, name in re.findall(r"^( *)([\w.]+/?) ", tree, re.M):
        named[indent].add(name)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    paths = [path.split("/") for path in tracked.stdout.splitlines() if path[0] != "."]
    top = {f"{first}/" for first, *rest in paths if rest} | {"train.py", "validate.py"}
    inside = {
        rest[0] if len(rest) == 1 else f"{rest[0]}/"
        for first, *rest in paths
        if first == "ppcls_lite"
    }
    assert named[""] == top
    assert named["  "] == inside - {"__init__.py", "__main__.py"}
