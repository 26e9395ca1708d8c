"""Faults planted in a copy of real pictures, and how many of them `check_data --report` finds.

    python tests/faults/campaign_data.py --data-path ../shared/data/clothing10 --seed 0

Three copies of DATA/{train,val}/CLASS/, made of links: one as it is, one where 5 % of the training
labels are others, one with 50 near copies. A line of JSON for each: what was planted, what was
found, and the seconds that the command took, which count on a machine that does nothing else.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
FLIPPED = 0.05  # share of the training labels
COPIES = 50
COPY_KINDS = ("duplicate", "near_duplicate")


def cropped(image: Image.Image, draws: random.Random) -> Image.Image:
    """5 % of both sides cut off, at random places: of one side, or a part of each."""
    width, height = round(0.95 * image.width), round(0.95 * image.height)
    left, top = draws.randint(0, image.width - width), draws.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


# What becomes of a picture, and the quality it is saved with.
WAYS: dict[str, tuple[Callable[[Image.Image, random.Random], Image.Image], int]] = {
    "recompressed": (lambda image, draws: image, 40),
    "resized": (lambda image, draws: image.reduce(2), 90),
    "mirrored": (lambda image, draws: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 90),
    "cropped": (cropped, 90),
}  # fmt: skip


def linked(data: Path, copy: Path) -> list[Path]:
    """Makes `copy` of links to the pictures of data/{train,val}; returns those of train."""
    for file in sorted(path for split in ("train", "val") for path in (data / split).rglob("*.*")):
        link = copy / file.relative_to(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), link)
    return sorted((copy / "train").rglob("*.*"))


def flip_labels(train: list[Path], draws: random.Random) -> dict[Path, str]:
    """Moves pictures to another class's folder; returns where they are now, and their class."""
    classes = sorted({file.parent.name for file in train})
    flipped = {}
    for file in draws.sample(train, round(FLIPPED * len(train))):
        other = draws.choice([name for name in classes if name != file.parent.name])
        place = file.parent.parent / other / f"flipped_{file.name}"
        file.rename(place)
        flipped[place] = file.parent.name
    return flipped


def plant_copies(train: list[Path], draws: random.Random) -> dict[Path, tuple[Path, str]]:
    """Adds changed copies to train and val; returns of each its original and the way."""
    planted = {}
    ways = [*WAYS] * (COPIES // len(WAYS) + 1)
    for file, way in zip(draws.sample(train, min(COPIES, len(train))), ways, strict=False):
        split = draws.choice(("train", "val"))
        place = file.parents[2] / split / file.parent.name / f"{way}_{file.stem}.jpg"
        change, quality = WAYS[way]
        with Image.open(file) as image:
            change(image.convert("RGB"), draws).save(place, quality=quality)
        planted[place] = (file, way)
    return planted


def check(data: Path) -> tuple[list[dict[str, str]], float]:
    """Runs the command; returns the lines of findings.csv and how long it took, seconds."""
    out, start = data.with_name(f"{data.name}-report"), time.monotonic()
    command = [sys.executable, ROOT / "tools/check_data.py", "--data-path", data, "--report", out]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    with (out / "findings.csv").open() as file:
        return list(csv.DictReader(file)), round(time.monotonic() - start, 1)


def clean(data: Path, draws: random.Random) -> dict[str, object]:
    """Everything that is found in the pictures as they are, to be looked at."""
    rows, seconds = check(data)
    found = [
        [row["kind"], *(os.path.relpath(row[x], data) for x in ("file", "other") if row[x])]
        for row in rows
    ]
    return {"found": found, "seconds": seconds}


def labels(data: Path, draws: random.Random) -> dict[str, object]:
    """Flipped labels: how many of the first N found are some, N as many as were flipped."""
    flipped = flip_labels(sorted((data / "train").rglob("*.*")), draws)
    rows, seconds = check(data)
    listed = [row for row in rows if row["kind"] == "label"]
    right = sum(Path(row["file"]) in flipped for row in listed[: len(flipped)])
    guessed = sum(
        f"looks like {flipped.get(Path(row['file']))}:" in row["suggestion"] for row in listed
    )
    return {
        "flipped": len(flipped),
        "listed": len(listed),
        "precision": round(right / len(flipped), 3),
        "found": sum(Path(row["file"]) in flipped for row in listed),
        "own_class_guessed": guessed,
        "seconds": seconds,
    }  # fmt: skip


def copies(data: Path, draws: random.Random) -> dict[str, object]:
    """Near copies: how many pairs are found by way, and the pairs that were not planted."""
    planted = plant_copies(sorted((data / "train").rglob("*.*")), draws)
    rows, seconds = check(data)
    pairs = {
        frozenset((Path(r["file"]), Path(r["other"]))) for r in rows if r["kind"] in COPY_KINDS
    }
    mine = {frozenset((place, file)): way for place, (file, way) in planted.items()}
    others = [sorted(os.path.relpath(x, data) for x in pair) for pair in pairs - mine.keys()]
    found = Counter(way for pair, way in mine.items() if pair in pairs)
    missed = [
        os.path.relpath(place, data)
        for place, (file, _) in planted.items()
        if frozenset((place, file)) not in pairs
    ]
    return {
        "planted": len(mine),
        "found": found,
        "missed": missed,
        "others": others,
        "seconds": seconds,
    }


CAMPAIGNS = (clean, labels, copies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[run.__name__ for run in CAMPAIGNS])
    parser.add_argument("--keep", type=Path, help="folder for the copies and their reports")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for run in CAMPAIGNS:
            if given.only in (None, run.__name__):
                copy = (given.keep or Path(temporary)) / run.__name__
                linked(given.data_path, copy)
                said = run(copy, random.Random(given.seed))
                print(json.dumps({"campaign": run.__name__, "seed": given.seed} | said), flush=True)


if __name__ == "__main__":
    main()
