"""The structure that docs/architecture.md promises, read from the code."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "ppcls_lite"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first; a module may import its own layer and those below.
LAYERS = {
    "errors": 0, "weights.raw": 0, "weights.pickles": 0, "download": 0, "files": 0, "native": 0,
    "program": 0, "safe_yaml": 0, "environment": 0, "metric": 0, "pool": 0, "version": 0,
    "config": 1, "data": 1,
    "flags": 2, "loss": 2, "model_info": 2,
    "yaml_files": 3, "report": 3, "arch": 3, "optimizer": 3,
    "weights": 4, "kernels": 4, "slim": 4, "runtimes": 5, "graph": 4, "engine": 6, "int8": 6,
    "deploy": 7,
    "quantize": 8, "serving": 8, "accelerator": 8, "deploy.serving": 8,
    "benchmark": 9, "tipc": 9, "commands": 10, "cli": 10,
    "verbs": 11, "__main__": 12, "__init__": 12,
}  # fmt: skip


def part(module):
    """The entry of LAYERS that a module belongs to: of its own, or its folder's."""
    own = ".".join(module.split(".")[:2])
    return own if own in LAYERS else own.split(".")[0]


def part_of(path):
    return part(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ppcls_lite."):
            yield part(node.module.removeprefix("ppcls_lite."))
        elif isinstance(node, ast.ImportFrom) and node.module == "ppcls_lite":
            yield from (alias.name for alias in node.names if alias.name in LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_imports_from_a_layer_above(path):
    if part_of(path) == "__init__":
        return
    if path.name in ("completion.py", "__main__.py"):
        return  # the whole command line, and ways into it
    above = {p for p in imported_parts(path) if LAYERS[p] > LAYERS[part_of(path)]}
    assert not above


def statements(node):
    """All that is run or may be run, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from statements(child)


def modules_of(path):
    """The name of a file's module, and the modules of this package that it imports."""
    names = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
             for f in FILES}  # fmt: skip
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    asked = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            asked |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
    # Importing a.b.c runs a and a.b, too.
    parents = {".".join(name.split(".")[:n]) for name in asked for n in range(1, 9)}
    return own, ((asked | parents) & names) - {own}


def test_imports_have_no_circle():
    """Of files, with what is imported inside functions, and with every `__init__` on the way."""
    graph = dict(modules_of(path) for path in FILES)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "module",
    ["config", "cli", "data.preprocess", "data.dataset", "data.loader", "model_info", "metric",
     "weights.find", "accelerator.labels", "deploy.sidecar",
     "deploy.predictor", "commands.predict",
     "commands.data_check", "commands.data_pack", "report",
     *(f"{path.parent.name}.settings" for path in PACKAGE.glob("*/settings.py"))],
)  # fmt: skip
def test_these_work_without_importing_paddle(module):
    code = f"import sys, ppcls_lite.{module}; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


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


def test_every_public_function_and_class_is_explained():
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            )
            assert not public or ast.get_docstring(node), f"{path}: {node.name}"
