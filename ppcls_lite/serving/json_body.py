"""JSON of requests: read as what it must be, without unpacking what is only large."""

from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field, ValidationError

from ppcls_lite.errors import shortened
from ppcls_lite.serving.problems import RequestError

LARGEST_HEAD = 2**16  # bytes of a request's JSON beside its numbers
FIELDS, TENSOR_FIELDS = ("id", "parameters", "outputs"), ("name", "shape", "datatype", "parameters")


class InputTensor(BaseModel):
    """A tensor of a request."""

    name: Literal["input"]
    shape: list[int] = Field(min_length=1, max_length=4, description="N, 3, H, W; N of BYTES")
    datatype: Literal["FP32", "BYTES"]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(
        None, description="numbers, nested or flat, row by row; of BYTES an image's file in base64"
    )


class RequestedOutput(BaseModel):
    """A tensor that the answer shall hold."""

    name: Literal["probabilities", "unknown", "features"]
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """An inference request."""

    id: str = Field("", max_length=256)
    parameters: dict[str, Any] = Field({}, description="engine: what runs the model")
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field([], max_length=3)


class _Tensor(msgspec.Struct):
    """A tensor's fields as they stand in the JSON."""

    name: msgspec.Raw = msgspec.Raw(b"null")
    shape: msgspec.Raw = msgspec.Raw(b"null")
    datatype: msgspec.Raw = msgspec.Raw(b"null")
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    data: msgspec.Raw = msgspec.Raw(b"")


class _Request(msgspec.Struct):
    """A request's fields as they stand in the JSON."""

    inputs: list[_Tensor]
    id: msgspec.Raw = msgspec.Raw(b'""')
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    outputs: msgspec.Raw = msgspec.Raw(b"[]")


def split_request(head: bytes) -> tuple[InferRequest, bytes]:
    """Reads a request without its numbers, which are returned as they stand in the JSON.

    Raises:
        RequestError: it is no request, or long beside its numbers.
    """
    numbers = b""
    try:
        parts = msgspec.json.decode(head, type=_Request)
        if len(parts.inputs) == 1:
            numbers = bytes(parts.inputs[0].data)
        if len(head) - len(numbers) > LARGEST_HEAD:
            raise RequestError(
                "too_large",
                f"{len(head) - len(numbers)} bytes beside data; allowed: {LARGEST_HEAD}",
            )
        fields = {name: msgspec.json.decode(getattr(parts, name)) for name in FIELDS}
        tensors = [
            {name: msgspec.json.decode(getattr(one, name)) for name in TENSOR_FIELDS}
            for one in parts.inputs
        ]
        return InferRequest.model_validate(fields | {"inputs": tensors}), numbers
    except ValidationError as error:
        raise _first_mistake(error) from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RequestError("bad_body", shortened(error)) from error


def read_model(kind: type[Any], body: bytes) -> Any:
    """Reads JSON as a pydantic model.

    Raises:
        RequestError: names the first place that is wrong.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _first_mistake(error) from error


def _first_mistake(error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return RequestError("bad_body", shortened(f"{place + ': ' if place else ''}{first['msg']}"))
