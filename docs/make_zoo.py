"""Prints docs/zoo.md: every model, and every size the documents state beside the one counted here.

PYTHONPATH=. python docs/make_zoo.py > docs/zoo.md
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from ppcls_lite import create_model
from ppcls_lite.arch.count import (
    Operations,
    count_operations,
    count_parameters,
    count_parameters_with_bn_stats,
)
from ppcls_lite.arch.zoo import list_models, model_spec

SQLAI = """\
## Not offered: sqlai's MobileNetV3

VastModelZOO's newest page lists both sizes from a second torch source,
`xiaolai-sqlai/mobilenetv3` (MIT). They have the name of MobileNetV3, but 2,950,524 and 5,178,732
parameters. These differences from the papers' tables explain the numbers:

- Every block has a shortcut. At stride 1 it is a 1 x 1 convolution where the channels change.
  At stride 2 it is a depthwise 3 x 3, followed by a 1 x 1 with bias where the channels change.
  Batch norm follows each convolution.
- The activation of a block comes after the sum. So no block ends linearly.
- Squeeze-excite squeezes to a quarter, at least 8, without biases, with batch norm inside.
- The first block has an expanding convolution although it expands nothing.
- The hidden layer is 1280 wide in both sizes, without bias, with batch norm.
- The last block but one of the large model expands to 672, not 960.

Three of these need a form of the block or of the head that no other source has. For two models,
we would need a second form of the block, the fused kernels, pruning, 8 bits, the export checks
and the names of torch's tensors. And we could read no weights to compare the result with.
"""


class Size(NamedTuple):
    """What is counted of one model."""

    trainable: int
    with_statistics: int
    operations: Operations


class Rule(NamedTuple):
    """How a document counts FLOPs: the words for it, and the number in operations."""

    text: str
    count: Callable[[Operations], int]


PADDLE = Rule(
    "MACs + 2 x values normalised + values pooled + biases (as `paddle.flops`)",
    lambda counted: counted.paddle_flops,
)
THOP = Rule(
    "MACs + 4 x values normalised + values pooled (as thop)",
    lambda counted: counted.thop_flops,
)
TWICE = Rule(
    "2 x (MACs + values normalised)", lambda counted: 2 * (counted.macs + counted.normalised)
)
MACS = Rule("MACs", lambda counted: counted.macs)


class Cell(NamedTuple):
    """A row of a document's table.

    Args:
        name: the document's name for it.
        model: ours.
        flops: as printed, in the table's unit; empty where the table has none.
        params: as printed, in millions.
        wrong: why the FLOPs are not what the rule gives for this model; empty where they are.
    """

    name: str
    model: str
    flops: str
    params: str
    wrong: str = ""


class Table(NamedTuple):
    """A document's table: unit, rule and decimals of its numbers (zeros may follow), its rows."""

    title: str
    unit: str
    flops: Rule
    flops_decimals: int
    params: str
    params_decimals: int
    cells: tuple[Cell, ...]


SCALE = {"M": 1e6, "G": 1e9}
TRAINABLE, WITH_STATISTICS = "trainable", "with batch norm's statistics"


def _copied(model: str, proof: str) -> str:
    return f"wrong: it is the cell of PaddleClas' {model}; {proof}"


def _ppcls(name: str, flops: str, params: str) -> Cell:
    return Cell(name, name.removesuffix("_ssld"), flops, params)


def _series(size: str, *cells: tuple[str, str, str]) -> tuple[Cell, ...]:
    return tuple(_ppcls(f"MobileNetV3_{size}_{width}", *cell) for width, *cell in cells)


