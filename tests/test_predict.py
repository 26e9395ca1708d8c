"""Predictions of every engine, held against the trained network fed by hand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from conftest import run_tool
from PIL import Image
from small_checkpoint import CLASSES, checkpoint, trained_probabilities

from ppcls_lite import create_model
from ppcls_lite.commands.predict import run
from ppcls_lite.deploy import choose
from ppcls_lite.deploy.choose import find_model
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.overlay import save_overlay
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.ranking import Prediction, softmax
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.errors import UserError

ROOT = Path(__file__).parents[1]
# fp32 engines differ in the order of their sums; the export check allows as much.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """best.pdparams, export/ with softmax inside, logits/ without, and three pictures."""
    folder = tmp_path_factory.mktemp("predict")
    weights = checkpoint(folder)
    export_model(weights, folder / "export")
    export_model(weights, folder / "logits", formats=["json", "onnx"], softmax_inside=False)
    (folder / "pictures").mkdir()
    random = np.random.RandomState(2)
    for name, size in (("a.png", (120, 90)), ("b.png", (64, 150)), ("c.png", (80, 80))):
        grid = random.randint(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).save(
            folder / "pictures" / name
        )
    return folder


def fed_by_hand(folder: Path, picture: Path) -> np.ndarray:
    """Probabilities [K] of the trained network; the pixels are made with Pillow alone."""
    image = Image.open(picture)
    width, height = image.size
    if width < height:
        image = image.resize((72, int(72 * height / width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(72 * width / height), 72), Image.Resampling.BILINEAR)
    left, top = round((image.width - 64) / 2), round((image.height - 64) / 2)
    pixels = np.asarray(image.crop((left, top, left + 64, top + 64))) / 255.0  # [H, W, 3]
    pixels = (pixels - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]
    images = pixels.transpose(2, 0, 1)[None].astype("float32")  # [1, 3, H, W]
    return trained_probabilities(folder, images)[0]


@pytest.mark.parametrize(
    ("path", "engine"),
    [
        ("best.pdparams", "dygraph"),
        ("export/inference.pdmodel", "paddle_inference"),
        ("export/inference.json", "paddle_inference"),
        ("export/inference.onnx", "onnxruntime"),
        ("logits/inference.json", "paddle_inference"),
        ("logits/inference.onnx", "onnxruntime"),
    ],
)
def test_every_engine_gives_the_trained_networks_probabilities(folder, path, engine):
    predictor = Predictor(folder / path, device="cpu", batch_size=2)
    assert (predictor.engine, predictor.note) == (engine, "")
    pictures = sorted((folder / "pictures").iterdir())
    rankings = predictor(pictures, topk=10)
    for picture, ranking in zip(pictures, rankings, strict=True):
        expected = fed_by_hand(folder, picture)
        assert [p.prob for p in ranking] == sorted((p.prob for p in ranking), reverse=True)
        for prediction in ranking:
            assert prediction.prob == pytest.approx(expected[prediction.class_id], abs=CLOSE)
            assert prediction.name == CLASSES[prediction.class_id]
        assert sum(p.prob for p in ranking) == pytest.approx(1, abs=1e-5)  # softmax, once


def test_files_images_and_arrays_are_the_same_to_it(folder):
    predictor = Predictor(folder / "export", engine="paddle_inference", device="cpu")
    picture = folder / "pictures" / "a.png"
    image = Image.open(picture)
    (from_path,) = predictor(str(picture))
    assert predictor([picture, image, np.asarray(image)]) == [from_path] * 3
    assert len(from_path) == 5
    assert len(predictor(picture, topk=99)[0]) == 10  # K = 10
    with pytest.raises(UserError, match="float64"):
        predictor(np.zeros((8, 8, 3)))


def test_softmax_survives_large_logits_and_agrees_with_paddle():
    logits = np.array([[1000.0, 999.0, 990.0], [0.1, 0.2, 0.3]], np.float32)
    expected = paddle.nn.functional.softmax(paddle.to_tensor(logits)).numpy()
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-6)  # a few roundings of float32


def test_onnx_runs_without_paddle(folder):
    code = (
        "import sys; sys.modules['paddle'] = None\n"  # importing it would raise
        "from ppcls_lite.deploy.predictor import Predictor\n"
        "ranking, = Predictor(sys.argv[1])(sys.argv[2])\n"
        "print(ranking[0].class_id, ranking[0].prob)"
    )
    picture = folder / "pictures" / "a.png"
    process = subprocess.run(
        [sys.executable, "-c", code, folder / "export" / "inference.onnx", picture],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    class_id, prob = process.stdout.split()
    expected = fed_by_hand(folder, picture)
    assert int(class_id) == expected.argmax()
    assert float(prob) == pytest.approx(expected.max(), abs=CLOSE)


def measured(folder, out, **milliseconds):
    """A copy of an export folder whose sidecar holds other times, and no row of other engines."""
    shutil.copytree(folder / "export", out)
    content = yaml.safe_load((out / "inference.yml").read_text())
    rows = content["verification"]["engines"]
    row = next(row for row in rows if row["engine"] == "onnxruntime")
    files = {"onnxruntime": "inference.onnx", "openvino": "inference.onnx"}
    content["verification"]["engines"] = [
        row | {"engine": engine, "file": files.get(engine, "inference.pdmodel"), "ms": time}
        for engine, time in milliseconds.items()
    ]
    (out / "inference.yml").write_text(yaml.safe_dump(content))
    return out


def test_auto_takes_the_engine_that_was_fastest_at_export_of_those_installed_and_agreeing(
    folder, tmp_path, monkeypatch
):
    export = measured(folder, tmp_path / "a", paddle_inference=2.0, onnxruntime=3.0, openvino=1.0)
    installed = {"paddle_inference", "onnxruntime", "openvino"}
    monkeypatch.setattr(choose, "is_installed", lambda engine: engine in installed)
    best = find_model(export)
    assert (best.engine, best.file) == ("openvino", export / "inference.onnx")
    assert best.why == (
        "openvino took 1.00 ms an image when this was exported;"
        " paddle_inference 2.00, onnxruntime 3.00"
    )
    assert find_model(export, device="gpu").engine == "onnxruntime"  # times of a CPU say nothing
    assert find_model(export, "onnxruntime").why == ""  # nothing was chosen
    installed.discard("openvino")
    best = find_model(export)
    assert (best.engine, best.file) == ("paddle_inference", export / "inference.pdmodel")
    content = yaml.safe_load((export / "inference.yml").read_text())
    content["verification"]["engines"][0]["passed"] = False  # Paddle's answers differed
    (export / "inference.yml").write_text(yaml.safe_dump(content))
    assert find_model(export).engine == "onnxruntime"
    assert "no other that agreed is installed" in find_model(export).why
    (export / "inference.onnx").unlink()  # the file of the one engine that was left
    assert find_model(export) == choose.Choice("paddle_inference", export / "inference.pdmodel", "")


def test_an_engine_gets_the_file_that_it_ran_fastest(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "is_installed", lambda engine: True)
    export = measured(folder, tmp_path / "a", onnxruntime=3.0, openvino=2.0)
    content = yaml.safe_load((export / "inference.yml").read_text())
    rows = content["verification"]["engines"]
    for engine, file, ms in (
        ("openvino", "inference.pdmodel", 1.5),
        ("paddle_inference", "inference.pdmodel", 5.0),
        ("paddle_inference", "inference.json", 4.0),
    ):
        rows.append(rows[0] | {"engine": engine, "file": file, "ms": ms})
    (export / "inference.yml").write_text(yaml.safe_dump(content))
    for asked in ("auto", "openvino"):
        found = find_model(export, asked)
        assert (found.engine, found.file.name) == ("openvino", "inference.pdmodel")
    # Threads take turns with a .json, which one thread does not notice.
    assert find_model(export, "paddle_inference").file.name == "inference.pdmodel"
    (export / "inference.pdmodel").unlink()
    assert find_model(export, "openvino").file.name == "inference.onnx"


def test_runs_of_eight_and_more_get_the_engine_and_file_that_were_fastest_in_these(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(choose, "is_installed", lambda engine: True)
    export = measured(folder, tmp_path / "a", onnxruntime=2.0, openvino=3.0)
    content = yaml.safe_load((export / "inference.yml").read_text())
    rows = content["verification"]["engines"]
    rows.append(rows[1] | {"file": "inference.pdmodel", "ms": 4.0})
    for row, ms in zip(rows, (1.6, 1.5, 1.25), strict=True):
        row["ms_in_eight"] = ms
    (export / "inference.yml").write_text(yaml.safe_dump(content))
    assert [find_model(export, batch_size=n).engine for n in (1, 7)] == ["onnxruntime"] * 2
    assert find_model(export, "openvino").file.name == "inference.onnx"
    best = find_model(export, batch_size=8)
    assert (best.engine, best.file.name) == ("openvino", "inference.pdmodel")
    assert best.why == (
        "openvino took 1.25 ms an image in runs of eight when this was exported; onnxruntime 1.60"
    )
    assert find_model(export, "openvino", batch_size=32).file.name == "inference.pdmodel"
    del rows[1]["ms_in_eight"]  # as in folders that were written before
    (export / "inference.yml").write_text(yaml.safe_dump(content))
    best = find_model(export, batch_size=8)
    assert best.engine == "onnxruntime" and "in runs of eight" not in best.why


def test_a_folder_without_measurements_takes_onnx_where_its_package_is_installed(
    folder, tmp_path, monkeypatch
):
    export = measured(folder, tmp_path / "a")
    assert find_model(export) == choose.Choice("onnxruntime", export / "inference.onnx", "")
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    assert find_model(export) == choose.Choice("paddle_inference", export / "inference.pdmodel", "")


def test_an_int8_folder_gets_the_engine_it_was_written_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "is_installed", lambda engine: True)
    export = measured(folder, tmp_path / "a")
    content = yaml.safe_load((export / "inference.yml").read_text())
    for target, engine in (
        ("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("accelerator", "onnxruntime"),
    ):  # fmt: skip
        content["verification"] = {"int8": {"target": target}}
        (export / "inference.yml").write_text(yaml.safe_dump(content))
        assert find_model(export).engine == engine
        assert (target in find_model(export).why) == (target == engine)
    content["verification"] = {"int8": {"target": "openvino"}}
    (export / "inference.yml").write_text(yaml.safe_dump(content))
    assert find_model(export, "onnxruntime").engine == "onnxruntime"
    monkeypatch.setattr(choose, "is_installed", lambda engine: engine != "openvino")
    assert find_model(export).engine == "onnxruntime"


def test_predict_says_which_engine_auto_took_and_why(folder, tmp_path, capsys):
    export = measured(folder, tmp_path / "a", paddle_inference=2.0, onnxruntime=1.0)
    picture = str(folder / "pictures" / "a.png")
    assert run(PredictConfig(pretrained=str(export), img_path=picture)) == 0
    told = capsys.readouterr()
    assert "(onnxruntime," in told.out
    assert "onnxruntime took 1.00 ms an image when this was exported" in told.err


def test_a_missing_engine_is_named_with_its_pip_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnxruntime") as caught:
        Predictor(folder / "export" / "inference.onnx")
    assert caught.value.hint == "pip install onnxruntime"


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this Paddle can use a GPU")
@pytest.mark.parametrize("path", ["best.pdparams", "export/inference.json"])
def test_a_gpu_that_is_not_there_is_refused(folder, path):
    with pytest.raises(UserError, match="--device cpu"):
        Predictor(folder / path, device="gpu")


def test_a_replaced_file_is_refused_before_an_engine_opens_it(folder, tmp_path):
    """Paddle Inference dies of a segmentation fault on such a .pdmodel."""
    shutil.copytree(folder / "export", tmp_path / "export")
    for name in ("inference.pdmodel", "inference.pdiparams"):
        whole = (tmp_path / "export" / name).read_bytes()
        (tmp_path / "export" / name).write_bytes(whole[:-100])
        with pytest.raises(UserError, match=rf"{name} is not the file that inference.yml"):
            Predictor(tmp_path / "export" / "inference.pdmodel")
        (tmp_path / "export" / name).write_bytes(whole)
    (tmp_path / "export" / "inference.yml").write_text("version: 1\nmodel: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot read .*inference\.yml: while parsing"):
        Predictor(tmp_path / "export")


@pytest.mark.parametrize(("source", "has_softmax"), [("export", True), ("logits", False)])
@pytest.mark.parametrize("names", [["inference.onnx"], ["inference.json", "inference.pdiparams"]])
def test_files_without_a_sidecar_work_on_stated_assumptions(
    folder, tmp_path, source, has_softmax, names
):
    """An export of Step6's own script has no sidecar."""
    for name in names:
        shutil.copy(folder / source / name, tmp_path)
    predictor = Predictor(tmp_path)
    assert predictor.has_softmax == has_softmax
    assert "assuming ImageNet's preprocessing" in predictor.note
    (ranking,) = predictor(folder / "pictures" / "a.png", topk=10)
    assert sum(p.prob for p in ranking) == pytest.approx(1, abs=1e-5)
    assert ranking[0].name == str(ranking[0].class_id)


