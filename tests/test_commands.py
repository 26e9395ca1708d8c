"""list_models, compare, the public API, and what a terminal sees."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import warnings

import paddle
import pytest
from conftest import ROOT, TINY_FLAGS, picture, run_tool, train

from ppcls_lite import cli, create_model, report
from ppcls_lite.commands import export_check, report_plot
from ppcls_lite.commands.settings import PlotRunConfig
from ppcls_lite.deploy.settings import CompareConfig
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    done = train(pictures, out, "--epochs=1")
    assert done.returncode == 0, done.stderr
    done = run_tool(
        "tools/export_model.py", f"--pretrained={out}/best.pdparams",
        f"--save-inference-dir={out}/inference",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_list_models_prints_the_published_sizes():
    """Parameters and multiply-adds as torchvision documents and measures them."""
    rows = {
        row["name"]: row for row in json.loads(run_tool("tools/list_models.py", "--json").stdout)
    }
    small = rows["mobilenet_v3_small"]
    assert (small["params"], small["macs"]) == (2_542_856, 56_510_400)
    assert small["params_with_bn_stats"] == 2_554_968
    assert {"name", "source", "input_size", "weights"} <= small.keys()
    table = run_tool("tools/list_models.py", "--pattern", "mnas*").stdout
    assert "mnasnet1_0" in table and "mobilenet" not in table


def test_list_models_without_a_match_is_a_mistake():
    done = run_tool("tools/list_models.py", "--pattern", "resnet*")
    assert done.returncode == 2 and "no model matches 'resnet*'" in done.stderr


def test_compare_shows_every_runtime_and_agrees(trained, pictures):
    done = run_tool(
        "tools/compare.py", f"--pretrained={trained}/best.pdparams",
        f"--exported={trained}/inference", f"--img-path={pictures}/val",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = r"^(\S+\.\w+) +(dygraph|paddle_inference|onnxruntime) "  # OpenVINO is optional
    assert re.findall(line, done.stdout, re.M) == [
        ("best.pdparams", "dygraph"),
        ("inference.pdmodel", "paddle_inference"),
        ("inference.json", "paddle_inference"),
        ("inference.onnx", "onnxruntime"),
    ]
    assert "21 image(s)" in done.stdout


def test_compare_takes_a_checkpoint_that_was_never_evaluated(trained, pictures, tmp_path, capsys):
    weights = shutil.copy(trained / "best.pdparams", tmp_path)
    state = json.loads((trained / "best.json").read_text()) | {"metrics": {}}
    (tmp_path / "best.json").write_text(json.dumps(state))
    exported, pictures = str(trained / "inference"), str(pictures / "val/red")
    config = CompareConfig(pretrained=weights, exported=exported, img_path=pictures)
    assert export_check.run(config) == 0
    assert "val top-1" not in capsys.readouterr().out


def test_compare_takes_bare_weights_of_a_named_network(trained, pictures, tmp_path, capsys):
    bare = str(tmp_path / "bare.pdparams")
    paddle.save(create_model("mnasnet0_5", 3).state_dict(), bare)
    flags = [f"--exported={trained}/inference", f"--img-path={pictures}/val/red"]
    export_check.run(
        cli.parse(CompareConfig, [f"--pretrained={bare}", *flags, "--model=mnasnet0_5"], "")
    )
    assert "bare.pdparams       dygraph" in capsys.readouterr().out


def test_compare_names_a_broken_picture(trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    done = run_tool(
        "tools/compare.py", f"--pretrained={trained}/best.pdparams",
        f"--exported={trained}/inference", f"--img-path={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"tools/compare.py: {tmp_path}/broken.jpg: is not an image")


RECORD = '{"event": "train", "step": 1, "loss": 2.0, "lr": 0.1, "top1": 0.5}'


def test_plot_run_skips_the_half_line_of_a_killed_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f"{RECORD}\n{RECORD[:30]}")
    assert report_plot.run(PlotRunConfig(run=str(tmp_path))) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plot_run_names_the_later_of_equal_epochs_as_a_training_does(tmp_path, capsys):
    rows = [
        {"event": "eval", "step": step, "epoch": step, "loss": 1.0, "top1": top1, "top5": 1.0}
        for step, top1 in enumerate((0.5, 0.75, 0.75, 0.25))
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + RECORD
    (tmp_path / "metrics.jsonl").write_text(text)
    assert report_plot.run(PlotRunConfig(run=str(tmp_path))) == 0
    assert "best val top1 0.7500 in epoch 2" in capsys.readouterr().out


@pytest.mark.parametrize("line", ['{"step": 1}', RECORD[:30], "[1]", '{"event": "x", "step": 1}'])
def test_plot_run_names_a_line_that_is_no_record(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f"{RECORD}\n{line}\n{RECORD}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a record of a run"):
        report_plot.run(PlotRunConfig(run=str(tmp_path)))


@pytest.mark.parametrize("name", ["x.txt", "curves", "."])
def test_plot_run_writes_png_only(tmp_path, name):
    (tmp_path / "metrics.jsonl").write_text(RECORD + "\n")
    with pytest.raises(UserError, match=r"ends in \.png"):
        report_plot.run(PlotRunConfig(run=str(tmp_path), out=name))


def test_a_confusion_matrix_is_drawn_without_a_warning_for_any_script(tmp_path):
    """matplotlib warns of letters its font lacks; the tables keep the names."""
    accuracy = Accuracy(2)
    info = ModelInfo("x", 2, classes=("猫", "chien"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.write_confusion_matrix(tmp_path, accuracy, info)
    assert "猫" in (tmp_path / "per_class.csv").read_text(encoding="utf-8")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()  # nothing can be renamed onto a folder
    with pytest.raises(OSError):
        write_atomically(tmp_path / "x", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_public_api_from_anywhere(trained, pictures, tmp_path):
    """Three lines of Python, in another folder, as a user of the package would write them."""
    picture(1, 900).save(tmp_path / "green.png")
    code = (
        "from ppcls_lite import Predictor, create_model, list_models, load_weights\n"
        f"weights = {str(trained / 'best.pdparams')!r}\n"
        "model = create_model('mobilenet_v3_small', 3, pretrained=weights, width=0.5)\n"
        "report = load_weights(model, weights)\n"
        "assert len(report.loaded) == len(model.state_dict()) and not report.reinitialised\n"
        "assert 'mnasnet1_0' in list_models('mnas*')\n"
        f"(answer,) = Predictor({str(trained / 'inference')!r})('green.png', topk=2)\n"
        "print(len(answer), sum(p.prob for p in answer) <= 1, answer[0].name)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"2 True (blue|green|red)\n", done.stdout)


def on_a_terminal(command, **environment):
    """Runs a command with a real pseudo-terminal for its output; returns what it wrote."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=follower, stderr=follower, env=os.environ | environment
    )
    os.close(follower)
    data = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        data += chunk
    os.close(leader)
    assert process.wait() == 0, data.decode()
    return data.decode()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_a_bar_and_no_colour_where_none_is_wanted(pictures, tmp_path, no_color):
    command = [sys.executable, "train.py", f"--data-path={pictures}", f"--output-dir={tmp_path}",
               *TINY_FLAGS, "--epochs=1"]  # fmt: skip
    environment = {"TERM": "xterm-256color", "COLUMNS": "100"}
    if no_color:
        environment["NO_COLOR"] = no_color
    text = on_a_terminal(command, **environment)
    assert "━" in text and re.search(r"\d/6", text)  # the bar and its count
    assert "[Epoch 0, iter: 1] top1:" in text  # the lines are there as well
    colours = re.findall(r"\x1b\[(?:\d+;)*3[0-8](?:;\d+)*m", text)
    assert bool(colours) is not bool(no_color)
    log = (tmp_path / "train.log").read_text()
    assert "\x1b" not in log and "[Epoch 0, iter: 5]" in log


