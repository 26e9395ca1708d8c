"""The accelerator's files against the documents' numbers, and what the linter and evaluators see.

The whole chain, as people type it, is in test_accelerator_chain.py.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from conftest import ROOT, picture
from golden.make_resize_golden import SIZES, noise
from PIL import Image
from small_checkpoint import CLASSES, SPEC, checkpoint

from ppcls_lite.accelerator.build_config import parse_build
from ppcls_lite.accelerator.calibration import choose_pictures
from ppcls_lite.accelerator.lint import lint_yaml
from ppcls_lite.accelerator.lint_bundle import lint_bundle
from ppcls_lite.accelerator.pixels import half_bits, half_value, resize_bilinear
from ppcls_lite.accelerator.results import result_lines
from ppcls_lite.accelerator.settings import (
    AcceleratorLintConfig,
    EvalImagenetConfig,
    EvalTopkConfig,
    ExportAcceleratorConfig,
    Image2NpzConfig,
    ValprepConfig,
)
from ppcls_lite.accelerator.vdsp import FORMS, read_vdsp, vdsp_params
from ppcls_lite.accelerator.yaml_lines import read_document
from ppcls_lite.commands import (
    accelerator_build,
    accelerator_eval_imagenet,
    accelerator_eval_topk,
    accelerator_image2npz,
    accelerator_lint,
    accelerator_valprep,
    export_accelerator,
)
from ppcls_lite.data.imagenet import imagenet_synsets
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of the small checkpoint, with 4 calibration pictures of each of 10 classes."""
    root = tmp_path_factory.mktemp("bundle")
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(CLASSES):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture(label % 3, 50 * label + number).save(folder / f"{number}.png")
    config = ExportAcceleratorConfig(
        pretrained=str(checkpoint(root)), out=str(root / "bundle"), data_path=str(root / "data"),
        calibration_images=40, opset_version=10,
    )  # fmt: skip
    assert export_accelerator.run(config) == 0
    return root / "bundle"


def test_a_bundle_of_one_folder_names_no_val_folder(bundle, tmp_path):
    config = ExportAcceleratorConfig(
        pretrained=str(checkpoint(tmp_path)), out=str(tmp_path / "bundle"),
        data_path=str(bundle.parent / "data/train"), calibration_images=3,
    )  # fmt: skip
    assert export_accelerator.run(config) == 0
    own = json.loads((tmp_path / "bundle/bundle.json").read_text())
    listed = (tmp_path / "bundle/labels/val_label.txt").read_text().splitlines()
    assert own["val"] is None and own["val_images"]["count"] == len(listed) > 0
    assert "no train/ and val/" in own["val_images"]["notes"][0]
    with_val = json.loads((bundle / "bundle.json").read_text())
    assert with_val["val"] == str(bundle.parent / "data/val")
    assert with_val["val_images"] == {"count": 20, "notes": []}


def test_half_precision_patterns_are_the_documents():
    patterns = {
        0.485: 14275, 0.456: 14156, 0.406: 13951, 0.229: 13140, 0.224: 13099, 0.225: 13107,
        123.675: 22459, 116.28: 22340, 103.53: 22136, 58.395: 21325, 57.12: 21284, 57.375: 21292,
        0.5: 14336, 1: 15360, 0: 0, 255: 23544,
    }  # fmt: skip
    assert {value: half_bits(value) for value in patterns} == patterns
    assert half_value(14275) == 0.485107421875


