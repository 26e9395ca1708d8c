"""Every name a command ever had still runs it; one table makes them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from ppcls_lite import verbs
from ppcls_lite.__main__ import dispatch
from ppcls_lite.program import NAMES, command, command_of
from ppcls_lite.verbs import COMMANDS, actions, find

# The verbs that the console command had before they were brought together by subject.
OLD_VERBS = {
    "train": "train",
    "validate": "validate",
    "predict": "predict",
    "export_model": "export",
    "paddle_serving_convert": "export paddle_serving",
    "export_mobile": "export mobile",
    "compare": "export check",
    "average_checkpoints": "weights average",
    "benchmark": "benchmark",
    "convert_weights": "weights convert",
    "list_models": "list_models",
    "check_data": "data check",
    "show_augment": "data show",
    "pack_dataset": "data pack",
    "plot_run": "report plot",
    "make_lite_data": "data make_lite",
    "serve": "serve",
    "quantize": "quantize",
    "sensitivity": "quantize sensitivity",
    "export_accelerator": "export accelerator",
    "export_timm_torchvision_model": "export timm_torchvision",
    "accelerator_lint": "accelerator lint",
    "accelerator_build": "accelerator build",
    "accelerator_profile": "accelerator profile",
    "sample_cls": "accelerator run",
    "image2npz": "accelerator image2npz",
    "eval_topk": "accelerator eval_topk",
    "eval_imagenet": "accelerator eval_imagenet",
    "valprep": "accelerator valprep",
    "tipc": "tipc",
    "completion": "completion",
}
FILES = {name: words for name, words in NAMES.items() if name.endswith(".py")}


def summary_of(name):
    return COMMANDS[name].settings.__doc__.splitlines()[0]


def run(*argv):
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


def test_the_verbs_are_few():
    # What is added joins a subject: `data`, `export`, ... `doctor` is of none: it starts where the
    # others do not.
    assert len(verbs.verbs()) <= 17


@pytest.mark.parametrize(("old", "name"), list(OLD_VERBS.items()))
def test_an_old_verb_is_found(old, name):
    assert find("", [old, "--flag", "x"], "ppcls-lite") == (
        name, ["--flag", "x"], f"ppcls-lite {old}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *((name.split(), name) for name in COMMANDS),
        (["data", "make-lite"], "data make_lite"),
        (["accelerator", "export"], "export accelerator"),
    ],
)
def test_a_command_is_found_by_its_words(words, name):
    assert find("", [*words, "x"], "p") == (name, ["x"], " ".join(["p", *words]))


@pytest.mark.parametrize("old", OLD_VERBS)
def test_an_old_verb_runs(old, capsys):
    with pytest.raises(SystemExit) as end:
        dispatch(*verbs.find("", [old, "--help"], "ppcls-lite"))
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"usage: ppcls-lite {old}" in said
    assert summary_of(OLD_VERBS[old]) in said


@pytest.mark.parametrize(("file", "name"), list(FILES.items()))
def test_every_file_runs_the_command_of_the_table(file, name):
    done = run(file, "--help")
    assert done.returncode == 0 and f"usage: {file}" in done.stdout
    if name in COMMANDS:
        assert summary_of(name) in done.stdout
    for action in actions(name):
        assert f"\n  {action}" in done.stdout


def test_the_files_are_those_of_the_table_and_nothing_but_names():
    folders = (ROOT, ROOT / "tools", ROOT / "tools/accelerator")
    found = {
        path.relative_to(ROOT).as_posix() for folder in folders for path in folder.glob("[!_]*.py")
    }
    assert found == set(FILES)
    for file in set(FILES) - {"tools/doctor.py"}:  # which answers where packages are missing
        code = (ROOT / file).read_text().split('"""')[2].split()
        starts = ["import", "run_file", "if", "__name__", "==", '"__main__":', "run_file(__file__)"]
        assert code[0] == "from" and code[2:] == starts, f"{file} does more than that"


@pytest.mark.parametrize("name", list(COMMANDS))
@pytest.mark.parametrize("started", ["train.py", "tools/predict.py", "tools/accelerator/lint.py"])
def test_a_hint_names_a_file_that_runs_the_command(started, name, monkeypatch, tmp_path):
    if name == "completion":
        return  # completes the console command and is of no use without it
    monkeypatch.setattr(sys, "argv", [str(ROOT / started)])
    monkeypatch.chdir(tmp_path)
    python, file, *words = command(name, "--flag").split()
    assert python == "python" and (tmp_path / file).is_file()
    file = Path(os.path.normpath(tmp_path / file)).relative_to(ROOT).as_posix()
    assert find(NAMES[file], words, "p")[:2] == (name, ["--flag"])


def test_hints_take_every_name_and_print_the_present_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ppcls-lite"])
    assert command("check_data", "--json") == "ppcls-lite data check --json"
    assert command_of("accelerator export") == "export accelerator"


def test_a_subject_asks_for_its_action():
    for argv in (["data"], ["data", "--help"]):
        done = run("-m", "ppcls_lite", *argv)
        assert done.returncode == 0 and "usage: ppcls-lite data ACTION" in done.stdout
    wrong = run("tools/data.py", "chek")
    assert wrong.returncode == 2 and "unknown action chek; did you mean check?" in wrong.stderr
    assert wrong.stderr.startswith("tools/data.py: ")
    helped = run("-m", "ppcls_lite", "export", "--help")
    assert all(f"\n  {action}" in helped.stdout for action in actions("export"))


def test_console_command_lists_everything_and_suggests_the_nearest():
    listed = run("-m", "ppcls_lite", "--help")
    assert listed.returncode == 0
    assert all(summary_of(name) in listed.stdout for name in COMMANDS)
    wrong = run("-m", "ppcls_lite", "pedict")
    assert wrong.returncode == 2 and "did you mean predict?" in wrong.stderr


def test_files_and_console_command_are_the_same_code():
    tool = run("tools/plot_run.py", "--run", "nowhere")
    verb = run("-m", "ppcls_lite", "plot_run", "--run", "nowhere")
    assert tool.returncode == verb.returncode == 2
    assert tool.stderr.split(":", 1)[1] == verb.stderr.split(":", 1)[1]
