"""Where a training step's time goes: each stage of the kernels, and what is outside of them.

The kernels note when a stage ends only while `profile` looks at them; otherwise each asks for one
pointer.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from ppcls_lite.benchmark.machine import Limits
from ppcls_lite.kernels import abi
from ppcls_lite.kernels.build import load_kernels
from ppcls_lite.kernels.calls import Call

MOST_STAGES = 4  # of one call
COLUMNS = ("stage", "ms", "share_of_step", "gflops", "gb_s", "share_of_limit")
PART_COLUMNS = ("part", "forward_ms", "backward_ms", "gflops", "gb_s", "share_of_limit")


@dataclass(frozen=True)
class Stage:
    """What a stage has to do at the least: see the tables of docs/kernels.md.

    Attributes:
        flops: floating point operations of its convolutions or products, additions counted too.
        moved: bytes of the tensors it reads and writes.
    """

    name: str
    flops: float
    moved: float


def stages_of(struct: ctypes.Structure, direction: str, kept: int = 4) -> list[Stage]:
    """Returns the stages of a call in the order in which the kernel notes their ends.

    Args:
        struct: of `abi`.
        direction: forward or backward.
        kept: bytes of a number that is kept for the backward pass, 2 with bfloat16.
    """
    back, s = direction == "backward", struct
    if isinstance(s, abi.Block):
        return _block(s, back, kept)
    if isinstance(s, abi.Stem):
        z = s.images * s.out_height * s.out_width * s.out_channels
        x, flops = s.images * s.height * s.width * s.in_channels, _taps(s) * s.in_channels * 2 * z
        if back:
            return [
                Stage("stem sums", 0, 4 * z + 2 * kept * z),
                Stage("stem product", flops, 4 * x + 2 * kept * z),
            ]
        return [
            Stage("stem product", flops, 4 * x + kept * z),
            Stage("output", 0, kept * z + 4 * z),
        ]
    if isinstance(s, abi.Head):
        rows = s.images * s.pixels
        x, z, flops = rows * s.in_channels, rows * s.out_channels, 2 * rows * s.in_channels
        product = Stage("head", flops * s.out_channels, 4 * x + kept * z)
        if back:
            product = Stage("head", 2 * flops * s.out_channels, 8 * x + 2 * kept * z)
            return [Stage("pooling", 0, 2 * kept * z), product]
        return [product, Stage("pooling", 0, kept * z)]
    inputs, times = getattr(s, "in"), 2 if back else 1  # of an abi.Dense
    numbers = s.rows * (inputs + s.out) + inputs * s.out
    return [Stage("classifier", times * 2 * s.rows * inputs * s.out, 4 * times * numbers)]


def _taps(s: ctypes.Structure) -> int:
    return s.kernel * s.kernel


def _block(s: ctypes.Structure, back: bool, kept: int) -> list[Stage]:
    """X, E1, E2 and O are numbers here, not bytes."""
    pixels, out_pixels = s.images * s.height * s.width, s.images * s.out_height * s.out_width
    x, e1 = pixels * s.in_channels, pixels * s.expanded
    e2, o = out_pixels * s.expanded, out_pixels * s.out_channels
    expand = 2 * x * s.expanded
    depthwise, project = 2 * _taps(s) * e2, 2 * e2 * s.out_channels
    # What the depthwise stage reads, and writes the gradient of: Z1, or the block's input.
    input_bytes = kept * e1 if s.expand_weight else 4 * x
    shortcut = 4 * x if s.shortcut else 0
    if not back:
        found = [
            Stage("expand", expand, 4 * x + kept * e1),
            Stage("depthwise", depthwise, input_bytes + kept * e2),
            Stage("project", project, kept * (e2 + o)),
            Stage("output", 0, (kept + 4) * o + shortcut),
        ]
        return found if s.expand_weight else found[1:]
    found = [
        Stage("output sums", 0, (4 + kept) * o),
        Stage("project", 2 * project, (4 + kept) * o + 2 * kept * e2),
        Stage("depthwise", 2 * depthwise, 2 * kept * e2 + 2 * input_bytes),
        Stage("expand", 2 * expand, 2 * kept * e1 + 8 * x + shortcut),
    ]
    return found if s.expand_weight else found[:-1]


@dataclass
class Watch:
    """Seconds of one step, by part, direction and stage, and by what is outside of the kernels."""

    seconds: dict[tuple[str, str, Stage], float]
    outside: dict[str, float]


def profile(
    step: Callable[[], object], outside: dict[str, tuple[Any, str]], steps: int
) -> list[dict[str, Any]]:
    """Takes steps and returns where their time went, each figure the median of all steps.

    Args:
        step: trains once.
        outside: names, and the functions to time beside the kernels: an object and its attribute.
        steps: how many.

    Returns:
        For each stage of each part in the order of the work `part`, `direction`, `stage`,
        `seconds`, `flops` and `moved`; then what is outside of the kernels, the last of it being
        "Python, loss and the rest".
    """
    watches, whole = [], []
    for _ in range(steps):
        watch = Watch({}, {})
        with ExitStack() as patches:
            patches.enter_context(patch.object(Call, "run", _watching_calls(watch)))
            for name, (owner, attribute) in outside.items():
                timed = _timing(name, getattr(owner, attribute), watch)
                patches.enter_context(patch.object(owner, attribute, timed))
            begin = time.perf_counter()
            step()
            whole.append(time.perf_counter() - begin)
        known = sum(watch.seconds.values()) + sum(watch.outside.values())
        watch.outside["Python, loss and the rest"] = whole[-1] - known
        watches.append(watch)
    found = []
    for part, direction, stage in watches[0].seconds:
        found.append(
            {"part": part, "direction": direction, "stage": stage.name, "flops": stage.flops}
            | {"moved": stage.moved}
            | {"seconds": statistics.median(w.seconds[part, direction, stage] for w in watches)}
        )
    for name in watches[0].outside:
        seconds = statistics.median(w.outside[name] for w in watches)
        found.append({"part": "outside", "stage": name, "seconds": seconds})
    return found


def _watching_calls(watch: Watch) -> Callable[[Call, str], None]:
    run, parts, counts = Call.run, {}, {}  # type: ignore[var-annotated]

    def watched(call: Call, direction: str) -> None:
        if direction == "forward":
            number = counts.setdefault(call.name, 0)
            counts[call.name] += 1
            parts[id(call)] = (
                call.name if call.name in ("stem", "head") else f"{call.name} {number}"
            )
        ends = (ctypes.c_int64 * (1 + MOST_STAGES))()
        library = load_kernels(call.kernels.bf16)
        library.mobile_watch_stages(ends)
        try:
            run(call, direction)
        finally:
            library.mobile_watch_stages(None)
        kept = 2 if call.kernels.bf16 else 4
        for i, stage in enumerate(stages_of(call.struct, direction, kept)):
            key = parts[id(call)], direction, stage
            watch.seconds[key] = (ends[i + 1] - ends[i]) / 1e9

    return watched


def _timing(name: str, function: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken = time.perf_counter() - begin
            watch.outside[name] = watch.outside.get(name, 0.0) + taken

    return timed


def by_stage(profiled: list[dict[str, Any]], limits: Limits) -> list[dict[str, Any]]:
    """Returns the rows of COLUMNS: all parts of the network together."""
    whole = sum(row["seconds"] for row in profiled)
    rows = []
    for name, members in _grouped(profiled, lambda r: f"{r['stage']} {r.get('direction', '')}"):
        seconds = sum(row["seconds"] for row in members)
        rows.append(
            {"stage": name.strip(), "share_of_step": round(seconds / whole, 3)}
            | _reached(members, limits)
        )
    return rows


def by_part(profiled: list[dict[str, Any]], limits: Limits) -> list[dict[str, Any]]:
    """Returns the rows of PART_COLUMNS: all stages of a part of the network together."""
    inside = [row for row in profiled if "direction" in row]
    rows = []
    for name, members in _grouped(inside, lambda row: row["part"]):
        row = {"part": name} | _reached(members, limits)
        for direction in ("forward", "backward"):
            seconds = sum(m["seconds"] for m in members if m["direction"] == direction)
            row[f"{direction}_ms"] = round(1000 * seconds, 2)
        rows.append(row)
    return rows


def _grouped(
    rows: list[dict[str, Any]], name: Callable[[dict[str, Any]], str]
) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return list(groups.items())


def _reached(members: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """Returns milliseconds, rates, and the share of what the machine allows, arithmetic and memory
    one after the other; more than 1 is possible where a tensor stays in the cache."""
    seconds = sum(row["seconds"] for row in members)
    row: dict[str, Any] = {"ms": round(1000 * seconds, 2)}
    if "flops" not in members[0]:
        return row
    flops, moved = (sum(member[key] for member in members) for key in ("flops", "moved"))
    least = flops / (1e9 * limits.gemm) + moved / (1e9 * limits.copy)
    rates = {"gflops": flops / seconds / 1e9, "gb_s": moved / seconds / 1e9}
    return (
        row
        | {k: round(v, 1) for k, v in rates.items()}
        | {"share_of_limit": round(least / seconds, 2)}
    )
