"""What `data check --report` writes: findings.csv, and the same as a page with pictures."""

import base64
import csv
from collections import Counter
from collections.abc import Sequence
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.suspects import Finding, Look, near_copies, odd
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically

KINDS = ("duplicate", "near_duplicate", "label", "blank", "dark", "tiny", "shape")
MOST_SHOWN = 200  # findings of a kind on the page, some 5 kB each; the CSV has all
THUMBNAIL = 160  # pixels
_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>
:root{color-scheme:light dark}body{font:16px/1.4 system-ui,sans-serif;margin:1em auto;
max-width:60em;padding:0 1em}article{border-top:1px solid #8888;padding:.7em 0;break-inside:avoid}
figure{display:inline-block;margin:.3em 1em .3em 0;max-width:24em;overflow-wrap:anywhere}
</style><h1>{title}</h1>
"""


def head(title: str) -> str:
    """Returns how a page of pictures begins."""
    return _HEAD.replace("{title}", escape(title))


class Entry(NamedTuple):
    """One picture of a data set."""

    split: str
    label: str  # name of its class
    path: str
    source: Source


def write_report(
    folder: Path,
    pictures: Sequence[Entry],
    looks: Sequence[Look | None],
    labels: Sequence[Finding] = (),
) -> str:
    """Writes folder/findings.csv and folder/index.html; returns what was found, in one line.

    Both are sorted by kind and, in it, the best evidence first. The page holds its pictures and
    needs no network; names from the data are escaped.

    Args:
        pictures: of all splits.
        looks: what each is like; None for one that cannot be read.
        labels: findings of kind label.

    Raises:
        UserError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--report {folder}: {error.strerror}", "name another folder") from error
    found = [_pair(pictures, *pair) for pair in near_copies(looks)] + [*labels, *odd(looks)]
    found.sort(key=lambda f: (KINDS.index(f.kind), -f.score, f.file))
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["kind", "file", "other", "score", "suggestion"])
    for f in found:
        other = "" if f.other is None else pictures[f.other].path
        writer.writerow([f.kind, pictures[f.file].path, other, f"{f.score:.4f}", f.suggestion])
    write_atomically(folder / "findings.csv", table.getvalue().encode(errors="surrogateescape"))
    counts = Counter(f.kind for f in found)
    leaks = sum(
        f.other is not None and pictures[f.file].split != pictures[f.other].split for f in found
    )
    said = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing found"
    summary = f"{len(pictures)} pictures: {said}; pairs across splits: {leaks}"
    page = head("Findings") + f"<p>{summary}</p>\n" + "".join(_sections(found, pictures))
    write_atomically(folder / "index.html", page.encode(errors="replace"))
    return f"{summary}: {folder / 'index.html'}"


def _pair(pictures: Sequence[Entry], file: int, other: int, score: float) -> Finding:
    a, b = pictures[file], pictures[other]
    if a.label != b.label:
        suggestion = "one photograph, two classes: decide, and keep one"
    elif a.split != b.split:
        suggestion = "in two splits: leave it out of one"
    else:
        suggestion = "there twice: keep one"
    kind = "duplicate" if read_source(a.source) == read_source(b.source) else "near_duplicate"
    return Finding(kind, file, other, min(score, 1.0), suggestion)


def _sections(found: Sequence[Finding], pictures: Sequence[Entry]) -> list[str]:
    parts = []
    for kind in KINDS:
        same = [f for f in found if f.kind == kind]
        if not same:
            continue
        rest = len(same) - MOST_SHOWN
        more = f", the first {MOST_SHOWN} shown; findings.csv has all" if rest > 0 else ""
        parts.append(f"<h2>{kind}: {len(same)}{more}</h2>\n")
        for f in same[:MOST_SHOWN]:
            shown = [f.file] if f.other is None else [f.file, f.other]
            figures = "".join(figure(pictures[i]) for i in shown)
            words = escape(f.suggestion)
            parts.append(f"<article><div>{f.score:.4f}: {words}</div>{figures}</article>\n")
    return parts


def figure(entry: Entry, note: str = "") -> str:
    """Returns a picture, small, with a note and its names below, as HTML that holds it."""
    image = load_image(read_source(entry.source))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    image.save(file, "JPEG", quality=75)
    data = base64.b64encode(file.getvalue()).decode()
    split = f" ({escape(entry.split)})" if entry.split else ""
    words = f"{escape(note)}<br>" if note else ""
    text = f"{words}<b>{escape(entry.label)}</b>{split}<br>{escape(entry.path)}"
    picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"
