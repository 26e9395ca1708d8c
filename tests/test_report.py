"""tools/report.py: the numbers against other libraries, the pages in a real browser."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from conftest import run_tool, train
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform
from scipy.stats import binomtest, chi2
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from small_checkpoint import network_by_formula

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.projection import COLOURED, draw_features
from ppcls_lite.engine.checkpoint import Progress, save_checkpoint
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.page import breaks
from ppcls_lite.program import NAMES
from ppcls_lite.review.charts import curves
from ppcls_lite.review.classes import GROUP, class_rows, cluster, matrix_picture
from ppcls_lite.review.mcnemar import mcnemar
from ppcls_lite.verbs import find, settle

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MARKUP = "<img src=x onerror=alert(1)>"
CLASSES = (MARKUP, "a & b", 'q"uote')


def answers(both, only_first, only_second, neither):
    """Whether each of two networks is right, on so many pictures of each kind."""
    counts = (both, only_first, only_second, neither)
    return (np.repeat(x, counts) for x in ([True, True, False, False], [True, False, True, False]))


# p, chi-squared, its p: statsmodels 0.15.0, contingency_tables.mcnemar with correction=True.
@pytest.mark.parametrize(
    ("b", "c", "exact", "statistic", "approximate"),
    [
        (9, 12, 0.6636238098144531, 0.19047619047619047, 0.6625205835400574),
        (49, 8, 2.716852566531091e-08, 28.07017543859649, 1.1699502806737586e-07),
        (3, 0, 0.25, 1.3333333333333333, 0.24821307898992026),
        (30, 12, 0.007915897334896727, 6.880952380952381, 0.008711912962379598),
    ],
)
def test_mcnemar_is_statsmodels_and_scipys(b, c, exact, statistic, approximate):
    found = mcnemar(*answers(100, b, c, 20))
    assert (found.only_first, found.only_second) == (b, c)
    assert found.exact == pytest.approx(exact, rel=1e-12)
    assert found.exact == pytest.approx(binomtest(b, b + c, 0.5).pvalue, rel=1e-12)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.approximate == pytest.approx(approximate, rel=1e-9)
    assert found.approximate == pytest.approx(chi2.sf(statistic, 1), rel=1e-9)
    assert found.difference == pytest.approx((c - b) / (120 + b + c))


def test_mcnemar_of_equal_answers_and_of_many():
    assert mcnemar(*answers(5, 0, 0, 5))[4:] == (1.0, 0.0, 1.0)
    many = mcnemar(*answers(0, 4000, 3800, 9))  # far beyond the range of a float's factorials
    assert many.exact == pytest.approx(binomtest(4000, 7800, 0.5).pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_keeps_scipys_clusters_together(seed):
    draws = np.random.default_rng(seed)
    points = draws.normal(size=(40, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    order, groups = cluster(distances)
    assert sorted(order) == list(range(40))
    assert [each for group in groups for each in group] == order
    tree = to_tree(linkage(squareform(distances, checks=False), "average"), rd=True)[1]
    clusters = {frozenset(node.pre_order()) for node in tree}
    for members in clusters:
        places = sorted(order.index(i) for i in members)
        assert places[-1] - places[0] == len(members) - 1  # side by side
    small = {x for x in clusters if len(x) <= GROUP}
    assert {frozenset(g) for g in groups} == {x for x in small if not any(x < y for y in small)}


def test_numbers_of_the_classes_are_scikit_learns():
    draws = np.random.default_rng(0)
    y, logits = draws.integers(0, 4, 200), draws.normal(size=(200, 6))
    logits[np.arange(200), y] += 2
    logits[:, 5] = -9  # a class without pictures and answers
    accuracy = Accuracy(6)
    accuracy.add(logits, y)
    rows = {row.name: row for row in class_rows(accuracy, list("abcdef"))}
    precision, recall, f1, count = precision_recall_fscore_support(
        y, logits.argmax(1), labels=range(6), zero_division=0
    )
    assert set(rows) == set("abcde")  # e has answers
    matrix = confusion_matrix(y, logits.argmax(1), labels=range(6))
    np.fill_diagonal(matrix, 0)
    for k in range(4):
        row = rows["abcdef"[k]]
        assert row.pictures == count[k] and row.f1 == pytest.approx(f1[k])
        assert row.recall[0] == pytest.approx(recall[k])
        assert row.recall[1] < recall[k] < row.recall[2]
        assert row.precision[0] == pytest.approx(precision[k])
        assert row.taken_for == ("abcdef"[matrix[k].argmax()], matrix[k].max())
    assert rows["e"].recall is None and rows["e"].precision[0] == 0


def test_a_matrix_of_a_thousand_classes_shows_a_single_mistake():
    counts = np.diag(np.full(1000, 50))
    counts[3, 700] = 1
    image = np.asarray(matrix_picture(counts, range(1000)))
    assert image.shape == (1000, 1000, 4)
    red = (image[..., 0] > 200) & (image[..., 3] > 60)
    assert red.sum() == 9 and red[2:5, 699:702].all()  # three pixels wide, to be seen
    assert not image[500, 100, 3]


def records(rates, **shares):
    train = [{"event": "train", "step": s, "epoch": s - 1, "loss": 1 / s, "lr": rate, "top1": 0.5}
             for s, rate in enumerate(rates, 1)]  # fmt: skip
    ends = [{"event": "eval", "step": s, "epoch": s - 1, "loss": 1 / s, "top1": 0.5, **shares}
            for s in range(1, len(rates) + 1)]  # fmt: skip
    return {"train": train, "eval": ends}


def test_a_path_may_break_between_its_parts_and_is_escaped():
    assert breaks("../a/<b>_c.jpg") == "../<wbr>a/<wbr>&lt;b&gt;_<wbr>c<wbr>.jpg"
    assert breaks(0.0005) == "0.0005"


def test_a_class_with_a_colour_does_not_look_like_those_without():
    figure, labels = Figure(), np.repeat(np.arange(COLOURED + 5), 2)
    features = np.random.default_rng(0).normal(size=(len(labels), 3))
    draw_features(figure, features, labels, [f"class {k}" for k in labels])
    _, *own = figure.axes[0].collections  # the first are the others
    colours = {tuple(each.get_facecolor()[0][:3]) for each in own}
    assert len(colours) == COLOURED
    assert all(max(colour) - min(colour) > 0.1 for colour in colours)  # none is grey


def test_text_of_charts_is_readable_on_a_phone():
    """A chart is 353 pixels wide there; of a legend, too."""
    for _, svg in curves({"a": records([0.1] * 5, top5=1.0)}, 6):
        wide = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]
        assert len(sizes) > 5 and min(sizes) * 353 / wide >= 11
        assert "system-ui" in svg and "DejaVu" not in svg  # the page's own, not matplotlib's


def test_curves_have_sensible_axes():
    titles = [title for title, _ in curves({"a": records([0.1] * 5, top5=1.0)}, 5)]
    assert titles == ["Loss by epoch", "Top-1 by epoch", "Learning rate by epoch"]
    drawn = dict(curves({"a": records([0.1] * 5, top5=1.0)}, 6))
    assert "Top-5 by epoch" in drawn  # six classes may be wrong five times
    rate = str(drawn["Learning rate by epoch"])
    (line,) = re.findall(r'<path d="([^"]*)" clip-path[^>]*stroke: var\(--c0\)', rate)
    heights = {float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", line)}
    assert len(heights) == 1 and "ends at 0.1" in rate  # flat, not noise
    top, bottom = 5, float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', rate)[1]) - 30
    assert top < heights.pop() < (top + bottom) / 2  # and not on the ground: the axis begins at 0


@pytest.fixture(scope="module")
def run_folder(pictures, tmp_path_factory):
    """A run whose classes are markup: data, best.pdparams, metrics.jsonl."""
    folder = tmp_path_factory.mktemp("report")
    data, run = folder / "data", folder / "run"
    run.mkdir()
    for split in ("train", "val"):
        for old, new in zip(("blue", "green", "red"), CLASSES, strict=True):
            shutil.copytree(pictures / split / old, data / split / new)
    spec = Preprocess(36, 32)
    model = network_by_formula("mobilenet_v3_small", data / "train", spec, width=0.5)
    info = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, CLASSES, spec)
    config = {"data_path": str(data), "epochs": 2, "lr": 0.1}
    save_checkpoint(
        run / "best.pdparams", model.state_dict(), {}, info, Progress(2, 0, 2), {"config": config}
    )
    lines = [
        {"event": "train", "step": 1, "epoch": 0, "loss": 1.0, "top1": 0.4, "lr": 0.1},
        {"event": "eval", "step": 1, "epoch": 0, "loss": 1.1, "top1": 0.3, "top5": 1.0},
        {"event": "eval", "step": 2, "epoch": 1, "loss": 1.0, "top1": 0.5, "top5": 1.0},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return run


@pytest.fixture(scope="module")
def pages(run_folder):
    """The page of the run, and that of it beside itself."""
    for flags in ((), (f"--compare={run_folder}/best.pdparams",)):
        done = run_tool("tools/report.py", f"--run={run_folder}", "--workers=0", *flags)
        assert done.returncode == 0, done.stderr
    return [run_folder / "report.html", run_folder / "compare.html"]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_page(browser, path, width=1200, scheme="light"):
    """The page; it may ask for nothing and log no error."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("request", lambda request: pytest.fail(request.url)
            if not request.url.startswith(("file:", "data:", "blob:")) else None)  # fmt: skip
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("dialog", lambda dialog: pytest.fail("a class name was run"))
    page.goto(path.as_uri())
    return page