# fmt: off
TABLES = (
    Table("VastModelZOO: MobileNetV3 of PaddleClas", "M", PADDLE, 2, WITH_STATISTICS, 2, (
        *_series("small", ("x0_35", "14.560", "1.670"), ("x0_35_ssld", "14.560", "1.670"),
                 ("x0_5", "22.600", "1.910"), ("x0_75", "46.020", "2.380"),
                 ("x1_0", "63.670", "2.950"), ("x1_0_ssld", "63.670", "2.950"),
                 ("x1_25", "100.070", "3.640")),
        *_series("large", ("x0_35", "40.900", "2.110"), ("x0_5", "71.830", "2.690"),
                 ("x0_75", "151.700", "3.930"), ("x1_0", "229.660", "5.500"),
                 ("x1_0_ssld", "229.660", "5.500"), ("x1_25", "362.700", "7.470")),
    )),
    Table("VastModelZOO: MobileNetV3 of torchvision", "M", PADDLE, 2, TRAINABLE, 1, (
        Cell("MobileNetV3_small", "mobilenet_v3_small", "63.670", "2.500", _copied(
            "small_x1_0", "this one's head is 1024 wide, not 1280, and block 1 does not expand")),
        Cell("MobileNetV3_large", "mobilenet_v3_large", "229.660", "5.500", _copied(
            "large_x1_0", "here block 1 does not expand, which is 3.2 M MACs less")),
    )),
    Table("VastModelZOO: MobileNetV3 of timm", "M", PADDLE, 2, TRAINABLE, 2, (
        Cell("mobilenetv3_rw", "mobilenetv3_rw", "100.660", "5.480",
             "wrong: less than half of the MACs alone, which every rule includes"),
        Cell("mobilenetv3_large_100", "mobilenetv3_large_100", "229.660", "5.480", _copied(
            "large_x1_0", "here block 1 does not expand, which is 3.2 M MACs less")),
        Cell("mobilenetv3_small_050", "mobilenetv3_small_050", "22.600", "1.590", _copied(
            "small_x0_5", "less than this one's MACs alone")),
        Cell("mobilenetv3_small_075", "mobilenetv3_small_075", "46.020", "2.040", _copied(
            "small_x0_75", "by the same rule this one has 46.26")),
        Cell("mobilenetv3_small_100", "mobilenetv3_small_100", "63.670", "2.540", _copied(
            "small_x1_0", "this one's head is 1024 wide, not 1280, and block 1 does not expand")),
    )),
    Table("VastModelZOO: MobileNetV3 of ShowLo", "M", THOP, 2, TRAINABLE, 3, (
        Cell("mobilenetv3_small", "showlo_mobilenetv3_small", "62.47", "2.533"),
    )),
    Table("PaddleClas: MobileNetV3", "G", TWICE, 3, TRAINABLE, 2, (
        *_series("large", ("x1_25", "0.714", "7.440"), ("x1_0", "0.450", "5.470"),
                 ("x0_75", "0.296", "3.910"), ("x0_5", "0.138", "2.670"),
                 ("x0_35", "0.077", "2.100"), ("x1_0_ssld", "0.450", "5.470")),
        *_series("small", ("x1_25", "0.195", "3.620"), ("x1_0", "0.123", "2.940"),
                 ("x0_75", "0.088", "2.370"), ("x0_5", "0.043", "1.900"),
                 ("x0_35", "0.026", "1.660"), ("x0_35_ssld", "0.026", "1.660"),
                 ("x1_0_ssld", "0.123", "2.940")),
    )),
    Table("MindCV: MobileNetV3", "M", MACS, 2, WITH_STATISTICS, 2, (
        Cell("MobileNetV3_large_100", "mobilenet_v3_large_100", "", "5.51"),
        Cell("MobileNetV3_small_100", "mobilenet_v3_small_100", "", "2.55"),
    )),
    Table("VastModelZOO: MnasNet of torchvision", "G", MACS, 3, TRAINABLE, 3, (
        Cell("mnasnet0_5", "mnasnet0_5", "0.259", "2.219",
             "unexplained: 2.48 times the MACs, where mnasnet1_0 has 2.38 times"),
        Cell("mnasnet1_0", "mnasnet1_0", "0.747", "4.383",
             "unexplained: 2.38 times the MACs, where mnasnet0_5 has 2.48 times"),
    )),
)
# fmt: on


