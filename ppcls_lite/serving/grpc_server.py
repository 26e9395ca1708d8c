"""KServe's v2 protocol over gRPC, on the same networks and within the same limits as HTTP.

The messages are made from `inference.proto` when the server starts: generated code would have to
match the installed protobuf.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from ppcls_lite.serving import kserve, metrics, tensors
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.service import Service
from ppcls_lite.serving.upload import COPIES, Room
from ppcls_lite.version import __version__
from ppcls_lite.wire import Schema, WireError, check_wire

LOG = logging.getLogger("ppcls_lite.serving")
PROTO = "ppcls_lite/serving/inference.proto"
SERVICE = "inference.GRPCInferenceService"
# Of inference.proto: parameters, inputs with contents, outputs.
SCHEMA: Schema = {4: {2: {}}, 5: {5: {}}, 6: {}}
# A tensor may come number by number; 16 MB hold 3.2 million.
MOST_FIELDS = 100_000
# Probes come without a key, as over HTTP.
OPEN = {"ServerLive", "ServerReady"}
Call = Callable[[Any], Awaitable[Any]]


class GrpcServer:
    """The gRPC side of a worker; all workers share the port.

    Args:
        service: the networks and limits.
        port: to listen on.
    """

    def __init__(self, service: Service, port: int) -> None:
        self._service = service
        self._address = f"{service.config.host}:{port}"

    async def start(self) -> None:
        """Opens the port."""
        messages = grpc.protos(PROTO)
        limit = int(self._service.config.max_body_mb * 1e6)
        options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 1)]
        self._server = grpc.aio.server(options=options)
        calls = InferenceService(self._service, messages)
        reads = asyncio.Semaphore(max(1, self._service.config.request_memory // (2 * limit)))
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(
                guarded(
                    name, getattr(calls, name), getattr(messages, f"{name}Request"),
                    self._service, reads,
                ),
                response_serializer=lambda reply: reply.SerializeToString(),
            )
            for name in vars(InferenceService) if not name.startswith("_")
        }  # fmt: skip
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def stop(self) -> None:
        """Takes no more calls and waits for those under way."""
        await self._server.stop(self._service.config.drain_timeout)


class InferenceService:
    """The calls of the protocol; each takes a message and returns one.

    Args:
        service: the networks and limits.
        messages: the classes of inference.proto.
    """

    def __init__(self, service: Service, messages: Any) -> None:
        self._service = service
        self._messages = messages

    async def ServerLive(self, request: Any) -> Any:
        """The process answers."""
        return self._messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any) -> Any:
        """All models have answered once."""
        return self._messages.ServerReadyResponse(ready=self._service.ready)

    async def ServerMetadata(self, request: Any) -> Any:
        """Name, version and extensions of the server."""
        return self._messages.ServerMetadataResponse(
            name="ppcls_lite", version=__version__, extensions=kserve.EXTENSIONS
        )

    async def ModelReady(self, request: Any) -> Any:
        """The model can answer."""
        self._service.store.find(request.name, request.version or None)
        return self._messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any) -> Any:
        """Inputs and outputs of a model."""
        store = self._service.store
        versions = [version for (name, version), _ in store if name == request.name]
        served = store.find(request.name, request.version or None)
        return self._messages.ModelMetadataResponse(**kserve.model_metadata(served, versions))

    async def RepositoryIndex(self, request: Any) -> Any:
        """Triton's list of models."""
        models = [
            {"name": name, "version": version, "state": "READY"}
            for (name, version), _ in self._service.store
        ]
        return self._messages.RepositoryIndexResponse(models=models)

    async def ModelInfer(self, request: Any) -> Any:
        """Tensors or files of images in, probabilities out; raw bytes for raw bytes."""
        parameters = {
            key: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
            for key, value in request.parameters.items()
        }
        served = self._service.store.find(
            request.model_name, request.model_version or None, kserve.engine_of(parameters)
        )
        images = await self._service.parse(
            request.ByteSize(), lambda: _images(request, self._service, served.input_shape)
        )
        names = kserve.outputs_of(served, [output.name for output in request.outputs])
        found = await self._service.outputs(served, images, names)
        answer = self._messages.ModelInferResponse(
            model_name=served.name, model_version=served.version, id=request.id
        )
        for name, array in found.items():
            datatype, dtype = kserve.KINDS[name]
            output = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
            if request.raw_input_contents:
                answer.raw_output_contents.append(array.astype(dtype).tobytes())
            elif datatype == kserve.FP32:
                output.contents.fp32_contents.extend(array.ravel().tolist())
            else:
                output.contents.bool_contents.extend(array.tolist())
        return answer


