"""tools/check_data.py finds what was put into a data set to be found."""

import csv
import html
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from golden.data_images import make_image
from PIL import Image, ImageFilter
from sklearn.linear_model import Ridge

from ppcls_lite.commands.data_check import run
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.overview import alike_classes, class_counts
from ppcls_lite.data.settings import CheckDataConfig
from ppcls_lite.data.suspects import BLURRED, blur
from ppcls_lite.engine.doubtful import RIDGE, _left_out, doubtful, out_of_fold
from ppcls_lite.errors import UserError

# Pictures whose class is their colour, and the class in whose folder they are put.
SWAPPED = {"train/red/3.png": "blue", "train/green/5.png": "red", "val/blue/502.png": "green"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean data set: two pictures per class and split."""
    seed = 0
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                seed += 1
                image = make_image(20 + 10 * seed, 30, seed)
                image.save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_a_clean_data_set_is_ok(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(CheckDataConfig(str(root), workers=0)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["class", "train", "val"],
        ["0", "ant", "2", "2"],
        ["1", "bee", "2", "2"],
        ["total", "4", "4"],
    ]
    assert f"train: smallest 30 x 30 {root}/train/ant/0.png" in lines
    assert f"val: largest 100 x 30 {root}/val/bee/1.png" in lines
    assert lines[-1] == "OK" and not any("warning" in line for line in lines)


def no_class(root: Path) -> None:
    (root / "train/cat").mkdir()


def no_class_in_val(root: Path) -> None:
    for name in ("train", "val"):
        (root / name / "cat").mkdir()
    for number in range(2):
        make_image(50, 30 + number, 70 + number).save(root / f"train/cat/{number}.png")


def one_picture(root: Path) -> None:
    (root / "train/bee/1.png").unlink()


def one_class(root: Path) -> None:
    for name in ("train", "val"):
        shutil.rmtree(root / name / "bee")


def passed_over(root: Path) -> None:
    (root / "train/ant/phone.cr2").touch()
    (root / "train/ant/.hidden.cr2").touch()


def beside_the_classes(root: Path) -> None:
    make_image(50, 30, 70).save(root / "val/lost.png")


def twice(root: Path) -> None:
    shutil.copy(root / "train/bee/1.png", root / "train/bee/copy.png")


# What is not as it should be, though a training can live with it, and what is said of it.
WARNINGS = {
    no_class: "train has no image of class cat",
    no_class_in_val: "val has no image of class cat",
    one_picture: "train has a single image of class bee",
    one_class: "train has a single class, ant: every prediction is right",
    passed_over: "train: ROOT/train: passed over, not taken for images: 1 .cr2",
    beside_the_classes: "val: ROOT/val: 1 images lie beside the class folders and are of no"
    " class: ROOT/val/lost.png",
    twice: "train: 1 images are there twice: ROOT/train/bee/copy.png is ROOT/train/bee/1.png"
    " once more",
}


@pytest.mark.parametrize("spoil", WARNINGS, ids=lambda spoil: spoil.__name__)
def test_what_is_not_well_is_said_instead_of_ok(
    root: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root)
    assert run(CheckDataConfig(str(root), workers=0)) == 0
    output = capsys.readouterr().out.replace(str(root), "ROOT")
    assert f"  {WARNINGS[spoil]}\n" in output and "warning" in output and "OK" not in output
    assert "problem" not in output
    assert run(CheckDataConfig(str(root), workers=0, json=True)) == 0
    report = json.loads(capsys.readouterr().out.replace(str(root), "ROOT"))
    assert WARNINGS[spoil] in report["warnings"] and report["problems"] == []


def test_a_picture_in_two_classes_is_a_problem(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "train/bee/1.png", root / "train/ant/copy.png")
    assert run(CheckDataConfig(str(root), workers=0)) == 1
    output = capsys.readouterr().out.replace(str(root), "ROOT")
    both = "ROOT/train/ant/copy.png and ROOT/train/bee/1.png"
    assert f"1 problem:\n  train: the same image is in two classes: {both}\n" in output
    assert "OK" not in output


@pytest.mark.parametrize("workers", [0, 2])
def test_problems_are_listed_and_set_the_exit_status(
    root: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "ant" / "broken.jpg").write_bytes(b"")
    (root / "train" / "ant" / "phone.cr2").touch()
    shutil.copy(root / "train" / "bee" / "1.png", root / "val" / "ant" / "copy.png")
    (root / "val" / "dog").mkdir()
    assert run(CheckDataConfig(str(root), workers=workers, json=True)) == 1
    report = json.loads(capsys.readouterr().out)
    train = report["splits"]["train"]
    assert train["pictures"] == 5
    assert train["classes"][0] == {"id": 0, "name": "ant", "pictures": 3}
    assert train["broken"] == [
        {"file": f"{root}/train/ant/broken.jpg", "cause": "is empty (0 bytes)"}
    ]
    assert train["other_files"] == [f"{root}/train/ant/phone.cr2"]
    assert train["largest"] == {"file": f"{root}/train/bee/1.png", "width": 60, "height": 30}
    classes, broken, duplicate = report["problems"]
    assert broken == f"broken image {root}/train/ant/broken.jpg: is empty (0 bytes)"
    assert classes == "only in val, and without images: dog"
    assert (
        duplicate == f"val image {root}/val/ant/copy.png is also in train: {root}/train/bee/1.png"
    )


def test_bad_list_lines_and_a_missing_split_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train_list.txt").write_text("a.png zero\nb.png 0 0.5\n")
    assert run(CheckDataConfig(str(tmp_path), workers=0)) == 1
    output = capsys.readouterr().out
    assert "train_list.txt:1: 'a.png zero'" in output and "train_list.txt:2: " in output
    assert "has no val/ with class folders and no val_list.txt" in output
    assert "2 problems:" in output


def test_a_wrong_data_path_is_one_mistake(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder; did you mean train\?"):
        run(CheckDataConfig(str(root / "trian"), workers=0))


def test_report_finds_planted_copies_and_odd_pictures(tmp_path: Path) -> None:
    """Copies that Pillow recompressed, resized, mirrored and cropped; names that are markup."""
    root, markup = tmp_path / "data", "<img src=x onerror=alert(1)>"
    for split in ("train", "val"):
        for name in (markup, "bee"):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                seed = len(split) * 10 + len(name) + 100 * i
                # Smooth as photographs are: noise does not survive another size.
                smooth = make_image(8, 6, seed).resize((160, 120), Image.Resampling.BICUBIC)
                smooth.save(root / split / name / f"{i}.png")
    source = Image.open(root / "train/bee/0.png").convert("RGB")
    plants = {
        "val/bee/recompressed.jpg": source,
        "train/bee/resized.png": source.resize((80, 60)),
        f"train/{markup}/mirrored.png": source.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "train/bee/cropped.png": source.crop((4, 3, 156, 117)),
        "val/bee/corner.png": source.crop((8, 6, 160, 120)),  # 5 % of two sides
    }
    for name, image in plants.items():
        image.save(root / name)
    shutil.copy(root / "train/bee/1.png", root / "val/bee/same.png")
    odd = {"blank": (90, 90), "tiny": (20, 20), "shape": (400, 60)}
    for kind, size in odd.items():
        image = Image.new("RGB", size, "gray") if kind == "blank" else make_image(*size, len(kind))
        image.save(root / f"train/bee/{kind}.png")
    out = tmp_path / "report"
    run(CheckDataConfig(str(root), workers=0, report=str(out)))

    rows = list(csv.DictReader((out / "findings.csv").open()))
    assert list(rows[0]) == ["kind", "file", "other", "score", "suggestion"]
    near = [x for x in rows if x["kind"] == "near_duplicate"]
    pairs = {frozenset((x["file"], x["other"])) for x in near}
    original = str(root / "train/bee/0.png")
    assert {frozenset((original, str(root / name))) for name in plants} <= pairs
    own = {original, *(str(root / name) for name in plants)}
    assert all(pair <= own for pair in pairs)
    exact = [(x["file"], x["other"]) for x in rows if x["kind"] == "duplicate"]
    assert exact == [(str(root / "val/bee/same.png"), str(root / "train/bee/1.png"))]
    for kind in odd:
        assert [x["file"] for x in rows if x["kind"] == kind] == [
            str(root / f"train/bee/{kind}.png")
        ]
    page = (out / "index.html").read_text()
    assert markup not in page and html.escape(markup) in page
    assert "http" not in page


@pytest.mark.slow  # a network sees all pictures, twice
def test_report_finds_labels_that_were_swapped(pictures: Path, tmp_path: Path) -> None:
    """Of 63 pictures whose class is their colour, three lie in another class's folder."""
    root, out = tmp_path / "data", tmp_path / "report"
    shutil.copytree(pictures, root)
    run(CheckDataConfig(str(root), workers=0, report=str(out)))
    assert not [x for x in csv.DictReader((out / "findings.csv").open()) if x["kind"] == "label"]

    for name, other in SWAPPED.items():
        file = root / name
        file.rename(file.parent.parent / other / "swapped.png")
    run(CheckDataConfig(str(root), workers=0, report=str(out)))
    rows = [x for x in csv.DictReader((out / "findings.csv").open()) if x["kind"] == "label"]
    places = {str(root / name.split("/")[0] / other / "swapped.png"): name.split("/")[1]
              for name, other in SWAPPED.items()}  # fmt: skip
    assert {x["file"] for x in rows[: len(SWAPPED)]} == {*places}
    for row in rows[: len(SWAPPED)]:
        assert row["suggestion"].endswith(f"looks like {places[row['file']]}: decide")


def test_doubtful_labels_are_as_many_as_were_drawn_anew() -> None:
    """Three clouds that overlap, each label right; then one in ten is another."""
    draws = np.random.default_rng(3)
    y = np.repeat(np.arange(3), 200)
    x = draws.standard_normal((600, 6)).astype(np.float32)
    x[np.arange(600), y] += 4
    assert len(doubtful(out_of_fold(x, y, 3), y)[0]) <= 3
    anew = draws.choice(600, 60, replace=False)
    y[anew] = (y[anew] + draws.integers(1, 3, 60)) % 3
    probabilities = out_of_fold(x, y, 3)
    # Of labels that are drawn from all classes, a third would be right.
    assert probabilities.drawn == pytest.approx(0.1 * 3 / 2, rel=0.25)
    found, chances = doubtful(probabilities, y)
    assert 50 < len(found) < 80 and (np.diff(chances) <= 0).all()
    assert np.isin(found[:60], anew).mean() > 0.85  # of all labels, 0.1


@pytest.mark.parametrize("seed", range(3))
def test_doubtful_labels_against_cleanlabs(seed: int) -> None:
    """The order is cleanlab's by self-confidence. How many are listed differs from its confident
    learning, and has to be the better count of those that were drawn anew.
    """
    rank = pytest.importorskip("cleanlab.rank")
    issues = pytest.importorskip("cleanlab.filter").find_label_issues
    draws = np.random.default_rng(seed)
    y = np.repeat(np.arange(5), 120)
    x = draws.standard_normal((600, 8)).astype(np.float32)
    x[np.arange(600), y] += 2.5
    anew = draws.choice(600, 30, replace=False)
    y[anew] = (y[anew] + draws.integers(1, 5, 30)) % 5
    probabilities = out_of_fold(x, y, 5)
    found = doubtful(probabilities, y)[0]
    each = probabilities.each.astype(np.float64)
    each /= each.sum(axis=1, keepdims=True)  # float32's sums are not 1 enough for cleanlab
    quality = rank.get_label_quality_scores(y, each, method="self_confidence")
    assert (np.diff(quality[found]) >= 0).all()
    assert quality[found[-1]] <= np.delete(quality, found).min()
    theirs = issues(y, each, return_indices_ranked_by="self_confidence", n_jobs=1)
    assert abs(len(found) - 30) <= abs(len(theirs) - 30)
    assert np.isin(found, anew).mean() >= np.isin(theirs, anew).mean()
    assert np.isin(found[:30], anew).sum() >= np.isin(theirs[:30], anew).sum()


def test_each_row_is_judged_by_a_regression_without_it() -> None:
    draws = np.random.default_rng(4)
    x, y = draws.standard_normal((12, 3)).astype(np.float32), np.eye(2)[draws.integers(0, 2, 12)]
    rows = np.hstack([(x - x.mean(axis=0)) / x.std(axis=0), np.full((12, 1), 10)])
    expected = [
        Ridge(RIDGE * 12, fit_intercept=False)
        .fit(np.delete(rows, i, 0), np.delete(y, i, 0))
        .predict(rows[i : i + 1])[0]
        for i in range(12)
    ]
    np.testing.assert_allclose(_left_out(x, y), expected, atol=1e-4)


def test_blur_is_what_the_paper_defines() -> None:
    """One edge keeps 1/11 of its step when 11 pixels are averaged; a ramp keeps all."""
    edge = np.tile(np.arange(40) >= 20, (30, 1)).astype(np.float32)
    assert blur(edge) == pytest.approx(1 / 11)
    assert blur(np.tile(np.linspace(0, 1, 40), (30, 1))) == pytest.approx(1)
    assert blur(np.zeros((40, 40))) == blur(np.ones((5, 5))) == 0
    assert blur(edge.T) == blur(edge)


def test_report_finds_blurred_pictures_and_odd_colours(root: Path, tmp_path: Path) -> None:
    photo = Image.open(ROOT / "test_images/coffee.jpg").convert("RGB")
    folder = root / "train/bee"
    for i in range(12):  # what is grey is rare then
        photo.crop((10 * i, 5 * i, 240 + 10 * i, 240 + 5 * i)).save(folder / f"sharp{i}.jpg")
    photo.filter(ImageFilter.GaussianBlur(6)).save(folder / "blurred.jpg")
    moved = np.asarray(photo, np.float32)
    moved = sum(np.roll(moved, shift, axis=1) for shift in range(30)) / 30
    Image.fromarray(moved.astype(np.uint8)).save(folder / "moved.jpg")
    photo.resize((120, 90)).convert("CMYK").save(folder / "print.jpg")
    photo.crop((50, 50, 200, 210)).convert("L").save(folder / "grey.png")
    see_through = photo.crop((90, 20, 290, 230)).convert("RGBA")
    see_through.putalpha(90)
    see_through.save(folder / "alpha.png")
    photo.crop((150, 80, 350, 300)).convert("P").save(folder / "palette.png")  # loses nothing
    run(CheckDataConfig(str(root), workers=0, report=str(tmp_path / "out")))
    rows = list(csv.DictReader((tmp_path / "out/findings.csv").open()))
    found = {
        k: {Path(x["file"]).name for x in rows if x["kind"] == k} for k in ("blurred", "colour")
    }
    assert found == {
        "blurred": {"blurred.jpg", "moved.jpg"},
        "colour": {"print.jpg", "grey.png", "alpha.png"},
    }
    assert all(float(x["score"]) >= BLURRED for x in rows if x["kind"] == "blurred")


def test_classes_that_features_cannot_tell_apart_are_named() -> None:
    """40 of 100 pictures of 0 and 1 are rather of the other; 2 is never taken for either."""
    y = np.repeat([0, 1, 2], 50)
    p = np.tile([0.1, 0.1, 0.1], (150, 1))
    p[np.arange(150), y] = 0.8
    p[:25] = [0.3, 0.6, 0.1]
    p[50:65] = [0.6, 0.3, 0.1]
    (pair,) = alike_classes(p, y)
    assert (pair.first, pair.second, pair.wrong, pair.pictures, pair.share) == (0, 1, 40, 100, 0.4)


def test_counts_of_uneven_classes() -> None:
    splits, labels = ["train"] * 30 + ["val"] * 3, ["ant"] * 20 + ["bee"] * 10 + ["ant"] * 3
    ant, bee = class_counts(splits, labels)
    assert ant == ("ant", {"train": 20, "val": 3}, 1.0)
    assert bee == ("bee", {"train": 10, "val": 0}, 2.3)


def test_what_is_ticked_is_left_out_or_of_another_class(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in root.rglob("*.png")}
    ticked = tmp_path / "decisions.csv"
    ticked.write_text(f'file,label\n"{root}/train/ant/0.png",""\n"{root}/val/ant/1.png","bee"\n')
    out = tmp_path / "cleaned"
    assert run(CheckDataConfig(str(root), apply=str(ticked), out=str(out))) == 0
    assert "1 images left out, 1 with another class" in capsys.readouterr().out
    named = {
        split: {(os.path.relpath(os.path.realpath(data.path(i)), root), data.classes[data.label(i)])
                for i in range(len(data))}
        for split in ("train", "val")
        for data in [open_split(str(out), split)]
    }  # fmt: skip
    assert named == {
        "train": {("train/ant/1.png", "ant"), ("train/bee/0.png", "bee"),
                  ("train/bee/1.png", "bee")},
        "val": {("val/ant/0.png", "ant"), ("val/ant/1.png", "bee"), ("val/bee/0.png", "bee"),
                ("val/bee/1.png", "bee")},
    }  # fmt: skip
    assert {p: p.read_bytes() for p in root.rglob("*.png")} == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\nROOT/train/ant/9.png,\n", "names images that"),
        ("file,label\nROOT/train/ant/0.png,bea\n", "no class 'bea'; did you mean bee"),
        ("file,label\nROOT/train/ant/0.png,\nROOT/train/ant/0.png,bee\n", "has two labels"),
        ("picture\nROOT/train/ant/0.png\n", "no column `file`"),
        ("file,label\n", "has no lines"),
    ],
)
def test_decisions_that_cannot_be_are_told(root: Path, text: str, said: str) -> None:
    ticked = root / "decisions.csv"
    ticked.write_text(text.replace("ROOT", str(root)))
    with pytest.raises(UserError, match=said):
        run(CheckDataConfig(str(root), apply=str(ticked), out=str(root / "cleaned")))
    assert not (root / "cleaned").exists()


