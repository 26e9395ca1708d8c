"""`tools/benchmark.py`: how fast things are here, compared in turns."""

import json
import sys
from pathlib import Path
from typing import Any

from ppcls_lite.benchmark import epoch, infer, loader, serve, stages, start, train
from ppcls_lite.benchmark import eval as evaluation
from ppcls_lite.benchmark.machine import machine
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.engine.plan import versions
from ppcls_lite.report import plot_engines

SUITES = {
    "start": start, "train": train, "epoch": epoch, "eval": evaluation, "loader": loader,
    "infer": infer, "serve": serve,
}  # fmt: skip


def run(config: BenchmarkConfig) -> int:
    """Measures, prints a table and, with `json`, one object with everything as the last line.

    Returns:
        1 when nothing of ours could be measured, else 0.
    """
    config.require("what")
    suite = SUITES[config.what or ""]
    about = machine() | {"versions": versions()}
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    rows, facts = suite.rows(config, lambda text: print(text, file=sys.stderr, flush=True))
    for limit in facts.get("limits", ()):
        print(
            f"limits with {limit['threads']} thread(s): {limit['gemm']} GFLOP/s, copy"
            f" {limit['copy']} GB/s, add {limit['add']} GB/s"
        )
    shown, columns = infer.by_batch_size(rows) if suite is infer else (rows, suite.COLUMNS)
    print("\n".join(table(shown, columns)))
    for profile in facts.get("profiles", ()):
        print(f"\n{profile['peer']}, batch {profile['batch_size']}, size {profile['size']}:\n")
        print("\n".join(table(profile["by_stage"], stages.COLUMNS)), end="\n\n")
        print("\n".join(table(profile["by_part"], stages.PART_COLUMNS)))
    ok = [row for row in rows if "error" not in row]
    if config.plot and ok:
        plot_engines(ok, Path(config.plot))
        print(f"wrote {config.plot}")
    result: dict[str, Any] = {"what": config.what, "machine": about} | facts | {"rows": rows}
    if ok:
        first = infer.best(rows) if suite is infer else ok[0]
        kept = ("images_per_second", "latency_ms")
        result |= {key: first[key] for key in kept if key in first}
    if config.json:
        print(json.dumps(result))
    return 0 if ok else 1


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Returns the rows as a Markdown table; a row that failed ends with its reason."""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [cell(row.get(name, "")) for name in columns]
        if "error" in row:
            cells[-1] = row["error"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def cell(value: Any) -> str:
    """Returns a value of a row as text; times as median / p90 / p99."""
    if isinstance(value, dict):
        return " / ".join(f"{number:.4g}" for number in value.values())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