def test_parameter_files_hold_the_published_values():
    """The values of the MobileNetV3 and MnasNet files of the documents' repository."""
    assert vdsp_params(Preprocess(), "sdk1.0") == {
        "vdsp_op_type": 300, "iimage_format": 5000, "iimage_width": 256, "iimage_height": 256,
        "iimage_width_pitch": 256, "iimage_height_pitch": 256, "short_edge_threshold": 256,
        "resize_type": 1, "color_cvt_code": 2, "color_space": 0, "crop_size": 224,
        "meanr": 14275, "meang": 14156, "meanb": 13951, "stdr": 13140, "stdg": 13099,
        "stdb": 13107, "norma_type": 4,
    }  # fmt: skip
    listed = vdsp_params(Preprocess(), "vamp")
    assert listed["vdsp_op_type"] == "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8"
    assert [(e["Property"], e["DType"], e["Value"]) for e in listed["config"]] == [
        ("iimage_format", "UINT_32", "RGB_PLANAR"), ("iimage_width", "INT", 256),
        ("iimage_height", "INT", 256), ("iimage_width_pitch", "UINT_32", 256),
        ("iimage_height_pitch", "UINT_32", 256), ("short_edge_threshold", "INT", 256),
        ("crop_size", "UINT_32", 224), ("meanr", "UINT_16", 14275), ("meang", "UINT_16", 14156),
        ("meanb", "UINT_16", 13951), ("stdr", "UINT_16", 13140), ("stdg", "UINT_16", 13099),
        ("stdb", "UINT_16", 13107), ("norma_type", "INT", "DIV255_MINUSMEAN_DIVSTD"),
        ("resize_type", "INT", "BILINEAR_CV"), ("color_cvt_code", "UINT_16", "COLOR_NO_CHANGE"),
        ("color_space", "UINT_16", "COLOR_SPACE_BT709"),
    ]  # fmt: skip
    assert all(e["ParamType"] == "ELEMENT" for e in listed["config"])
    fused = vdsp_params(Preprocess(), "build_in")
    assert fused["OpType"] == "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR"
    config = fused["OpConfig"]
    assert config["CropX"] == config["CropY"] == 16 and config["OimageWidth"] == 224
    assert config["Mean"] == [0.485107421875, 0.4560546875, 0.406005859375]
    assert config["Std"] == [0.22900390625, 0.2239990234375, 0.2249755859375]


@pytest.mark.parametrize("size", [(342, 299, 21), (324, 299, 12)])
def test_the_crop_of_other_sizes_is_the_published_one(size):
    resize, crop, offset = size
    assert vdsp_params(Preprocess(resize, crop), "build_in")["OpConfig"]["CropX"] == offset


@pytest.mark.parametrize("form", FORMS)
def test_a_parameter_file_read_back_does_what_the_formula_says(form, tmp_path):
    path = tmp_path / "params.json"
    path.write_text(json.dumps(vdsp_params(Preprocess(36, 32), form)))
    card = read_vdsp(path)
    image = noise(40, 44).transpose(2, 0, 1)
    size = (36, 36) if form == "build_in" else (36, 39)
    left = 2 if form == "build_in" else 3
    resized = resize_bilinear(image, *size)[:, 2:34, left : left + 32].astype(np.float64)
    mean, std = (np.float16(v)[:, None, None].astype(np.float64) for v in (card.mean, card.std))
    got = card(image)
    assert got.dtype == np.float32 and got.shape == (1, 3, 32, 32)
    # float32 against float64, values up to 2.7.
    np.testing.assert_allclose(got[0], resized / (255 * std) - mean / std, atol=1e-6)
    exact = (resized / 255 - np.array(Preprocess().mean)[:, None, None]) / np.array(
        Preprocess().std
    )[:, None, None]
    # Half precision changes a normalised pixel by at most 5.1e-4.
    assert 1e-5 < np.abs(got[0] - exact).max() < 5.2e-4


@pytest.mark.parametrize(("before", "after"), SIZES, ids=str)
def test_resizing_is_opencvs_to_the_bit(before, after):
    golden = np.load(ROOT / "tests/golden/resize_opencv.npz")
    expected = golden["{}x{}_{}x{}".format(*before, *after)]
    got = resize_bilinear(noise(*before).transpose(2, 0, 1), *after)
    assert np.array_equal(got.transpose(1, 2, 0), expected)


@pytest.mark.parametrize(
    ("form", "edit", "message"),
    [
        ("sdk1.0", {"norma_type": 3}, "norma_type 3 is not simulated"),
        ("sdk1.0", {"mean_r": 1}, "unknown key 'mean_r'; did you mean meanr"),
        ("build_in", {"OpType": "FUSION_OP_YUV"}, "OpType 'FUSION_OP_YUV'"),
        ("vamp", {"config": [{}]}, "no vision-processor parameter file"),
    ],
)
def test_a_wrong_parameter_file_is_one_message(form, edit, message, tmp_path):
    path = tmp_path / "params.json"
    path.write_text(json.dumps(vdsp_params(Preprocess(), form) | edit))
    with pytest.raises(UserError, match=r"params\.json") as error:
        read_vdsp(path)
    assert message in error.value.message


