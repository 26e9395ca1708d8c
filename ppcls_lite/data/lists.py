"""List files: which pictures there are and what they show, as people and other tools write it.

train/a b.png 3                 the id comes last, after spaces, a tab, a comma or a semicolon
"train/a b.png","great white"   or a name; a CSV may have a head (file,label and the like)
train\\a.png 3                   backslashes, quotes, UTF-16 and byte-order marks are read, too
"""

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ppcls_lite.data.pictures import HEIF_EXTENSIONS, IMAGE_EXTENSIONS
from ppcls_lite.errors import UserError, shortened, some
from ppcls_lite.program import quoted
from ppcls_lite.untrusted import LARGEST_TEXT

MAX_CLASSES = 1_000_000  # a larger "label" is a column of something else
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
FILE_COLUMNS = {
    "file", "filename", "file_name", "path", "filepath", "file_path", "image", "image_id",
    "imageid", "image_path", "img", "id", "name",
}  # fmt: skip
LABEL_COLUMNS = {
    "label", "labels", "class", "class_id", "class_name", "classname", "category", "target",
    "label_id", "wnid", "y", "predictionstring",
}  # fmt: skip
_ENDINGS = "|".join(ending[1:] for ending in IMAGE_EXTENSIONS + HEIF_EXTENSIONS)
PATH_AND_LABEL = re.compile(rf"(.+?\.(?:{_ENDINGS}))[\s,;]+(\S.*)", re.IGNORECASE)
QUOTED = re.compile(r"""(["'])(.+?)\1[\s,;]+(\S.*)""")
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
# Kaggle's ImageNet: the class, then boxes, in one column.
CLASS_AND_BOXES = re.compile(r"(n\d{8}) \d[\d ]*( n\d{8}.*)?")


@dataclass(frozen=True)
class PictureList:
    """What a list says.

    Attributes:
        paths: of the pictures, as written, [N].
        labels: ids, or names, [N].
        doubtful: positions of lines that are comments, unless there is such a picture.
    """

    paths: list[str]
    labels: list[int] | list[str]
    doubtful: frozenset[int]

    @property
    def numbers(self) -> set[int]:
        """The ids of the classes; empty when the list has names."""
        certain = (x for i, x in enumerate(self.labels) if i not in self.doubtful)
        return {label for label in certain if isinstance(label, int)}


def read_text(file: str) -> str:
    """Reads text in UTF-8 or UTF-16, with a byte-order mark or without; other bytes survive.

    Raises:
        OSError: it cannot be read.
        UserError: it is too large.
    """
    with open(file, "rb") as opened:
        data = opened.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise UserError(
            f"{file} has more than {LARGEST_TEXT:,} bytes",
            "name a list of images: lines 'path label'",
        )
    for mark, encoding in ENCODINGS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return data.decode("utf-8", errors="surrogateescape")


def read_list(file: str, hint: str) -> PictureList:
    """Reads a list.

    Raises:
        UserError: it is not there or empty (with `hint`), or lines of it have no such form.
    """
    try:
        text = read_text(file)
    except OSError as error:
        raise UserError(f"list file {file}: {error.strerror}", hint) from error
    rows = _labelled_rows(text) if file.lower().endswith((".csv", ".tsv")) else text_rows(text)
    lines: list[int] = []
    paths: list[str] = []
    labels: list[str] = []
    try:
        for number, path, label in rows:
            lines.append(number)
            paths.append(path)
            labels.append(label)
    except csv.Error as error:
        raise UserError(f"{file}: {error}", "name a list of images: lines 'path label'") from None
    comments = {i for i, path in enumerate(paths) if path.startswith("#")}
    if paths and not any(paths):
        raise UserError(
            f"{file} has ids without images, as ImageNet's devkit lists them; allowed are lines"
            " 'path label'",
            f"{join_command('VAL', file, f'{file}.new')} && mv {quoted(f'{file}.new')}"
            f" {quoted(file)}  # where VAL holds the images in the order of the ids",
        )
    words = [i for i, label in enumerate(labels) if not label.isdecimal() and i not in comments]
    wrong = [i for i in words if not paths[i] or _is_numeric(labels[i])]
    named = not wrong and 2 * len(words) > len(labels) - len(comments)
    if not named:
        large = {i for i, x in enumerate(labels) if x.isdecimal() and not _is_id(x)}
        nameless = {i for i, path in enumerate(paths) if not path}
        wrong = sorted({*words, *large, *nameless} - comments)
    if wrong:
        bad = [
            f"{file}:{lines[i]}: {shortened(f'{paths[i]} {labels[i]}', 100)!r}" for i in wrong[:9]
        ] + [""] * len(wrong[9:])  # which `some` only counts
        raise UserError(
            f"not 'path label' with a label of 0 or more, or a name: {some(bad)}",
            "mend or remove these lines",
        )
    kept = [i for i, x in enumerate(labels) if i not in comments or named or x.isdecimal()]
    if not set(kept) - comments:
        raise UserError(f"{file}: the list is empty", hint)
    return PictureList(
        [paths[i] for i in kept],
        [labels[i] for i in kept] if named else [int(labels[i]) for i in kept],
        frozenset(position for position, i in enumerate(kept) if i in comments),
    )