def test_the_page_says_what_validate_says(run_folder, pages):
    text = pages[0].read_text().replace("&nbsp;", " ")
    assert MARKUP not in text and "http" not in text and len(text) < 3e6
    done = run_tool("tools/validate.py", f"--pretrained={run_folder}/best.pdparams",
                    f"--data-path={run_folder.parent}/data", "--workers=0")  # fmt: skip
    top1 = re.search(r"top1 ([\d.]+) \(95 %: ([\d.]+) to ([\d.]+)\)", done.stdout)
    assert top1, done.stdout + done.stderr
    value, low, high = (f"{100 * float(x):.1f} %" for x in top1.groups())
    assert f"{value}<small>95 %: {low} to {high}" in text


def test_its_commands_parse(pages):
    lines = re.findall(r"<pre[^>]*>([^<]*)</pre>", pages[0].read_text())
    assert len(lines) >= 4
    for line in lines:
        python, program, *flags = shlex.split(line.replace("&#39;", "'").replace("&amp;", "&"))
        assert python == "python"
        settle(*find(NAMES[program], flags, program))


@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("number", [0, 1])
def test_pages_in_a_browser(browser, pages, number, scheme, width):
    page = open_page(browser, pages[number], width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("row").filter(has_text=MARKUP).count()
    for link in page.get_by_role("navigation").get_by_role("link").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    for image in page.get_by_role("img").all():
        if image.evaluate("e => e.tagName") == "IMG":
            assert image.evaluate("e => e.naturalWidth") > 0
    page.close()


@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("number", [0, 1])
def test_axe_finds_nothing(browser, pages, number, scheme, width):
    page = open_page(browser, pages[number], width, scheme)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert axe.run(page).response["violations"] == []
    page.close()


def test_a_run_beside_itself_differs_by_chance_alone(browser, pages):
    page = open_page(browser, pages[1])
    row = page.get_by_role("region", name="McNemar's test").get_by_role("row").nth(1)
    cells = row.get_by_role("cell").all_inner_texts()
    assert cells[2:4] == ["0", "0"] and cells[5] == "1" and cells[-1] == "may be chance"
    page.close()


def test_printing_opens_what_is_folded(browser, pages):
    page = open_page(browser, pages[0])
    assert page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("details:not([open])").count()
    page.close()


def test_a_training_writes_it_when_asked(pictures, tmp_path):
    done = train(pictures, tmp_path / "run", "--epochs=1", "--report")
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path}/run/report.html" in done.stdout
    text = (tmp_path / "run/report.html").read_text()
    assert "21 validation images of 3 classes" in text and "Learning rate by epoch" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--run=nowhere"], "nowhere: no best.pdparams in it"),
        (["--run=a", "--pretrained=b"], "both name the model"),
        (["--pretrained=mobilenet_v3_small.clothing10"], "does not say what it was trained on"),
    ],
)
def test_mistakes_are_one_message(flags, said):
    done = run_tool("tools/report.py", *flags)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert "next: " in done.stderr
