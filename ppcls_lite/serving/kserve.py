"""The bodies of KServe's v2 protocol (Open Inference Protocol), with Triton's binary tensors.

A network has one input, `input`: FP32 [N, 3, H, W] (what `Preprocess` makes), or BYTES [N], whole
files of pictures. It gives `probabilities` FP32 [N, K]; `unknown` BOOL [N] where it has limits for
that (`ModelInfo.known_limits`); and, when they are asked for, `features` FP32 [N, D].
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel

from ppcls_lite.deploy.features import has_features
from ppcls_lite.errors import shortened
from ppcls_lite.serving.json_body import split_request
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.store import Served
from ppcls_lite.serving.tensors import (
    Unpack,
    from_bytes,
    from_json,
    pictures_from_bytes,
    pictures_from_json,
)

INPUT, FP32, BYTES = "input", "FP32", "BYTES"
OUTPUT, UNKNOWN, FEATURES = "probabilities", "unknown", "features"
KINDS = {OUTPUT: (FP32, "<f4"), UNKNOWN: ("BOOL", "?"), FEATURES: (FP32, "<f4")}  # and NumPy's
HEADER = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data", "model_repository"]


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[bool]


class InferAnswer(BaseModel):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


@dataclass(frozen=True)
class Inference:
    """What a request asks for, whichever way it came.

    Attributes:
        images: float32 [N, 3, H, W], or N files of pictures.
        outputs: names of what the answer shall hold, in order; empty leaves that to the network.
        binary: those of them that shall be raw bytes.
        all_binary: what is not asked for by name shall be raw bytes.
    """

    id: str
    engine: str | None
    images: np.ndarray | list[bytes]
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] = field(default_factory=frozenset)
    all_binary: bool = False


def parse(body: bytes, head_length: str | None, wanted: list[int], max_images: int) -> Inference:
    """Reads the body of an HTTP request.

    Args:
        body: JSON, followed by raw tensors when `head_length` is given.
        head_length: value of the header that says how long the JSON is.
        wanted: shape of the network's input.
        max_images: largest N.

    Raises:
        RequestError: it is not what the protocol or the network allows.
    """
    head, raw = body, b""
    if head_length is not None:
        # int() of thousands of digits is an error of its own
        digits = head_length.isascii() and head_length.isdigit() and len(head_length) < 19
        length = int(head_length) if digits else -1
        if not 0 <= length <= len(body):
            raise RequestError(
                "bad_body",
                f"{HEADER}: {head_length[:20]!r} is no length within the body's {len(body)} bytes",
            )
        head, raw = body[:length], body[length:]
    request, numbers = split_request(head)
    tensor = request.inputs[0]
    check_input(tensor.datatype, tensor.shape, wanted, max_images)
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(raw):
            raise RequestError(
                "bad_tensor", f"binary_data_size is {size!r}; after the JSON come {len(raw)} bytes"
            )
        unpack: Unpack = from_bytes if tensor.datatype == FP32 else pictures_from_bytes
        images = unpack(raw, tensor.shape)
    elif raw or numbers in (b"", b"null"):
        raise RequestError("bad_tensor", "a tensor needs either data or binary_data_size")
    else:
        unpack = from_json if tensor.datatype == FP32 else pictures_from_json
        images = unpack(numbers, tensor.shape)
    all_binary = request.parameters.get("binary_data_output", False) is True
    binary = frozenset(
        each.name
        for each in request.outputs
        if each.parameters.get("binary_data", all_binary) is True
    )
    names = tuple(each.name for each in request.outputs)
    return Inference(request.id, engine_of(request.parameters), images, names, binary, all_binary)


def engine_of(parameters: dict[str, Any]) -> str | None:
    """Returns the parameter `engine`.

    Raises:
        RequestError: it is no text.
    """
    engine = parameters.get("engine")
    if engine is not None and not isinstance(engine, str):
        raise RequestError("bad_body", f"parameters.engine: {shortened(repr(engine))} is no name")
    return engine


def check_input(datatype: str, shape: Sequence[int], wanted: list[int], max_images: int) -> None:
    """Raises RequestError when a tensor is neither what a network takes nor pictures [N]."""
    rest = wanted[1:] if datatype == FP32 else []
    if not shape or list(shape[1:]) != rest or not 1 <= shape[0] <= max_images:
        raise RequestError(
            "bad_tensor",
            f"shape {shortened(list(shape))}; allowed: {[-1, *rest]} with N from 1 to {max_images}",
        )


def check_answer(probs: np.ndarray) -> None:
    """Raises RequestError when the numbers of a tensor were too large for the network."""
    if not np.isfinite(probs).all():
        raise RequestError("bad_tensor", "data is so large that the model overflows")


def outputs_of(served: Served, asked: Sequence[str]) -> list[str]:
    """Returns the outputs that an answer holds: those asked for, else what costs nothing.

    Raises:
        RequestError: the network has no such output.
    """
    there = [OUTPUT, *([UNKNOWN] if served.predictor.info.known_limits else [])]
    for name in asked:
        if name not in (*there, FEATURES):
            raise RequestError(
                "bad_tensor",
                f"no output {shortened(name)}; there is {', '.join([*there, FEATURES])}",
            )
    return list(asked) or there


def answer(
    served: Served, request: Inference, found: dict[str, np.ndarray]
) -> tuple[bytes, dict[str, str]]:
    """Writes the body of an HTTP answer, and its headers.

    Args:
        served: what answered.
        request: what was asked.
        found: the outputs by name, in order.
    """
    outputs, raw = [], b""
    for name, array in found.items():
        datatype, dtype = KINDS[name]
        output: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if name in request.binary or (request.all_binary and not request.outputs):
            data = array.astype(dtype).tobytes()
            output["parameters"] = {"binary_data_size": len(data)}
            raw += data
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    content: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if request.id:
        content["id"] = request.id
    head = json.dumps(content | {"outputs": outputs}).encode()
    if not any("parameters" in each for each in outputs):
        return head, {"content-type": "application/json"}
    return head + raw, {"content-type": "application/octet-stream", HEADER: str(len(head))}


def model_metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    """Returns what the protocol says about a model."""
    shapes = {OUTPUT: [-1, served.predictor.info.num_classes], UNKNOWN: [-1], FEATURES: [-1, -1]}
    there = has_features(served.predictor.engine, served.predictor.file)
    names = [*outputs_of(served, ()), *([FEATURES] if there else [])]
    return {
        "name": served.name,
        "versions": versions,
        "platform": f"ppcls_lite_{served.predictor.engine}",
        "inputs": [{"name": INPUT, "datatype": FP32, "shape": served.input_shape}],
        "outputs": [
            {"name": name, "datatype": KINDS[name][0], "shape": shapes[name]} for name in names
        ],
    }
