"""The fields of a settings class as flags and YAML keys: types, limits, help, spellings."""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import re
import sys
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from ppcls_lite.config import Settings
from ppcls_lite.errors import UserError, nearest

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text",
          "array": "values with commas between them", "null": "none"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Flag:
    """One field of a settings class, as the command line and YAML see it."""

    name: str
    kind: Any  # the annotated type, with its limits
    default: Any
    owner: type[Settings]  # the group whose source has its help
    group: str
    spellings: tuple[str, ...]
    positional: bool  # the value alone, without a flag, will do
    rest: bool  # takes the first word that belongs to no flag, and all after it
    bare: str | None  # the value of the flag alone; None when it needs one
    also: Mapping[str, str]  # other words for values

    @property
    def help(self) -> str:
        """What the flag is for; read from the source when it is asked for, which takes a while."""
        return _helps(self.owner.__module__)[self.owner.__name__].get(self.name, "")

    @property
    def plain(self) -> Any:
        """The type without its limits."""
        return typing.get_args(self.kind)[0] if is_annotated(self.kind) else self.kind

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed words; empty when the type is not a list of words."""
        kinds = (self.plain, *typing.get_args(self.plain))
        literals = [k for k in kinds if typing.get_origin(k) is typing.Literal]
        return tuple(word for k in literals for word in typing.get_args(k))

    @property
    def limits(self) -> str:
        """Allowed numbers in words, like `0 to 1` or `above 0`; empty where there is no limit."""
        return next(filter(None, map(_in_words, (self.kind, *typing.get_args(self.plain)))), "")

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
        value = self.also.get(value, value) if isinstance(value, str) else value
        is_text = isinstance(value, str)
        if is_text and value.lower() in _WORDS:
            word = _WORDS[value.lower()]
            value = word if self.accepts(type(word) if word is not None else None) else value
        kinds = (self.plain, *typing.get_args(self.plain))
        if isinstance(value, str) and any(typing.get_origin(k) is tuple for k in kinds):
            value = value.split(",") if value else []
        try:
            value = msgspec.convert(value, self.kind, strict=not is_text)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise msgspec.ValidationError("Expected a finite number")
            return value
        except msgspec.ValidationError as error:
            reason = _allowed(str(error))
            if self.choices:
                reason = f"allowed: {', '.join(self.choices)}{nearest(str(given), self.choices)}"
            raise UserError(
                f"{where}: {given!r} is not possible ({reason})", f"give such a value: {self.help}"
            ) from None


def _allowed(reason: str) -> str:
    """Msgspec's reason in words: "Expected `int` >= 1" as "allowed: a whole number >= 1"."""
    found = re.match(r"Expected `([^`]+)`( [<>]=? \S+)?", reason)
    if found is None:
        return reason
    kinds = " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | "))
    return f"allowed: {kinds}{found[2] or ''}"


def _in_words(kind: Any) -> str:
    """The limits of a number's type."""
    if not is_annotated(kind):
        return ""
    meta = typing.get_args(kind)[1]
    low = f"{meta.ge}" if meta.ge is not None else ""
    if meta.gt is not None:
        low = f"above {meta.gt}"
    if meta.le is None:
        return f"{low} or more" if meta.ge is not None else low
    return f"{low} to {meta.le}" if low else f"{meta.le} or less"


def is_annotated(kind: Any) -> bool:
    """Tells whether a type carries limits."""
    return typing.get_origin(kind) is typing.Annotated


@functools.cache
def _helps(module: str) -> dict[str, dict[str, str]]:
    """The texts under the fields of every class of a module, by class and field.

    A class's own source, by `inspect`, would parse its module once for each class of it, which took
    a fifth of the time of `--help`.
    """
    found: dict[str, dict[str, str]] = {}
    for group in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(group, ast.ClassDef):
            texts = found[group.name] = {}
            for field, below in itertools.pairwise(group.body):
                match field, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        texts[name] = " ".join(text.split())
    return found


def flags(config: type[Settings]) -> dict[str, Flag]:
    """Returns the flags of a settings class by field name: the essentials, its own, then group by
    group."""
    kinds = typing.get_type_hints(config, include_extras=True)
    found = {}
    groups = (config, *reversed(config.__mro__[1:]))
    for group in [c for c in groups if c not in (object, Settings)]:
        for field in [f for f in dataclasses.fields(group) if f.name in group.__annotations__]:
            kind = kinds[field.name]
            limits = typing.get_args(kind)[1:] if is_annotated(kind) else ()
            extra = {key: value for meta in limits for key, value in (meta.extra or {}).items()}
            found[field.name] = Flag(
                name=field.name,
                kind=kind,
                default=field.default,
                owner=group,
                group="Essentials"
                if field.name in config.essentials
                else (group.__doc__ or "").strip().splitlines()[0].rstrip("."),
                spellings=("--" + field.name.replace("_", "-"), *extra.get("flags", ())),
                positional=extra.get("positional", False),
                rest=extra.get("rest", False),
                also=extra.get("also", {}),
                bare="true" if bool in (kind, *typing.get_args(kind)) else extra.get("bare"),
            )
    found = {name: found[name] for name in config.essentials} | found
    groups_shown = list(dict.fromkeys(flag.group for flag in found.values()))
    return dict(sorted(found.items(), key=lambda item: groups_shown.index(item[1].group)))
