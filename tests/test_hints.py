"""What follows `next:` runs as it is printed, in a shell, where the message was printed."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, TINY_FLAGS, picture, run_tool, warm_path
from small_checkpoint import trained_like_state

from ppcls_lite import cli, create_model, program
from ppcls_lite.__main__ import dispatch, explain
from ppcls_lite.commands import quantize
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.export import export_model
from ppcls_lite.errors import UserError
from ppcls_lite.flags import flags
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.slim.network import network_of
from ppcls_lite.tipc import textfile
from ppcls_lite.verbs import COMMANDS, find
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.mapping import from_ours
from ppcls_lite.weights.writing import write_weights

NAMES = ("blue", "green", "red")
SPEC = Preprocess(36, 32)
BARE = "mnasnet0_5"  # not the default, so that a hint without --model fails
HINT = re.compile(r"^( *next: )(\S.*(?:\n {6,}\S.*)*)", re.MULTILINE)
# Words to be filled in; the tests put these in their places, below `made`.
PLACES = {
    "IMAGE_OR_FOLDER": "data/val/red", "IMAGE": "data/val/red/500.png", "VAL": "data/val",
    "YOUR_IMAGES": "data", "DATA": "data", "FOLDER": "fresh", "WEIGHTS": "best.pdparams",
}  # fmt: skip
PROGRAMS = ("python", "pip", "ls", "rm", "mv", "seq", "sh", "git", "openssl", "tar", "mkdir",
            "paddle2onnx", "apt-get", ".", "python3.7")  # fmt: skip
SOURCES = sorted((ROOT / "ppcls_lite").rglob("*.py"))
WRITERS = ("command", "export_command")


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A folder with pictures, a checkpoint, bare weights of another network, and exports."""
    root = tmp_path_factory.mktemp("hints")
    shutil.copytree(pictures, root / "data")
    for name in ("void", "void2"):
        (root / name).mkdir()
    state = trained_like_state(create_model("mobilenet_v3_small", 3, width=0.5))
    info = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, NAMES, SPEC)
    save_weights(root / "best.pdparams", state, info)
    other = create_model(BARE, 3)
    state = trained_like_state(other)
    write_weights(root / "bare.safetensors", from_ours(state, other, "torchvision"))
    headless = {name: x for name, x in state.items() if not name.startswith("classifier")}
    write_weights(root / "headless.safetensors", headless)
    save_weights(root / "other.pdparams", state, ModelInfo(BARE, 3, {}, NAMES, SPEC))
    shutil.copy(root / "best.pdparams", root / "second.pdparams")
    shutil.copy(root / "best.json", root / "second.json")
    np.savez(root / "strange.npz", weight=np.zeros((2, 2), np.float32))
    shutil.copytree(pictures, root / "more")
    (root / "more/val/violet").mkdir()
    picture(1, 1).save(root / "more/val/violet/1.png")
    shutil.copytree(root / "more/val/violet", root / "more/train/violet")
    shutil.copytree(pictures, root / "broken")
    (root / "broken/train/red/0.png").write_bytes(b"no picture")
    save_exports(root)
    save_pact(root / "pact")
    return root


def save_exports(root):
    """An export, one whose file is another's, one of a later version and one without a key."""
    for name, weights in (("exported", "other"), ("others", "best")):
        export_model(find_weights(root / f"{weights}.pdparams"), root / name, formats=("onnx",))
    sidecar = root / "others/inference.yml"
    sidecar.write_text(sidecar.read_text().replace("- blue\n", "- violet\n"))
    for name in ("mixed", "future", "damaged"):
        shutil.copytree(root / "exported", root / name)
    shutil.copy(root / "others/inference.onnx", root / "mixed")
    for name, old, new in (
        ("future", "version: 1", "version: 9"),
        ("damaged", "input:", "inputs:"),
    ):
        sidecar = root / name / "inference.yml"
        sidecar.write_text(sidecar.read_text().replace(old, new, 1))


def save_pact(folder):
    """A checkpoint of a training with --pact-quant."""
    folder.mkdir()
    info = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, NAMES, SPEC, quant_skip=())
    state = trained_like_state(network_of(info))
    state |= {n: np.full_like(x, 6) for n, x in state.items() if n.endswith(".alpha")}
    save_weights(folder / "best.pdparams", state, info)


