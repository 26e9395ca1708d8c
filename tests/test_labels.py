"""Several labels a picture, the whole way: lists, training, thresholds, metrics, every engine."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import onnx
import paddle
import pytest
import yaml
from conftest import TINY_FLAGS, run_tool
from PIL import Image
from scipy import stats
from sklearn import metrics
from small_checkpoint import checkpoint

from ppcls_lite import Predictor, cli
from ppcls_lite.commands.quantize import accuracy_line
from ppcls_lite.commands.validate import run as validate
from ppcls_lite.commands.weights_convert import run as convert
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.multi_label import MultiLabelDataset
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.engine.checkpoint import load_checkpoint
from ppcls_lite.engine.evaluate import dygraph_forward
from ppcls_lite.engine.sets import check_multi_label
from ppcls_lite.engine.settings import TrainConfig, ValidateConfig
from ppcls_lite.errors import UserError
from ppcls_lite.int8.pictures import choose_pictures
from ppcls_lite.label_metric import LabelAccuracy, best_threshold
from ppcls_lite.loss import multi_label_loss
from ppcls_lite.quantize.recipe import score
from ppcls_lite.weights.settings import ConvertConfig

NAMES = ("red", "green", "blue")
SMALL = [flag for flag in TINY_FLAGS if not flag.startswith(("--lr", "--width", "--batch"))]


def shapes(shown, number):
    """A noisy picture with a large patch of each colour that is shown."""
    draws = np.random.RandomState(number)
    pixels = draws.randint(0, 90, (40, 44, 3), np.uint8)
    for channel in np.flatnonzero(shown):
        y, x = draws.randint(0, 6, 2)
        pixels[y : y + 36, x : x + 38, channel] += 150
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA/{train,val}_list.txt in PaddleClas' form, labels.txt and 48 + 32 pictures."""
    root = tmp_path_factory.mktemp("shapes")
    draws = np.random.RandomState(0)
    for split, count in (("train", 48), ("val", 32)):
        (root / split).mkdir()
        lines = []
        for number in range(count):
            shown = draws.randint(0, 2, 3)
            name = f"{split}/{number} shapes.png"
            shapes(shown, 1000 * (split == "val") + number).save(root / name)
            lines.append(f"{name}\t{','.join(map(str, shown))}\n")
        (root / f"{split}_list.txt").write_text("".join(lines))
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """What tools/finetune.py makes of it, from weights by formula."""
    out = tmp_path_factory.mktemp("run")
    done = run_tool(
        "tools/finetune.py", f"--data-path={data}", f"--output-dir={out}", *SMALL, "--epochs=1",
        f"--pretrained={checkpoint(tmp_path_factory.mktemp('weights'))}", "--seed=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def answers(data, weights):
    """Probabilities and labels of the val pictures by the network itself, [N, K] each."""
    found = load_checkpoint(weights)
    from ppcls_lite.slim.network import network_of

    network = network_of(found.info)
    network.set_state_dict(found.params)
    val = open_split(str(data), "val")
    pictures = [Image.open(val.path(i)) for i in range(len(val))]
    logits = dygraph_forward(network)(found.info.preprocess(pictures))
    return 1 / (1 + np.exp(-logits.astype(np.float64))), val.labels


def close(a, b):
    return np.allclose(a, b, rtol=0, atol=1e-12)


# Lists.


def listed(tmp_path, name, text, labels="auto"):
    for picture in "abc":
        shapes((0, 0, 0), 0).save(tmp_path / f"{picture}.png")
    (tmp_path / name).write_text(text)
    return open_split(str(tmp_path), "train", labels=labels)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train_list.txt", "a.png 1,1\nb.png 0,1\nc.png 0,0\n"),
        ("train_list.txt", "a.png,1,1\nb.png,0,1\nc.png,0,0\n"),
        ("train.csv", "file,cat,dog\na.png,1,1\nb.png,0,1\nc.png,0,0\n"),
        ("train.csv", "cat;image;dog\n1.0;a.png;1.0\n0.0;b.png;1.0\n0.0;c.png;0.0\n"),
        ("train.csv", "file,labels\na.png,dog|cat\nb.png,dog\nc.png,\n"),
    ],
)
def test_every_form_is_recognised_without_a_flag(tmp_path, name, text):
    found = listed(tmp_path, name, text)
    assert isinstance(found, MultiLabelDataset) and found.labels.dtype == np.uint8
    assert found.labels.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert found.classes == (["cat", "dog"] if name.endswith("csv") else ["0", "1"])
    assert found.class_set("train").pictures == (1, 2)