def test_the_bundle_is_complete(bundle):
    description = json.loads((bundle / "bundle.json").read_text())
    name = "mobilenet_v3_small"
    assert set(description["files"]) >= {
        f"onnx/{name}.onnx", "build/v1_int8.yaml", "build/v1_fp16.yaml", "build/v2_int8.yaml",
        "build/v2_fp16.yaml", f"model_info/model_info_{name}.json", "hw_config/hw_config.json",
        f"vdsp_params/sdk1.0/torchvision-{name}-vdsp_params.json", "labels/label.txt",
        "labels/val_label.txt", "labels/wnid.json", "calibration_list.txt", "run.sh",
    }  # fmt: skip
    assert description["preprocess"] == SPEC.to_dict()
    assert description["calibration"] == {"pictures": 40, "split": "train", "missing_classes": []}
    graph = onnx.load(str(bundle / f"onnx/{name}.onnx"))
    shapes = [
        [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (graph.graph.input[0], graph.graph.output[0])
    ]
    assert graph.graph.input[0].name == "input" and shapes == [[1, 3, 64, 64], [1, 10]]
    assert graph.opset_import[0].version == 10
    assert "Softmax" not in {node.op_type for node in graph.graph.node}
    assert (bundle / "labels/label.txt").read_text().splitlines() == list(CLASSES)
    # Both splits have 0.png and 1.png in every class: names alone would not do.
    assert (bundle / "labels/val_label.txt").read_text().splitlines()[2] == "kind 1/0.png 1"
    squares = {Image.open(path).size for path in (bundle / "calib").iterdir()}
    assert squares == {(SPEC.resize_size, SPEC.resize_size)}


def test_a_folder_that_quantize_did_not_write_is_no_start_of_a_bundle(bundle, tmp_path):
    config = ExportAcceleratorConfig(pretrained=str(bundle), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="for the target accelerator") as caught:
        export_accelerator.run(config)
    assert "--target accelerator" in caught.value.hint and not (tmp_path / "out").exists()


def test_a_build_that_changes_answers_says_which_command_looks_for_better(
    bundle, capsys, monkeypatch
):
    monkeypatch.chdir(bundle)
    accelerator_build._report_kept([True] * 19 + [False])
    assert capsys.readouterr().out.splitlines() == [
        "int8 gives 19 of 20 calibration images the float model's class"
    ]
    accelerator_build._report_kept([True] * 9 + [False])
    said = capsys.readouterr().out
    assert "warning: int8 changes 10% of the predictions" in said
    flags = json.loads((bundle / "bundle.json").read_text())["quantize"]
    assert flags[:2] == ["--target", "accelerator"] and Path(flags[3]).is_file()
    assert all(f" {word}" in said for word in flags)


def test_both_yaml_forms_have_the_documents_keys_and_say_the_same(bundle):
    first = yaml.safe_load((bundle / "build/v1_int8.yaml").read_text())
    assert list(first) == ["model", "engine", "dataset", "workspace"]
    assert first["model"]["inputs"] == {"input": [1, 3, 64, 64]}
    assert first["engine"]["common"] == {"do_quantization": True}
    assert first["engine"]["add_extra_ops_to_graph"] == {"type": "softmax"}
    assert first["engine"]["calibration"] == {"quant_mode": "percentile", "per_channel": True}
    steps = [op["type"] for op in first["dataset"]["transform_ops"]]
    assert steps == ["DecodeImage", "Resize", "CenterCrop", "Normalize", "ToTensor"]
    second = yaml.safe_load((bundle / "build/v2_int8.yaml").read_text())
    assert list(second) == ["name", "frontend", "graph", "backend", "dataset", "workspace"]
    assert second["backend"]["quantize"]["calibrate_mode"] == "percentile"
    one, two = (parse_build(read_document(bundle / f"build/v{n}_int8.yaml")) for n in (1, 2))
    assert one.folder == "./deploy_weights/mobilenet_v3_small-int8-percentile-3_64_64"
    assert two.folder == "./deploy_weights/mobilenet_v3_small_int8" and two.prefix == "mod"
    for key in ("checkpoint", "inputs", "dtype", "softmax", "mode", "dataset", "count", "ops"):
        assert getattr(one, key) == getattr(two, key), key
    assert parse_build(read_document(bundle / "build/v1_fp16.yaml")).folder.endswith(
        "-fp16-none-3_64_64"
    )


def test_a_fresh_bundle_has_nothing_but_the_note_about_squashing(bundle):
    assert [finding.level for finding in lint_bundle(bundle)] == ["note"]


FAULTS = [
    # file, what is written for what, level, words of the message
    ("v2_int8", "calibrate_mode:", "alibrate_mode:", "error", "did you mean calibrate_mode"),
    ("v1_int8", "    input:", "    inputs:", "error", "calls it 'input'"),
    ("v2_int8", "    input:", "    x:", "error", "calls it 'input'"),
    ("v1_int8", "[1, 3, 64, 64]", "[1, 3, 224, 224]", "error", "has [1, 3, 64, 64]"),
    ("v1_int8", "percentile", "entropy", "error", "the compiler calls it kl_divergence"),
    ("v1_int8", "type: softmax", "type: sofmax", "error", "allowed: softmax, null"),
    ("v1_int8", "type: softmax", "type: null", "warning", "the results are logits"),
    ("v1_int8", "CenterCrop", "CentreCrop", "error", "did you mean CenterCrop"),
    ("v1_int8", "per_channel: true", "per_channel: false", "error", "one scale for all channels"),
    ("v1_int8", "per_channel: true", "skip_conv_layers: [3]", "warning", "numbers count conv"),
    ("v2_int8", "dtype: int8", "dtype: int4", "error", "allowed: int8, fp16"),
    ("v1_int8", "mobilenet_v3_small.onnx", "other.onnx", "error", "no file onnx/other.onnx"),
    ("v1_int8", "path: calib", "path: nothing", "warning", "int8 needs calibration images"),
    ("v1_int8", "crop_size: [64, 64]", "crop_size: [32, 32]", "error", "of 32 pixels"),
]


@pytest.mark.parametrize(("file", "old", "new", "level", "message"), FAULTS)
def test_the_linter_names_the_line_of_a_fault(bundle, tmp_path, file, old, new, level, message):
    text = (bundle / f"build/{file}.yaml").read_text()
    assert old in text
    line = text[: text.index(old)].count("\n") + 1
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace(old, new, 1))
    (finding,) = [f for f in lint_yaml(path, bundle) if message in f.message]
    assert (finding.level, finding.line) == (level, line)
    assert str(finding).startswith(f"{path}:{line}: {level}: ")