@cache
def measure(name: str) -> Size:
    """Builds a model and counts it at the size its accuracy was published for."""
    model = create_model(name)
    return Size(
        count_parameters(model),
        count_parameters_with_bn_stats(model),
        count_operations(model, model_spec(name).input_size),
    )


def verdict(cell: str, counted: float, decimals: int) -> str:
    """Says how far a document's number is from the one counted."""
    if abs(float(cell) - counted) <= 0.5 * 10.0**-decimals + 1e-9:
        return "equal"
    return f"{100 * (float(cell) / counted - 1):+.1f} %"


def params_of(table: Table, size: Size) -> float:
    """Millions of parameters, as the table counts them."""
    return (size.trainable if table.params == TRAINABLE else size.with_statistics) / 1e6


def flops_of(table: Table, size: Size) -> float:
    """FLOPs as the table counts them, in its unit."""
    return table.flops.count(size.operations) / SCALE[table.unit]


def models(sizes: dict[str, Size]) -> list[str]:
    """The table of all networks, as lines."""
    lines = [
        "| model | source, width | parameters | with statistics | MACs (M) | top-1 | top-5 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, size in sizes.items():
        spec = model_spec(name)
        accuracy = ["" if a is None else f"{a:.3f}" for a in (spec.top1, spec.top5)]
        lines.append(
            f"| `{name}` | {spec.source}, {spec.width} | {size.trainable:,}"
            f" | {size.with_statistics:,} | {size.operations.macs / 1e6:.3f}"
            f" | {accuracy[0]} | {accuracy[1]} |"
        )
    return lines


def comparison(table: Table, sizes: dict[str, Size]) -> list[str]:
    """A document's table beside what is counted here, as lines."""
    flops = any(cell.flops for cell in table.cells)
    head, rule = "| document's name | params (M) | here |", "|---|---:|---|"
    lines = [f"### {table.title}", "", f"Parameters: {table.params}."]
    if flops:
        lines.append(f"FLOPs: {table.flops.text}.")
        head += f" FLOPs ({table.unit}) | here | MACs here ({table.unit}) | |"
        rule += "---:|---:|---:|---|"
    lines += ["", head, rule]
    for cell in table.cells:
        size = sizes[cell.model]
        params = params_of(table, size)
        found = verdict(cell.params, params, table.params_decimals)
        line = f"| {cell.name} | {cell.params} | {params:.3f}, {found} |"
        if flops:
            counted = flops_of(table, size)
            macs = size.operations.macs / SCALE[table.unit]
            found = cell.wrong or verdict(cell.flops, counted, table.flops_decimals)
            line += f" {cell.flops} | {counted:.3f} | {macs:.3f} | {found} |"
        lines.append(line)
    return [*lines, ""]


def page() -> str:
    """The whole file."""
    sizes = {name: measure(name) for name in list_models()}
    lines = [
        "# The models",
        "",
        "`PYTHONPATH=. python docs/make_zoo.py > docs/zoo.md` makes this page; a test checks it.",
        "The script counts parameters and multiply-adds (MACs) on the models, for an image of",
        "224 x 224. Top-1 and top-5, in percent, are what the source published. We trained none of",
        "them to reach these. `python tools/list_models.py --explain NAME` draws a model.",
        "",
        *models(sizes),
        "",
        *SQLAI.splitlines(),
        "",
        "## The documents' numbers, recomputed",
        "",
        "*Trainable* counts the parameters that training changes. *With batch norm's statistics*",
        "adds the running means and variances, which checkpoints hold too. Each document counts",
        "FLOPs by a rule of its own, which stands above its table. The column *here* uses the same",
        "rule. *Equal* means equal to the last digit that the document gives. For PaddleClas we",
        "found no rule that gives all of its numbers; the one above its table comes nearest.",
        "",
    ]
    for table in TABLES:
        lines += comparison(table, sizes)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
