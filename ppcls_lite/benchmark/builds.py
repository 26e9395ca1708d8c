"""Builds of this project as competitors: this one, and other checkouts (`--versus build:PATH`).

Each is a program of its own: it exports, quantizes, serves and takes training steps with its own
code, in processes that find no other. What another build is asked for is what commit e9ae75b has:
`our_peer.py` under its path with the requests `train`, `epoch`, `loader` and `infer`; `train.py`;
the commands export_model, quantize and serve with the flags used here. That has to stay, whatever
else moves.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ppcls_lite.benchmark.peers import HERE, Peer, interpreter
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.weights.find import Weights

PEER = "ppcls_lite/benchmark/our_peer.py"
INTERPRETER = "--versus build:PATH,PYTHON names the interpreter of that checkout's environment"
PROBE = """
import json, platform, numpy, paddle, ppcls_lite.benchmark.our_peer as peer
versions = {"python": platform.python_version(), "paddle": paddle.__version__}
print(json.dumps({"file": peer.__file__, "versions": versions | {"numpy": numpy.__version__}}))
"""


@dataclass(frozen=True)
class Build:
    """A checkout of this project, or the installed package, and the interpreter that runs it.

    Attributes:
        name: what its rows are called.
        root: the folder that holds `ppcls_lite`.
        python: an absolute path, or a name to search for.
    """

    name: str = "ours"
    root: Path = HERE.parents[1]
    python: str = sys.executable

    def peer(self, name: str, request: dict[str, Any], **more: Any) -> Peer:
        """Returns a competitor that runs this build's code; `more` is `Peer`'s."""
        return Peer(
            name, str(self.root / PEER), request, python=self.python, root=self.root, **more
        )

    def command(self, verb: str, *flags: str) -> list[str]:
        """Returns the command line of a verb; to be run in a folder without a `ppcls_lite`."""
        tool = self.root / "tools" / f"{verb}.py"
        program = [str(tool)] if tool.is_file() else ["-m", "ppcls_lite", verb]  # if installed
        return [self.python, *program, *flags]

    def environment(self) -> dict[str, str]:
        """Returns the variables of a command that may use all cores."""
        return self.peer("", {}, threads=cpu_cores()).environment()

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command of this build and returns the finished process."""
        with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
            return subprocess.run(
                command, cwd=folder, env=self.environment(), stdin=subprocess.DEVNULL,
                capture_output=True, text=True,
            )  # fmt: skip

    def export(self, weights: Weights, folder: Path, *flags: str) -> dict[str, Any]:
        """Has it write an export folder, as its `export_model` does.

        Returns:
            What its sidecar says of the network, for its own `ModelInfo.from_dict`.

        Raises:
            UserError: it wrote none.
        """
        done = self.run(self.command(
            "export_model", *weights_flags(weights), f"--save-inference-dir={folder}", *flags,
        ))  # fmt: skip
        sidecar = folder / "inference.yml"
        if not sidecar.is_file():
            raise UserError(
                f"{self.name} cannot export {weights.path}: {reason(done)}",
                f"take another checkout than {self.root}, or other weights",
            )
        content = yaml.safe_load(sidecar.read_text(encoding="utf-8"))
        return content["model"] | {key: content[key] for key in ("preprocess", "classes")}

    def quantize(
        self, weights: Weights, engine: str, data_path: str, out: Path, *flags: str
    ) -> str:
        """Has it write an engine's int8 folder by its defaults, but for `flags`.

        Returns:
            Why there is none; "" when there is.
        """
        done = self.run(self.command(
            "quantize", f"--target={engine}", *weights_flags(weights), *flags,
            f"--data-path={Path(data_path).absolute()}", f"--out={out}",
        ))  # fmt: skip
        return reason(done) if done.returncode != 0 else ""

    def check(self) -> dict[str, Any]:
        """Starts it once and returns what it is: `build`, `commit`, `versions`.

        Raises:
            UserError: it does not run, or would run the code of another folder.
        """
        try:
            done = self.run([self.python, "-c", PROBE])
        except OSError as error:
            raise UserError(
                f"{self.name}: {self.python}: {error.strerror}",
                INTERPRETER,
            ) from None
        if done.returncode != 0:
            requirements = shlex.quote(str(self.root / "requirements.txt"))
            raise UserError(
                f"{self.name} does not run with {self.python}: {reason(done)}",
                f"{shlex.quote(self.python)} -m pip install -r {requirements}",
            )
        found = json.loads(done.stdout.splitlines()[-1])
        if not Path(found["file"]).samefile(self.root / PEER):
            raise UserError(
                f"{self.name}: {self.python} takes its package from {found['file']}",
                "name an interpreter that heeds PYTHONPATH",
            )
        git = ["git", "-C", str(self.root), "describe", "--always", "--dirty", "--abbrev=12"]
        commit = None
        if shutil.which("git") and (self.root / ".git").exists():
            commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
        return {"build": self.name, "commit": commit, "versions": found["versions"]}


OURS = Build()


def weights_flags(weights: Weights) -> list[str]:
    """Returns the flags that name weights, wherever they are read."""
    return [f"--pretrained={weights.path.absolute()}", f"--model={weights.info.name}"]


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Returns why a command failed: its last line that is not indented, as hints are."""
    said = [line for line in done.stderr.splitlines() if line and line[0] != " "]
    return said[-1] if said else f"it ended with status {done.returncode}"


def other_builds(config: BenchmarkConfig) -> tuple[list[Build], dict[str, Any]]:
    """Returns the builds of `--versus`, and what they and ours are, if there are any.

    Raises:
        UserError: a folder is no checkout, or its interpreter cannot run it.
    """
    found = []
    for name in (name for name in config.competitors() if name.startswith("build:")):
        path, _, python = name.removeprefix("build:").partition(",")
        root = Path(path).expanduser().resolve()
        if not path or not (root / PEER).is_file():
            raise UserError(
                f"{name}: {root} is no checkout of this project, or one from before {PEER}",
                "git worktree add ../other HEAD~1  # then --versus build:../other",
            )
        found.append(Build(name, root, interpreter(python or sys.executable)))
    return found, {"builds": [build.check() for build in (OURS, *found)]} if found else {}