def test_a_file_the_sidecar_does_not_list_borrows_its_preprocessing(folder, tmp_path):
    """The documents' paddle2onnx command writes into an export folder after the fact."""
    export_model(folder / "best.pdparams", tmp_path, formats=["json"])
    shutil.copy(folder / "logits" / "inference.onnx", tmp_path)
    predictor = Predictor(tmp_path, engine="onnxruntime")
    assert (predictor.engine, predictor.has_softmax) == ("onnxruntime", False)
    assert "does not list inference.onnx" in predictor.note
    assert predictor.info.classes == CLASSES


def test_bare_weights_of_step6_need_no_json(folder, tmp_path):
    bare = tmp_path / "bare.pdparams"
    paddle.save(create_model("mnasnet0_5", 6).state_dict(), str(bare))
    with pytest.raises(UserError, match="missing"):  # Step6's network is assumed
        Predictor(bare)
    predictor = Predictor(bare, model="mnasnet0_5")
    assert "assuming mnasnet0_5" in predictor.note
    assert predictor.note.endswith("class names are unknown")
    assert len(predictor(np.zeros((40, 50, 3), np.uint8), topk=9)[0]) == 6


def test_bare_weights_of_1000_classes_name_imagenets(tmp_path):
    """The ids and names of ILSVRC2012; those of the demo pictures among them."""
    bare = tmp_path / "bare.pdparams"
    paddle.save(create_model("mnasnet0_5").state_dict(), str(bare))
    predictor = Predictor(bare, model="mnasnet0_5")
    assert predictor.note.endswith("class names are ImageNet's")
    names = predictor.info.classes
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 207: "golden retriever", 504: "coffee mug", 999: "toilet tissue"}
    assert {class_id: names[class_id] for class_id in known} == known