def join_command(folder: str, file: str, target: str) -> str:
    """Returns the shell line that puts the pictures of a folder beside ids without pictures."""
    return f"ls {quoted(folder)} | paste -d ' ' - {quoted(file)} > {quoted(target)}"


def _is_id(digits: str) -> bool:
    return len(digits) <= 20 and int(digits) < MAX_CLASSES


def _is_numeric(label: str) -> bool:
    return all(NUMBER.fullmatch(word) for word in label.split())


def text_rows(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields number, path and label of every line that is not empty."""
    for number, raw in enumerate(io.StringIO(text, newline=None), 1):
        line = raw.strip()
        if not line:
            continue
        # The label is the last word, so that the path may hold spaces.
        path, _, label = line.replace("\t", " ").rpartition(" ")
        if line[0] in "\"'" and (quoted := QUOTED.fullmatch(line)):
            path, label = quoted[2], quoted[3].strip("\"'")
        elif not (path and label.isdecimal()) and (found := PATH_AND_LABEL.fullmatch(line)):
            path, label = found[1], found[2].strip("\"'")
        yield number, path.strip(), label


def csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of the last line and the cells of every row that is not empty.

    Raises:
        csv.Error: it is no CSV.
    """
    first = text.lstrip().partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    for row in rows:
        if any(cells := [cell.strip() for cell in row]):
            yield rows.line_num, cells


def _labelled_rows(text: str) -> Iterator[tuple[int, str, str]]:
    file, label = 0, 1
    for number, (line, cells) in enumerate(csv_rows(text)):
        if number == 0:
            names = [cell.casefold() for cell in cells]
            files = [i for i, name in enumerate(names) if name in FILE_COLUMNS]
            labels = [i for i, name in enumerate(names) if name in LABEL_COLUMNS]
            if files or labels:
                label = labels[0] if labels else 1 - min(files[0], 1)
                file = next((i for i in files if i != label), 1 - min(label, 1))
                continue
        if len(cells) <= max(file, label) or not cells[file] or not cells[label]:
            yield line, "", ",".join(cells)
            continue
        boxes = CLASS_AND_BOXES.fullmatch(cells[label])
        yield line, cells[file], boxes[1] if boxes else cells[label]


def _forms() -> list[Callable[[str], str]]:
    """Ways in which the path of a list may differ from that of the file."""
    return [
        lambda path: path,
        lambda path: path.replace("\\", "/"),
        lambda path: unicodedata.normalize("NFC", path),
        lambda path: unicodedata.normalize("NFD", path),
        lambda path: f"{path}.JPEG",  # ImageNet's lists by Kaggle and VastModelZOO
    ]


def locate(listed: PictureList, file: str, roots: Sequence[str]) -> tuple[list[str], list[int]]:
    """Finds the folder that the paths of a list start from.

    Args:
        listed: the list.
        file: where it was read from, for the message.
        roots: the folders to try.

    Returns:
        The path of every picture, and its position in the list.

    Raises:
        UserError: the first hundred pictures are in none of them.
    """
    sure = [path for i, path in enumerate(listed.paths) if i not in listed.doubtful][:100]
    # A few missing pictures are broken pictures; when the first hundred are missing, the list
    # was written for another folder.
    for form in _forms():
        for root in roots:
            if any(os.path.exists(os.path.join(root, form(path))) for path in sure):
                paths = [os.path.join(root, form(path)) for path in listed.paths]
                kept = [
                    i
                    for i, path in enumerate(paths)
                    if i not in listed.doubtful or os.path.isfile(path)
                ]
                return [paths[i] for i in kept], kept
    raise UserError(
        f"{file}: its images are not there, for example {shortened(sure[0])}",
        "write paths that start from " + " or from ".join(dict.fromkeys(roots)),
    )
