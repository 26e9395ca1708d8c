"""What a report of a fault has to say about the machine.

Imports nothing but the standard library and light modules, so that it answers where packages are
missing. Whatever loads a library is a process of its own (`doctor_probe`), which may crash.
"""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppcls_lite.environment import cpu_cores, cpu_flags
from ppcls_lite.program import CHECKOUT, git_commit
from ppcls_lite.version import __version__

if TYPE_CHECKING:
    from ppcls_lite.commands.settings import DoctorConfig

GIB = 2**30
ISA = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16",
       "avx_vnni", "amx_int8", "amx_bf16", "asimd", "sve", "bf16", "i8mm")  # fmt: skip
# What the requirements files name, by what breaks without it.
PACKAGES = {
    "train and export": ("paddlepaddle", "paddlepaddle-gpu", "paddle2onnx", "numpy", "pillow",
                         "msgspec", "safetensors", "onnx", "protobuf", "matplotlib", "visualdl"),
    "engines": ("onnxruntime", "openvino"),
    "serve": ("fastapi", "uvicorn", "python-multipart", "prometheus-client", "grpcio", "ray"),
    "phones": ("MNN", "ncnn", "paddlelite", "tflite"),
}  # fmt: skip
SETTINGS = ("OMP_", "GOMP_", "KMP_")  # variables that decide how threads run
COMPILE_SECONDS = 120  # kernels are compiled at first use, in some ten seconds
SELF_TEST_SECONDS = 20  # all of it; more on a machine with other work


def run(config: "DoctorConfig") -> int:
    """Prints the report; returns 1 when something that should work does not."""
    return show(config.json)


def show(as_json: bool) -> int:
    """The same, where the package that reads settings may be missing."""
    report = examine()
    print(json.dumps(report, indent=1) if as_json else "\n".join(lines(report)))
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """Returns all there is to say, as plain values; `problems` holds what should work and does not.

    No name of a user, a machine or a folder is in it.
    """
    report: dict[str, Any] = {
        "version": __version__,
        "commit": git_commit(),
        "python": platform.python_version(),
        "virtual_environment": sys.prefix != sys.base_prefix,
        "system": platform.platform(),
        "packages": packages(),
        "cpu": cpu(),
        "compiler": compiler(),
        "disk_free_gib": disk(),
        "settings": {k: v for k, v in os.environ.items() if k.startswith(SETTINGS)},
    }
    problems = [
        f"{name} is not installed"
        for name in ("paddle2onnx", "numpy", "pillow", "msgspec", "safetensors", "onnx")
        if report["packages"][name] is None
    ]
    if not any(report["packages"][name] for name in ("paddlepaddle", "paddlepaddle-gpu")):
        problems.append("paddlepaddle is not installed")
    if problems:
        report["compiled"] = report["engines"] = report["self_test"] = None
    else:
        report |= tested(problems)
    return report | {"problems": problems}


def tested(problems: list[str]) -> dict[str, Any]:
    """Returns what only a library can tell, and adds to the problems."""
    compiled = probe("compiled", COMPILE_SECONDS)
    busy = max(1.0, os.getloadavg()[0] / cpu_cores())
    end = time.monotonic() + SELF_TEST_SECONDS * busy
    step = probe("training", end - time.monotonic())
    engines = probe("engines", end - time.monotonic())
    for name, found in (("libraries", compiled), ("training", step), ("engines", engines)):
        if "error" in found:
            problems.append(f"{name}: {found['error']}")
    if not step.get("agrees", True):
        problems.append("training: the kernels and Paddle's own layers disagree")
    problems += [
        f"engines: {row['engine']} on {row['file']} {row.get('error') or 'gives other predictions'}"
        for row in engines.get("rows", [])
        if not row["passed"]
    ]
    return {"compiled": compiled, "self_test": step, "engines": engines}


def probe(name: str, seconds: float) -> dict[str, Any]:
    """Runs a probe as a process of its own; returns what it found, or {"error": why not}."""
    command = [sys.executable, "-m", "ppcls_lite.commands.doctor_probe", name]
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(seconds, 1), env=environment,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        load = os.getloadavg()[0]
        return {"error": f"not finished after {max(seconds, 1):.0f} s (load {load:.1f})"}
    except OSError as error:
        return {"error": anonymous(str(error))}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        found: dict[str, Any] = json.loads(last)
        return found
    said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    return {"error": anonymous(f"{how}: {said[-1].strip()}"[:300])}


