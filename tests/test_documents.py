"""The command lines of the documents that this project follows run under their names.

Where those lie beside the checkout, the list is held against them.
"""

import re
import shlex

import pytest
from conftest import ROOT

from ppcls_lite.program import NAMES
from ppcls_lite.verbs import find, settle

COMMON = "../common/"  # VastModelZOO's; here tools/accelerator/
LINES = (
    # Step6
    "train.py --data-path=./ILSVRC2012 --lr=0.1 --batch-size=256",
    'train.py --data-path="./ILSVRC2012" --lr=0.4 --batch-size=256',
    "train.py --test-only --data-path=/paddle/data/ILSVRC2012"
    " --pretrained=./mobilenet_v3_small_paddle.pdparams",
    "tools/predict.py --pretrained=./mobilenet_v3_small_paddle_pretrained.pdparams"
    " --img-path=images/demo.jpg",
    "tools/predict.py --pretrained=./mobilenet_v3_small_paddle_pretrained.pdparams"
    " --img-path=images/demo.jpg --device=cpu",
    "./tools/export_model.py --pretrained=./mobilenet_v3_small_pretrained.pdparams"
    " --save-inference-dir=./mobilenetv3_model",
    # MindCV; the name of the file lacks an l there
    "train.py -c configs/mobilenetv3/mobienet_v3_large.yaml --data_dir /path/to/imagenet",
    "validate.py --model=mobilenet_v3_large_100 --dataset=imagenet --val_split=val --pretrained",
    "validate.py --model=mobilenet_v3_large_100 --dataset=imagenet --val_split=val"
    " --ckpt_path='./ckpt/mobilenet_v3_large_100-best.ckpt'",
    # VastModelZOO
    "../common/utils/export_timm_torchvision_model.py --model_library timm"
    " --model_name mobilenetv3_rw --save_dir ./onnx --size 224 --pretrained_weights xxx.pth",
    "../common/utils/export_timm_torchvision_model.py --model_library torchvision"
    " --model_name mobilenet_v3_small --save_dir ./onnx --size 224 --pretrained_weights xxx.pth",
    "../common/utils/export_timm_torchvision_model.py --model_library torchvision"
    " --model_name mnasnet0_5 --save_dir ./onnx --size 224 --pretrained_weights xxx.pth",
    "../common/sdk1.0/sample_cls.py --save_dir output/mobilenet_v3_result.txt",
    "../common/sdk1.0/sample_cls.py --save_dir output/mnasnet_result.txt",
    "../common/eval/eval_topk.py output/mobilenet_v3_result.txt",
    "../common/eval/eval_topk.py output/mnasnet_result.txt",
    "../common/utils/image2npz.py --dataset_path /path/to/ILSVRC2012_img_val"
    " --target_path /path/to/input_npz --text_path npz_datalist.txt",
    "../common/eval/eval_imagenet.py --result_path output --datalist npz_datalist.txt"
    " --label data/label/imagenet.txt",
)
# Of programs that are not this project's, and MindCV's slip, which a message names.
OTHERS = ("export_onnx.py", "web_service.py", "pipeline_http_client.py", "dataset=cifar10")


def settled(line, capsys):
    """Settles the arguments of a line; returns the command, its settings and what was said."""
    program, *argv = shlex.split(line)
    file = program.removeprefix("./")
    if file.startswith(COMMON):
        file = "tools/accelerator/" + file.rpartition("/")[2]
    assert (ROOT / file).is_file()
    name, argv, prog = find(NAMES[file], argv, file)
    return *settle(name, argv, prog), capsys.readouterr().err


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_document_is_understood(line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, settings, said = settled(line, capsys)
    assert said == ""
    assert (name == "validate") == ("validate" in line or "--test-only" in line)
    given = [word for word in shlex.split(line)[1:] if word.startswith("-")]
    assert len(settings.sources) >= len(given) - ("--test-only" in given)


def test_these_are_the_lines_of_the_documents():
    documents = sorted((ROOT.parent / "shared/documents").glob("*.txt"))
    if not documents:
        pytest.skip("the documents do not lie beside the checkout")
    text = "\n".join(path.read_text() for path in documents)
    found = re.findall(
        r"python[\d.]* +(?:-m paddle\.distributed\S+ (?:--\S+ )*)?((?:\./)?\S+\.py[^\n`]*)", text
    )
    found = {" ".join(line.split()) for line in found if not any(o in line for o in OTHERS)}
    assert found == {" ".join(line.split()) for line in LINES}


def test_the_files_that_the_documents_name_are_there():
    assert (ROOT / "images/demo.jpg").read_bytes()[:2] == b"\xff\xd8"
    for size in ("large", "small"):
        recipe = ROOT / f"configs/mobilenetv3/mobilenet_v3_{size}.yaml"
        assert f"model: mobilenet_v3_{size}_100\n" in recipe.read_text()


def tipc_lines():
    found = set()
    for path in (ROOT / "test_tipc/configs").rglob("*.txt"):
        for line in path.read_text().splitlines():
            match = re.search(
                r":(?:.*launch --\S+ )?(?:\.\./\.\./)?((?:train|tools/\w+)\.py.*)", line
            )
            if match:
                found.add(match[1])
    return sorted(found)


@pytest.mark.parametrize("line", tipc_lines())
def test_a_line_of_the_test_chains_is_understood(line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    weights = " --pretrained=x.pdparams" if "--test-only" in line else ""
    _, _, said = settled(line + weights + " --use-gpu=False" * ("train.py" in line), capsys)
    # The recipe of the chain's training holds more than its evaluation reads; that is one line.
    assert said.count("\n") == ("--test-only -c" in line)
    assert not said or "test_tipc/lite.yaml: passed over, not of this command: lr, " in said
