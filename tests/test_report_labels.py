"""tools/report.py of networks that give several labels an image: numbers, pages in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import run_tool
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from small_checkpoint import network_by_formula
from test_report import MARKUP, open_page

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.checkpoint import Progress, save_checkpoint
from ppcls_lite.label_metric import LabelAccuracy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.review.labels import label_bins, label_rows, worst_labels

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CLASSES = (MARKUP, "a & b", "never")


def answers(count=200):
    """Logits and labels of four classes, the last of which no image shows."""
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, (count, 4)).astype(np.uint8)
    labels[:, 3] = 0
    logits = draws.normal(size=(count, 4)) + 1.5 * labels * [1, 0.5, 2, 1]
    accuracy = LabelAccuracy(4, (0.5, 0.6, 0.7, 0.5))
    accuracy.add(logits, labels)
    return accuracy


def test_numbers_of_the_classes_are_scikit_learns():
    accuracy = answers()
    probs, labels = accuracy.answers
    rows = label_rows(accuracy, list("abcd"))
    given = probs >= np.array(accuracy.thresholds)
    precision, recall, f1, count = precision_recall_fscore_support(labels, given, zero_division=0)
    averages = [row["average"] for row in rows]
    assert averages[-1] is None and averages[:-1] == sorted(averages[:-1])
    for row in rows:
        k = row["class_id"]
        assert (row["name"], row["pictures"]) == ("abcd"[k], count[k])
        assert row["f1"] == pytest.approx(f1[k])
        assert row["precision"][0] == pytest.approx(precision[k])
        assert row["precision"][1] <= precision[k] <= row["precision"][2]
        if count[k]:
            assert row["average"] == pytest.approx(
                average_precision_score(labels[:, k], probs[:, k])
            )
            assert row["recall"][0] == pytest.approx(recall[k])
    assert rows[-1]["recall"] is None


def test_bins_count_every_class_of_every_image():
    probs, labels = answers().answers
    bins = label_bins(probs, labels)
    edges = np.linspace(0, 1, bins.shape[1] + 1)
    np.testing.assert_allclose(bins[0], np.histogram(probs, edges)[0])
    np.testing.assert_allclose(bins[1], np.histogram(probs, edges, weights=labels)[0])
    np.testing.assert_allclose(bins[2], np.histogram(probs, edges, weights=probs)[0])


def test_the_worst_is_the_furthest_from_its_threshold_on_the_wrong_side():
    accuracy = LabelAccuracy(2, (0.5, 0.5))
    logits = np.array([[4, -4], [4, 1], [-6, 5], [0.5, -3], [3, 3]])
    accuracy.add(logits, np.array([[1, 0], [0, 0], [1, 0], [0, 1], [1, 1]]))
    assert worst_labels(accuracy) == [(2, 0), (1, 0), (3, 1)]


@pytest.fixture(scope="module")
def run_folder(pictures, tmp_path_factory):
    """A run on lists of several labels; class names are markup, and one is on no image."""
    folder = tmp_path_factory.mktemp("labels")
    data, run = folder / "data", folder / "run"
    run.mkdir()
    kinds = {"red": "1,0,0", "green": "1,1,0", "blue": "0,0,0"}
    for split in ("train", "val"):
        (data / split).mkdir(parents=True)
        lines = []
        for path in sorted((pictures / split).glob("*/*")):
            name = f"{split}/{path.parent.name}_{path.name}"
            shutil.copy(path, data / name)
            lines.append(f"{name}\t{kinds[path.parent.name]}\n")
        (data / f"{split}_list.txt").write_text("".join(lines))
    (data / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    spec = Preprocess(36, 32)
    model = network_by_formula("mobilenet_v3_small", data / "train", spec, width=0.5)
    info = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, CLASSES, spec, multi_label=True,
                     thresholds=(0.4, 0.5, 0.6))  # fmt: skip
    state = {"config": {"data_path": str(data), "epochs": 1}}
    save_checkpoint(run / "best.pdparams", model.state_dict(), {}, info, Progress(1, 0, 1), state)
    lines = [
        {"event": "train", "step": 1, "epoch": 0, "loss": 1.0, "f1": 0.4, "lr": 0.1},
        {"event": "eval", "step": 1, "epoch": 0, "loss": 1.1, "mAP": 0.3, "macro_f1": 0.2},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return run


@pytest.fixture(scope="module")
def page_file(run_folder):
    done = run_tool("tools/report.py", f"--run={run_folder}", "--workers=0")
    assert done.returncode == 0, done.stderr
    return run_folder / "report.html"


def test_the_page_says_what_validate_says_and_what_it_leaves_out(run_folder, page_file):
    text = page_file.read_text()
    assert MARKUP not in text and "http" not in text
    done = run_tool("tools/validate.py", f"--pretrained={run_folder}/best.pdparams",
                    f"--data-path={run_folder.parent}/data", "--workers=0")  # fmt: skip
    said = re.search(r"\* mAP ([\d.]+) macro F1 ([\d.]+) micro F1 ([\d.]+)", done.stdout)
    assert said, done.stdout + done.stderr
    found = re.findall(r"<dd>([\d.]+)<small>(?:mean average|micro F1: ([\d.]+))", text)
    assert [x for pair in found for x in pair if x] == [said[1], said[2], said[3]]
    assert "Left out, as they are of one label an image: confusion" in text
    assert "MAP by epoch" not in text and "mAP by epoch" in text and "Top-1" not in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 375])
def test_the_page_in_a_browser(page_file, scheme, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = open_page(browser, page_file, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_role("row").filter(has_text=MARKUP).count()
        for link in page.get_by_role("navigation").get_by_role("link").all():
            assert page.locator(link.get_attribute("href")).count() == 1
        assert page.locator("article").count() and page.locator("article .near img").count()
        assert re.search(r"(found|missed) \([\d.]+\s%", page.locator("article").first.inner_text())
        for image in page.locator("img").all():
            assert image.evaluate("e => e.naturalWidth") > 0
        assert axe.run(page).response["violations"] == []
        browser.close()


@pytest.mark.parametrize(
    ("flag", "said"), [("others", "no “unknown”"), ("compare", "the test is of one")]
)
def test_what_is_of_one_label_an_image_is_refused(run_folder, flag, said):
    value = run_folder.parent / "data" if flag == "others" else run_folder
    done = run_tool("tools/report.py", f"--run={run_folder}", f"--{flag}={value}", "--workers=0")
    assert done.returncode == 2 and said in done.stderr and "next: " in done.stderr
