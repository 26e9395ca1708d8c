"""Pages with pictures, tables and charts: one HTML file each, which needs no network.

Jinja2 fills the templates and escapes every text; only what this module makes is taken as it is.
"""

import base64
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ppcls_lite.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What matplotlib is told to draw in, and the variables of base.html that stand in its place: so a
# chart follows the page from light to dark.
INK, FAINT = "#000001", "#000002"
SERIES = tuple(f"#0000{10 + i}" for i in range(6))
_VARIABLES = {INK: "--ink", FAINT: "--line"} | {c: f"--c{i}" for i, c in enumerate(SERIES)}
WIDTH, HEIGHT = 4.6, 3.0  # of a chart, inches: beside each other on a screen, one by one on a phone
TEXT = 11  # of a chart, points: on a phone, which shows WIDTH as wide as it is, as many pixels


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("ppcls_lite"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["breaks"] = breaks
    return templates


def breaks(text: object) -> Markup:
    """Returns a path, or what may hold one, escaped, with the places where a line of it may end."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])|(?=\.[A-Za-z])", str(text)))


def write_page(path: Path, template: str, **values: Any) -> None:
    """Writes a page.

    Args:
        path: the file; its folder is made.
        template: its name in `templates/`.
        values: what the template shows; text is escaped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _templates().get_template(template).render(**values)
    write_atomically(path, text.encode(errors="replace"))


def thumbnail(image: Image.Image, side: int = 160) -> str:
    """Returns a picture as the address of an `<img>`, its long side at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    file = BytesIO()
    small.convert("RGB").save(file, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def drawing(image: Image.Image) -> str:
    """Returns a picture with few colours, or transparent parts, without loss, as `thumbnail`."""
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@contextmanager
def chart(label: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator["Chart"]:
    """Draws with matplotlib; afterwards `svg` of the chart is to be put into a page.

    Args:
        label: says the chart in words, for those who do not see it; of one page no two alike.
        width, height: inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": label, "text.parse_math": False,
        "text.color": INK, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": INK,
        "ytick.color": INK, "grid.color": FAINT, "axes.grid": True, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "axes.prop_cycle": _cycle(), "lines.linewidth": 1.8, "font.size": TEXT,
    }  # fmt: skip
    with rc_context(style):
        found = Chart(Figure(figsize=(width, height), layout="constrained"))
        yield found
        found.finish(label)


def _cycle() -> Any:
    from cycler import cycler  # matplotlib's own

    return cycler(color=SERIES)


class Chart:
    """A chart while it is drawn, on `figure`, and then as `svg`."""

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure
        self.svg = Markup()

    def finish(self, label: str) -> None:
        """Makes `svg` of the figure."""
        file = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<(metadata|style).*?</\1>", "", text, flags=re.DOTALL)
        text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every chart
        # Up to matplotlib 3.10 `font: SIZE FAMILIES`, from then on the families by themselves.
        text = re.sub(r'(font: [\d.]+px|font-family:) [^;"]*', r"\1 system-ui, sans-serif", text)
        text = re.sub(r"#0000\d\d", lambda m: f"var({_VARIABLES.get(m[0], '--ink')})", text)
        view = re.search(r'viewBox="[^"]*"', text)
        begin = f'<svg {view[0] if view else ""} role="img" aria-label="{Markup.escape(label)}">'
        self.svg = Markup(re.sub(r"<svg[^>]*>", lambda m: begin, text, count=1))