@pytest.mark.parametrize(
    ("path", "engine", "message", "hint"),
    [
        ("absent", "auto", "no file or folder", "ls "),
        ("absent.onnx", "auto", "no file or folder", "ls "),
        ("best.json", "auto", "no weights best.pdiparams", "--pretrained .*best.pdparams"),
        ("pictures", "auto", "holds no model", "export --pretrained WEIGHTS --save-.*pictures"),
        (".", "auto", "holds no model", "--pretrained .*best.pdparams"),
        ("export", "dygraph", "no model for engine dygraph", ""),
        ("best.pdparams", "onnxruntime", "engine onnxruntime cannot run", "--engine dygraph"),
        ("export", "onnxruntim", "did you mean onnxruntime", ""),
    ],
)
def test_what_cannot_be_run_is_named(folder, path, engine, message, hint):
    with pytest.raises(UserError, match=message) as caught:
        find_model(folder / path, engine)
    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize("meant", ["", "/*"])
def test_files_that_are_no_pictures_are_counted_in_one_line(folder, tmp_path, capsys, meant):
    shutil.copy(folder / "pictures" / "a.png", tmp_path / "a.png")
    for name in ("notes.txt", "more.txt", "drawing.psd", ".hidden.txt"):
        (tmp_path / name).touch()
    config = PredictConfig(pretrained=str(folder / "best.pdparams"), img_path=f"{tmp_path}{meant}")
    assert run(config) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert lines == [
        f"predict: {tmp_path}{meant}: passed over, not taken for images: 2 .txt, 1 .psd"
    ]


