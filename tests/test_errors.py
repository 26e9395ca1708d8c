"""Whatever a user gets wrong: one message that says what was received, and what to do next."""

import ast
import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, picture

from ppcls_lite.__main__ import dispatch, explain
from ppcls_lite.data.decode import ImageError
from ppcls_lite.errors import RankLost, UserError
from ppcls_lite.program import NAMES, os_remedy
from ppcls_lite.verbs import COMMANDS, find

SOURCES = sorted((ROOT / "ppcls_lite").rglob("*.py"))
# What a `next:` may begin with, where it is written out in the code: a flag, a program, an act.
PROGRAMS = {"apt-get", "cd", "(cd", "cp", "df", "free", "git", "ls", "mv", "openssl", "pip",
            "python", "python3.7", "rm", "seq", "unset"}  # fmt: skip
ACTS = {"add", "apply", "begin", "change", "copy", "count", "delete", "download", "export", "get",
        "give", "install", "keep", "lay", "leave", "list", "mend", "name", "open", "pack", "put",
        "remove", "rename", "resume", "run", "save", "start", "take", "tick", "train", "unpack",
        "use", "write"}  # fmt: skip


def written(node, names):
    """A text in the code as far as it is written there; "" begins what is only known later."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return written(node.values[0], names)
    if isinstance(node, ast.BinOp):
        return written(node.left, names)
    if isinstance(node, ast.IfExp):
        return written(node.body, names) + written(node.orelse, names)
    return names.get(getattr(node, "id", None), [None])


@cache
def messages():
    """(place, arguments, beginnings of the hint) of each UserError in the code."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = written(node.value, {})
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                begin = written(node.args[1], names) if len(node.args) == 2 else [""]
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node, begin))
    return found


def test_every_message_has_a_command_or_an_act_that_comes_next():
    assert len(messages()) > 300
    for place, call, begins in messages():
        assert len(call.args) == 2 and not call.keywords, place
        for begin in begins:
            first = begin.split()[0] if begin and begin.strip() else begin
            known = first is None or first.startswith("-") or first in PROGRAMS | ACTS
            assert known, f"{place}: next: {begin}"