def test_the_flag_decides_what_is_ambiguous(tmp_path):
    """Names with |, a single label each, and one-hot columns of which each row has one."""
    text = "file,labels\na.png,dog|cat\nb.png,dog\nc.png,dog\n"
    assert listed(tmp_path, "train.csv", text, "one").classes == ["dog", "dog|cat"]
    single = "file,labels\na.png,dog\nb.png,cat\nc.png,dog\n"
    assert listed(tmp_path, "train.csv", single).labels.tolist() == [1, 0, 1]
    several = listed(tmp_path, "train.csv", single, "several").labels
    assert several.tolist() == [[0, 1], [1, 0], [0, 1]]
    one_each = "file,cat,dog\na.png,0,1\nb.png,1,0\nc.png,0,1\n"
    found = listed(tmp_path, "train.csv", one_each)
    assert found.labels.tolist() == [1, 0, 1] and "exactly one" in found.remarks[0]
    assert listed(tmp_path, "train.csv", one_each, "several").labels.tolist() == several.tolist()


def test_a_bad_line_and_lists_of_other_widths_are_named(tmp_path):
    with pytest.raises(UserError, match=r"train_list.txt:2: 'b.png 0,1,1'"):
        listed(tmp_path, "train_list.txt", "a.png 1,1,0,1\nb.png 0,1,1\nc.png 0,0,0,0\n")
    train = listed(tmp_path, "train_list.txt", "a.png 1,1,0\nb.png 0,1,1\n").class_set("train")
    narrow = listed(tmp_path, "train_list.txt", "a.png 1,1\nb.png 0,1\n")
    with pytest.raises(UserError, match="train lists 3 classes an image, val 2"):
        narrow.matched(train, "val", "")
    with pytest.raises(UserError, match="no list for train"):
        (tmp_path / "train_list.txt").unlink()
        (tmp_path / "train" / "cat").mkdir(parents=True)
        open_split(str(tmp_path), "train", labels="several")


# Numbers.


def random_answers(seed):
    draws = np.random.RandomState(seed)
    logits = draws.standard_normal((70, 4)).round(1)  # with equal ones
    labels = (draws.random((70, 4)) < 0.3).astype(np.uint8)
    accuracy = LabelAccuracy(4)
    accuracy.add(logits[:30], labels[:30])
    accuracy.add(logits[30:], labels[30:])
    return accuracy, logits, labels


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_scikit_learns(seed):
    accuracy, logits, labels = random_answers(seed)
    probs = accuracy.answers[0]
    theirs = metrics.average_precision_score(labels, probs, average=None)
    assert close(accuracy.precisions, theirs) and close(accuracy.score("top1"), theirs.mean())
    given = (probs >= np.array(accuracy.thresholds)).astype(int)
    scores = metrics.precision_recall_fscore_support(labels, given, zero_division=0)
    assert close(accuracy.class_scores(), scores[:3])
    for average in ("micro", "macro"):
        found = accuracy.values()[f"{average}_f1"]
        assert close(found, metrics.f1_score(labels, given, average=average, zero_division=0))
    assert close(accuracy.loss, [metrics.log_loss(labels.ravel(), probs.ravel())])
    tensor = paddle.to_tensor(logits, "float32"), paddle.to_tensor(labels, "float32")
    assert multi_label_loss(*tensor, 0.0).item() == pytest.approx(accuracy.loss, rel=1e-6)


def f1(labels, probs, cut):
    return metrics.f1_score(labels, probs >= cut, zero_division=0)


def highest(labels, probs):
    """The highest F1 of all thresholds, by scikit-learn's curve."""
    precision, recall, _ = metrics.precision_recall_curve(labels, probs)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()