def test_lines_for_a_file_go_there_while_a_terminal_shows_the_bar(pictures, tmp_path):
    """`python train.py > log.txt`: standard output is a file, standard error the terminal."""
    leader, follower = pty.openpty()
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "train.py", f"--data-path={pictures}", f"--output-dir={tmp_path}/out",
             *TINY_FLAGS, "--epochs=1"],
            cwd=ROOT, stdout=log, stderr=follower, env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
    os.close(follower)
    assert process.wait() == 0
    shown = os.read(leader, 65536).decode(errors="replace")  # the buffer ends anywhere
    os.close(leader)
    text = (tmp_path / "log.txt").read_text()
    assert text.count("[Epoch 0, iter:") == 3 and "\x1b" not in text
    assert "[Epoch 0, iter:" not in shown and "━" in shown


def test_check_data_and_training_read_list_files(pictures, tmp_path):
    rows = {"train": [], "val": []}
    for split, lines in rows.items():
        for label, name in enumerate(("blue", "green", "red")):
            lines += [f"{p} {label}" for p in sorted((pictures / split / name).iterdir())]
        (tmp_path / f"{split}_list.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.txt").write_text("blue\ngreen\nred\n")
    checked = run_tool("tools/check_data.py", f"--data-path={tmp_path}", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = train(tmp_path, tmp_path / "out", "--epochs=1")
    assert done.returncode == 0, done.stderr
    assert "42 train, 21 val images" in done.stdout
    state = json.loads((tmp_path / "out/latest.json").read_text())
    assert state["classes"] == ["blue", "green", "red"]


CLOTHING10 = ROOT.parent / "shared/data/clothing10"


@pytest.mark.skipif(not CLOTHING10.is_dir(), reason="clothing10 is not beside the checkout")
def test_real_photographs_train_without_another_flag(tmp_path):
    """A slice of the real pictures, at full size, with nothing known but the path."""
    for split, count in (("train", 4), ("val", 2)):
        for folder in (CLOTHING10 / split).iterdir():
            (tmp_path / split / folder.name).mkdir(parents=True)
            for photo in sorted(folder.iterdir())[:count]:
                (tmp_path / split / folder.name / photo.name).symlink_to(photo)
    out = tmp_path / "out"
    done = run_tool(
        "train.py", "--data-path", tmp_path, "--epochs", "1", "--batch-size", "8", "--lr", "0.05",
        "--device", "cpu", "--output-dir", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = run_tool(
        "tools/predict.py", "--pretrained", out / "best.pdparams", "--json",
        "--img-path", CLOTHING10 / "val/shoes",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(line)["topk"] for line in answer.stdout.splitlines()]
    names = {folder.name for folder in (CLOTHING10 / "train").iterdir()}
    assert all({row["name"] for row in topk} <= names and len(topk) == 5 for topk in rows)
