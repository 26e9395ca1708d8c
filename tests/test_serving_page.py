"""The page in a real browser. Needs a Chromium of the system, such as Debian's."""

import csv
import dataclasses
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageOps
from serving import serving
from sklearn.neighbors import NearestNeighbors

from ppcls_lite.deploy.features import Features, read_features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.sidecar import read_sidecar, write_sidecar

for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
CAT, COFFEE = ROOT / "test_images/chelsea.jpg", ROOT / "test_images/coffee.jpg"
MARKUP = '<img src=x onerror="alert(1)">, "shirt"'  # a class name that is markup, and CSV's signs
SIZES = {"desk": (1200, 900), "phone": (375, 740)}


def variant(exported, folder, **changes):
    """The ONNX file of an export whose sidecar says something else of the same network."""
    folder.mkdir()
    shutil.copy(exported / "inference.onnx", folder)
    sidecar = read_sidecar(exported)
    if changes.get("multi_label"):
        sidecar.outputs["inference.onnx"] |= {"softmax": False, "sigmoid": True}
    info = dataclasses.replace(sidecar.info, **changes)
    write_sidecar(folder, dataclasses.replace(sidecar, info=info))


@pytest.fixture(scope="module")
def models(exported, tmp_path_factory):
    """The network, the same with several labels a picture, and one that knows no picture."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(exported, root / "mobilenet_v3_small")
    _, second, third, *_ = Predictor(exported)(CAT, topk=10)[0]
    cuts = ((second.prob + third.prob) / 2,) * 10
    names = tuple(MARKUP if i == second.class_id else f"kind {i}" for i in range(10))
    variant(exported, root / "several", multi_label=True, thresholds=cuts, classes=names)
    variant(exported, root / "strict", known_limits=(99.0,) * 10)
    return root


@pytest.fixture(scope="module")
def gallery(models, tmp_path_factory):
    """Features of three pictures, the last of which is gone; class and file names are markup."""
    folder = tmp_path_factory.mktemp("gallery")
    predictor = Predictor(models / "mobilenet_v3_small")
    paths = [folder / name for name in ("coffee.jpg", "<b>cat.jpg", "gone.jpg")]
    shutil.copy(COFFEE, paths[0])
    shutil.copy(CAT, paths[1])
    ImageOps.mirror(Image.open(CAT)).save(paths[2])
    found = Features(
        features=predictor.embed(paths),
        paths=np.array([str(path) for path in paths]),
        labels=np.array([0, 1, -1]),
        splits=np.array([""] * 3),
        classes=np.array(["cup", MARKUP]),
        network=np.array(predictor.weights_sha256),
    )
    found.write(folder / "features.npz")
    paths[2].unlink()
    return folder / "features.npz"


@pytest.fixture(scope="module")
def server(models, gallery, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "key").write_text("secret")
    flags = ("--engine=all", f"--api-key-file={folder / 'key'}", f"--gallery={gallery}")
    with serving(models, folder / "log", *flags) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """The page, opened and unlocked; it may load nothing from elsewhere and log no error."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(30_000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    # Told only just before the key is pressed, Chromium may miss that we want the dialog.
    page.on("filechooser", lambda chooser: None)
    page.goto(server.url)
    page.get_by_text("asks for its key").wait_for()
    page.get_by_label("Key of this server").fill("secret")
    page.keyboard.press("Tab")
    page.get_by_role("option", name="mobilenet_v3_small (version 1)").wait_for(state="attached")
    yield page
    assert not errors
    assert all(url.startswith((server.url, "data:", "blob:")) for url in asked), asked
    context.close()


def test_a_picture_is_classified_shown_and_redone_with_another_engine(page, expected):
    page.locator("#file").set_input_files(CAT)
    rows = page.locator("#classes li")
    rows.first.wait_for()
    lines = [row.inner_text().split("\n") for row in rows.all()]
    assert [line[0] for line in lines] == [p.name for p in expected[0]]
    assert lines[0][1] == f"{100 * expected[0][0].prob:.1f} %"
    widths = [bar.bounding_box()["width"] for bar in page.locator(".fill").all()]
    assert widths == sorted(widths, reverse=True)
    assert "ms in the server" in page.locator("#time").inner_text()
    seen = page.get_by_alt_text("what the model saw")
    assert seen.evaluate("async image => (await image.decode(), image.naturalWidth)") == 64
    page.get_by_label("Engine").select_option("paddle_inference")
    page.get_by_role("heading", name="paddle_inference").wait_for()
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("Copied.").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert "curl" in command and "@chelsea.jpg" in command and "engine=paddle_inference" in command
    assert "secret" not in command


