"""Which class of a data set is which class of a network, or of the other split: one rule for all.

Read in this order, until all classes that have pictures are found:

1. by name: the same name; the same but for Unicode form, case or `_`; the same wnid, or a wnid and
   one of ImageNet's names for it, see `imagenet`;
2. by id: whole numbers, of a list or as folder names, are the ids 0 to K-1; when they go up to K
   and leave out 0, they count from 1;
3. in order: one side has no names at all, and both have as many classes.

Where names that are numbers can be read as names and as ids, and where a name fits several classes,
nothing is guessed.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ppcls_lite.data.imagenet import plain, spoken_name, wnids_of
from ppcls_lite.errors import UserError, some
from ppcls_lite.program import quoted

NONE = -1  # the id of a class that the other side does not have


@dataclass(frozen=True)
class ClassSet:
    """The classes of a network or of a data set.

    Attributes:
        who: what to call it in messages: train, val, a file.
        names: the position is the class id; fewer than `count`, or none, when unknown.
        count: K.
        numbers: of each class, as a list file counts it; empty for folders and networks.
        pictures: of each class; empty where nobody counted. A class without pictures need not be
            known to the other side.
        place: the folder of the class folders, or of the list.
    """

    who: str
    names: tuple[str, ...]
    count: int
    numbers: tuple[int, ...] = ()
    pictures: tuple[int, ...] = ()
    place: str = ""

    def name(self, class_id: int) -> str:
        """Returns the name of a class, its id when it has none."""
        return self.names[class_id] if class_id < len(self.names) else str(class_id)

    @property
    def needed(self) -> tuple[int, ...]:
        """Ids of the classes that have pictures; of all where nobody counted."""
        return tuple(i for i in range(self.count) if not self.pictures or self.pictures[i])

    @property
    def as_numbers(self) -> tuple[int, ...]:
        """The number of each class, if all classes are called by numbers; else empty."""
        if self.numbers:
            return self.numbers
        numeric = len(self.names) == self.count and all(name.isdecimal() for name in self.names)
        return tuple(int(name) for name in self.names) if numeric else ()


@dataclass(frozen=True)
class ClassMatch:
    """What `match_classes` found.

    Attributes:
        known: the classes that are matched to.
        data: the classes that are matched.
        ids: for each class of `data` its id in `known`, NONE where there is none, [len(data)].
        how: a sentence for people.
    """

    known: ClassSet
    data: ClassSet
    ids: tuple[int, ...]
    how: str

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the classes of `data` with pictures that `known` lacks."""
        return tuple(self.data.name(i) for i in self.data.needed if self.ids[i] == NONE)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Names of the classes of `known` of which `data` has no picture."""
        found = {self.ids[i] for i in self.data.needed}
        return tuple(self.known.name(i) for i in range(self.known.count) if i not in found)

    @property
    def is_identity(self) -> bool:
        """Tells whether ids mean the same on both sides, and both have the same classes."""
        return self.ids == tuple(range(self.known.count))

    def complete(self, hint: str) -> "ClassMatch":
        """Returns this match.

        Raises:
            UserError: `known` lacks a class of `data` that has pictures.
        """
        if not self.unknown:
            return self
        known, data = self.known, self.data
        parts = [f"only in {data.who}: {some(self.unknown)}"]
        if self.lacking:
            parts.append(f"only in {known.who}: {some(self.lacking)}")
        raise UserError(
            f"{known.who} has {known.count} classes, {data.who} has {data.count}, and they do not"
            f" agree: {'; '.join(parts)}",
            hint,
        )


def match_classes(known: ClassSet, data: ClassSet) -> ClassMatch:
    """Finds for each class of `data` which class of `known` it is.

    Raises:
        UserError: two readings fit; the message shows both.
    """
    if known.names == data.names and known.count == data.count:
        how = f"{data.who} has the {known.count} classes of {known.who}"
        return ClassMatch(known, data, tuple(range(known.count)), how)
    if known.numbers and data.numbers:
        position = {number: i for i, number in enumerate(known.numbers)}
        ids = tuple(position.get(number, NONE) for number in data.numbers)
        return ClassMatch(
            known, data, ids, f"the ids of both lists, {known.who}'s and {data.who}'s"
        )
    by_name, by_id = match_names(known, data), _by_id(known, data)
    if data.numbers and by_id and _fits(by_id) and _fits(by_name):
        for i in data.needed:
            if data.name(i).isdecimal() and by_id.ids[i] != by_name.ids[i]:
                raise _two_readings(by_name, by_id, i)
    readings = [by_name, *filter(None, (by_id, _in_order(known, data)))]
    return min(readings, key=lambda match: len(match.unknown))  # the first of the best


def match_names(known: ClassSet, data: ClassSet) -> ClassMatch:
    """Finds the classes that have the same names, and no others.

    Raises:
        UserError: a name fits several classes.
    """
    same = _positions((name,) for name in known.names)
    loose = _positions((plain(name),) for name in known.names)
    wnids = _positions(wnids_of(known.names))
    ids, spelled = [NONE] * data.count, []
    for i, meanings in enumerate(wnids_of(data.names)):
        name = data.names[i]
        found = sorted({k for wnid in meanings for k in wnids.get(wnid, ())})
        if len(meanings) != 1 or len(found) != 1:
            found = same.get(name) or loose.get(plain(name)) or found
        if len(found) > 1:
            raise _several(known, data, name, found, meanings)
        if found:
            ids[i] = found[0]
            if known.names[found[0]] != name:
                spelled.append(f"{name} is {known.names[found[0]]}")
    matched = len({k for k in ids if k != NONE})
    how = f"{matched} of {data.who}'s {data.count} classes, by name"
    if matched == data.count == known.count:
        how = f"the {matched} classes of {known.who}, by name"
    elif matched == data.count:
        how = f"{matched} of the {known.count} classes of {known.who}, by name"
    return ClassMatch(known, data, tuple(ids), how + (f": {some(spelled, 3)}" if spelled else ""))


def warnings(classes: ClassSet, counts: Sequence[int] = (0, 1)) -> list[str]:
    """Names the classes that have no picture, or a single one, whichever `counts` asks for."""
    lines = []
    for count in counts:
        found = [spoken_name(classes.name(i)) for i, n in enumerate(classes.pictures) if n == count]
        if found:
            words = "a single image" if count else "no image"
            kinds = "class" if len(found) == 1 else f"{len(found)} classes:"
            lines.append(f"{classes.who} has {words} of {kinds} {some(found)}")
    return lines


def _positions(keys: Iterable[Sequence[str]]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = defaultdict(list)
    for position, names in enumerate(keys):
        for name in names:
            table[name].append(position)
    return table


def _fits(match: ClassMatch) -> bool:
    return not match.unknown


def _by_id(known: ClassSet, data: ClassSet) -> ClassMatch | None:
    numbers = data.as_numbers
    used = [numbers[i] for i in data.needed] if numbers else []
    if not used:
        return None
    first = 1 if min(used) > 0 and max(numbers) == known.count else 0
    ids = tuple(n - first if first <= n < known.count + first else NONE for n in numbers)
    how = f"the ids of {data.who} are {known.who}'s"
    if first:
        how = (
            f"the ids of {data.who} count from 1: {first} is class 0 of {known.who},"
            f" {spoken_name(known.name(0))}"
        )
    return ClassMatch(known, data, ids, how)


def _in_order(known: ClassSet, data: ClassSet) -> ClassMatch | None:
    """Both have as many classes, and on one side nobody knows what they are called."""
    counted = [tuple(range(first, first + known.count)) for first in (0, 1)]
    nameless = [s for s in (known, data) if not s.names or s.as_numbers in counted]
    if known.count != data.count or not nameless:
        return None
    how = (
        f"in their order, {nameless[0].who} has no class names: class 0 is"
        f" {_first_name(known, data)}"
    )
    return ClassMatch(known, data, tuple(range(known.count)), how)


def _first_name(*sets: ClassSet) -> str:
    names = [s.name(0) for s in sets]
    return spoken_name(next((name for name in names if not name.isdecimal()), names[0]))


def _two_readings(by_name: ClassMatch, by_id: ClassMatch, i: int) -> UserError:
    known, data = by_name.known, by_name.data
    number, labels = data.numbers[i], os.path.join(data.place, "labels.txt")
    return UserError(
        f"the classes of {known.who} are called by numbers, and {data.who} lists numbers; two"
        f" readings fit:\n  by name: {number} is the class called {known.name(by_name.ids[i])},"
        f" class id {by_name.ids[i]}\n  by id: {number} is class id {by_id.ids[i]}, which is called"
        f" {known.name(by_id.ids[i])}",
        f"seq {min(data.numbers)} {max(data.numbers)} | sed 's/.*/& &/' > {quoted(labels)}"
        "  # by name; or, by id, the names one a line in the order of the ids",
    )


def _several(
    known: ClassSet, data: ClassSet, name: str, found: Sequence[int], meanings: Sequence[str]
) -> UserError:
    words = [f"class {k}, {spoken_name(known.name(k))}" for k in found]
    other = known.names[found[0]]
    if len(meanings) > 1:
        other = meanings[0]
        words = [f"{word} ({wnid})" for word, wnid in zip(words, meanings, strict=False)]
    hint = f"call it {other}, if it is the first"
    if os.path.isdir(folder := os.path.join(data.place, name)):
        hint = f"mv {quoted(folder)} {quoted(os.path.join(data.place, other))}"
        hint += "  # if it is the first"
    return UserError(
        f"the class {name} of {data.who} fits several of {known.who}: {' or '.join(words)}", hint
    )
