"""Lists with several labels a picture: any number of the classes may be on it.

a.jpg 0,1,0,1            a list: 1 where the class is on the picture (PaddleClas' multi-label form)
file,cat,dog,hat         a CSV whose head names the classes, with 0 or 1 for each
file,labels              a CSV with the names on the picture, `cat|hat`, or nothing
"""

import csv
import itertools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ppcls_lite.data.lists import FILE_COLUMNS, LABEL_COLUMNS, csv_rows, read_text, text_rows
from ppcls_lite.errors import UserError, shortened, some

Labels = Literal["auto", "one", "several"]
SAMPLE = 20  # rows that tell what kind of list it is
MULTI_HOT = re.compile(r"[01](\s*,\s*[01])+")
FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
FORMS = "lines 'path 0,1,0', a CSV 'file,CLASS,CLASS' of 0 and 1, or a CSV 'file,labels' of a|b"


@dataclass(frozen=True)
class LabelList:
    """What a list with several labels a picture says.

    Attributes:
        paths: of the pictures, as written, [N].
        labels: 1 where the class is on the picture, uint8 [N, K].
        names: of the classes, [K]; empty where the list has none.
    """

    paths: list[str]
    labels: np.ndarray
    names: tuple[str, ...] = ()

    @property
    def is_one_each(self) -> bool:
        """Tells whether each picture has exactly one label, as if there could be but one."""
        return bool((self.labels.sum(axis=1) == 1).all())


def read_label_list(file: str, labels: Labels) -> LabelList | None:
    """Reads a list with several labels a picture; None where it is one with one label each.

    `auto` takes it for one where its lines are 0 and 1 for each class, or a cell of its labels has
    `|`. `several` takes names after commas, too.

    Raises:
        UserError: lines of it have another form than the others.
    """
    if labels == "one":
        return None
    is_asked = labels == "several"
    read = _read_csv if file.lower().endswith((".csv", ".tsv")) else _read_lines
    try:
        return read(file, read_text(file), is_asked)
    except (OSError, csv.Error):
        return None  # `read_list` says why


def _read_lines(file: str, text: str, is_asked: bool) -> LabelList | None:
    # A long list of another kind is not read twice.
    first = itertools.islice(text_rows(text), SAMPLE)
    if not is_asked and not any(MULTI_HOT.fullmatch(label) for *_, label in first):
        return None
    rows = [row for row in text_rows(text) if not row[1].startswith("#")]
    hot = [row for row in rows if MULTI_HOT.fullmatch(row[2])]
    if 2 * len(hot) <= len(rows):
        return _of_names([row[1] for row in rows], [row[2] for row in rows]) if is_asked else None
    flags = [[int(x) for x in label.split(",")] for *_, label in hot]
    width = max(len(row) for row in flags)
    good = {row[0] for row, own in zip(hot, flags, strict=True) if len(own) == width}
    _complain(file, [(n, f"{path} {label}") for n, path, label in rows if n not in good], width)
    return LabelList([row[1] for row in rows], np.array(flags, np.uint8))


def _read_csv(file: str, text: str, is_asked: bool) -> LabelList | None:
    head = [cell.casefold() for _, cells in itertools.islice(csv_rows(text), 1) for cell in cells]
    files = [i for i, name in enumerate(head) if name in FILE_COLUMNS]
    where = files[0] if files else 0
    named = [i for i, name in enumerate(head) if name in LABEL_COLUMNS and i != where]
    is_hot = len(head) > 2 and not named
    if not is_asked and not (files and (is_hot or "|" in text)):
        return None
    rows = list(csv_rows(text))
    body = rows[1:] if files or named else rows
    if is_hot:
        return _one_hot(file, rows[0][1] if files else [], body, where, is_asked)
    label = named[0] if named else 1 - min(where, 1)
    cells = [row[label] if label < len(row) else "" for _, row in body]
    if not body or not (is_asked or any("|" in cell for cell in cells)):
        return None
    return _of_names([row[where] for _, row in body], cells)


def _one_hot(
    file: str, head: list[str], body: list[tuple[int, list[str]]], where: int, is_asked: bool
) -> LabelList | None:
    """A CSV with a column of 0 and 1 for each class."""
    width = len(head or body[0][1])
    columns = [i for i in range(width) if i != where]
    good = {
        number
        for number, row in body
        if len(row) == width and all(row[i] in FLAGS for i in columns)
    }
    if not body or not (is_asked or 2 * len(good) > len(body)):
        return None
    bad = [(number, ",".join(row)) for number, row in body if number not in good]
    _complain(file, bad, len(columns))
    labels = np.array([[FLAGS[row[i]] for i in columns] for _, row in body], np.uint8)
    names = tuple(head[i] for i in columns) if head else ()
    return LabelList([row[where] for _, row in body], labels, names)


def _of_names(paths: list[str], cells: list[str]) -> LabelList:
    """Names between `|`, or where there is none, between commas; none is a picture without."""
    sign = "|" if any("|" in cell for cell in cells) else ","
    words = [[word.strip() for word in cell.split(sign) if word.strip()] for cell in cells]
    names = sorted({word for row in words for word in row})
    position = {name: k for k, name in enumerate(names)}
    labels = np.zeros((len(words), len(names)), np.uint8)
    for row, own in zip(labels, words, strict=True):
        row[[position[word] for word in own]] = 1
    return LabelList(paths, labels, tuple(names))


def _complain(file: str, bad: list[tuple[int, str]], width: int) -> None:
    if bad:
        lines = [f"{file}:{number}: {shortened(line, 100)!r}" for number, line in bad[:9]]
        raise UserError(
            f"not a path and {width} times 0 or 1: {some(lines + [''] * len(bad[9:]))}",
            f"mend or remove these lines; allowed are {FORMS}",
        )
