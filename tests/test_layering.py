"""The structure that docs/architecture.md promises, read from the code."""

import ast
import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "ppcls_lite"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first; a module may import its own layer and those below.
LAYERS = {
    "errors": 0, "weights.raw": 0, "weights.pickles": 0, "download": 0, "files": 0, "native": 0,
    "program": 0, "safe_yaml": 0, "wire": 0, "untrusted": 0, "environment": 0, "metric": 0,
    "label_metric": 0, "page": 0,
    "pool": 0, "version": 0,
    "config": 1, "data": 1,
    "flags": 2, "loss": 2, "model_info": 2,
    "yaml_files": 3, "report": 3, "arch": 3, "optimizer": 3,
    "engines": 1, "weights": 4, "kernels": 4, "slim": 4, "graph": 4,
    "dygraph_runtime": 5, "openvino_runtime": 5, "runtimes": 5, "engine": 6, "int8": 6,
    "deploy": 7, "launch": 7,
    "quantize": 8, "serving": 8, "accelerator": 8, "deploy.serving": 8,
    "review": 8,
    "benchmark": 9, "tipc": 9, "commands": 10, "cli": 10,
    "verbs": 10, "__main__": 12, "__init__": 12,
}  # fmt: skip


# Rooms beside each other: what two of them need lies below both.
ROOMS = ("quantize", "serving", "accelerator")


def part(module):
    """The entry of LAYERS that a module belongs to: of its own, or its folder's."""
    if module.endswith(".__main__"):
        return "__main__"  # a way into the whole, wherever it lies
    own = ".".join(module.split(".")[:2])
    return own if own in LAYERS else own.split(".")[0]


def name_of(path, package=PACKAGE):
    """A file as a dotted name below the package; its own `__init__` keeps that name."""
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")


def called(node):
    """The last word of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


@cache
def imported(source):
    """The names that a file imports, and the patterns of those that it gives importlib."""
    asked, patterns = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            asked |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            patterns.add(re.sub(r"\{[^}]*\}", "*", ast.unparse(node.args[0]).strip("f'\"")))
    return asked, patterns


def import_graph(package=PACKAGE):
    """What each file of a package imports of it, {name: names}.

    Counted are imports inside functions, those that only type checkers read (a reader follows them
    as well), and importlib's where the name stands in the call: `f"ppcls_lite.{room}.settings"` is
    every room's. Importing a.b.c runs a and a.b first, which counts where they are not the
    importer's own. The package's `__init__` gives names at first use, by a table; the type
    checkers' imports in it are the same ones.
    """
    files = {name_of(path, package): path for path in package.rglob("*.py")}
    top = package.name
    graph = {}
    for name, path in files.items():
        asked, patterns = imported(path.read_text())
        asked = {*asked, *(f"{top}.{x}" for x in files for p in patterns
                           if fnmatchcase(f"{top}.{x}", p))}  # fmt: skip
        below = {x.removeprefix(f"{top}.") for x in asked if x.startswith(f"{top}.")}
        below |= {"__init__"} if f"{top}.__version__" in asked else set()
        parents = {x.rpartition(".")[0] for x in below} & set(files)
        own = {name.rpartition(".")[0]}
        graph[name] = ((below & set(files)) | (parents - own)) - {name}
    return graph


def circle(graph):
    """The names of a circle, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def arrows_upwards(graph):
    """(importer, imported) where the latter is of a higher layer, or of a room beside it."""
    return [
        (name, other)
        for name, others in graph.items()
        for other in others
        # A folder's `__init__`, run on the way to a file of it, has arrows of its own.
        if not any(x.startswith(f"{other}.") for x in others)
        if LAYERS[part(other)] > LAYERS[part(name)]
        or (part(name) != part(other) and {part(name), part(other)} <= set(ROOMS))
    ]


def test_imports_have_no_circle():
    assert circle(import_graph()) is None


def test_imports_have_no_arrow_upwards():
    assert arrows_upwards(import_graph()) == []


@pytest.mark.parametrize(
    ("file", "line", "is_circle"),
    [
        ("errors.py", "from ppcls_lite.config import Settings", False),
        ("slim/fpgm.py", "def later():\n    from ppcls_lite.engine import build", True),
        ("version.py", "from ppcls_lite import Predictor, __version__", True),
        ("optimizer/__init__.py", "from ppcls_lite.engine.run import Run", True),
        ("files.py", "import importlib\nimportlib.import_module('ppcls_lite.download')", True),
        ("quantize/targets.py", "import ppcls_lite.accelerator.lint", False),
    ],
)
def test_a_planted_import_is_found(file, line, is_circle, tmp_path):
    """Each makes an arrow upwards or a circle of the code as it is."""
    package = tmp_path / "ppcls_lite"
    shutil.copytree(PACKAGE, package, ignore=lambda folder, names: [
        n for n in names if "." in n and not n.endswith(".py")])  # fmt: skip
    with (package / file).open("a") as source:
        source.write(f"\n{line}\n")
    graph = import_graph(package)
    assert arrows_upwards(graph) if not is_circle else circle(graph)


LIGHT = (
    "config", "cli", "data.preprocess", "data.dataset", "data.loader", "model_info", "metric",
    "weights.find", "accelerator.labels", "deploy.sidecar",
    "deploy.predictor", "commands.predict",
    "commands.data_check", "commands.data_pack", "report",
    *(f"{path.parent.name}.settings" for path in PACKAGE.glob("*/settings.py")),
)  # fmt: skip

# Imports modules one after the other; what loads paddle is told by the first that needs it.
LOADED = """
import importlib, json, sys
loads = {}
for name in sys.argv[1:]:
    importlib.import_module(f"ppcls_lite.{name}")
    loads[name] = sys.modules.pop("paddle", None) is not None
print(json.dumps(loads))
"""


@pytest.fixture(scope="module")
def loads_paddle():
    """{module: whether importing it imports paddle}, from one process."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *LIGHT], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", LIGHT)
def test_these_work_without_importing_paddle(module, loads_paddle):
    assert not loads_paddle[module]


def test_nothing_dangerous_or_hidden_in_the_package():
    """No code from text, no module-wide state, no path surgery, no catch-all."""
    for path in [*FILES, ROOT / "train.py", *(ROOT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            call = (
                node.func.id
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else ""
            )
            assert call not in ("eval", "exec"), path
            assert not isinstance(node, ast.Global | ast.Assert), path
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), path
        if path.name != "_bootstrap.py":
            assert "sys.path" not in path.read_text(), path


def test_functions_and_files_stay_readable():
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 70, f"{path}: {node.name}"


def public(body):
    """The functions and classes of a module, and the methods of its classes, by their names."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.startswith("_"):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_every_public_function_class_and_method_is_explained():
    for path in FILES:
        for node in public(ast.parse(path.read_text()).body):
            assert ast.get_docstring(node), f"{path}: {node.name}"
