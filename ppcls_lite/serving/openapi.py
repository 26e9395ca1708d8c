"""What the OpenAPI document says of the requests and answers."""

from typing import Any

from pydantic import BaseModel

from ppcls_lite.serving import paddle_serving


class Failure(BaseModel):
    """Why a request was not answered."""

    error: str


class Class(BaseModel):
    """One class of a picture."""

    class_id: int
    prob: float
    name: str


class Reason(BaseModel):
    """Where on a picture the network sees a class: a PNG as a data URL."""

    class_id: int
    method: str
    heatmap: str


class Near(BaseModel):
    """An image of the gallery, its class, and a small JPEG of it as a data URL; "" where none."""

    file: str
    name: str
    cosine: float
    picture: str


class Result(BaseModel):
    """What is on one picture."""

    file: str
    topk: list[Class] | None = None
    unknown: bool | None = None
    labels: list[Class] | None = None
    result: Any = None
    seen: str | None = None
    explain: Reason | None = None
    features: list[float] | None = None
    nearest: list[Near] | None = None


class Predictions(BaseModel):
    """The answer of /predict."""

    model: str
    version: str
    engine: str
    milliseconds: float
    results: list[Result]


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Describes a body that the function reads itself, for the OpenAPI document."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        """Puts the schemas of parts where they are named: the document has no place for them."""
        if isinstance(value, list):
            return [whole(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return whole(parts[value["$ref"].rpartition("/")[2]])
        return {key: whole(item) for key, item in value.items()}

    content = {"application/json": {"schema": whole(schema)}}
    return {"requestBody": {"required": True, "content": content}}


BINARY = {"type": "string", "format": "binary"}
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "array", "minItems": 1, "items": BINARY}},
}
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}
FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "The request is wrong, refused or too much."},
    503: {"model": Failure, "description": "No answer in time; try again."},
}
PIPELINE_FAILURES: dict[int | str, dict[str, Any]] = {
    status: row | {"model": paddle_serving.PipelineReply} for status, row in FAILURES.items()
}
