"""What a report of a fault says of the machine is true, and it is said whatever is broken."""

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy
import onnxruntime
import paddle
import pytest
import yaml
from conftest import ROOT

from ppcls_lite.commands import doctor
from ppcls_lite.version import __version__


@pytest.fixture(scope="module")
def report():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "SELF_TEST_SECONDS", 600)  # what else the machine does is no fault
        return doctor.examine()


@pytest.mark.slow
def test_it_says_what_the_libraries_say_of_themselves(report):
    assert report["problems"] == []
    assert report["packages"]["numpy"] == numpy.__version__
    assert report["packages"]["paddlepaddle"] == paddle.__version__
    assert report["packages"]["onnxruntime"] == onnxruntime.__version__
    assert report["cpu"]["cores"] == len(os.sched_getaffinity(0))
    listed = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
    assert all(flag in listed.split() for flag in report["cpu"]["isa"])
    assert report["compiled"]["kernels"].startswith("run")


@pytest.mark.slow
def test_it_names_the_engines_and_the_fastest(report):
    rows = report["engines"]["rows"]
    assert {"onnxruntime", "paddle_inference"} <= {row["engine"] for row in rows}
    fastest = min(rows, key=lambda row: row["ms"])
    first = next(line for line in doctor.lines(report) if line.startswith("engine "))
    assert f"{fastest['engine']} on {fastest['file']}" in first and "the fastest" in first


@pytest.mark.slow
def test_it_can_be_pasted_into_an_issue(report):
    text = "\n".join(doctor.lines(report)) + json.dumps(report)
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text
    words = re.findall(r"[\w.-]+", text)
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words


def test_it_answers_where_no_package_is_installed():
    """-S leaves site-packages out."""
    command = [sys.executable, "-S", "tools/doctor.py"]
    options = {"cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem          numpy is not installed\n" in done.stdout
    said = json.loads(subprocess.run([*command, "--json"], **options).stdout)
    assert "paddlepaddle is not installed" in said["problems"]
    assert said["version"] == __version__


@pytest.mark.slow
def test_it_says_why_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = doctor.probe("compiled", 100)
    assert found["kernels"].endswith("no C++ compiler: no-such-compiler not found")
    assert doctor.compiler() is None


def test_a_library_that_crashes_is_one_line(monkeypatch, tmp_path):
    crash = tmp_path / "python"
    monkeypatch.setattr(doctor.sys, "executable", str(crash))
    assert "No such file" in doctor.probe("training", 5)["error"]
    crash.write_text("#!/bin/sh\necho $0: broken >&2\nkill -11 $$\n")
    crash.chmod(0o700)
    assert doctor.probe("training", 5) == {"error": f"signal 11: {crash}: broken"}
    crash.write_text("#!/bin/sh\nexec sleep 60\n")
    assert doctor.probe("training", 0)["error"].startswith("not finished after 1 s")


def test_engines_that_disagree_are_a_problem(monkeypatch):
    rows = [
        {"file": "inference.onnx", "engine": "onnxruntime", "passed": True, "ms": 2.0},
        {"file": "inference.onnx", "engine": "openvino", "passed": False, "ms": 1.0},
        {"file": "inference.pdmodel", "engine": "openvino", "passed": False, "error": "no plugin"},
    ]
    answers = {"compiled": {}, "training": {"agrees": True}, "engines": {"rows": rows}}
    monkeypatch.setattr(doctor, "probe", lambda name, seconds: answers[name])
    problems = []
    doctor.tested(problems)
    assert problems == [
        "engines: openvino on inference.onnx gives other predictions",
        "engines: openvino on inference.pdmodel no plugin",
    ]


def test_the_version_is_the_same_everywhere():
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changes, re.M)[0] == __version__
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    for manifest in ("kubernetes", "kserve"):
        text = (ROOT / f"deploy/serving/{manifest}.yaml").read_text()
        assert f"ppcls-lite-serving:{__version__}" in text


@pytest.mark.parametrize("form", ["fault", "docs"])
def test_issue_forms_ask_for_its_output(form):
    """GitHub's syntax for issue forms: `body` is a list of fields with a type and attributes."""
    text = (ROOT / f".github/ISSUE_TEMPLATE/{form}.yml").read_text()
    fields = yaml.safe_load(text)["body"]
    assert any("python tools/doctor.py" in field["attributes"]["label"] for field in fields)
    assert all(field["type"] == "textarea" and field["id"] for field in fields)