def test_the_linter_names_damaged_files(bundle, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    (copy / "calib/00000.JPEG").write_bytes(b"text")
    (finding,) = [f for f in lint_yaml(copy / "build/v1_int8.yaml", copy) if f.level == "error"]
    assert "00000.JPEG" in finding.message
    file = copy / "onnx/mobilenet_v3_small.onnx"
    for data in (file.read_bytes()[:-100], b""):
        file.write_bytes(data)
        (finding, *_) = lint_yaml(copy / "build/v1_fp16.yaml", copy)
        assert finding.level == "error" and "is no ONNX file" in finding.message


def test_the_linter_sees_a_second_softmax_and_squashed_pictures(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    file = copy / "onnx/mobilenet_v3_small.onnx"
    model = onnx.load(str(file))
    model.graph.node.append(onnx.helper.make_node("Softmax", ["last"], ["end"], axis=1))
    model.graph.node[-2].output[0] = "last"
    model.graph.output[0].name = "end"
    onnx.save(model, str(file))
    Image.new("RGB", (90, 60)).save(copy / "calib/00000.JPEG")
    text = (copy / "build/v1_int8.yaml").read_text().splitlines()
    found = {f.message.split(";")[0]: f for f in lint_yaml(copy / "build/v1_int8.yaml", copy)}
    twice = found["mobilenet_v3_small.onnx ends in a softmax already"]
    assert twice.level == "error" and "softmax" in text[twice.line - 1]
    squash = found["Resize [72, 72] squashes 00000.JPEG (90 x 60)"]
    assert squash.level == "warning" and "size: [72, 72]" in text[squash.line - 1]


def test_the_linter_checks_labels_calibration_and_parameters(bundle, tmp_path, capsys):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    (copy / "labels/label.txt").write_text("one\nt/w:o\n")
    lines = (copy / "calibration_list.txt").read_text().splitlines()
    kept = [line for line in lines if not line.endswith(" 7")] + ["calib/none.JPEG 1"]
    (copy / "calibration_list.txt").write_text("\n".join(kept))
    (params,) = (copy / "vdsp_params/sdk1.0").iterdir()
    wrong = json.loads(params.read_text()) | {"short_edge_threshold": 256}
    params.write_text(json.dumps(wrong, indent=4))
    assert accelerator_lint.run(AcceleratorLintConfig(path=str(copy))) == 1
    printed = capsys.readouterr().out
    assert "label.txt: error: 2 names, the model has 10 classes" in printed
    assert "label.txt:2: warning: 't/w:o'" in printed
    assert "1 classes have no calibration image: 7" in printed
    assert f"calibration_list.txt:{len(kept)}: error: the image is not there" in printed
    assert "vdsp_params.json:8: error: resize 256, crop 64" in printed


def test_calibration_takes_every_class_in_turn():
    labels = [0] * 50 + [1] * 3 + [2]
    chosen = [labels[i] for i in choose_pictures(labels, 8)]
    assert chosen == [0, 1, 2, 0, 1, 0, 1, 0]
    assert len(set(choose_pictures(labels, 1000))) == len(labels)


def test_image2npz_writes_native_planar_pixels(tmp_path, capsys):
    folder = tmp_path / "val/n01440764"
    folder.mkdir(parents=True)
    pixels = noise(61, 47)
    Image.fromarray(pixels).save(folder / "b.png")
    Image.fromarray(pixels).save(folder / "a.JPEG")
    paths = {"dataset_path": tmp_path / "val", "target_path": tmp_path / "npz",
             "text_path": tmp_path / "list.txt"}  # fmt: skip
    config = Image2NpzConfig(**{key: str(value) for key, value in paths.items()})
    assert accelerator_image2npz.run(config) == 0
    lines = (tmp_path / "list.txt").read_text().splitlines()
    assert lines == [str(tmp_path / f"npz/n01440764/{stem}.npz") for stem in "ab"]
    with np.load(lines[1]) as arrays:
        assert arrays.files == ["input_0"] and arrays["input_0"].dtype == np.uint8
        assert np.array_equal(arrays["input_0"], pixels.transpose(2, 0, 1))
    Image.fromarray(pixels).save(folder / "a.png")
    with pytest.raises(UserError, match="would both become"):
        accelerator_image2npz.run(config)


def imagenet_results(tmp_path, spoil=False):
    """Eight right answers, two of them of class 480, with five lines each."""
    names = list(imagenet_synsets().values())
    if spoil:  # as in the label file that comes with the original
        names[480] = names[480].removesuffix(", ATM")
    wnids = list(imagenet_synsets())
    lines = []
    for number, label in enumerate([0, 1, 480, 2, 3, 480, 134, 999]):
        others = list(range(10, 14))
        path = f"val/{wnids[label]}/ILSVRC2012_val_{number:08d}.JPEG"
        lines += result_lines(path, [(i, 0.2) for i in (label, *others)], names)
    file = tmp_path / "result.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def score(file, capsys, **flags):
    assert accelerator_eval_topk.run(EvalTopkConfig(result=str(file), **flags)) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_the_result_line_is_the_documents():
    (line,) = result_lines(
        "val/n01440764/ILSVRC2012_val_00000293.JPEG", [(0, 0.98779297)], ["tench, Tinca tinca"]
    )
    assert line == (
        "val/n01440764/ILSVRC2012_val_00000293.JPEG: Relay top-0 id: 0, prob: 0.98779297,"
        " class name: tench, Tinca tinca"
    )


def test_classes_are_compared_by_id_and_by_name_as_the_original_does(tmp_path, capsys):
    file = imagenet_results(tmp_path, spoil=True)
    assert score(file, capsys) == "[VACC]:  top1_rate: 100.0 top5_rate: 100.0"
    assert score(file, capsys, compat=True) == "[VACC]:  top1_rate: 75.0 top5_rate: 75.0"
    file = imagenet_results(tmp_path)
    assert score(file, capsys, compat=True) == "[VACC]:  top1_rate: 100.0 top5_rate: 100.0"
    # The other crane, 517, is a hit by its name and none by its number.
    file.write_text(file.read_text().replace("id: 134,", "id: 517,"))
    assert score(file, capsys, compat=True) == "[VACC]:  top1_rate: 100.0 top5_rate: 100.0"
    assert score(file, capsys) == "[VACC]:  top1_rate: 87.5 top5_rate: 87.5"


def test_a_folder_called_like_a_text_is_opened(tmp_path, capsys):
    """sample_cls.py makes a folder of --save_dir output/x.txt."""
    file = imagenet_results(tmp_path)
    (tmp_path / "x.txt").mkdir()
    file.rename(tmp_path / "x.txt/vacl_cls_result.txt")
    assert score(tmp_path / "x.txt", capsys) == "[VACC]:  top1_rate: 100.0 top5_rate: 100.0"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t + t, "there a second time"),
        (lambda t: "\n".join(t.splitlines()[:-2]), "with 3 and with 5 lines"),
        (lambda t: t.replace("top-1", "top-2", 1), "does not follow its top-0"),
        (lambda t: t.replace("n01440764", "flat"), "which class is folder 'flat'?"),
        (lambda t: "hello\n" + t, ":1: no result line: 'hello'"),
        (lambda t: "", "is empty"),
    ],
)
def test_a_damaged_result_text_is_one_message(tmp_path, edit, message):
    file = imagenet_results(tmp_path)
    file.write_text(edit(file.read_text()))
    with pytest.raises(UserError) as error:
        accelerator_eval_topk.run(EvalTopkConfig(result=str(file)))
    assert message in error.value.message