@pytest.fixture
def said(made, monkeypatch, capfd):
    """Runs a command as if a file of the checkout had been started; returns what it printed."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])

    def run(line):
        name, argv, prog = find("", shlex.split(line.replace("@", f"{made}/")), "train.py")
        try:
            dispatch(name, argv, prog)
        except UserError as error:
            print(explain(error, name, argv))
        return "".join(capfd.readouterr())

    return run


def hints(text):
    """The lines after `next:`, one a command."""
    found = [line.strip() for match in HINT.findall(text) for line in match[1].splitlines()]
    assert found, text[-800:]
    return found


def filled(hint, made):
    """A hint with its placeholders replaced; a fresh folder is a new one each time."""
    shutil.rmtree(made / "fresh", ignore_errors=True)
    pattern = rf"(?<=[ =])({'|'.join(PLACES)})(?= |$)"
    return re.sub(pattern, lambda match: str(made / PLACES[match[1]]), hint)


def shell(line, cwd=ROOT):
    """Runs a line where `python` is this one, as the README's first block has it."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": warm_path()}
    done = subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-500:]}\n{done.stderr}"
    return done.stdout


TINY = " " + " ".join(flag for flag in TINY_FLAGS if "width" not in flag)
# What a hint comes from, `@` is the folder `made`, and what is added to it so that it ends soon;
# None where it is only parsed.
RUN = {
    "an empty folder": ("predict --pretrained @void --img-path @data/val", ""),
    "a folder to serve": ("serve @nowhere", ""),
    "a folder without exports": ("serve @void2", ""),
    "Paddle Serving": ("export paddle_serving --dirname @nowhere2", ""),
    "a phone": ("export mobile --exported @nowhere3 --format mnn --out @mnn", ""),
    "compared without an export": (
        f"export check --pretrained @bare.safetensors --model {BARE} --exported @nowhere4"
        " --img-path @data/val", ""),
    "compared with other classes": (
        "export check --pretrained @other.pdparams --exported @others --img-path @data/val", ""),
    "compared": (
        f"export check --pretrained @bare.safetensors --model {BARE} --exported @exported"
        " --img-path @data/val", " --dry-run" + TINY),
    "no such network": (
        "export --pretrained @bare.safetensors --model mnasnet --save-inference-dir @x", ""),
    "which network?": ("weights convert --weights @bare.safetensors --out @x.pdparams", ""),
    "none of the networks": ("predict --pretrained @strange.npz --img-path @data/val", ""),
    "timm's name": (
        "export timm_torchvision --model_library timm --model_name none"
        " --pretrained_weights @bare.safetensors", ""),
    "no last layer": (
        f"predict --pretrained @headless.safetensors --model {BARE} --img-path @data/val",
        " --dry-run" + TINY),
    "classes that it does not know": (
        f"validate --pretrained @bare.safetensors --model {BARE} --data-path @more",
        " --dry-run" + TINY),
    "a teacher that does not know them": (
        f"train --teacher {BARE} --teacher-pretrained @other.pdparams --data-path @more --dry-run"
        + TINY, " --dry-run" + TINY),
    "converted": (
        f"weights convert --weights @bare.safetensors --model {BARE} --out @ours.pdparams", ""),
    "averaged": ("weights average @best.pdparams @second.pdparams --out @mean.pdparams", ""),
    "exported": (
        "export --pretrained @best.pdparams --save-inference-dir @new --opset-version 12", ""),
    "another export's file": (
        "predict --pretrained @mixed --img-path @data/val --engine onnxruntime", ""),
    "an export of the future": ("predict --pretrained @future --img-path @data/val", ""),
    "an export that is damaged": ("predict --pretrained @damaged --img-path @data/val", None),
    "quantized already": (
        "quantize --pretrained @pact/best.pdparams --data-path @data --out @x", None),
    "packed": ("data pack --data-path @data --out @packed --workers 0", ""),
    "packed with a broken image": ("data pack --data-path @broken --out @x --workers 0", None),
    "an image in both splits": ("data check --data-path @more --workers 0", None),
    "a broken image": ("train --data-path @broken --output-dir @x --epochs 1" + TINY, None),
    "no checkpoints": ("weights average @model_9*.pdparams --out @x.pdparams", ""),
    "no weights": ("predict --pretrained @none.pdparams --img-path @data/val", ""),
    "no model": ("predict --pretrained @none/inference.onnx --img-path @data/val", ""),
    "no recipe": ("train -c @none.yaml", ""),
    "a card's bundle": (
        "export accelerator --pretrained @best.pdparams --data-path @data --out @bundle"
        " --calibration-images 3", ""),
    "no data list": (
        "accelerator eval_imagenet --result_path @out --datalist @npz.txt --label @l.txt", ""),
    "no result text": ("accelerator eval_topk @none.txt", None),
}  # fmt: skip


