"""The request and the reply of Paddle Serving's pipeline over HTTP, as Step6 uses them."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ppcls_lite.deploy.ranking import Prediction
from ppcls_lite.errors import shortened
from ppcls_lite.serving.json_body import read_model
from ppcls_lite.serving.problems import RequestError

SPARE_VALUES = 100_000  # commas and brackets that names may hold, or that are simply wrong


class PipelineRequest(BaseModel):
    """Pictures as base64; each key names one, as in Step6's Op."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": ["image"], "value": ["…"]}]})

    key: list[str] = Field(min_length=1, description="a name for each image")
    value: list[str] = Field(min_length=1, description="the images, base64")
    logid: int = Field(0, ge=0, lt=2**63, description="goes into the log")
    clientip: str = Field("", max_length=256, description="goes into the log")
    topk: int = Field(1, ge=1, le=1000, description="1 gives flat lists, as Paddle Serving does")


class PipelineReply(BaseModel):
    """Python lists as text, which is how Paddle Serving sends them."""

    err_no: int
    err_msg: str
    key: list[str]
    value: list[str]
    tensors: list[Any]


@dataclass(frozen=True)
class Asked:
    """What a request asks for; its text is gone."""

    pictures: list[bytes]
    topk: int
    logid: int
    clientip: str


def parse(body: bytes, max_images: int) -> Asked:
    """Reads the body of a request.

    Raises:
        RequestError: it is not what Step6's client sends, or holds too many pictures.
    """
    # Base64 has none of these signs. A body of nothing else becomes forty times as large.
    values = sum(body.count(sign) for sign in (b",", b"[", b"{"))
    allowed = 2 * max_images + SPARE_VALUES
    if values > allowed:
        raise RequestError(
            "too_large", f"JSON of about {values} values; allowed: {allowed} beside texts"
        )
    request = read_model(PipelineRequest, body)
    found = pictures(request, max_images)
    return Asked(found, request.topk, request.logid, request.clientip)


def pictures(request: PipelineRequest, max_images: int) -> list[bytes]:
    """Returns the pictures of a request.

    Raises:
        RequestError: keys and values do not belong together, too many, or not base64.
    """
    if len(request.key) != len(request.value):
        raise RequestError(
            "bad_body", f"{len(request.key)} keys but {len(request.value)} values; one for each"
        )
    if len(request.value) > max_images:
        raise RequestError(
            "too_large", f"{len(request.value)} images; allowed: {max_images} in a request"
        )
    found = []
    for key, text in zip(request.key, request.value, strict=True):
        try:
            # Line breaks, as many encoders write them, are no mistake.
            found.append(base64.b64decode("".join(text.split()), validate=True))
        except (binascii.Error, ValueError) as error:
            raise RequestError(
                "bad_body", f"value of {shortened(repr(key))} is no base64 ({error})"
            ) from error
    return found


def reply(answers: list[Any], topk: int, is_ranked: bool) -> dict[str, Any]:
    """Writes ranked classes of every picture, or the user's own answers, as Paddle Serving does."""
    if not is_ranked:
        return _reply(["result"], [str(answers)])
    rankings: list[list[Prediction]] = answers
    # Step6 takes the commas out of the names.
    names = [[p.name.strip().replace(",", "") for p in ranking] for ranking in rankings]
    probs = [[p.prob for p in ranking] for ranking in rankings]
    label: list[Any] = [row[0] for row in names] if topk == 1 else list(names)
    prob: list[Any] = [row[0] for row in probs] if topk == 1 else list(probs)
    return _reply(["label", "prob"], [str(label), str(prob)])


def failure(error: RequestError) -> dict[str, Any]:
    """Writes a failure as Paddle Serving's reply."""
    return _reply([], [], error.problem.err_no, error.message)


def _reply(key: list[str], value: list[str], err_no: int = 0, err_msg: str = "") -> dict[str, Any]:
    """The reply's fields, in Paddle Serving's order."""
    return {"err_no": err_no, "err_msg": err_msg, "key": key, "value": value, "tensors": []}