def test_text_output_has_the_line_of_step6(folder, capsys):
    picture = folder / "pictures" / "a.png"
    config = PredictConfig(pretrained=str(folder / "best.pdparams"), img_path=str(picture), topk=3)
    assert run(config) == 0
    first, second, *rows = capsys.readouterr().out.rstrip().splitlines()
    assert re.fullmatch(rf"{re.escape(str(picture))}  \(dygraph, [\d.]+ ms\)", first)
    expected = fed_by_hand(folder, picture)
    match = re.fullmatch(r"class_id: (\d+), prob: (0\.\d+)", second)
    assert match and int(match[1]) == expected.argmax()
    assert float(match[2]) == pytest.approx(expected.max(), abs=CLOSE)
    assert len(rows) == 3
    assert CLASSES[expected.argmax()] in rows[0]
    assert f"{100 * expected.max():.2f} %" in rows[0]


def predict_in_a_process(*flags: str) -> subprocess.CompletedProcess[str]:
    return run_tool("tools/predict.py", *flags)


@pytest.mark.parametrize("path", ["best.pdparams", "export"])
def test_json_output_is_one_object_a_line_and_nothing_else(folder, tmp_path, path):
    for picture in (folder / "pictures").iterdir():
        shutil.copy(picture, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    flags = [f"--pretrained={folder / path}", f"--img-path={tmp_path}", "--json", "--topk=2"]
    process = predict_in_a_process(*flags, "--batch-size=3", "--device=cpu")
    assert process.returncode == 1
    assert "broken.jpg: is not an image" in process.stderr
    assert "1 of 4 images failed" in process.stderr
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    files = [Path(answer["file"]).name for answer in answers]
    assert files == ["a.png", "b.png", "broken.jpg", "c.png"]
    assert set(answers[2]) == {"file", "error"}
    for answer in (answers[0], answers[1], answers[3]):
        assert set(answer) == {"file", "engine", "topk"}
        expected = fed_by_hand(folder, Path(answer["file"]))
        assert [row["class_id"] for row in answer["topk"]] == list(np.argsort(-expected)[:2])
        for row in answer["topk"]:
            assert row["prob"] == pytest.approx(expected[row["class_id"]], abs=CLOSE)
            assert row["name"] == CLASSES[row["class_id"]]


def test_saved_pictures_show_bars_and_never_replace_each_other(folder, tmp_path):
    for name, colour in (("one", (255, 0, 0)), ("two", (0, 255, 0))):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("RGB", (600, 300), colour).save(tmp_path / "in" / name / "same.png")
    out = tmp_path / "out"
    config = PredictConfig(
        pretrained=str(folder / "export"), img_path=str(tmp_path / "in"), save_vis=str(out)
    )
    assert run(config) == 0
    assert run(config) == 0  # a second run renews its own files
    assert sorted(p.name for p in out.iterdir()) == ["same_pred.jpg", "same_pred_2.jpg"]
    (ranking,) = Predictor(folder / "export")(tmp_path / "in" / "one" / "same.png")
    drawn = np.asarray(Image.open(out / "same_pred.jpg")).astype(int)  # [H, W, 3]
    assert drawn.shape[1] == 600 and drawn.shape[0] > 300
    # JPEG changes colours a little.
    assert np.abs(drawn[100, 100] - (255, 0, 0)).max() < 10
    below = drawn[305:]
    blue = (below[..., 2] - below[..., 0] > 120).sum(axis=1).max()  # width of the first bar
    grey = (np.abs(below - (232, 235, 240)).max(axis=2) < 4).sum(axis=1)
    track = blue + grey[(below[..., 2] - below[..., 0] > 120).any(axis=1)].max()
    # Rounded corners and JPEG blur cost a few of about 250 pixels.
    assert blue / track == pytest.approx(ranking[0].prob, abs=0.05)


def test_names_the_font_cannot_draw_become_class_ids(tmp_path):
    """Pillow's own font has no Chinese; it would draw a box for each letter."""

    def drawn(name):
        save_overlay(Image.new("RGB", (480, 360)), [Prediction(3, 0.5, name)], tmp_path / "x.jpg")
        return (tmp_path / "x.jpg").read_bytes()

    assert drawn("猫") == drawn("3")  # a class without a name
    assert drawn("cat") != drawn("3")


def test_a_folder_that_cannot_be_made_is_one_message(folder, tmp_path):
    (tmp_path / "afile").touch()
    process = predict_in_a_process(
        f"--pretrained={folder}/export", f"--img-path={folder}/pictures/a.png",
        f"--save-vis={tmp_path}/afile", "--engine=onnxruntime",
    )  # fmt: skip
    assert process.returncode == 2
    message, act = process.stderr.splitlines()
    assert message == f"tools/predict.py: {tmp_path}/afile: File exists"
    assert act == "  next: name another path: a file is where a folder should be"