@pytest.mark.parametrize("seed", range(2))
def test_no_threshold_has_a_better_f1_and_of_equal_ones_it_is_the_nearest_to_the_middle(seed):
    accuracy, _, labels = random_answers(seed)
    for k, cut in enumerate(accuracy.thresholds):
        probs = accuracy.answers[0][:, k]
        reached = f1(labels[:, k], probs, cut)
        assert highest(labels[:, k], probs) == pytest.approx(reached, abs=1e-12)
        scores = np.unique(probs)
        middles = (scores[1:] + scores[:-1]) / 2  # a threshold on a score itself is fragile
        for other in (0.5, *middles[np.abs(middles - 0.5) < abs(cut - 0.5) - 1e-6]):
            assert cut == other or f1(labels[:, k], probs, other) < reached
    assert best_threshold(np.array([0.9, 0.2]), np.array([0, 0])) == 0.5


def test_ranks_put_their_answers_together_exactly():
    whole, logits, labels = random_answers(0)
    parts = [LabelAccuracy(4) for _ in range(3)]
    for rank in range(2):  # the third has no picture
        parts[rank].add(logits[rank::2], labels[rank::2])
    # What each rank hands over, in the order of the calls; the sum is over the ranks.
    handed = [[], [], []]
    for rank, part in enumerate(parts):

        def total(values, rank=rank):
            handed[rank].append(values)
            sums = {0: np.array([35.0, 35.0, 0.0])}
            return sums.get(len(handed[rank]) - 1, values)

        part.over_ranks(total, rank, 3)
    calls = [sum(parts) for parts in zip(*handed, strict=True)]
    position = iter(calls)
    together = parts[0].over_ranks(lambda values: next(position), 0, 3)
    assert together.count == 70 and close(together.loss, whole.loss)
    assert together.values() == pytest.approx(whole.values(), abs=1e-12)


# Training.


def test_finetune_learns_them_without_a_flag_and_says_so(data, run):
    out, said = run
    state = json.loads((out / "best.json").read_text())
    assert state["activation"] == "sigmoid" and state["labels"] == list(NAMES)
    assert "classes" not in state  # a program that knows no sigmoid stops at that
    assert state["metrics"]["mAP"] > 0.9 and "of their labels right" in said
    assert re.search(r"best val mAP 0\.9|best val mAP 1\.0", said), said
    assert "several labels an image" in said


