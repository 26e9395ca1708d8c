"""The page in a real browser. Needs a Chromium of the system, such as Debian's."""

import shutil

import pytest
from conftest import ROOT
from serving import serving

for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
CAT, COFFEE = ROOT / "test_images/chelsea.jpg", ROOT / "test_images/coffee.jpg"


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "key").write_text("secret")
    flags = ("--engine=all", f"--api-key-file={folder / 'key'}")
    with serving(exported, folder / "log", *flags) as running:
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
    rows = page.get_by_role("listitem")
    rows.first.wait_for()
    lines = [row.inner_text().split("\n") for row in rows.all()]
    assert [line[0] for line in lines] == [p.name for p in expected[0]]
    assert lines[0][1] == f"{100 * expected[0][0].prob:.1f} %"
    widths = [bar.bounding_box()["width"] for bar in page.locator(".fill").all()]
    assert widths == sorted(widths, reverse=True)
    assert "ms in the server" in page.locator("#time").inner_text()
    seen = page.get_by_alt_text("what the network saw")
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
    assert not page.get_by_alt_text("where the network saw it").is_visible()
    page.get_by_label("Show where the network saw it").check()
    page.get_by_text(f"where it saw “{expected[0][0].name}” (occlusion)").wait_for()
    heatmap = page.get_by_alt_text("where the network saw it")
    assert heatmap.evaluate("async image => (await image.decode(), image.naturalWidth)") == 64
    assert "explain=true" in page.locator("#curl").inner_text()
    page.get_by_label("Show where the network saw it").uncheck()
    heatmap.wait_for(state="hidden")


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
    page.get_by_text("no picture of a known format").wait_for()
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
    page.get_by_label("Model").focus()
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
    page.get_by_role("button", name="Take the picture").press("Enter")
    page.get_by_role("listitem").first.wait_for()


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#file").set_input_files(CAT)
    page.get_by_role("listitem").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for button in page.get_by_role("button").all():
        assert button.bounding_box()["height"] >= 44  # WCAG 2.5.5: what a finger hits