def test_the_heatmap_is_shown_when_its_box_is_ticked(page, expected):
    page.locator("#file").set_input_files(CAT)
    page.get_by_role("listitem").first.wait_for()
    assert not page.get_by_alt_text("where the model saw it").is_visible()
    page.get_by_label("Show where the model saw it").check()
    page.get_by_text(f"where it saw “{expected[0][0].name}” (grad-cam)").wait_for()
    heatmap = page.get_by_alt_text("where the model saw it")
    assert heatmap.evaluate("async image => (await image.decode(), image.naturalWidth)") == 64
    assert "explain=true" in page.locator("#curl").inner_text()
    page.get_by_label("Show where the model saw it").uncheck()
    heatmap.wait_for(state="hidden")


def test_the_nearest_pictures_of_the_gallery_are_shown(page, gallery):
    page.locator("#file").set_input_files(CAT)
    likes = page.get_by_role("list", name="Most like it in the gallery").get_by_role("listitem")
    likes.first.wait_for()
    words = [each.inner_text() for each in likes.all()]
    found = read_features(gallery)
    order = NearestNeighbors(n_neighbors=3, metric="cosine").fit(found.features)
    (distances,), (rows,) = order.kneighbors(found.features[1:2])  # of the same picture
    names = [path.rpartition("/")[2] for path in found.paths[rows]]
    assert names[0] == "<b>cat.jpg" and MARKUP in words[0]
    for told, name, distance in zip(words, names, distances, strict=True):
        assert f"{1 - distance:.3f} {name}" in told
    shown = [each.locator("img").count() for each in likes.all()]
    assert shown == [name != "gone.jpg" for name in names]
    small = likes.first.locator("img")
    assert small.evaluate("async image => (await image.decode(), image.naturalWidth)") == 160
    assert page.locator("#near b, img[onerror]").count() == 0


def test_a_picture_given_before_the_key_is_classified_with_it(page):
    page.reload()
    page.get_by_text("asks for its key").wait_for()
    page.locator("#file").set_input_files(CAT)
    for key, told in (("wrong", "not the key"), ("secret", "ms in the server")):
        page.get_by_label("Key of this server").fill(key)
        page.keyboard.press("Tab")
        page.get_by_text(told).wait_for()
    assert not page.get_by_role("alert").is_visible()


def test_what_is_no_picture_is_told_and_the_next_one_works(page):
    page.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"}
    )
    page.get_by_text("no image of a known format").wait_for()
    assert page.get_by_role("listitem").count() == 0
    page.locator("#file").set_input_files(COFFEE)
    page.get_by_role("listitem").first.wait_for()
    assert not page.get_by_role("alert").is_visible()


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(page, how):
    page.evaluate(
        """([bytes, how]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "cat.jpg", {type: "image/jpeg"}));
            const event = how === "drop"
                ? new DragEvent("drop", {dataTransfer: data, bubbles: true})
                : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
            document.body.dispatchEvent(event);
        }""",
        [list(CAT.read_bytes()), how],
    )
    page.get_by_role("listitem").first.wait_for()


def test_the_keyboard_and_the_camera(page):
    page.get_by_role("combobox", name="Model").focus()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["engine", "camera", "key", "drop"]
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Use the camera").focus()
    page.keyboard.press("Enter")
    has_picture = (
        "video => new Promise(done => video.videoWidth ? done() : video.onloadeddata = done)"
    )
    page.locator("#video").evaluate(has_picture)
    page.get_by_role("button", name="Take the image").press("Enter")
    page.get_by_role("listitem").first.wait_for()


def give_three(page, tmp_path):
    """Gives two pictures, one of them with an odd name, and a file that is none."""
    odd = tmp_path / "=1+2<b>.jpg"
    shutil.copy(COFFEE, odd)
    (tmp_path / "notes.txt").write_text("words")
    page.locator("#file").set_input_files([CAT, odd, tmp_path / "notes.txt"])
    page.get_by_text("3 images, 1 of them not answered").wait_for()


def test_several_pictures_have_a_table_and_each_its_own_answer(page, expected, tmp_path):
    give_three(page, tmp_path)
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#rows tr").all()]
    for row, name, (best, *_) in zip(rows, ("chelsea.jpg", "=1+2<b>.jpg"), expected, strict=False):
        assert row[1:] == [name, best.name, f"{100 * best.prob:.1f} %"]
    assert rows[2][1] == "notes.txt" and "no image of a known format" in rows[2][2]
    assert not page.get_by_role("alert").is_visible()
    lines = page.locator("#classes li span:first-child")
    assert lines.all_inner_texts() == [p.name for p in expected[0]]  # the first is shown
    page.get_by_role("button", name="=1+2<b>.jpg").press("Enter")
    page.get_by_role("heading", name="=1+2<b>.jpg").wait_for()
    assert lines.all_inner_texts() == [p.name for p in expected[1]]
    assert "@=1+2<b>.jpg" in page.locator("#curl").inner_text()


