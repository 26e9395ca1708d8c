"""Draws docs/pictures/: the README's two, and a chart for each long table of docs/measurements.

PYTHONPATH=. python docs/make_pictures.py          # the charts, from the tables as they stand
PYTHONPATH=. python docs/make_pictures.py first    # first.png, explain.jpg: runs a model, 10 s
PYTHONPATH=. python docs/make_pictures.py screens  # the tutorial's, by Chromium, in a folder
                                                   # where it was followed and its server runs
PYTHONPATH=. python docs/make_pictures.py gallery  # by Chromium, of page.html, a report, and of
                                                   # the server with a gallery, shown query.jpg
int8_layers.png is what tools/sensitivity.py wrote in tutorial_int8.md, int8_flips.svg what
tests/int8_flips.py wrote in measurements/int8.md.
"""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from PIL import Image

DOCS = Path(__file__).parent
OUT = DOCS / "pictures"
PACKAGE = DOCS.parent / "ppcls_lite/pretrained"
COLOURS = ("#1f5fa8", "#8fb8de", "#b0b0b0", "#e08a3c")


def tables(page: str) -> dict[str, list[list[str]]]:
    """Returns the tables of a page by the heading above, `HEADING 2` where it has another one."""
    found: dict[str, list[list[str]]] = {}
    heading, before = "", ""
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            if not before.startswith("|"):
                count = sum(name.partition(" #")[0] == heading for name in found)
                name = f"{heading} #{count + 1}"
                found[name] = []
            if not re.fullmatch(r"[|\s:-]+", line):
                cells = re.split(r"(?<!\\)\|", line)[1:-1]
                found[name].append([re.sub(r"[*`]", "", cell).strip() for cell in cells])
        before = line
    return found