@pytest.mark.parametrize("case", RUN)
def test_the_hint_runs(case, made, said, monkeypatch):
    cause, more = RUN[case]
    for hint in hints(said(cause)):
        line = filled(hint, made)
        if more is None:
            parses(line)
        else:
            words = line.partition("  # ")[0]
            shell(words + more * ("/train.py" in words), made)


@pytest.mark.parametrize("words", ["tools/predict.py", "tools/data.py check", "train.py"])
def test_an_unknown_flag_leads_to_the_help_of_its_command(words):
    done = run_tool(*words.split(), "--pretraind=x")
    (hint,) = hints(done.stderr)
    assert done.returncode == 2 and "usage: " in shell(hint)


def parses(line):
    """The flags of a line are those of its command, and whatever it cannot do without is there."""
    _, file, *argv = shlex.split(line, comments=True)
    file = Path(file).resolve().relative_to(ROOT).as_posix()
    name, argv, prog = find(program.NAMES[file], argv, file)
    cli.parse(COMMANDS[name].settings, argv, prog, dict)


def calls(tree, *names):
    """Calls of functions by their name, each with the function that it stands in."""
    for scope in [node for node in tree.body if not isinstance(node, ast.ClassDef)] + [
        node for each in tree.body if isinstance(each, ast.ClassDef) for node in each.body
    ]:
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
                yield getattr(scope, "name", "<module>"), node


def rendered(node):
    """A text in the code as a message may have it: values become VALUE."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (rendered(x) if isinstance(x, ast.Constant) else "VALUE" for x in node.values)
        return "".join(parts)
    if isinstance(node, ast.BinOp):
        return rendered(node.left) + rendered(node.right)
    return "VALUE"


TREES = {path.relative_to(ROOT / "ppcls_lite").as_posix(): ast.parse(path.read_text())
         for path in SOURCES}  # fmt: skip
# Where the hints that are command lines are made. RUN brings all of them about, but those of which
# it says why not; a new one belongs there.
MADE_IN = {
    "accelerator/profile.py:_write",
    "accelerator/quantized.py:_again",  # parsed: it has WEIGHTS and DATA to fill in
    "accelerator/results.py:result_file",
    "accelerator/simulator.py:__init__",  # parsed: a bundle's YAML is nothing to do without
    "arch/zoo.py:_check_override", "arch/zoo.py:model_spec",
    "commands/accelerator_build.py:_report_kept",  # parsed: see quantize.py's
    "commands/data_apply.py:apply", "data/suspects_page.py:write_report",
    "commands/data_check.py:check",  # parsed: a page takes a minute
    "commands/report.py:run", "review/answers.py:_settings",
    "commands/report.py:write_compared",  # parsed: it needs a network of several labels
    "serving/gallery.py:check_gallery",  # parsed: it needs features of other weights
    "review/answers.py:answers", "review/exports.py:export_folders",
    "review/page.py:next_commands",
    "commands/data_pack.py:check_links",  # run by test_pack.py
    "commands/data_pack.py:run", "commands/data_pack.py:write_shard",
    "commands/export.py:run", "commands/export_check.py:run", "commands/export_check.py:table",
    "deploy/mobile.py:convert_tflite",  # run by test_mobile.py
    "commands/export_mobile.py:open_export", "commands/export_paddle_serving.py:run",
    "commands/export_timm_torchvision.py:run",
    "commands/predict_search.py:_open_gallery",  # parsed, as the next
    "deploy/features.py:features_of_export",
    "commands/quantize.py:_report",  # parsed: that int8 loses too much cannot be had for sure
    "commands/launch.py:training",  # a mistake in what was typed after it
    "commands/validate.py:measure",
    "commands/train.py:fit_and_report",  # run by test_odd_names.py and test_resume.py
    "commands/weights_average.py:run", "commands/weights_convert.py:run",
    "data/loader.py:check_hint", "deploy/choose.py:_file_of_folder",
    "deploy/sidecar.py:check_file", "deploy/sidecar.py:read_sidecar",
    "engine/leaving.py:report",  # run by faults/test_losses.py
    "engine/prospects.py:_last_remedy", "engine/prospects.py:before",  # read by test_choices.py
    "engine/teacher.py:build_teacher", "program.py:export_command", "quantize/job.py:_float_export",
    "serving/store.py:find_folders",
    "tipc/textfile.py:parse",  # parsed: it would write into the checkout
    "verbs.py:again",  # compared by test_errors.py
    "weights/mapping.py:_hint",
}  # fmt: skip


def test_every_place_that_makes_a_command_line_is_known():
    found = {
        f"{file}:{function}"
        for file, tree in TREES.items()
        if "from ppcls_lite.program import" in (ROOT / "ppcls_lite" / file).read_text()
        or file == "program.py"
        for function, _ in calls(tree, *WRITERS)
    }
    assert found == MADE_IN


@pytest.mark.parametrize("file", sorted({place.partition(":")[0] for place in MADE_IN}))
def test_the_flags_of_command_lines_are_those_of_their_commands(file):
    for _, call in calls(TREES[file], "command"):
        name, *words = map(rendered, call.args)
        if name == "VALUE":
            continue
        known = flags(COMMANDS[name].settings)
        if name == "launch":  # what stands behind train.py is train.py's own
            known |= flags(COMMANDS["train"].settings)
        for word in words:
            if word.startswith("-") and word != "-b":
                assert word[2:].replace("-", "_") in known, f"{file}: {name} {word}"


def texts():
    """Hints of errors that stand in the code as texts."""
    for file, tree in TREES.items():
        for _, call in calls(tree, "UserError"):
            hint = call.args[1] if len(call.args) > 1 else None
            if isinstance(hint, ast.Constant | ast.JoinedStr | ast.BinOp):
                yield pytest.param(rendered(hint), id=f"{file}:{call.lineno}")


@pytest.mark.parametrize("hint", texts())
def test_a_hint_is_words_or_flags_or_a_whole_command_line(hint):
    """Words after a command line or flags are a comment of the shell, so that all can be pasted."""
    line, _, _ = hint.partition("  # ")
    first = line.partition(" ")[0]
    if first in PROGRAMS:
        assert not re.search(r", | or | and |;\s(?!do|done|then)", line), hint
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    assert "python " not in line, hint
    if line.startswith("-"):  # __main__ makes the command line of it
        assert re.fullmatch(r"(-[\w-]+([= ](?!-)('[^']*'|\S+))?( |$))+", line), hint
    known = {flag for command in COMMANDS.values() for flag in flags(command.settings)}
    for flag in re.findall(r"(?<!\S)--([a-z][\w-]*)", hint):
        flag = flag.removeprefix("no-") if flag.startswith("no-") else flag
        assert flag.replace("-", "_") in known | {"help", "print_config"}, hint


def test_other_programs_name_command_lines_that_exist():
    """C++ and Paddle Serving's client."""
    found = []
    for path in [*(ROOT / "deploy").rglob("*.cc"), *(ROOT / "deploy").rglob("*.py")]:
        text = re.sub(r'"\s*\n\s*"', "", path.read_text())
        found += re.findall(r'(?:"|next: )(python tools/\w+\.py[^"]*)"', text)
    assert len(found) == 3
    for line in found:
        parses(line)


