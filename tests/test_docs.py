"""What the documents tell people to type exists."""

import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

from ppcls_lite import cli
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.program import NAMES
from ppcls_lite.verbs import COMMANDS, find, settle

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
DOCUMENTS = [*PAGES, *(ROOT / "configs").glob("*.yaml")]
# What is printed by a program, and tables of measurements, may be long.
LONG = ("docs/zoo.md", "docs/measurements/", "docs/reference/flags/", "CHANGELOG.md")
LONGEST, WIDEST, COLUMNS = 250, 120, 7
LARGEST = 200_000  # bytes of a picture


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


def test_documented_targets_of_make_exist():
    named = {
        target
        for path in PAGES
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.S)
        for target in re.findall(r"^make ([\w-]+)", block, re.M)
    }
    there = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert len(named) > 5
    assert named <= there


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
        if line.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", line)) - 2 <= COLUMNS, f"{name}:{number}"
        elif name != "CHANGELOG.md":
            words = re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)  # a command is not broken
            assert len(words) <= WIDEST, f"{name}:{number}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs/measurements").iterdir()), ids=name_of)
def test_a_page_of_measurements_says_when(path):
    head = path.read_text().split("\n## ")[0]
    assert re.search(r"20\d\d-\d\d-\d\d", head)


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
    assert named["  "] == inside


def map_of(text):
    start = text.index("```\ntrain.py")
    return text[start : text.index("```", start + 4)]


def test_both_readmes_are_in_step():
    """The same commands, map, sizes of models and pages, in the same order; and they stay short."""
    texts = [(ROOT / name).read_text() for name in ("README.md", "README_cn.md")]
    assert map_of(texts[0]) == map_of(texts[1])
    rows = [re.findall(r"^\| `\w+` \|.*$", text, re.M) for text in texts]
    assert rows[0] == rows[1] and len(rows[0]) == 6
    blocks = [re.findall(r"^(?:make \w+|python .*?|\. \S+)(?=  |$)", text, re.M) for text in texts]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 7
    pages = [set(re.findall(r"\]\(((?:docs|ppcls_lite)/[^)]+)\)", text)) for text in texts]
    assert pages[0] <= pages[1]
    # 150 lines, and room for what the map still has to name.
    assert all(len(text.splitlines()) <= 160 for text in texts)


def test_the_readmes_own_commands_are_the_tutorials():
    """Those that lead from a folder of images to a server; `test_tutorial` runs them."""
    tutorial = (ROOT / "docs/tutorial.md").read_text().splitlines()
    block = (ROOT / "README.md").read_text().split("```bash\n")[1].split("```")[0]
    lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert any("serve.py" in line for line in lines)
    assert set(lines) <= set(tutorial)


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHARTS = {
    "training.svg": ("measurements/training.md", "Steps #1", range(3, 7)),
    "memory.svg": ("measurements/training.md", "Steps #3", range(3, 7)),
    "int8_accelerator.svg": ("measurements/int8_tables.md", "The accelerator #1", [3]),
    "int8_openvino.svg": ("measurements/int8_tables.md", "OpenVINO #1", [3]),
    "int8_text_accelerator.svg": ("measurements/int8_older.md", "The accelerator #1", [3]),
    "int8_text_onnxruntime.svg": ("measurements/int8_older.md", "ONNX Runtime #1", [3]),
    "int8_text_openvino.svg": ("measurements/int8_older.md", "OpenVINO #1", [3]),
    "step_time.svg": ("measurements/training.md", "Where a step's time goes #1", [1]),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_shows_its_table(name):
    """Every number of the columns stands as text in the SVG: after a change draw them again."""
    page, table, columns = CHARTS[name]
    rows = script("make_pictures").tables(page)[table][1:]
    shown = set(re.findall(r"> (-?[\d.]+)</text>", (ROOT / "docs/pictures" / name).read_text()))
    said = {f"{float(row[i]):g}" for row in rows for i in columns if row[i] and row[0][:2] != "fp"}
    assert len(said) > 10
    assert said <= shown, "PYTHONPATH=. python docs/make_pictures.py"


def test_pictures_are_small_and_shown():
    text = "".join(path.read_text() for path in PAGES)
    for path in (ROOT / "docs/pictures").iterdir():
        assert path.stat().st_size < LARGEST, path
        assert f"pictures/{path.name})" in text, path


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_pages_of_flags_have_what_the_help_has(name):
    """Argparse's own list of the flags, against the page's rows."""
    text = cli.help_text(COMMANDS[name].settings, "x", full=True)
    flags = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.M))
    page = script("make_reference").pages()[f"{name.split()[0]}.md"]
    section = page[page.index(f"\n## {name}\n") :]
    rows = set(re.findall(r"`(--[\w-]+)`", section.split("\n## ")[1]))
    assert flags - {"--help", "--config", "--print-config"} <= rows


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(listed) == there and len(listed) == len(there)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="requirements-docs.txt")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--data-path" in (tmp_path / "reference/flags/train.html").read_text()