def test_ticks_of_the_page_are_saved_as_a_list_that_applies(pictures: Path, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here")
    root, out = tmp_path / 'da"ta, & more', tmp_path / "report"
    shutil.copytree(pictures, root)
    for name, other in SWAPPED.items():
        file = root / name
        file.rename(file.parent.parent / other / "swapped.png")
    shutil.copy(root / "train/red/1.png", root / "train/red/again.png")
    run(CheckDataConfig(str(root), workers=0, report=str(out)))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 375, "height": 800})
        page.goto((out / "index.html").as_uri())
        assert page.get_by_role("button", name="Save the list").is_disabled()
        page.locator("input[data-file$='again.png']").first.check()
        page.locator("input[data-file$='blue/swapped.png'][data-label='']").first.check()
        page.get_by_label("it is red").first.check()  # of one picture one decision
        assert page.get_by_text("2 ticked").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the list").press("Enter")
        download.value.save_as(tmp_path / "decisions.csv")
        browser.close()
    apply = CheckDataConfig(str(root), apply=f"{tmp_path}/decisions.csv", out=f"{tmp_path}/new")
    assert run(apply) == 0
    data = open_split(f"{tmp_path}/new", "train")
    names = {data.path(i)[-16:]: data.classes[data.label(i)] for i in range(len(data))}
    assert len(data) == 42 and not any(name.endswith("again.png") for name in names)
    assert names["blue/swapped.png"] == "red"
