"""Network files that nobody vouches for: looked through here, then loaded by a child process first.

Paddle Inference and ONNX Runtime read a network file in C++ and may crash on a damaged one, which
would end the program, or a server's worker. A file whose SHA-256 stands in the `inference.yml`
beside it is whole and is loaded at once; any other is tried in a child, which costs a start of the
engine (a second or two), and a crash becomes a message.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.errors import UserError, shortened
from ppcls_lite.runtimes import FILE_RUNTIMES
from ppcls_lite.untrusted import reading
from ppcls_lite.wire import Schema, WireError, check_wire

LARGEST = 2**31  # bytes of a protobuf message, by its definition
MOST_FIELDS = 5_000_000  # of a network; mobilenet_v3_large has 11,000
TIMEOUT = 300  # seconds for the trial

# Which fields hold messages. onnx.proto: graph { node { attribute { t, g, tensors, graphs } },
# initializer, input, output, value_info }; opset_import.
_ATTRIBUTE: Schema = {5: {}, 10: {}}
_GRAPH: Schema = {1: {5: _ATTRIBUTE}, 5: {}, 11: {2: {1: {2: {1: {}}}}}, 12: {}, 13: {}}
_ATTRIBUTE |= {6: _GRAPH, 11: _GRAPH}
ONNX: Schema = {7: _GRAPH, 8: {}}
# framework.proto: blocks { vars { type { ... } }, ops { inputs, outputs, attrs } }, version.
PROGRAM: Schema = {1: {3: {2: {2: {}, 3: {1: {}}}}, 4: {1: {}, 2: {}, 4: {}}}, 4: {}, 5: {1: {}}}
SCHEMAS = {".onnx": ONNX, ".pdmodel": PROGRAM}


def check_form(file: Path) -> None:
    """Looks through a network file without a library that unpacks it.

    Raises:
        UserError: it is damaged, or no such file at all.
    """
    what, hint = f"{file.suffix} file", "copy it again, or export the model again"
    with reading(file, what, hint):
        size = file.stat().st_size
        if not 0 < size < LARGEST:
            raise ValueError(f"{size:,} bytes; allowed: 1 to {LARGEST - 1:,}")
        if file.suffix not in SCHEMAS:
            json.loads(file.read_bytes())  # Paddle's .json
            return
        # onnx.proto's graph, framework.proto's blocks
        wanted = 7 if file.suffix == ".onnx" else 1
        if wanted not in check_wire(file.read_bytes(), SCHEMAS[file.suffix], MOST_FIELDS):
            raise WireError("no model in it")


def check_whole(
    sidecar: Sidecar | None, files: Sequence[Path], engine: str, device: str = "cpu"
) -> None:
    """Returns when a network file can be loaded: vouched for by a sidecar, or tried in a child.

    Args:
        sidecar: of its folder.
        files: the network, and its weights where they are a file of their own.
        engine: what is to load it.
        device: where.

    Raises:
        UserError: a file is not the one that the sidecar describes, or cannot be loaded.
    """
    listed = [file for file in files if sidecar is not None and file.name in sidecar.files]
    for file in listed:
        sidecar.check_file(file)  # type: ignore[union-attr]  # without one nothing is listed
    if listed != list(files):
        try_in_child(files[0], engine, device, files[1:])


def try_in_child(file: Path, engine: str, device: str, params: Sequence[Path] = ()) -> None:
    """Has a child process load a network file.

    Raises:
        UserError: the engine cannot read it, or crashes.
    """
    check_form(file)
    hint = "copy all files of the export folder again, or export the model again"
    root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    try:
        child = subprocess.run(
            [
                *(sys.executable, "-m", "ppcls_lite.deploy.first_load"),
                *map(str, (file, engine, device, *params)),
            ],
            env=os.environ | {"PYTHONPATH": search_path},
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{engine} reads {file} without an end", hint) from None
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise UserError(f"{engine} crashed while it read {file} ({name})", hint)
    if child.returncode:
        words = child.stdout.decode(errors="replace") or child.stderr.decode(errors="replace")
        raise UserError(shortened(words) or f"{engine} cannot read {file}", hint)


if __name__ == "__main__":
    try:
        with_params = sys.argv[4:] and sys.argv[2] == "paddle_inference"
        more: dict[str, Any] = {"params": Path(sys.argv[4])} if with_params else {}
        FILE_RUNTIMES[sys.argv[2]](Path(sys.argv[1]), sys.argv[3], **more)
    except Exception as error:
        print(error.message if isinstance(error, UserError) else f"{sys.argv[1]}: {error}")
        sys.exit(1)