def number(cell: str) -> float | None:
    """Returns the first number of a cell, None where there is none."""
    match = re.search(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?", cell)
    return float(match[0].replace(",", "")) if match else None


def bars(name: str, labels: list[str], series: dict[str, list[float | None]], unit: str) -> None:
    """Writes horizontal bars, a group for each label, with their values beside them."""
    height = 0.8 / len(series)
    figure, axes = plt.subplots(
        figsize=(8, 0.9 + len(labels) * (0.16 + 0.17 * len(series))), layout="constrained"
    )
    for place, (title, values) in enumerate(series.items()):
        where = [i + height * (place - (len(series) - 1) / 2) for i in range(len(labels))]
        drawn = [0.0 if value is None else value for value in values]
        axes.barh(where, drawn, height, label=title, color=COLOURS[place])
        for y, value in zip(where, values, strict=True):
            if value is not None:
                axes.text(max(value, 0), y, f" {value:g}", va="center", fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    save(figure, f"{name}.svg")


def save(figure: plt.Figure, name: str) -> None:
    """Writes a figure that is the same bytes each time."""
    OUT.mkdir(exist_ok=True)
    metadata = {"Date": None} if name.endswith(".svg") else {"Software": None}
    figure.savefig(OUT / name, metadata=metadata, dpi=72)
    plt.close(figure)


def chart(name: str, page: str, table: str, labels: list[int], columns: list[int], unit: str,
          skip: str = "") -> None:  # fmt: skip
    """Writes the chart of some columns of a table.

    Args:
        name: of the file.
        labels: the columns that name a row.
        columns: those that are drawn.
        skip: rows whose label matches are left out.
    """
    head, *rows = tables(page)[table]
    rows = [row for row in rows if not (skip and re.search(skip, row[0]))]
    names = [", ".join(row[i] for i in labels if row[i]) for row in rows]
    bars(name, names, {head[i]: [number(row[i]) for row in rows] for i in columns}, unit)


INT8 = {"accelerator": "The accelerator", "twin": "Its twin on the accelerator",
        "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}  # fmt: skip


FLOW = (
    ("my_pictures/", "folders of classes, or lists"),
    ("ImageDataset", "packed paths and labels, class names"),
    ("Batch", "uint8 [N, H, W, 3]; worker processes decode, turn upright, crop and flip"),
    ("float32 [N, 3, H, W]", "the main process normalises and mixes"),
    ("logits [N, K]", "the model; then loss, backward, optimizer step, counts"),
    ("checkpoint", ".pdparams, .pdopt and .json with the hashes of both"),
    ("export", ".pdmodel, .json, .onnx, and inference.yml with the differences found"),
    ("Predictor", "dygraph, Paddle Inference, ONNX Runtime, OpenVINO: the same answers"),
)


def layers() -> list[tuple[str, str]]:
    """Returns the layers that architecture.md lists, highest first, each as a row without words."""
    text = (DOCS / "architecture.md").read_text()
    listed = text[text.index('An arrow means "may import"') :].split("```")[1]
    return [(" ".join(each.split()), "") for each in listed.split("→")]


def boxes(name: str, rows: Sequence[tuple[str, str]], wide: float) -> None:
    """Writes boxes below each other, an arrow from each to the next, words beside them.

    Args:
        wide: of a box, as a share of the picture.
    """
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(rows) + 0.1), layout="constrained")
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.axis("off")
    for y, (title, words) in enumerate(rows):
        axes.add_patch(
            plt.Rectangle((0.005, y - 0.28), wide, 0.56, facecolor="#e8f0f8", edgecolor=COLOURS[0])
        )
        axes.text(wide / 2, y, title, ha="center", va="center", fontsize=9, weight="bold")
        axes.text(wide + 0.03, y, words, va="center", fontsize=9)
        if y:
            axes.annotate(
                "", (wide / 2, y - 0.28), (wide / 2, y - 0.72), arrowprops={"arrowstyle": "->"}
            )
    save(figure, f"{name}.svg")


# Of each stage of a block: name; what it reads from memory, makes in the cache, sums up, writes.
FORWARD = (
    ("expand", "X", "", "moments of Z1", "Z1"),
    ("depthwise", "Z1", "K rows of act(bn(Z1))", "moments of Z2", "Z2"),
    ("project", "Z2", "act(bn(Z2)), gates", "moments of Z3", "Z3"),
    ("output", "Z3, X", "", "", "Y = bn(Z3) + X"),
)
BACKWARD = (
    ("expand", "dY1, Z1, X, dY", "dZ1", "dW1", "dX"),
    ("depthwise", "dY2, Z2, Z1", "K rows of dZ2 and A1", "dW2, sums of dY1", "dY1"),
    ("project", "dY, Z3, Z2", "dZ3, A2, gates", "dW3, sums of dY2", "dY2"),
    ("output", "dY, Z3", "", "sums of dY", ""),
)


def stages() -> None:
    """Writes a block's four stages, forward and backward, as columns of a table with arrows."""
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    axes.set(xlim=(-0.75, 4), ylim=(10.4, -0.5))
    axes.axis("off")
    for top, way, columns in ((0, "forward", FORWARD), (5.9, "backward", BACKWARD)):
        arrow = "->" if way == "forward" else "<-"
        axes.text(-0.7, top, way, va="center", fontsize=10, weight="bold")
        for line, words in enumerate(("reads", "in the cache", "sums up", "writes"), 1):
            axes.text(-0.7, top + line + 0.1, words, va="center", fontsize=9)
        for x, (name, *cells) in enumerate(columns):
            box = plt.Rectangle(
                (x, top - 0.4), 0.72, 0.8, facecolor="#e8f0f8", edgecolor=COLOURS[0]
            )
            axes.add_patch(box)
            axes.text(x + 0.36, top, name, ha="center", va="center", fontsize=9, weight="bold")
            for line, words in enumerate(cells, 1):
                axes.text(x, top + line + 0.1, words, va="center", fontsize=9)
            if x:
                style = {"arrowstyle": arrow}
                axes.annotate("", (x, top), (x - 0.28, top), arrowprops=style)
    save(figure, "stages.svg")


def errors() -> None:
    """Writes the errors of gradients by network, in millionths: Paddle's layers, the kernels."""
    rows = tables("measurements/kernels.md")["Training kernels: errors against float64 #1"][1:]
    pairs = [[1e6 * float(cell) for cell in row[4].split(",")] for row in rows]
    series = {name: [pair[i] for pair in pairs] for i, name in enumerate(("Paddle", "kernels"))}
    bars("kernel_errors", [row[0] for row in rows], series, "error of the gradients, millionths")


def imagenet() -> None:
    """Writes the signal to noise of the first table of int8.md, on its "others"."""
    rows = tables("measurements/int8.md")["A network trained on ImageNet #1"][1:]
    found = [(f"{row[0]}; {row[1]}", re.search(r"([\d.]+) dB", row[3])) for row in rows]
    measured = {name: float(match[1]) for name, match in found if match}
    series: dict[str, list[float | None]] = {"others": list(measured.values())}
    unit = "signal to noise, dB; higher is nearer to float"
    bars("int8_imagenet", list(measured), series, unit)


def charts() -> None:
    """Writes every chart of a table."""
    training = "measurements/training.md"
    rows = tables(training)["Steps #1"][1:]
    shown = [row for row in rows if row[1:3] == ["32", "224"]]
    series = {"this project": 3, "the same, bf16": 4, "stock Paddle": 5, "torch, channels_last": 6}
    values = {title: [number(row[i]) for row in shown] for title, i in series.items()}
    bars("speed", [row[0] for row in shown], values, "training images a second; longer is faster")
    chart("training", training, "Steps #1", [0, 1, 2], [3, 4, 5, 6], "images a second")
    chart("memory", training, "Steps #3", [0, 1, 2], [3, 4, 5, 6], "MiB")
    chart("engines", "measurements/engines.md", "Inference #1", [0, 1, 2, 3], [4],
          "ms, one image; shorter is faster", skip="dygraph")  # fmt: skip
    errors()
    imagenet()
    for name, heading in INT8.items():
        chart(f"int8_{name}", "measurements/int8_tables.md", f"{heading} #1", [0], [3],
              "signal to noise, dB; higher is nearer to float", skip="^fp")  # fmt: skip
        if name != "twin":
            chart(f"int8_text_{name}", "measurements/int8_older.md", f"{heading} #1", [0], [3],
                  "signal to noise, dB; higher is nearer to float", skip="^fp")  # fmt: skip
    chart("step_time", training, "Where a step's time goes #1", [0], [1], "milliseconds of a step")


def diagrams() -> None:
    """Writes the way of the data, the layers, a block's stages, a reliability diagram."""
    boxes("data_flow", FLOW, 0.27)
    boxes("layers", layers(), 0.5)
    stages()
    shutil.copy(PACKAGE / "mobilenet_v3_small.clothing10.reliability.png", OUT / "reliability.png")


def first() -> None:
    """Writes the README's figure: a training, a prediction, its heatmap; and that of explain.md."""
    from ppcls_lite import Predictor
    from ppcls_lite.deploy.overlay import save_overlay

    lines = (PACKAGE / "mnasnet_small.clothing10.metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    (why,) = Predictor("tf_mobilenetv3_small_100.imagenet").explain(
        DOCS.parent / "test_images/chelsea.jpg"
    )
    figure, axes = plt.subplots(
        1, 3, figsize=(10, 3.2), layout="constrained", width_ratios=(1.3, 1, 1)
    )
    for event, title in (("train", "train"), ("eval", "val")):
        epochs: dict[int, list[float]] = {}
        for row in records:
            if row["event"] == event:
                epochs.setdefault(row["epoch"], []).append(row["top1"])
        shares = [100 * sum(each) / len(each) for each in epochs.values()]
        axes[0].plot(list(epochs), shares, label=title)
    axes[0].set(xlabel="epoch", ylabel="top-1, %", title="mnasnet_small, ten kinds of clothing")
    axes[0].legend(frameon=False)
    axes[1].imshow(why.seen)
    best = why.answer[0]
    axes[1].set_title(f"{best.name}, {best.prob:.2f}")
    axes[2].imshow(why.overlay())
    axes[2].set_title("where it sees that")
    for each in axes[1:]:
        each.axis("off")
    save(figure, "first.png")
    save_overlay(why.side_by_side(), why.answer[:5], OUT / "explain.png")
    shown = Image.open(OUT / "explain.png").convert("RGB")
    shown.thumbnail((560, 560))
    shown.save(OUT / "explain.jpg", quality=85)
    (OUT / "explain.png").unlink()


def screens() -> None:
    """Writes what a browser shows of the tutorial's report and server, and one of its heatmaps."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        page.goto(Path("output/report.html").resolve().as_uri())
        page.screenshot(path=OUT / "report.png")
        page = browser.new_page(viewport={"width": 375, "height": 740})
        page.goto("http://127.0.0.1:18080/")
        page.set_input_files("#file", "unknown/shoes_0000.jpg")
        page.get_by_text("ms in the server").wait_for()
        page.screenshot(path=OUT / "phone.png")
        browser.close()
    for name in ("report.png", "phone.png"):
        Image.open(OUT / name).convert("RGB").quantize(128).save(OUT / name, optimize=True)
    heatmap = Image.open("heatmaps/shoes_0000_grad_cam.png").convert("RGB")
    heatmap.thumbnail((600, 600))
    heatmap.save(OUT / "tutorial_heatmap.jpg", quality=85)


def gallery() -> None:
    """Writes the worst mistakes of page.html, and the server's page with a gallery."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(Path("page.html").resolve().as_uri())
        first, third = (page.locator("#mistakes ~ .grid article").nth(i) for i in (0, 2))
        left, right = (each.bounding_box() or {} for each in (first, third))
        wide = right["x"] + right["width"] - left["x"]
        box = {"x": left["x"], "y": left["y"], "width": wide, "height": left["height"]}
        page.screenshot(path="mistakes.png", full_page=True, clip=box)
        page.goto("http://127.0.0.1:18080/")
        page.set_input_files("#file", "query.jpg")
        page.locator("#near img").first.wait_for()
        page.get_by_label("Show where the model saw it").check()
        page.get_by_alt_text("where the model saw it").wait_for()
        page.locator("#answer").screenshot(path="gallery.png")
        browser.close()
    for name, out in (("mistakes", "report_mistakes"), ("gallery", "gallery")):
        shown = Image.open(f"{name}.png").convert("RGB")
        shown.save(OUT / f"{out}.jpg", quality=80, optimize=True)


def main(words: list[str]) -> None:
    """Draws what the words ask for."""
    matplotlib.rcParams.update({"svg.hashsalt": "docs", "svg.fonttype": "none"})
    charts()
    diagrams()
    if "first" in words:
        first()
    if "screens" in words:
        screens()
    if "gallery" in words:
        gallery()


if __name__ == "__main__":
    main(sys.argv[1:])