def _images(request: Any, service: Service, input_shape: list[int]) -> np.ndarray | list[bytes]:
    """Returns the one input of a request: float32 [N, 3, H, W], or files of pictures."""
    if len(request.inputs) != 1 or len(request.raw_input_contents) > 1:
        raise RequestError("bad_tensor", f"{len(request.inputs)} inputs; allowed: 1")
    tensor = request.inputs[0]
    if tensor.name != kserve.INPUT or tensor.datatype not in (kserve.FP32, kserve.BYTES):
        raise RequestError(
            "bad_tensor",
            f"input {tensor.name!r} {tensor.datatype!r}; allowed: {kserve.INPUT} {kserve.FP32} or"
            f" {kserve.BYTES}",
        )
    shape = list(tensor.shape)
    kserve.check_input(tensor.datatype, shape, input_shape, service.config.max_images)
    if tensor.datatype == kserve.BYTES:
        if request.raw_input_contents:
            return tensors.pictures_from_bytes(request.raw_input_contents[0], shape)
        if len(tensor.contents.bytes_contents) != shape[0]:
            count = len(tensor.contents.bytes_contents)
            raise RequestError("bad_tensor", f"{count} elements; shape {shape} has {shape[0]}")
        return list(tensor.contents.bytes_contents)
    if request.raw_input_contents:
        return tensors.from_bytes(request.raw_input_contents[0], shape)
    return tensors.from_numbers(np.asarray(tensor.contents.fp32_contents), shape)


def guarded(
    name: str, call: Call, kind: Any, service: Service, reads: asyncio.Semaphore
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Puts key, limits, time and metrics around a call.

    On the wire a call with one message is a stream of one. As a stream it is ours to read: when
    there is memory for it, and with an answer when it is no message.

    Args:
        name: of the call.
        call: takes a message and returns one.
        kind: class of the message it takes.
        service: the networks and limits.
        reads: the messages that may be on their way at a time, as each may be as large as allowed.
    """
    largest = int(service.config.max_body_mb * 1e6)

    async def read(requests: AsyncIterator[bytes], room: Room) -> Any:
        async with reads:
            room.resize(largest)
            data = await anext(requests, b"")
            room.resize(COPIES * len(data))
        try:
            check_wire(data, SCHEMA, MOST_FIELDS)
            return kind.FromString(data)
        except (WireError, DecodeError) as error:
            raise RequestError("bad_body", f"no {kind.DESCRIPTOR.name}: {error}") from error

    async def limited(requests: AsyncIterator[bytes], context: Any) -> Any:
        if name in OPEN:
            return await call(kind())  # its message is empty, and need not be waited for
        given = dict(context.invocation_metadata() or ())
        service.check_key(str(given.get("authorization", "")))
        with service.memory.room() as room:
            request = await read(requests, room)
            if name != "ModelInfer":
                return await call(request)
            with service.slot():
                return await call(request)

    async def answer(requests: AsyncIterator[bytes], context: Any) -> Any:
        begin = time.perf_counter()
        error: RequestError | None = None
        reply = None
        try:
            reply = await asyncio.wait_for(limited(requests, context), service.config.timeout)
        except RequestError as failure:
            error = failure
        except asyncio.TimeoutError:
            error = RequestError("timeout", f"no answer within {service.config.timeout:g} seconds")
        except Exception:  # a defect of ours; the worker goes on
            LOG.exception("gRPC call %s failed", name)
            error = RequestError("internal", "the server failed; its log knows more")
        _record(name, time.perf_counter() - begin, error)
        if error is not None:
            await context.abort(grpc.StatusCode[error.problem.grpc], error.message)
        return reply

    return answer


def _record(name: str, seconds: float, error: RequestError | None) -> None:
    """Counts a call and writes its line of the log."""
    status = error.problem.grpc if error else "OK"
    metrics.REQUESTS.labels("grpc", name, status).inc()
    metrics.LATENCY.labels("grpc", name).observe(seconds)
    fields = {"method": name, "status": status, "ms": round(1000 * seconds, 2)}
    if error is not None:
        metrics.ERRORS.labels(error.kind).inc()
        fields["error"] = error.message
    LOG.info("gRPC call", extra={"fields": fields})
