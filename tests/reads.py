"""Which fields of which settings the code reads, found without running it.

A read is an attribute of something that annotations say is of a settings class: a parameter, an
attribute of an annotated object, or what was assigned from one. A command reads a field when a
function, or a class, that its `run` names, at whatever distance, reads the field from one of the
classes that its settings are made of.
"""

import ast
from collections import defaultdict
from dataclasses import fields
from functools import cache

from conftest import ROOT

from ppcls_lite.config import Settings

PACKAGE = ROOT / "ppcls_lite"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def trees():
    """Every module of the package by its name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def nodes(tree, kind):
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def names(annotation):
    """The class names in an annotation."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval")
    return {node.id for node in nodes(annotation, ast.Name)} if annotation else set()


def parameters(function):
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {arg.arg: names(arg.annotation) for arg in every if arg.annotation}


@cache
def attributes():
    """What annotations say of objects: {class: {attribute: class names}}."""
    found = defaultdict(dict)
    for owner in [each for tree in trees().values() for each in nodes(tree, ast.ClassDef)]:
        for node in owner.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[owner.name][node.target.id] = names(node.annotation)
        for method in nodes(owner, FUNCTION):
            known = parameters(method)
            for node in nodes(method, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and isinstance(node.value, ast.Name):
                        found[owner.name][target.attr] = known.get(node.value.id, set())
    return found


class Reads(ast.NodeVisitor):
    """Collects (class name, attribute) of a piece of a module."""

    def __init__(self):
        self.found = set()
        self.scopes = [{}]
        self.owner = None

    def kinds(self, node):
        """The class names that an expression may be of."""
        if isinstance(node, ast.Name):
            return next((s[node.id] for s in reversed(self.scopes) if node.id in s), set())
        if isinstance(node, ast.Attribute):
            of = [attributes().get(kind, {}) for kind in self.kinds(node.value)]
            return set().union(*(known.get(node.attr, set()) for known in of))
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("replace"):
            return self.kinds(node.args[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return {node.func.id}
        return set()

    def visit_ClassDef(self, node):
        before, self.owner = self.owner, node.name
        self.generic_visit(node)
        self.owner = before

    def visit_FunctionDef(self, node):
        known = parameters(node)
        if self.owner and node.args.args and node.args.args[0].arg == "self":
            known["self"] = {self.owner}
        self.scopes.append(known)
        self.generic_visit(node)
        self.scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node):
        self.generic_visit(node)
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name) and (kinds := self.kinds(value)):
                    self.scopes[-1][name.id] = self.scopes[-1].get(name.id, set()) | kinds

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Load):
            self.found |= {(kind, node.attr) for kind in self.kinds(node.value)}
        self.generic_visit(node)


@cache
def pieces(module):
    """The functions, classes and assigned names of a module."""
    found = {}
    for node in trees()[module].body:
        if isinstance(node, FUNCTION | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.id: node for target in targets for t in nodes(target, ast.Name)}
    return found


@cache
def imported(module):
    """What names of a module stand for: (module, name), or (module, None) for one as a whole."""
    found = {}
    for node in nodes(trees()[module], ast.ImportFrom):
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            target = (whole, None) if whole in trees() else (node.module, alias.name)
            if target[0] in trees():
                found[alias.asname or alias.name] = target
    return found


@cache
def mentions(module, name):
    """(module, name) of every piece of the package that a piece mentions."""
    piece, known = pieces(module)[name], imported(module)
    found, heads = set(), set()
    for node in nodes(piece, ast.Attribute):
        if isinstance(node.value, ast.Name) and known.get(node.value.id, ("", ""))[1] is None:
            found.add((known[node.value.id][0], node.attr))
            heads.add(node.value)
    for node in set(nodes(piece, ast.Name)) - heads:
        origin, of = known.get(node.id, (module, node.id))
        # A module that is handed on, as in a table of modules, may be used for anything in it.
        found |= {(origin, each) for each in ([of] if of else pieces(origin))}
    return {(origin, each) for origin, each in found if each in pieces(origin)}


def reachable(module):
    """Every piece that the `run` of a command's module mentions, at whatever distance."""
    found, new = set(), {(module, "run")}
    while new:
        found |= new
        new = set().union(*(mentions(*piece) for piece in new)) - found
    return found


@cache
def reads(module, name):
    """(class name, attribute) that a piece reads; the settings' own checks are no reads."""
    visitor = Reads()
    piece = pieces(module)[name]
    if isinstance(piece, ast.ClassDef) and module.endswith((".settings", ".config")):
        piece = ast.ClassDef(piece.name, [], [], [n for n in piece.body if not is_check(n)], [])
    visitor.visit(piece)
    return visitor.found


def is_check(node):
    return isinstance(node, FUNCTION) and node.name in ("problems", "__post_init__")


def unread(settings: type[Settings], module: str) -> set[str]:
    """Fields of a command's settings that nothing its module's `run` leads to reads."""
    classes = {each.__name__ for each in settings.__mro__}
    read = {
        field for piece in reachable(module) for kind, field in reads(*piece) if kind in classes
    }
    return {field.name for field in fields(settings)} - {"sources", "prog"} - read
