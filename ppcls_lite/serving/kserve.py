"""The bodies of KServe's v2 protocol (Open Inference Protocol), with Triton's binary tensors.

A network has one input, `input` FP32 [N, 3, H, W] (what `Preprocess` makes), and one output,
`probabilities` FP32 [N, K].
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from pydantic import BaseModel

from ppcls_lite.errors import shortened
from ppcls_lite.serving.json_body import split_request
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.store import Served

INPUT, OUTPUT, FP32 = "input", "probabilities", "FP32"
HEADER = "inference-header-content-length"
NESTED = {
    1: list[float],
    2: list[list[float]],
    3: list[list[list[float]]],
    4: list[list[list[list[float]]]],
}
EXTENSIONS = ["binary_tensor_data", "model_repository"]


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


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
        images: float32 [N, 3, H, W].
        binary: the answer shall hold raw bytes.
    """

    id: str
    engine: str | None
    images: np.ndarray
    binary: bool = False


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
    check_shape(tensor.shape, wanted, max_images)
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(raw):
            raise RequestError(
                "bad_tensor", f"binary_data_size is {size!r}; after the JSON come {len(raw)} bytes"
            )
        images = from_bytes(raw, tensor.shape)
    elif raw or numbers in (b"", b"null"):
        raise RequestError("bad_tensor", "a tensor needs either data or binary_data_size")
    else:
        images = from_json(numbers, tensor.shape)
    asked = [output.parameters.get("binary_data") for output in request.outputs]
    binary = asked[0] if asked and asked[0] is not None else None
    if binary is None:
        binary = request.parameters.get("binary_data_output", False)
    return Inference(request.id, engine_of(request.parameters), images, binary is True)


def engine_of(parameters: dict[str, Any]) -> str | None:
    """Returns the parameter `engine`.

    Raises:
        RequestError: it is no text.
    """
    engine = parameters.get("engine")
    if engine is not None and not isinstance(engine, str):
        raise RequestError("bad_body", f"parameters.engine: {shortened(repr(engine))} is no name")
    return engine


def check_shape(shape: list[int], wanted: list[int], max_images: int) -> None:
    """Raises RequestError when a tensor is not the [N, 3, H, W] that a network takes."""
    if list(shape[1:]) != wanted[1:] or not 1 <= shape[0] <= max_images:
        raise RequestError(
            "bad_tensor",
            f"shape {shortened(list(shape))}; allowed: {wanted} with N from 1 to {max_images}",
        )


def from_bytes(raw: bytes, shape: list[int]) -> np.ndarray:
    """Little-endian bytes -> float32 of a shape, all finite.

    Raises:
        RequestError: another length, or not finite.
    """
    wanted = 4 * math.prod(shape)
    if len(raw) != wanted:
        raise RequestError("bad_tensor", f"{len(raw)} bytes; shape {list(shape)} has {wanted}")
    return _finite(np.frombuffer(raw, "<f4").reshape(shape))


def from_json(data: bytes, shape: list[int]) -> np.ndarray:
    """The text of numbers, nested or flat -> float32 of a shape, all finite.

    Raises:
        RequestError: no numbers, another count, or not finite.
    """
    # Known before anything is unpacked: a list of nothing takes twenty times its text.
    count = data.count(b",") + 1
    if count != math.prod(shape):
        raise RequestError(
            "bad_tensor",
            f"data holds {count} numbers; shape {list(shape)} has {math.prod(shape)}",
        )
    opening = re.match(rb"[\s\[]*", data)
    depth = opening[0].count(b"[") if opening else 0
    try:
        return from_numbers(msgspec.json.decode(data, type=NESTED[depth]), shape)
    except (KeyError, msgspec.MsgspecError) as error:
        raise RequestError(
            "bad_tensor", "data holds something that is not a number, or rows that are not regular"
        ) from error


def from_numbers(data: list[Any] | np.ndarray, shape: list[int]) -> np.ndarray:
    """Numbers, nested or flat -> float32 of a shape, all finite.

    Raises:
        RequestError: no numbers, another count, or not finite.
    """
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:  # lists of different lengths, or too deep
        raise RequestError("bad_tensor", "data is not regular: every row needs the same") from error
    if array.dtype.kind not in "iuf":
        raise RequestError("bad_tensor", "data holds something that is not a number")
    if array.size != math.prod(shape):
        raise RequestError(
            "bad_tensor",
            f"data holds {array.size} numbers; shape {list(shape)} has {math.prod(shape)}",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is told below
        return _finite(array.astype(np.float32).reshape(shape))


def _finite(images: np.ndarray) -> np.ndarray:
    if not np.isfinite(images).all():
        raise RequestError("bad_tensor", "data holds a number that is not finite in float32")
    return images


def check_answer(probs: np.ndarray) -> None:
    """Raises RequestError when the numbers of a tensor were too large for the network."""
    if not np.isfinite(probs).all():
        raise RequestError("bad_tensor", "data is so large that the network overflows")


def answer(served: Served, request: Inference, probs: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Writes the body of an HTTP answer, and its headers."""
    output: dict[str, Any] = {"name": OUTPUT, "shape": list(probs.shape), "datatype": FP32}
    content: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if request.id:
        content["id"] = request.id
    content["outputs"] = [output]
    if not request.binary:
        output["data"] = probs.ravel().tolist()
        return json.dumps(content).encode(), {"content-type": "application/json"}
    raw = probs.astype("<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(content).encode()
    return head + raw, {"content-type": "application/octet-stream", HEADER: str(len(head))}


def model_metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    """Returns what the protocol says about a model."""
    classes = served.predictor.info.num_classes
    return {
        "name": served.name,
        "versions": versions,
        "platform": f"ppcls_lite_{served.predictor.engine}",
        "inputs": [{"name": INPUT, "datatype": FP32, "shape": served.input_shape}],
        "outputs": [{"name": OUTPUT, "datatype": FP32, "shape": [-1, classes]}],
    }