def test_the_table_comes_as_csv(page, expected, tmp_path):
    give_three(page, tmp_path)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "answers.csv"
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["chelsea.jpg", "'=1+2<b>.jpg", "notes.txt"]
    for row, (best, *_) in zip(rows, expected, strict=False):
        assert (row["class_id"], row["class"]) == (str(best.class_id), best.name)
        assert float(row["probability"]) == pytest.approx(best.prob, abs=1e-6)
        assert (row["model"], row["error"]) == ("mobilenet_v3_small", "")
    assert "no image" in rows[2]["error"] and not rows[2]["class"]


def test_labels_are_shown_and_markup_in_their_names_is_text(page, models, tmp_path):
    page.get_by_role("combobox", name="Model").select_option("several (version 1)")
    rankings = Predictor(models / "several")([CAT, COFFEE])
    assert len(rankings[0].labels) == 2
    give_three(page, tmp_path)
    for number, ranking in enumerate(rankings):
        names = [label.name for label in ranking.labels]
        cells = page.locator("#rows tr").nth(number).locator("td").all_inner_texts()
        assert cells[2] == (", ".join(names) or "none")
        page.locator("#rows button").nth(number).click()
        assert page.locator("#labels").inner_text() == "labels: " + (", ".join(names) or "none")
        marked = page.locator("li.said span:first-child").all_inner_texts()
        assert marked == [p.name for p in ranking if p.name in names]
    assert any(p.name == MARKUP for ranking in rankings for p in [*ranking, *ranking.labels])
    assert page.locator("img[onerror]").count() == 0
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["labels"] == ";".join(label.name for label in rankings[0].labels)


def test_unknown_is_shown_as_such(page, expected):
    page.get_by_role("combobox", name="Model").select_option("strict (version 1)")
    page.locator("#file").set_input_files([CAT, COFFEE])
    page.get_by_text("2 images", exact=True).wait_for()
    cells = page.locator("#rows tr").first.locator("td").all_inner_texts()
    assert cells[2] == f"unknown most like {expected[0][0].name}"
    assert page.locator("#unknown").is_visible() and page.locator("li.said").count() == 0
    page.get_by_role("combobox", name="Model").select_option("mobilenet_v3_small (version 1)")
    page.locator("li.said").wait_for()
    assert not page.locator("#unknown").is_visible()


def test_pictures_given_in_the_meantime_take_the_place(page, expected):
    page.locator("#file").set_input_files([CAT, COFFEE, CAT, COFFEE])
    page.locator("#file").set_input_files(COFFEE)
    page.get_by_role("heading", name="coffee.jpg").wait_for()
    assert page.locator("li span:first-child").first.inner_text() == expected[1][0].name
    assert not page.locator("#all").is_visible()


def test_a_phone_has_the_camera_first(page):
    page.set_viewport_size({"width": 375, "height": 740})
    first = page.locator("main :is(button, select, input:not([type=file]))").first
    # Chromium tells the page of its new width with the next frame, not at once.
    sync_api.expect(first).to_have_text("Use the camera", timeout=30_000)
    assert first.bounding_box()["width"] > 300
    text = page.locator("main").inner_text()
    assert re.search("drop|paste", text) is None and "Choose images" in text
    page.set_viewport_size({"width": 1200, "height": 900})
    assert "drop or paste" in page.locator("main").inner_text()


@pytest.mark.parametrize("device", SIZES)
def test_it_fits_and_the_heatmap_stands_beside_what_the_network_saw(page, device, tmp_path):
    width, height = SIZES[device]
    page.set_viewport_size({"width": width, "height": height})
    give_three(page, tmp_path)
    page.get_by_label("Show where the model saw it").check()
    heatmap = page.get_by_alt_text("where the model saw it")
    heatmap.wait_for()
    seen = page.get_by_alt_text("what the model saw").bounding_box()
    right = heatmap.bounding_box()
    assert right["y"] == seen["y"] and right["x"] >= seen["x"] + seen["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 44  # WCAG 2.5.5: what a finger hits


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", SIZES)
def test_axe_finds_nothing(page, device, scheme, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size(dict(zip(("width", "height"), SIZES[device], strict=True)))
    page.emulate_media(color_scheme=scheme)
    assert axe.run(page).response["violations"] == []
    page.get_by_role("combobox", name="Model").select_option("strict (version 1)")
    page.get_by_label("Show where the model saw it").evaluate("box => box.checked = true")
    give_three(page, tmp_path)
    page.get_by_alt_text("where the model saw it").wait_for()
    assert axe.run(page).response["violations"] == []
