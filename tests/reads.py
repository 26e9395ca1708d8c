"""Which fields of which settings the code reads, found without running it.

A read is an attribute of something that annotations say is of a settings class: a parameter, an
attribute of an annotated object, or what was assigned from one. A command reads a field when a
module that its own module imports, at whatever distance, reads the field from one of the classes
its settings are made of.
"""

import ast
from collections import defaultdict
from dataclasses import fields
from functools import cache

from conftest import ROOT

from ppcls_lite.config import Settings

PACKAGE = ROOT / "ppcls_lite"


@cache
def trees():
    """Every module of the package by its name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def names(annotation):
    """The class names in an annotation."""
    if annotation is None:
        return set()
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval")
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function):
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {arg.arg: names(arg.annotation) for arg in every if arg.annotation}


@cache
def attributes():
    """What annotations say of objects: {class: {attribute: class names}}."""
    found = defaultdict(dict)
    for tree in trees().values():
        for owner in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
            for node in owner.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found[owner.name][node.target.id] = names(node.annotation)
            for method in functions(owner):
                known = parameters(method)
                for node in ast.walk(method):
                    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
                        for target in node.targets:
                            if isinstance(target, ast.Attribute) and node.value.id in known:
                                found[owner.name][target.attr] = known[node.value.id]
    return found


class Reads(ast.NodeVisitor):
    """Collects (class name, attribute) of a module."""

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
def reads(module):
    """(class name, attribute) that a module reads; the settings' own checks are no reads."""
    if module.endswith((".settings", ".config")):
        return set()
    visitor = Reads()
    visitor.visit(trees()[module])
    return visitor.found


@cache
def imports(module):
    found = set()
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ppcls_lite"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(trees())


def reachable(module):
    """The module and all it imports, at whatever distance."""
    found, new = set(), {module}
    while new:
        found |= new
        new = set().union(*(imports(each) for each in new)) - found
    return found


def unread(settings: type[Settings], module: str) -> set[str]:
    """Fields of a command's settings that neither its module nor what it imports reads."""
    classes = {each.__name__ for each in settings.__mro__}
    read = {field for each in reachable(module) for kind, field in reads(each) if kind in classes}
    return {field.name for field in fields(settings)} - {"sources"} - read