def anonymous(text: str) -> str:
    """Returns a text without the folders of this user and this checkout."""
    for folder, name in ((str(CHECKOUT), "CHECKOUT"), (str(Path.home()), "~")):
        if len(folder) > 1:
            text = text.replace(folder, name)
    return text


def packages() -> dict[str, str | None]:
    """Returns the version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in (name for group in PACKAGES.values() for name in group):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def cpu() -> dict[str, Any]:
    """Returns the processor, its cores, memory and what else it is at."""
    text = readable("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB$", readable("/proc/meminfo"), re.M))
    return {
        "name": name[1] if name else platform.machine(),
        "cores": cpu_cores(),
        "of": os.cpu_count(),
        "isa": [flag for flag in ISA if flag in cpu_flags()],
        "memory_gib": round(int(memory.get("MemTotal", 0)) / 2**20, 1),
        "memory_free_gib": round(int(memory.get("MemAvailable", 0)) / 2**20, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def readable(path: str) -> str:
    """Returns a file's text; "" where there is none, as outside of Linux."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def compiler() -> str | None:
    """Returns the first line of what the C++ compiler says of itself; None without one."""
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            try:
                done = subprocess.run(
                    [path, "--version"], capture_output=True, text=True, timeout=9
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            return f"{name}: {done.stdout.partition(chr(10))[0]}"
    return None


def disk() -> dict[str, float | None]:
    """Returns the free GiB of the folders that are written to, None where one cannot be read."""
    home = os.environ.get("PPCLS_LITE_HOME") or os.environ.get("XDG_CACHE_HOME") or Path.home()
    folders = {"here": ".", "cache": home, "temporary": tempfile.gettempdir()}
    found: dict[str, float | None] = {}
    for name, folder in folders.items():
        try:
            found[name] = round(shutil.disk_usage(folder).free / GIB, 1)
        except OSError:
            found[name] = None
    return found


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yields the report as text."""
    cpu, disk = report["cpu"], report["disk_free_gib"]
    kind = "" if report["virtual_environment"] else "no "
    yield row("ppcls-lite", f"{report['version']}, commit {report['commit'] or 'none (installed)'}")
    yield row("python", f"{report['python']}, {kind}virtual environment")
    yield row("system", report["system"])
    yield row("cpu", f"{cpu['name']}, {cpu['cores']} of {cpu['of']} cores, load {cpu['load']}")
    yield row("", " ".join(cpu["isa"]) or "instruction sets unknown")
    yield row("memory", f"{cpu['memory_gib']} GiB, {cpu['memory_free_gib']} free")
    yield row("disk, free", ", ".join(f"{name} {gib} GiB" for name, gib in disk.items()))
    for group, names in PACKAGES.items():
        versions = {name: report["packages"][name] for name in names}
        there = [f"{name} {version}" for name, version in versions.items() if version]
        missing = [name for name in names if not versions[name] and name != "paddlepaddle-gpu"]
        yield row(group, ", ".join(there) or "none")
        if missing:
            yield row("", f"not installed: {', '.join(missing)}")
    yield row("compiler", report["compiler"] or "none: Paddle's own layers train")
    yield from tested_lines(report)
    if report["settings"]:
        yield row("settings", " ".join(f"{k}={v}" for k, v in report["settings"].items()))
    for problem in report["problems"] or ["none"]:
        yield row("problem", problem)


def tested_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yields what the probes found."""
    if report["compiled"] is None:
        yield row("self-test", "not run: packages are missing")
        return
    for name, said in report["compiled"].items():
        yield row(name, said)
    step, engines = report["self_test"], report["engines"]
    if "error" not in step:
        yield row("self-test", f"{step['said']}, {step['seconds']} s")
    rows = sorted(engines.get("rows", []), key=lambda row: row.get("ms", float("inf")))
    for place, each in enumerate(rows):
        verdict = "agrees" if each["passed"] else "DISAGREES"
        first = ", the fastest" if place == 0 and each["passed"] else ""
        timed = f"{each['ms']:.2f} ms an image" if "ms" in each else "not run"
        yield row("engine", f"{each['engine']} on {each['file']}: {timed}, {verdict}{first}")


def row(name: str, text: str) -> str:
    """Returns a line of the report."""
    return f"{name:<17}{text}"
