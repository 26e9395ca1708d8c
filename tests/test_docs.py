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

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
DOCUMENTS = [*PAGES, *(ROOT / "configs").glob("*.yaml")]
# What is printed by a program, and tables of measurements, may be long.
LONG = ("docs/zoo.md", "docs/measurements/", "docs/reference/flags/", "CHANGELOG.md")
LONGEST, WIDEST, COLUMNS = 250, 120, 7


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


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def prose(text):
    """The lines of a page that are in no block of code, with their numbers."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def anchors(path):
    """The anchors of a page's headings, by GitHub's rule."""
    heads = [
        match[1] for _, line in prose(path.read_text()) if (match := re.match(r"#+ (.*)", line))
    ]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in heads]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_between_documents_lead_somewhere(path):
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)]+))?\)", path.read_text()):
        if not target.startswith("http"):
            there = path.parent / target if target else path
            assert there.exists(), target
            if anchor and there.suffix == ".md":
                assert anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_can_be_read(path):
    """Its length, the width of its lines, the columns of its tables."""
    text, name = path.read_text(), name_of(path)
    if not name.startswith(LONG):
        assert len(text.splitlines()) <= LONGEST
    for number, line in prose(text):
        if line.startswith("|") and name != "docs/zoo.md":  # which docs/make_zoo.py prints
            assert len(re.split(r"(?<!\\)\|", line)) - 2 <= COLUMNS, f"{name}:{number}"
        elif not line.startswith("|") and name != "CHANGELOG.md":
            words = re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)  # a command is not broken
            assert len(words) <= WIDEST, f"{name}:{number}"


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
