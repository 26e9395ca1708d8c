"""What the output of a step must be."""

import ast
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from ppcls_lite.data.dataset import open_split
from ppcls_lite.errors import UserError
from ppcls_lite.tipc.steps import StepFailed

Check = Callable[[str], str]
ACCURACY = re.compile(r"^ \* Acc@1 (\S+) Acc@5 \S+$", re.M)
LOSS = re.compile(r"^\[Epoch (\d+), iter: (\d+)\].* loss: ([^,]+),", re.M)
IPS = re.compile(r"avg_ips: (\S+) images/sec")
SIGMAS = 5  # luck reaches that once in three million runs


def chance_limit(data_path: str) -> float:
    """Returns the top-1 of guessing the commonest class of val, and SIGMAS of its spread more."""
    try:
        data = open_split(data_path, "val")
    except UserError as error:
        raise StepFailed(str(error)) from None
    counts = [int((data.labels == label).sum()) for label in range(len(data.classes))]
    share = max(counts) / len(data)
    return share + SIGMAS * math.sqrt(share * (1 - share) / len(data))


def accuracy_above_chance(data_path: str, *files: Path) -> Check:
    """The last accuracy line exists, is above chance, and the files were written."""

    def check(text: str) -> str:
        found = ACCURACY.findall(text)
        if not found:
            raise StepFailed("no line ` * Acc@1 X Acc@5 Y` in the output")
        top1, limit = float(found[-1]), chance_limit(data_path)
        if not limit < top1 <= 1:
            raise StepFailed(f"top-1 {top1} is not above chance, {limit:.3f}")
        files_exist(*files)(text)
        return f"top-1 {top1} (chance {limit:.3f})"

    return check


def same_accuracy(reference: Path) -> Check:
    """The accuracy line is that of another log: the file holds the network that was trained."""

    def check(text: str) -> str:
        found, expected = ACCURACY.findall(text), ACCURACY.findall(reference.read_text())
        if not (found and expected):
            raise StepFailed(f"no line ` * Acc@1 X Acc@5 Y` in the output, or in {reference}")
        # Three digits are printed; evaluation may run in another engine: one picture may flip.
        if abs(float(found[-1]) - float(expected[-1])) > 0.005:
            raise StepFailed(f"top-1 {found[-1]}, in training it was {expected[-1]}")
        return f"top-1 {found[-1]}, as in training"

    return check


def files_exist(*files: Path) -> Check:
    """The files are there and not empty."""

    def check(text: str) -> str:
        missing = [str(f) for f in files if not f.is_file() or not f.stat().st_size]
        if missing:
            raise StepFailed(f"not written: {', '.join(missing)}")
        return ""

    return check


def losses(text: str) -> list[tuple[int, int, float]]:
    """Returns (epoch, iteration, loss) of the lines of a training."""
    return [(int(epoch), int(i), float(loss)) for epoch, i, loss in LOSS.findall(text)]


def same_losses(reference: Path) -> Check:
    """All losses are those of another log, in every printed digit."""

    def check(text: str) -> str:
        found, expected = losses(text), losses(reference.read_text())
        if not expected or len(found) != len(expected):
            raise StepFailed(f"{len(found)} lines with a loss, {len(expected)} in {reference}")
        for (epoch, i, loss), (*_, other) in zip(found, expected, strict=True):
            if loss != other:
                raise StepFailed(f"epoch {epoch}, iteration {i}: loss {loss}, before {other}")
        return f"{len(found)} losses equal, the last {found[-1][2]}"

    return check


def answers_of_client(picture: str, export: Path, out: Path) -> Check:
    """Reads the reply that pipeline_http_client.py prints; writes it as a line of answers.

    The server names classes as Paddle Serving does, without commas; `export` knows their order.
    """

    def check(text: str) -> str:
        try:
            reply = ast.literal_eval(text.strip().splitlines()[-1])
            labels, probs = (ast.literal_eval(value)[0] for value in reply["value"])
            classes = yaml.safe_load((export / "inference.yml").read_text())["classes"]
            ids = [[name.replace(",", "") for name in classes].index(label) for label in labels]
        except (OSError, ValueError, SyntaxError, KeyError, IndexError, TypeError) as error:
            raise StepFailed(f"no answer of the server: {error}") from None
        answers = list(zip(ids, probs, strict=True))
        with out.open("a") as file:
            file.write(f"{picture}\t{json.dumps(answers)}\n")
        return f"class {ids[0]}, {probs[0]:.4f}"

    return check