def test_no_function_makes_a_message_without_its_next():
    for path in set(SOURCES) - {ROOT / "ppcls_lite/errors.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            arguments = node.args.args[::-1]
            for argument, default in zip(arguments, node.args.defaults[::-1], strict=False):
                empty = isinstance(default, ast.Constant) and default.value == ""
                assert not (argument.arg == "hint" and empty), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("name", "line", "hint", "expected"),
    [
        ("train", "-b 1 --lr=0.5 --amp --epochs 3", "--batch-size 2  # or larger images",
         "train.py --lr=0.5 --amp --epochs 3 --batch-size 2  # or larger images"),
        ("train", "--resume 'a b.pdparams' -c r.yaml", "--resume=none --pretrained 'a b.pdparams'",
         "train.py -c r.yaml --resume=none --pretrained 'a b.pdparams'"),
        ("train", "--no-sync-bn --data_path x", "--data-path 'a b'",
         "train.py --no-sync-bn --data-path 'a b'"),
        ("train", "--wd 1 --cache", "--weight-decay 0.1", "train.py --cache --weight-decay 0.1"),
        ("weights average", "'m*.pdparams' --out x", "--out x.pdparams",
         "tools/average_checkpoints.py 'm*.pdparams' --out x.pdparams"),
        ("launch", "--nodes=2 --gpus 0 train.py --gpus 1", "--devices 1",
         "tools/launch.py --nodes=2 --devices 1 train.py --gpus 1"),
    ],
)  # fmt: skip
def test_a_hint_of_flags_is_the_command_with_these_flags(name, line, hint, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    error = UserError("wrong", hint)
    assert explain(error, name, shlex.split(line)) == f"wrong\n  next: python {expected}"
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert explain(error, name, []) == f"wrong\n  next: run the same command with {hint}"


def test_a_lost_rank_says_how_to_go_on_unless_the_other_one_did():
    assert "\n  next: start the same command again " in str(RankLost("rank 1 of 2 ended"))
    told = "rank 1 of 2 ended: wrong\n  next: do this"
    assert str(RankLost(told)) == told


def test_a_message_shows_its_next_and_a_hook_of_a_user_may_go_without():
    assert str(UserError("a hook refused this")) == "a hook refused this"
    assert str(UserError("wrong", "do this")) == "wrong\n  next: do this"
    assert "next: " in str(ImageError("a.png", "is empty"))


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_what_the_system_refuses_has_a_next(number, tmp_path):
    for name in (None, str(tmp_path / "no/such/file"), str(tmp_path), "name\udcca"):
        message = explain(OSError(number, os.strerror(number), name))
        assert re.search(r"\n  next: \S+ \S", message), message


def test_what_the_system_refuses_is_answered_where_it_happened(tmp_path):
    missing = OSError(errno.ENOENT, "none", str(tmp_path / "a" / "b"))
    ((command, folder),) = [os_remedy(missing).partition("  #")[0].split()]
    assert command == "ls" and Path(folder).resolve() == tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of things that are not what somebody takes them for."""
    root = tmp_path_factory.mktemp("place")
    for name in ("train", "val"):
        for class_id, kind in enumerate(("cat", "dog")):
            (root / "data" / name / kind).mkdir(parents=True)
            shot = picture(class_id, len(name))
            shot.save(root / "data" / name / kind / "1.png")
    (root / "void").mkdir()
    for name in ("empty.pdparams", "empty.png", "empty.yaml", "empty.onnx", "empty.npz"):
        (root / name).touch()
    for name in ("text.txt", "text.pdparams", "text.onnx", "text.png", "-odd name é.png"):
        (root / name).write_text("hello\n")
    for name in ("text.safetensors", "text.npz", "text.pth", "text.tflite", "text.json"):
        (root / name).write_text("hello\n")
    shutil.copy(root / "data/val/cat/1.png", root / "photo.png")
    (root / "list.yaml").write_text("- 1\n")
    (root / "wrong.yaml").write_text("epochs: many\n")
    (root / "unknown.yaml").write_text("epohcs: 5\n")
    (root / "bad.yaml").write_text("lr: [1\n")
    (root / "export").mkdir()
    (root / "export/inference.yml").write_text("version: 1\n")
    (root / "run").mkdir()
    (root / "run/metrics.jsonl").write_text("")
    (root / "labels.txt").write_text("a\nb\n")
    return root


# What people type. None of these reaches paddle.
MISTAKES = """
    nonsense
    data nonsense
    train.py --nonsense 5
    train --epochs
    train --epochs five
    train --epochs -1
    train --batch-size 0
    train --lr fast
    train --opt sdg
    train --val-crop-size 300
    train --resume a.pdparams --pretrained b.pdparams
    train --test-only
    train --start-epoch 3 --resume auto
    train --lr-scheduler multistep
    train --teacher mnasnet1_0
    train --fold 7 --folds 3
    train --crop-scale 1,0.5
    train --cache ram --decode fast
    train stray words
    train -c none.yaml
    train -c void
    train -c list.yaml
    train -c wrong.yaml
    train -c unknown.yaml
    train -c bad.yaml
    train -c photo.png
    train --help me
    validate --lr 3
    validate
    predict
    predict --pretrained text.onnx
    predict --img-path photo.png
    predict --pretrained text.txt --img-path photo.png
    predict --pretrained photo.png --img-path photo.png
    predict --pretrained none.onnx --img-path photo.png
    predict --pretrained void --img-path photo.png
    predict --pretrained export --img-path photo.png
    predict --pretrained text.onnx --img-path none.png
    predict --pretrained text.onnx --img-path void
    predict --pretrained text.onnx --img-path text.txt
    predict --pretrained text.onnx --img-path http://localhost/photo.png
    predict --pretrained text.onnx --img-path photo.png
    predict --pretrained empty.onnx --img-path photo.png
    predict --pretrained text.json --img-path photo.png
    predict --pretrained text.onnx --img-path photo.png --engine openvino_x
    predict --pretrained text.onnx --img-path photo.png --engine paddle_inference
    predict --pretrained text.onnx --img-path photo.png --topk 0
    predict --pretrained text.onnx --img-path photo.png --explain-layer features.3
    predict --pretrained text.onnx --img-path photo.png --json --shards shards --save-vis seen
    predict embed --pretrained text.onnx
    predict embed --pretrained text.onnx --data-path data --out features.txt
    predict embed --pretrained text.onnx --data-path data --plot drawn.jpg
    predict search --pretrained text.onnx --img-path photo.png
    serve
    serve none
    serve void
    serve text.txt
    serve export --port 99999
    serve export --api-key-file none.txt
    serve export --hooks nonsense
    report plot --run none
    report plot --run run
    report plot --run run --out curves.jpg
    data check --data-path none
    data check --data-path text.txt
    data check --data-path data --workers -1
    data check --data-path data --apply none.csv
    data check --data-path data --apply none.csv --out void2
    data pack --data-path none --out packed
    data pack --data-path data
    data pack --data-path data --out packed --quality 300
    data pack --data-path data --out packed --quality 50
    data pack --data-path data --out text.txt
    data pack --out void --verify
    data make_lite --package-root void --out lite.tar
    accelerator lint
    accelerator lint none.yaml
    accelerator lint void
    accelerator lint list.yaml
    accelerator lint photo.png
    accelerator build
    accelerator build none.yaml
    accelerator run --file_path photo.png
    accelerator run --model_info text.json --vdsp_params_info text.json --file_path photo.png
    accelerator eval_topk
    accelerator eval_topk none.txt
    accelerator eval_topk text.txt
    accelerator eval_imagenet
    accelerator eval_imagenet --result_path void --datalist none.txt --label labels.txt
    accelerator eval_imagenet --result_path void --datalist text.txt --label labels.txt
    accelerator image2npz
    accelerator image2npz --dataset_path none --target_path npz
    accelerator valprep --data_path void
    accelerator profile
    accelerator profile -m none/model --vdsp-params text.json
    export mobile
    export mobile --exported none --format mnn --out phone
    export mobile --exported export --format mnn --out data
    export mobile --exported export --format coreml --out phone
    launch
    launch nonsense.py
    launch --nodes 2 train.py
    launch --nodes 1 --min-nodes 2 train.py
    tipc
    tipc nonsense
    tipc lite_train_lite_infer none.txt
    tipc lite_train_lite_infer text.txt
    completion --shell fish
    doctor --nonsense
"""


@pytest.mark.parametrize("line", [line.strip() for line in MISTAKES.strip().splitlines()])
def test_a_mistake_is_one_message_that_says_what_comes_next(line, place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    words = line.split()
    given = NAMES.get(words[0], "")
    name, argv, prog = find(given, words[1:] if given else words, "train.py")
    before = sorted(place.rglob("*"))
    with pytest.raises((UserError, OSError)) as raised:
        dispatch(name, argv, prog)
    message, _, after = explain(raised.value, name, argv).partition("\n  next: ")
    assert re.match(r"[\w(]", after) and len(message) > 10, f"{message} >>> {after}"
    # What was received stands in the message: a word of the line, or the flag that is missing.
    received = [word for word in words if word.strip("-'") and word.strip("-'") in message]
    assert received or "missing" in message or "--" in message, message
    assert "Traceback" not in "".join(capfd.readouterr())
    assert sorted(place.rglob("*")) == before  # nothing was begun


def test_the_mistakes_are_of_all_commands_that_start_without_paddle():
    typed = {find("", line.split(), "")[0] for line in MISTAKES.strip().splitlines()}
    typed |= {NAMES.get(line.split()[0]) for line in MISTAKES.strip().splitlines()}
    light = {name for name, command in COMMANDS.items() if not command.needs_paddle}
    assert light <= typed, light - typed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(place, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    argv = ["tools/pack_dataset.py", f"--data-path={place / 'data'}", f"--out={locked / 'x'}"]
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "next: ls -ld " in done.stderr and "Trace" not in done.stderr
