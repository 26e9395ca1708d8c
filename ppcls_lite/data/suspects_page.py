"""What `data check --report` writes: findings.csv, and the same as a page with pictures."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ppcls_lite.data.copies import Pair, near_copies
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.overview import UNEVEN, class_counts, distributions
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.suspects import Finding, Look, odd
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically
from ppcls_lite.page import thumbnail, write_page
from ppcls_lite.program import command

KINDS = (
    "duplicate",
    "near_duplicate",
    "label",
    "blank",
    "dark",
    "blurred",
    "tiny",
    "shape",
    "colour",
)
MOST_SHOWN = 200  # findings of a kind on the page, some 5 kB each; the CSV has all
THUMBNAIL = 160  # pixels
FEW_CLASSES = 20  # whose counts are shown at once; more are folded


class Entry(NamedTuple):
    """One picture of a data set."""

    split: str
    label: str  # name of its class
    path: str
    source: Source


class Whole(NamedTuple):
    """What the features of an ImageNet network say of all pictures together.

    Attributes:
        labels: findings of kind label.
        guesses: the class that each of their pictures looks like, by place.
        alike: pairs of classes that are hardly told apart, as `overview.Alike` with names.
        crops: copies that `near_copies` does not find.
    """

    labels: Sequence[Finding] = ()
    guesses: Mapping[int, str] = {}
    alike: Sequence[tuple[str, str, int, int]] = ()
    crops: Sequence[Pair] = ()


def write_report(
    folder: Path,
    pictures: Sequence[Entry],
    looks: Sequence[Look | None],
    whole: Whole = Whole(),  # noqa: B008  # it is frozen
    data_path: str = "DATA",
) -> str:
    """Writes folder/findings.csv and folder/index.html; returns what was found, in one line.

    Both are sorted by kind and, in it, the best evidence first. The page holds its pictures and
    needs no network; names from the data are escaped.

    Args:
        pictures: of all splits.
        looks: what each is like; None for one that cannot be read.
        whole: doubted labels, and classes that look alike.
        data_path: for the command that the page shows.

    Raises:
        UserError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--report {folder}: {error.strerror}", "name another folder") from error
    copies = {pair[:2]: pair for pair in (*whole.crops, *near_copies(looks))}
    found = [_pair(pictures, *pair) for pair in copies.values()]
    found += [*whole.labels, *odd(looks)]
    found.sort(key=lambda f: (KINDS.index(f.kind), -f.score, f.file))
    write_atomically(folder / "findings.csv", _table(found, pictures))
    counts = Counter(f.kind for f in found)
    leaks = sum(
        f.other is not None and pictures[f.file].split != pictures[f.other].split for f in found
    )
    said = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing found"
    summary = f"{len(pictures)} images: {said}; pairs across splits: {leaks}"
    classes = class_counts([x.split for x in pictures], [x.label for x in pictures])
    write_page(
        folder / "index.html",
        "findings.html",
        title="Findings",
        summary=summary,
        sections=_sections(found, pictures, whole.guesses),
        alike=whole.alike,
        classes=classes,
        uneven=UNEVEN,
        least=FEW_CLASSES,
        splits=list(dict.fromkeys(x.split for x in pictures)),
        charts=distributions(looks),
        apply=command("data check", "--data-path", data_path, "--apply", "decisions.csv",
                      "--out", "cleaned"),
    )  # fmt: skip
    return f"{summary}: {folder / 'index.html'}"


def _table(found: Sequence[Finding], pictures: Sequence[Entry]) -> bytes:
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["kind", "file", "other", "score", "suggestion"])
    for f in found:
        other = "" if f.other is None else pictures[f.other].path
        writer.writerow([f.kind, pictures[f.file].path, other, f"{f.score:.4f}", f.suggestion])
    return table.getvalue().encode(errors="surrogateescape")


def _pair(pictures: Sequence[Entry], file: int, other: int, score: float) -> Finding:
    a, b = pictures[file], pictures[other]
    if a.label != b.label:
        suggestion = "one image, two classes: decide, and keep one"
    elif a.split != b.split:
        suggestion = "in two splits: leave it out of one"
    else:
        suggestion = "there twice: keep one"
    kind = "duplicate" if read_source(a.source) == read_source(b.source) else "near_duplicate"
    return Finding(kind, file, other, min(score, 1.0), suggestion)


def _sections(
    found: Sequence[Finding], pictures: Sequence[Entry], guesses: Mapping[int, str]
) -> list[dict[str, Any]]:
    """The kinds that were found: how many, and those that are shown."""
    sections = []
    for kind in KINDS:
        same = [f for f in found if f.kind == kind]
        shown = [
            {
                "score": f.score,
                "suggestion": f.suggestion,
                "figures": [figure(pictures[i]) for i in (f.file, f.other) if i is not None],
                "guess": guesses.get(f.file) if kind == "label" else None,
            }
            for f in same[:MOST_SHOWN]
        ]
        if same:
            sections.append({"kind": kind, "count": len(same), "shown": shown})
    return sections


def figure(entry: Entry, note: str = "") -> dict[str, str]:
    """Returns a picture, small, as the `figure` of parts.html shows it, with a note."""
    image = load_image(read_source(entry.source))
    return {"picture": thumbnail(image, THUMBNAIL), "note": note} | unseen(entry)


def unseen(entry: Entry) -> dict[str, str]:
    """Returns the names of a picture, for `figure`."""
    return {"label": entry.label, "split": entry.split, "path": entry.path}
