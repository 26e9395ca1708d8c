"""Result texts of the accelerator's classifiers, and their evaluation.

One line a class: `PATH: Relay top-0 id: 8, prob: 0.90912390, class name: hen`, best first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcls_lite.data.imagenet import imagenet_synsets
from ppcls_lite.errors import UserError
from ppcls_lite.program import command
from ppcls_lite.untrusted import read_lines

TEXT_NAME = "vacl_cls_result.txt"  # what sample_cls.py writes into its --save_dir
TOPK = 5
AGAIN = "delete this file, then run sample_cls.py once, to its end"
LINE = re.compile(
    r"(?P<path>.*): (?:Relay )?top-(?P<rank>\d+) id: (?P<id>\d+), prob: (?P<prob>[^,]+),"
    r" class name: (?P<name>.*)"
)


@dataclass(frozen=True)
class Scores:
    """Hits of an evaluation."""

    images: int
    top1_hits: int
    top5_hits: int

    def line(self) -> str:
        """The documents' line; percent."""
        top1, top5 = (round(100 * n / self.images, 3) for n in (self.top1_hits, self.top5_hits))
        return f"[VACC]:  top1_rate: {top1} top5_rate: {top5}"


def result_lines(
    path: str, ranking: Iterable[tuple[int, float]], names: Sequence[str]
) -> list[str]:
    """Returns the lines of one picture.

    Args:
        path: as it shall be written.
        ranking: class ids and probabilities, best first.
        names: of all classes.
    """
    return [
        f"{path}: Relay top-{rank} id: {class_id}, prob: {prob:.8f}, class name: {names[class_id]}"
        for rank, (class_id, prob) in enumerate(ranking)
    ]


def result_file(path: Path) -> Path:
    """Returns the text that a path means: sample_cls.py makes a folder of what it is given, even
    of `x.txt`, and writes into that.

    Raises:
        UserError: there is none.
    """
    file = path / TEXT_NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"no result text {file}",
            command("accelerator run", "--file_path", "VAL", "--save_dir", file.parent)
            + "  # writes one",
        )
    return file


def read_results(file: Path) -> dict[str, list[int]]:
    """Returns the ranked class ids of each picture.

    Raises:
        UserError: a line has another form, ranks are missing, or a picture is there twice.
    """
    found: dict[str, list[int]] = {}
    path = ""
    for number, line in enumerate(_text_lines(file), 1):
        match = LINE.fullmatch(line)
        where = f"{file}:{number}"
        if match is None:
            raise UserError(f"{where}: no result line: {line[:120]!r}", AGAIN)
        if len(match["rank"]) > 7 or len(match["id"]) > 7:
            raise UserError(f"{where}: a number of more than 7 digits: {line[:120]!r}", AGAIN)
        rank = int(match["rank"])
        if rank == 0:
            path = match["path"]
            if path in found:
                raise UserError(
                    f"{where}: {path} is there a second time",
                    AGAIN,
                )
            found[path] = []
        if match["path"] != path or rank != len(found.get(path, ())):
            raise UserError(
                f"{where}: top-{rank} of {match['path']} does not follow its top-0", AGAIN
            )
        found[path].append(int(match["id"]))
    lengths = {len(ids) for ids in found.values()}
    if len(lengths) > 1:
        raise UserError(
            f"{file}: images with {min(lengths)} and with {max(lengths)} lines",
            AGAIN,
        )
    return found


def _text_lines(file: Path) -> list[str]:
    lines = [line for line in read_lines(file, "result text", AGAIN) if line.strip()]
    if not lines:
        raise UserError(f"{file} is empty", AGAIN)
    return lines


def score_by_id(results: Mapping[str, Sequence[int]], labels: Sequence[int]) -> Scores:
    """Counts hits.

    Args:
        results: what `read_results` returned.
        labels: class id of each picture.
    """
    top1 = sum(label in ids[:1] for ids, label in zip(results.values(), labels, strict=True))
    top5 = sum(label in ids[:TOPK] for ids, label in zip(results.values(), labels, strict=True))
    return Scores(len(results), top1, top5)


def score_by_name(file: Path) -> Scores:
    """Counts hits as the original evaluator does: by the name, in blocks of five lines.

    The class is the part before the last `/` of the whole line, the answer what follows the fourth
    colon; ImageNet's names only. A label file that calls class 480 anything but `..., ATM`, as the
    published one does, loses every hit of it; the two classes called crane count for each other.

    Raises:
        UserError: where the original ends with a KeyError or an IndexError.
    """
    names = imagenet_synsets()
    lines = _text_lines(file)
    top1 = top5 = 0
    blocks = [lines[i : i + TOPK] for i in range(0, len(lines), TOPK)]
    for number, block in enumerate(blocks):
        hits = []
        for offset, line in enumerate(block, TOPK * number + 1):
            parts, fields = line.split("/"), line.split(":")
            folder = parts[-2] if len(parts) > 1 else ""
            if folder not in names or len(fields) < 5:
                raise UserError(
                    f"{file}:{offset}: the original cannot read this line: its folder is"
                    f" {folder!r}, which is no class of ImageNet, or it has no fifth field",
                    "leave --compat out: then classes are compared by id",
                )
            hits.append(fields[4].strip() == names[folder])
        top1 += hits[0]
        top5 += any(hits)
    return Scores(len(blocks), top1, top5)