def test_a_run_goes_on_with_the_settings_that_it_had(data, run, tmp_path):
    assert "--calibrate" not in run[1] and "--unknown" not in run[1]  # of one label
    done = run_tool(
        "train.py", f"--resume={run[0] / 'latest.pdparams'}", "--epochs=2",
        f"--output-dir={tmp_path / 'on'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "on/latest.json").read_text())
    assert state["progress"]["epoch"] == 2 and state["activation"] == "sigmoid"


def test_what_is_stored_is_what_the_network_answers(data, run):
    probs, labels = answers(data, run[0] / "best.pdparams")
    state = json.loads((run[0] / "best.json").read_text())
    theirs = metrics.average_precision_score(labels, probs, average="macro")
    assert state["metrics"]["mAP"] == pytest.approx(theirs, abs=1e-9)
    for k, cut in enumerate(state["thresholds"]):
        best = highest(labels[:, k], probs[:, k])
        assert f1(labels[:, k], probs[:, k], cut) == pytest.approx(best, abs=1e-9)


def test_test_only_and_its_table_have_scikit_learns_numbers(data, run, tmp_path):
    weights = run[0] / "best.pdparams"
    done = run_tool(
        "train.py", "--test-only", f"--pretrained={weights}", f"--data-path={data}",
        "--workers=0", "--device=cpu", "--confusion-matrix", f"--output-dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    probs, labels = answers(data, weights)
    cuts = np.array(json.loads(weights.with_suffix(".json").read_text())["thresholds"])
    given = (probs >= cuts).astype(int)
    macro, micro = (metrics.f1_score(labels, given, average=a) for a in ("macro", "micro"))
    score = metrics.average_precision_score(labels, probs)
    last = f" * mAP {score:.3f} macro F1 {macro:.3f} micro F1 {micro:.3f}"
    assert last in done.stdout.splitlines()
    with (tmp_path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = metrics.precision_recall_fscore_support(labels, given)
    for k, row in enumerate(rows):
        assert row["class"] == NAMES[k] and int(row["pictures"]) == labels[:, k].sum()
        for name, values in zip(("precision", "recall", "f1"), scores, strict=False):
            assert float(row[name]) == pytest.approx(values[k], abs=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        ("--teacher=mobilenet_v3_small", "--teacher-pretrained=x.pdparams"),
        ("--teacher=mobilenet_v3_small", "--distill-loss=dml", "--distill-weight=0.5"),
        ("--cutmix=1",),
        ("--sampler=balanced",),
        ("--logit-adjustment=1",),
        ("--loss=ce",),
        ("--calibrate",),
        ("--unknown",),
        ("--num-classes=5",),
    ],
)
def test_what_knows_one_label_is_refused(flags):
    config = cli.parse(TrainConfig, list(flags), "train.py")
    with pytest.raises(UserError, match=flags[0].partition("=")[0]) as refused:
        check_multi_label(config, 3)
    assert "several labels an image" in refused.value.message


# Export, engines, commands.


@pytest.fixture(scope="module")
def export(run, tmp_path_factory):
    from ppcls_lite.deploy.export import export_model

    folder = tmp_path_factory.mktemp("export")
    sidecar = export_model(run[0] / "best.pdparams", folder / "m")
    assert all(row["passed"] for row in sidecar.verification["files"].values())
    return folder / "m"


def test_the_files_end_in_a_sigmoid_and_the_sidecar_says_so(run, export):
    content = yaml.safe_load((export / "inference.yml").read_text())
    state = json.loads((run[0] / "best.json").read_text())
    assert content["version"] == 2  # programs that know version 1 alone stop
    assert content["model"]["activation"] == "sigmoid" and content["classes"] == list(NAMES)
    assert content["model"]["thresholds"] == state["thresholds"]
    for output in content["outputs"].values():
        assert output["sigmoid"] and not output["softmax"]
    graph = onnx.load(export / "inference.onnx").graph
    (last,) = [node for node in graph.node if graph.output[0].name in node.output]
    assert last.op_type == "Sigmoid"


@pytest.mark.parametrize("engine", ["dygraph", "paddle_inference", "onnxruntime", "openvino"])
def test_every_engine_gives_the_same_labels(data, run, export, engine):
    pytest.importorskip({"dygraph": "paddle", "paddle_inference": "paddle"}.get(engine, engine))
    weights = run[0] / "best.pdparams"
    predictor = Predictor(weights if engine == "dygraph" else export, engine, "cpu")
    probs = answers(data, weights)[0]
    cuts = json.loads(weights.with_suffix(".json").read_text())["thresholds"]
    val = open_split(str(data), "val")
    rankings = predictor([val.path(i) for i in range(len(val))], topk=2)
    for row, ranking in zip(probs, rankings, strict=True):
        assert [p.prob for p in ranking] == pytest.approx(sorted(row)[:-3:-1], abs=2e-5)
        wanted = {name for name, p, cut in zip(NAMES, row, cuts, strict=True) if p >= cut}
        assert {p.name for p in ranking.labels} == wanted
    crops = predictor.info.preprocess([Image.open(val.path(0))])
    logits = predictor.logits(crops)
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(predictor.probabilities(crops), abs=1e-6)


@pytest.mark.parametrize("engine", ["dygraph", "onnxruntime"])
def test_flips_are_the_mean_of_the_logits_and_decide_the_labels(data, run, export, engine):
    weights = run[0] / "best.pdparams"
    path = weights if engine == "dygraph" else export
    val = open_split(str(data), "val")
    files = [val.path(i) for i in range(8)]
    plain = Predictor(path, engine, "cpu")
    crops = plain.info.preprocess([Image.open(file) for file in files])
    logits = (plain.logits(crops) + plain.logits(crops[..., ::-1].copy())) / 2
    rankings = Predictor(path, engine, "cpu", tta="flip")(files, topk=3)
    for row, ranking in zip(1 / (1 + np.exp(-logits)), rankings, strict=True):
        assert [p.prob for p in ranking] == pytest.approx(sorted(row)[::-1], abs=2e-5)
        cuts = plain.info.thresholds
        wanted = {name for name, p, cut in zip(NAMES, row, cuts, strict=True) if p >= cut}
        assert {p.name for p in ranking.labels} == wanted


def test_predict_says_the_labels_and_keeps_topk_as_it_was(data, export, capsys):
    from ppcls_lite.commands.predict import run as predict

    picture = next((data / "val").iterdir())
    config = PredictConfig(pretrained=str(export), img_path=str(picture), engine="onnxruntime")
    assert predict(replace(config, json=True)) == 0 and predict(config) == 0
    line, *text = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert list(row) == ["file", "engine", "topk", "labels"]
    assert all(list(each) == ["class_id", "prob", "name"] for each in row["topk"] + row["labels"])
    names = ", ".join(each["name"] for each in row["labels"]) or "none"
    assert f"labels: {names}" in text


def test_the_server_and_its_page_give_them(data, export):
    pytest.importorskip("prometheus_client")
    from starlette.testclient import TestClient

    from ppcls_lite.serving.app import create_app
    from ppcls_lite.serving.settings import ServeConfig

    picture = next((data / "val").iterdir())
    (ranking,) = Predictor(export, "onnxruntime", "cpu")(picture)
    config = ServeConfig(exported=str(export), engine="onnxruntime", reload_seconds=0)
    with TestClient(create_app(config)) as client:
        found = client.post("/predict", content=picture.read_bytes()).json()["results"][0]
        schema = client.get("/openapi.json").json()["components"]["schemas"]["Result"]
    assert found["labels"] == ranking.to_dict()["labels"] and "unknown" not in found
    assert "labels" in schema["properties"]


def test_an_export_is_tested_at_its_thresholds(data, run, export, capsys):
    config = ValidateConfig(
        pretrained=str(export), data_path=str(data), engine="onnxruntime", workers=0, device="cpu"
    )
    assert validate(config) == 0
    probs, labels = answers(data, run[0] / "best.pdparams")
    score = metrics.average_precision_score(labels, probs)
    assert f" * mAP {score:.3f} macro F1 " in capsys.readouterr().out


def test_a_network_with_one_label_and_data_with_several_are_refused(data, tmp_path):
    config = ValidateConfig(pretrained=str(checkpoint(tmp_path)), data_path=str(data))
    with pytest.raises(UserError, match="lists several labels an image"):
        validate(config)
    with pytest.raises(UserError, match="which this command does not know"):
        open_split(str(data), "val").label(0)  # what packing and the card's lists ask for


def test_quantize_counts_labels_and_calibrates_with_every_combination():
    draws = np.random.RandomState(0)
    labels = draws.randint(0, 2, (40, 3)).astype(np.uint8)
    chosen = choose_pictures(labels, 8)
    assert len({tuple(row) for row in labels[chosen]}) == len({tuple(row) for row in labels})
    reference, answers_ = draws.standard_normal((2, 40, 3))
    found = score(answers_, reference, labels)
    assert close(found["top1"], metrics.accuracy_score(labels.ravel(), answers_.ravel() > 0))
    same = metrics.accuracy_score(reference.ravel() > 0, answers_.ravel() > 0)
    assert close(found["agreement"], same)
    line = accuracy_line(found | {"top1_float": 1.0}, several=True)
    counted = f"labels right {found['top1']:.4f}, float 1.0000; {same:.1%} of the labels stay"
    assert line.startswith(f"{counted}; difference -")
    paired = ((answers_ > 0) == labels).astype(int) - ((reference > 0) == labels)
    assert close(found["top1_error"], stats.sem(paired.mean(1), ddof=0))
    paired = (answers_.argmax(1) == labels[:, 0]).astype(int) - (
        reference.argmax(1) == labels[:, 0]
    )
    found = score(answers_, reference, labels[:, 0])
    assert close(found["top1_error"], stats.sem(paired, ddof=0))


def test_what_is_for_one_label_refuses_such_weights(data, run, tmp_path):
    weights = run[0] / "best.pdparams"
    config = ConvertConfig(
        weights=str(weights), model="mobilenet_v3_small", out=str(tmp_path / "w.pdparams"),
        calibrate=True, data_path=str(data),
    )  # fmt: skip
    with pytest.raises(UserError, match="gives several labels an image"):
        convert(config)