def test_own_classes_are_told_by_the_bundles_json(tmp_path, capsys):
    file = tmp_path / "result.txt"
    names = ["a:b", "c/d", "e"]
    lines = result_lines("x/cat/1: 2.png", [(1, 0.9), (0, 0.1)], names)
    lines += result_lines("x/dog/1.png", [(1, 0.9), (2, 0.1)], names)
    file.write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "wnid.json").write_text(json.dumps({"cat": 1, "dog": 2, "eel": 0}))
    flags = {"classes": str(tmp_path / "wnid.json")}
    assert score(file, capsys, **flags) == "[VACC]:  top1_rate: 50.0 top5_rate: 100.0"


@pytest.fixture
def scores(tmp_path):
    """Three npz of scores [1, 10]: right, right in the first five, wrong; and their list."""
    out = tmp_path / "out"
    out.mkdir()
    lines = []
    for number, (wnid, best) in enumerate([(0, [0]), (1, [5, 1]), (2, [5, 6, 7, 8, 9, 2])]):
        values = np.zeros((1, 10), np.float16)
        values[0, best] = np.arange(len(best), 0, -1)
        np.savez(out / f"output_{number:06d}.npz", output_0=values)
        folder = tmp_path / "npz" / list(imagenet_synsets())[wnid]
        path = folder / f"ILSVRC2012_val_{number:08d}.npz"
        path.parent.mkdir(parents=True)
        path.touch()
        lines.append(f"{path}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    fields = [f"ILSVRC2012_val_{n:08d}.JPEG {n}\n" for n in range(3)]
    (tmp_path / "fields.txt").write_text("".join(fields))
    (tmp_path / "names.txt").write_text("".join(f"{n}\n" for n in imagenet_synsets().values()))
    return tmp_path


def npz_config(folder, label="fields.txt"):
    return EvalImagenetConfig(
        result_path=str(folder / "out"), datalist=str(folder / "list.txt"),
        label=str(folder / label),
    )  # fmt: skip


@pytest.mark.parametrize("label", ["fields.txt", "names.txt"])
def test_npz_scores_are_counted_with_either_label_file(scores, label, capsys):
    """The documents call the file imagenet.txt, which elsewhere holds names."""
    assert accelerator_eval_imagenet.run(npz_config(scores, label)) == 0
    expected = "[VACC]:  top1_rate: 33.333 top5_rate: 66.667"
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_npz_that_do_not_fit_the_list_are_refused(scores):
    np.savez(scores / "out/output_000003.npz", output_0=np.zeros((1, 10)))
    with pytest.raises(UserError, match=r"1 are not of this run \(the first is output_000003"):
        accelerator_eval_imagenet.run(npz_config(scores))
    (scores / "out/output_000003.npz").unlink()
    (scores / "out/output_000001.npz").unlink()
    with pytest.raises(UserError, match="1 files are missing"):
        accelerator_eval_imagenet.run(npz_config(scores))
    np.savez(scores / "out/output_000001.npz", output_1=np.zeros((1, 10)))
    with pytest.raises(UserError, match="holds no array output_0"):
        accelerator_eval_imagenet.run(npz_config(scores))


def test_a_list_of_other_pictures_with_the_same_names_is_not_believed(scores):
    known = scores / "wnid.json"
    known.write_text(json.dumps({next(iter(imagenet_synsets())): 7}))
    config = dataclasses.replace(npz_config(scores), classes=str(known))
    with pytest.raises(UserError, match=r"two readings of .*: class 0 by the list .*, class 7 by"):
        accelerator_eval_imagenet.run(config)


@pytest.mark.parametrize("damage", ["empty", "cut", "other bytes", "npy", "scalar", "no zip"])
def test_a_damaged_npz_is_one_message(scores, damage):
    file = scores / "out/output_000001.npz"
    data = file.read_bytes()
    if damage == "npy":
        with file.open("wb") as out:
            np.save(out, np.zeros((1, 10)))
    elif damage == "scalar":
        np.savez(file, output_0=np.float16(1))
    else:
        broken = data[:150] + b"\xff" * 9 + data[159:]  # the checksum tells
        file.write_bytes({"empty": b"", "cut": data[:-30], "other bytes": broken,
                          "no zip": b"text"}[damage])  # fmt: skip
    with pytest.raises(UserError, match=r"output_000001\.npz"):
        accelerator_eval_imagenet.run(npz_config(scores))


def test_valprep_makes_imagenets_folders(tmp_path, capsys):
    (tmp_path / "val").mkdir()
    shown = {1: 65, 2: 970, 3: 230, 777: 999}  # the first three as ImageNet has them
    labels = {f"ILSVRC2012_val_{n:08d}.JPEG": class_id for n, class_id in shown.items()}
    for name in labels:
        (tmp_path / "val" / name).write_text(name)
    lines = [f"{name} {label}\n" for name, label in labels.items()]
    (tmp_path / "val_label.txt").write_text("".join(lines))
    config = ValprepConfig(data_path=str(tmp_path))
    assert accelerator_valprep.run(config) == 0
    wnids = list(imagenet_synsets())
    for name, label in labels.items():
        assert (tmp_path / "val" / wnids[label] / name).read_text() == name
    assert len(list((tmp_path / "val").iterdir())) == 1000
    assert accelerator_valprep.run(config) == 0  # nothing is left to do
    (tmp_path / "val/stray.JPEG").touch()
    with pytest.raises(UserError, match="does not list 1 files"):
        accelerator_valprep.run(config)


def test_valprep_does_not_take_the_devkits_ids(tmp_path):
    (tmp_path / "val").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    lines = [f"ILSVRC2012_val_{n:08d}.JPEG {i}\n" for n, i in ((1, 490), (2, 361), (3, 171))]
    (tmp_path / "val_label.txt").write_text("".join(lines))
    with pytest.raises(UserError, match="by ILSVRC2012_ID, the devkit's order"):
        accelerator_valprep.run(ValprepConfig(data_path=str(tmp_path)))
    assert len(list((tmp_path / "val").iterdir())) == 3


def test_imagenets_folders_are_in_the_order_of_its_classes():
    """The order of torchvision's names, which other tests hold against torchvision."""
    names = (ROOT / "ppcls_lite/data/imagenet_labels.txt").read_text().splitlines()
    synsets = imagenet_synsets()
    assert len(synsets) == 1000 and list(synsets) == sorted(synsets)
    renamed = {"crane bird": "crane", "maillot tank suit": "maillot, tank suit"}  # by torchvision
    for name, (wnid, words) in zip(names, synsets.items(), strict=True):
        assert renamed.get(name, name).lower() in words.lower(), wnid
    assert list(synsets.values())[480].endswith(", ATM")
