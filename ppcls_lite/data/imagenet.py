"""ImageNet-1k's classes: their WordNet numbers (wnids) and what people call them."""

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources

# In a class's name, alone or beside words: n01440764, n02085620-Chihuahua, tench (n01440764).
WNID = re.compile(r"(?<![^\W_])n\d{8}(?!\d)")


@functools.cache
def imagenet_synsets() -> Mapping[str, str]:
    """Synset line by wnid (n01440764: tench, Tinca tinca), in the order of the class ids."""
    text = resources.files("ppcls_lite.data").joinpath("imagenet_synsets.txt").read_text("utf-8")
    rows = (line.partition(" ") for line in text.splitlines())
    return {wnid: names for wnid, _, names in rows}


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """torchvision's name of every class, in the order of the class ids; no two are the same."""
    text = resources.files("ppcls_lite.data").joinpath("imagenet_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())


def imagenet_names(num_classes: int) -> tuple[str, ...]:
    """Returns torchvision's names for a network of 1000 classes, and none for others."""
    names = imagenet_labels()
    return names if num_classes == len(names) else ()


def spoken_name(name: str) -> str:
    """Returns how to show a class to a person: a bare wnid of ImageNet's gets its name before it.

    n01440764 becomes `tench (n01440764)`; everything else stays as it is.
    """
    return _spoken().get(name, name)


@functools.cache
def _spoken() -> Mapping[str, str]:
    pairs = zip(imagenet_synsets(), imagenet_labels(), strict=True)
    return {wnid: f"{label} ({wnid})" for wnid, label in pairs}


def plain(name: str) -> str:
    """Returns a name without what people do not mean to tell apart.

    That is Unicode form, upper and lower case, Keras' `_` for a space, zeros before a number.
    """
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
    return text.lstrip("0") or "0" if text.isdecimal() else text


@functools.cache
def _spellings() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """The wnids that a name can mean, by the name as it is and by its `plain` form."""
    exact: dict[str, dict[str, None]] = defaultdict(dict)
    for (wnid, line), label in zip(imagenet_synsets().items(), imagenet_labels(), strict=True):
        # Keras' names are the first words, with `_` for a space.
        for name in (line, line.partition(",")[0], label):
            exact[name][wnid] = None
    loose: dict[str, dict[str, None]] = defaultdict(dict)
    for name, wnids in exact.items():
        loose[plain(name)] |= wnids
    tables = ({name: tuple(wnids) for name, wnids in table.items()} for table in (exact, loose))
    return next(tables), next(tables)


def _meanings(name: str) -> tuple[str, ...]:
    if found := WNID.search(name):
        return (found[0],)
    exact, loose = _spellings()
    # A synset line that is not the one here (480 has ", ATM" or not) is known by its first words.
    for text in (name, name.partition(",")[0]):
        for wnids in (exact.get(text), loose.get(plain(text))):
            if wnids:
                return wnids
    return ()


def wnids_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns for each class the wnids that its name can mean: none, one, or several.

    Several are left only where the other names do not decide: two of ImageNet's classes are called
    crane, two maillot, in all spellings but torchvision's.
    """
    found = [_meanings(name) for name in names]
    order = tuple(imagenet_synsets())
    if len(found) == len(order) and all(map(tuple.__contains__, found, order)):
        return [(wnid,) for wnid in order]
    taken = {wnids[0] for wnids in found if len(wnids) == 1}
    left = [tuple(w for w in wnids if w not in taken) or wnids for wnids in found]
    # A list that has both under one name has them in ImageNet's order.
    times, seen = Counter(names), Counter[str]()
    for position, name in enumerate(names):
        if 1 < len(left[position]) == times[name]:
            left[position] = (left[position][seen[name]],)
        seen[name] += 1
    return left