def test_what_installs_packages_names_lists_that_are_there():
    for file, tree in TREES.items():
        for _, call in calls(tree, "install_hint"):
            assert (ROOT / f"requirements-{rendered(call.args[0])}.txt").is_file(), file


def test_a_chain_that_is_not_there_or_is_damaged(made, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as missing:
        textfile.parse(made / "none.txt")
    shell(missing.value.hint)
    chain = (ROOT / "test_tipc/configs/mnasnet1_0/train_infer_python.txt").read_text()
    (made / "damaged.txt").write_text(chain.replace("model_name:", "", 1))
    with pytest.raises(UserError) as damaged:
        textfile.parse(made / "damaged.txt")
    assert damaged.value.hint.endswith("tipc configs  # writes them afresh; lines count by number")


def test_int8_that_loses_too_much(made, said, capfd):
    config = QuantizeConfig(
        pretrained=str(made / "bare.safetensors"), model=BARE, data_path=str(made / "data"),
        target="openvino", out=str(made / "none"),
    )  # fmt: skip
    said("predict --nothing")
    measured = {
        "recipe": {"remedies": [], "float_layers": []},
        "top1": 0.1,
        "top1_float": 0.9,
        "top1_error": 0.04,
    }
    (made / "int8").mkdir(exist_ok=True)
    assert quantize._report(config, made / "int8", measured | {"agreement": 0.5}, False) == 1
    (hint,) = hints(capfd.readouterr().err)
    assert f"--model {BARE}" in hint
    parses(hint)


def test_paddle2onnx_is_given_the_opset_that_was_asked_for(made, said):
    line = f"export --pretrained {made}/best.pdparams --save-inference-dir {made}/opset"
    _, again = hints(said(f"{line} --opset-version 12"))
    shell(again, made)
    (made_by_hand,) = onnx.load(str(made / "model.onnx")).opset_import
    assert made_by_hand.version == 12
