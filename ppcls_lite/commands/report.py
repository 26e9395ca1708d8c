"""`tools/report.py`: one page on a network, or on several side by side."""

from pathlib import Path

from ppcls_lite.data.preprocess import find_images
from ppcls_lite.errors import UserError
from ppcls_lite.page import write_page
from ppcls_lite.program import command
from ppcls_lite.review.answers import Network
from ppcls_lite.review.compare import compared_values
from ppcls_lite.review.exports import export_folders, export_rows
from ppcls_lite.review.labels import label_values
from ppcls_lite.review.page import Look, page_values
from ppcls_lite.review.settings import ReportConfig


def run(config: ReportConfig) -> int:
    """Writes the page; returns the exit status."""
    named = config.pretrained or config.run or "output"
    if config.pretrained is None and not (Path(named) / "best.pdparams").is_file():
        raise UserError(
            f"--run {named}: no best.pdparams in it",
            command("report", "--pretrained", "WEIGHTS", "--data-path", "DATA"),
        )
    network = Network(named, config.data_path, config.device)
    write = write_compared if config.compare else write_one
    print(f"wrote {write(config, network)}")
    return 0


def report_on(folder: Path) -> str:
    """Writes the page of a run that has ended; says where, or why there is none."""
    try:
        config = ReportConfig(run=str(folder))
        return f"wrote {write_one(config, Network(str(folder), None, config.device))}"
    except UserError as error:
        return f"no report: {error.message}"


def write_one(config: ReportConfig, network: Network) -> Path:
    """Writes the page of one network; returns its file."""
    if config.others is not None and network.info.multi_label:
        raise UserError(
            f"--others: {network.name} gives several labels an image, and no “unknown”",
            "leave it out",
        )
    beside = None if network.is_export else network.weights.path.parent
    exported = export_rows(export_folders(config.exported, beside))
    val = network.answers(network.val, config.workers)
    train = network.train
    trained = None if train is None else network.answers(train, config.workers)
    others = None
    if config.others is not None:
        others = network.logits(find_images(config.others))
    path = Path(config.out) if config.out else place(network, "report.html")
    look = Look(network, val, trained, others)
    if network.info.multi_label:
        write_page(path, "labels.html", **label_values(look, exported))
    else:
        write_page(path, "report.html", **page_values(look, exported))
    return path


def write_compared(config: ReportConfig, first: Network) -> Path:
    """Writes the page of several networks on the first one's pictures; returns its file."""
    data_path = config.data_path or first.settings.data_path
    others = [Network(named, data_path, config.device) for named in config.compare]
    networks = [first, *others]
    for network in networks:
        if network.info.multi_label:
            raise UserError(
                f"--compare: {network.name} gives several labels an image; the test is of one",
                command("report", *network.weights.flags),
            )
    answers = [network.answers(network.val, config.workers) for network in networks]
    path = Path(config.out) if config.out else place(first, "compare.html")
    write_page(path, "compare.html", **compared_values(networks, answers))
    return path


def place(network: Network, name: str) -> Path:
    """Returns where a page goes that was not told: beside a run's checkpoint, else here."""
    folder = network.weights.path.parent
    return folder / name if (folder / "metrics.jsonl").is_file() else Path(name)
