"""The files that hold a training step: few enough to read in an evening, and named truly."""

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
from conftest import ROOT, TINY_FLAGS
from test_engine import frozen_network, make_run

# Read in this order. A change that needs more lines raises BUDGET and says here why.
SPINE = (
    "train.py",
    "ppcls_lite/commands/train.py",
    "ppcls_lite/engine/build.py",
    "ppcls_lite/engine/train.py",
    "ppcls_lite/engine/run.py",
    "ppcls_lite/engine/meter.py",
    "ppcls_lite/arch/mobilenet_v3.py",
    "ppcls_lite/arch/layers.py",
    "ppcls_lite/loss.py",
    "ppcls_lite/optimizer/optimizers.py",
    "ppcls_lite/optimizer/schedule.py",
)
BUDGET = 1500  # lines; 40 for several labels a picture: its loss, log lines, best by mAP
DOCUMENT = ROOT / "docs/architecture.md"
WAITING = {"ppcls_lite/data/watch.py"}  # entered only when a picture is not there in time

# Runs train.py up to the first step of Paddle's optimizer, and prints each file of ours whose
# functions were entered by then. What runs while a module is imported does not count.
ENTERED = """
import runpy, sys

root, argv = sys.argv[1], sys.argv[2:]
entered = set()

class FirstStep(BaseException):
    pass

def importing(frame):
    while frame := frame.f_back:
        if frame.f_code.co_name == "<module>" and "ppcls_lite" in frame.f_code.co_filename:
            return True
    return False

def watch(frame, event, argument):
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(root + "/ppcls_lite/") and file not in entered:
        if frame.f_code.co_name != "<module>" and not importing(frame):
            entered.add(file)

def step(optimizer):
    raise FirstStep

from ppcls_lite.environment import load_paddle
load_paddle().optimizer.Momentum.step = step
sys.argv = ["train.py", *argv]
sys.setprofile(watch)
try:
    runpy.run_path(root + "/train.py", run_name="__main__")
except FirstStep:
    sys.setprofile(None)
    print("ENTERED", *(file.removeprefix(root + "/") for file in entered))
"""


def part(heading):
    """The text below a heading of the document."""
    return DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def linked(text):
    return re.findall(r"\]\(\.\./([\w/]+\.py)\)", text)


def test_the_spine_keeps_its_budget():
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in SPINE}
    assert sum(lines.values()) <= BUDGET, lines


def test_the_document_names_the_spine_in_order():
    assert tuple(linked(part("A training step in eleven files"))) == SPINE


def test_the_document_names_what_else_the_first_step_enters(pictures, tmp_path):
    """Both ways: nothing that is entered is missing, nothing is named that is not."""
    flags = [f"--data-path={pictures}", f"--output-dir={tmp_path}", *TINY_FLAGS,
             "--workers=0", "--eval-engine=exported"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ENTERED, str(ROOT), *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = next((x for x in done.stdout.splitlines() if x.startswith("ENTERED ")), None)
    assert said, done.stdout + done.stderr
    if "Paddle's own layers: " in done.stdout:
        pytest.skip("the kernels do not run here")
    named = linked(part("What else the first step enters"))
    assert len(named) == len(set(named))
    assert set(said.split()[1:]) - set(SPINE) - WAITING == set(named) - WAITING


def test_nothing_of_a_run_is_replaced_from_outside():
    run = make_run(frozen_network(), 1)
    for name in ("config", "teacher", "ema", "loader"):
        with pytest.raises(FrozenInstanceError):
            setattr(run, name, None)
    with pytest.raises(FrozenInstanceError):
        run.config.lr = 0.5
