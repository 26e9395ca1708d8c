"""The addresses of the HTTP server, and what they answer."""

import base64
import importlib.resources
import io
import time
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from ppcls_lite.deploy.explain import Explanation
from ppcls_lite.deploy.hooks import visible
from ppcls_lite.serving import kserve, metrics, paddle_serving
from ppcls_lite.serving.gallery import ServedGallery, gallery_of
from ppcls_lite.serving.json_body import InferRequest
from ppcls_lite.serving.middleware import error_response, kind_of_status
from ppcls_lite.serving.openapi import (
    FAILURES,
    PIPELINE_FAILURES,
    UPLOAD,
    Predictions,
    json_body,
)
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.service import Service
from ppcls_lite.serving.store import Served
from ppcls_lite.version import __version__

PICTURES = "imagenet"  # the service name in Step6's address; means the first model
# The page works alone: nothing is loaded from anywhere, and nothing is sent elsewhere.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " img-src data: blob:; media-src blob:; connect-src 'self'; frame-ancestors 'none'"
)
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"
Name = Annotated[str, Path(max_length=200)]
Version = Annotated[str, Path(max_length=20)]


def add_routes(app: FastAPI, service: Service) -> None:
    """Gives an application all addresses."""
    app.add_exception_handler(RequestError, _answer_failure)
    app.add_exception_handler(HTTPException, _answer_failure)
    app.add_exception_handler(RequestValidationError, _answer_failure)
    app.add_exception_handler(Exception, _answer_failure)
    add_paddle_serving(app, service)
    add_pictures(app, service)
    add_kserve(app, service)
    add_inference(app, service)
    page = read_page()

    @app.get("/", response_class=HTMLResponse, tags=["page"])
    async def try_it() -> HTMLResponse:
        """The page to try the models on."""
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})

    @app.get("/metrics", tags=["service"], responses=FAILURES, response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Counts and times of all worker processes, for Prometheus."""
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    @app.get("/models", tags=["service"], responses=FAILURES)
    async def models() -> list[dict[str, Any]]:
        """The models, their engines, and how they see an image."""
        return [
            {"name": name, "version": version, "engines": list(entry.engines),
             "loaded_at": entry.loaded_at,
             **_describe(next(iter(entry.engines.values())), service.gallery)}
            for (name, version), entry in service.store
        ]  # fmt: skip


def read_page() -> str:
    """Returns the page as one file, its style and program inside."""
    folder = importlib.resources.files(__package__)
    page = folder.joinpath("page.html").read_text("utf-8")
    for name in ("page.css", "page.js"):
        page = page.replace(f"/* {name} */", "\n" + folder.joinpath(name).read_text("utf-8"))
    return page


def _describe(served: Served, gallery: ServedGallery | None) -> dict[str, Any]:
    info = served.predictor.info
    found = len(gallery) if gallery is not None and gallery.is_of(served.predictor) else 0
    return {
        "network": info.name,
        "num_classes": info.num_classes,
        "preprocess": info.preprocess.to_dict(),
        "gallery": found,
    }


async def _answer_failure(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        kind = kind_of_status(error.status_code)
        failure = RequestError(kind, f"{request.method} {request.url.path}: {error.detail}")
        return error_response(request.scope, failure, error.headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = RequestError("bad_body", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    elif not isinstance(error, RequestError):
        error = RequestError("internal", "the server failed; its log knows more")
    return error_response(request.scope, error)


def add_paddle_serving(app: FastAPI, service: Service) -> None:
    """Adds the address of Paddle Serving's pipelines."""

    @app.post(
        "/{name}/prediction",
        tags=["images"],
        response_model=paddle_serving.PipelineReply,
        responses=PIPELINE_FAILURES,
        openapi_extra=json_body(paddle_serving.PipelineRequest),
    )
    async def prediction(name: Name, request: Request) -> Response:
        """Paddle Serving's request: base64 images. `imagenet` means the first model."""
        limit = service.config.max_images
        body = await request.body()
        asked = await service.parse(len(body), lambda: paddle_serving.parse(body, limit))
        request.state.notes.update(logid=asked.logid, clientip=asked.clientip)
        known = {key[0] for key, _ in service.store}
        served = service.store.find(None if name == PICTURES and name not in known else name, None)
        answers, _, _ = await service.classify(served, asked.pictures, asked.topk)
        return JSONResponse(paddle_serving.reply(answers, asked.topk, served.is_ranked))


def add_pictures(app: FastAPI, service: Service) -> None:
    """Adds our own address, which takes image files."""

    @app.post(
        "/predict",
        tags=["images"],
        response_model=Predictions,
        responses=FAILURES,
        openapi_extra=UPLOAD,
    )
    async def predict(
        request: Request,
        model: str | None = None,
        version: str | None = None,
        engine: str | None = None,
        topk: Annotated[int, Query(ge=1, le=1000)] = 5,
        seen: bool = False,
        explain: bool = False,
        features: bool = False,
        nearest: Annotated[int, Query(ge=0, le=100)] = 0,
    ) -> Response:
        """One image as the body, or several as files of a form.

        `seen` returns the crop, too; `explain` that crop with a heatmap of the first class over it;
        `features` what the model's last layer reads; `nearest` as many images of the gallery.
        """
        begin = time.perf_counter()
        served = service.store.find(model, version, engine)
        gallery = gallery_of(service.gallery, served) if nearest else None
        files = await _uploads(request, service.config.max_images)
        pictures = [data for _, data in files]
        wanted = features or nearest > 0
        added: list[dict[str, Any]] = [{} for _ in files]
        if explain:
            whys, crops, vectors = await service.explain(served, pictures, topk, wanted)
            answers = [why.answer for why in whys]
            for more, why in zip(added, whys, strict=True):
                more["explain"] = _reason(why)
        else:
            answers, crops, vectors = await service.classify(served, pictures, topk, wanted)
        if features and vectors is not None:
            for more, vector in zip(added, vectors, strict=True):
                more["features"] = vector.tolist()
        if gallery is not None and vectors is not None:
            for more, vector in zip(added, vectors, strict=True):
                find = partial(gallery.nearest, vector, nearest)
                more["nearest"] = await service.thread.run(find)
        results = [
            {"file": name}
            | (answer.to_dict() if served.is_ranked else {"result": answer})
            | ({"seen": _data_url(_visible(served, crop))} if seen else {})
            | more
            for (name, _), answer, crop, more in zip(files, answers, crops, added, strict=True)
        ]
        milliseconds = round(1000 * (time.perf_counter() - begin), 2)
        return JSONResponse(
            {"model": served.name, "version": served.version, "engine": served.predictor.engine,
             "milliseconds": milliseconds, "results": results}
        )  # fmt: skip


async def _uploads(request: Request, max_images: int) -> list[tuple[str, bytes]]:
    """Returns names and bytes of the images that were sent, in whichever way."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        body = await request.body()
        if not body:
            raise RequestError("bad_body", "the body is empty; it must be an image")
        return [("", body)]
    # In memory, which is counted: files in /tmp would fill a container's.
    parser = MultiPartParser(request.headers, request.stream(), max_files=max_images, max_fields=0)
    parser.spool_max_size = 2**31
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError("bad_body", error.message) from error
    files = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
    if not files:
        raise RequestError("bad_body", "the form has no file with the name `file`")
    return [(part.filename or "", await part.read()) for part in files]


def _visible(served: Served, made: Any) -> Image.Image:
    return Image.fromarray(visible(made, served.predictor.info))


def _reason(why: Explanation) -> dict[str, Any]:
    return {"class_id": why.class_id, "method": why.method, "heatmap": _data_url(why.overlay())}


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def add_kserve(app: FastAPI, service: Service) -> None:
    """Adds what KServe's v2 protocol tells of server and models."""

    @app.get("/v2/health/live", tags=["kserve"])
    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/v2/health/ready", tags=["kserve"], responses={503: FAILURES[503]})
    async def ready() -> Response:
        """All models have answered once."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/v2", tags=["kserve"], responses=FAILURES)
    async def server() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        version = __version__
        return {"name": "ppcls_lite", "version": version, "extensions": kserve.EXTENSIONS}

    @app.post("/v2/repository/index", tags=["kserve"], responses=FAILURES)
    async def index() -> list[dict[str, str]]:
        """Triton's list of models."""
        return [
            {"name": name, "version": version, "state": "READY", "reason": ""}
            for (name, version), _ in service.store
        ]

    @app.get(VERSION, tags=["kserve"], responses=FAILURES)
    @app.get(MODEL, tags=["kserve"], responses=FAILURES)
    async def metadata(name: Name, version: Version | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        versions = [v for (known, v), _ in service.store if known == name]
        return kserve.model_metadata(service.store.find(name, version), versions)

    @app.get(VERSION + "/ready", tags=["kserve"], responses=FAILURES)
    @app.get(MODEL + "/ready", tags=["kserve"], responses=FAILURES)
    async def model_ready(name: Name, version: Version | None = None) -> dict[str, bool]:
        """The model can answer."""
        service.store.find(name, version)
        return {"ready": True}


def add_inference(app: FastAPI, service: Service) -> None:
    """Adds the v2 protocol's inference."""
    options: dict[str, Any] = {
        "tags": ["kserve"],
        "response_model": kserve.InferAnswer,
        "responses": FAILURES,
        "openapi_extra": json_body(InferRequest),
    }

    @app.post(VERSION + "/infer", **options)
    @app.post(MODEL + "/infer", **options)
    async def infer(name: Name, request: Request, version: Version | None = None) -> Response:
        """Tensors or files of images in, probabilities out; JSON, or Triton's binary tensors."""
        head_length = request.headers.get(kserve.HEADER)
        served = service.store.find(name, version)
        shape, limit = served.input_shape, service.config.max_images
        body = await request.body()
        inference = await service.parse(
            len(body), lambda: kserve.parse(body, head_length, shape, limit)
        )
        if inference.engine is not None:
            served = service.store.find(name, served.version, inference.engine)
        names = kserve.outputs_of(served, inference.outputs)
        found = await service.outputs(served, inference.images, names)
        content, headers = kserve.answer(served, inference, found)
        return Response(content, headers=headers)
