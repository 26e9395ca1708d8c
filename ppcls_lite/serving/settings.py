"""Settings of the server."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import Count, Device, Engine, NotNegative, Settings


@dataclass(frozen=True)
class ServeLimits(Settings):
    """Limits."""

    max_batch: Count = 4
    """Most images that the model gets at once, from requests that wait at the same time."""
    batch_delay_ms: NotNegative = 0.0
    """Milliseconds to wait for more requests, so that they run together; on a CPU 0 is fastest."""
    max_images: Count = 32
    """Most images in one request."""
    max_body_mb: Annotated[float, Meta(gt=0, le=1024)] = 16.0
    """Largest request, megabytes."""
    max_megapixels: Annotated[float, Meta(gt=0, le=170)] = 40.0
    """Largest image that is accepted, in million pixels; it is looked up before anything is
    decoded."""
    max_concurrency: Count = 64
    """Most requests that a process holds at a time; more get the answer 429 with Retry-After."""
    request_memory_mb: Annotated[float, Meta(gt=0)] | None = None
    """Megabytes that a process holds for requests, three for each of a body. Without it: enough for
    10 of the largest."""
    min_upload_kb: Annotated[float, Meta(gt=0)] = 10.0
    """Kilobytes a second that an upload must bring after its first five seconds."""
    timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that a request may take, its upload included."""
    drain_timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that the server lets requests finish in, after it was told to stop."""
    api_key_file: str | None = None
    """File with the key that each request must carry, as `Authorization: Bearer KEY`. Without it:
    everybody may ask."""

    @property
    def request_memory(self) -> int:
        """Bytes that a worker may hold for requests."""
        return int(1e6 * (self.request_memory_mb or 10 * self.max_body_mb))


@dataclass(frozen=True)
class ServeConfig(ServeLimits):
    """Serve exported models: images in, named probabilities out, and a page to try it on.

    python tools/serve.py inference                     one export folder
    python tools/serve.py models --engine all -j 4      models/NAME/[VERSION/]inference.yml

    Speaks the request of Paddle Serving (POST /imagenet/prediction), plain uploads (POST /predict)
    and KServe v2 over HTTP and gRPC. The address / is the page, /docs lists all requests.
    """

    exported: Annotated[str, Meta(extra={"positional": True})] = ""
    """An export folder; or a folder that holds several, as NAME/ or NAME/VERSION/, the version a
    number."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 18080
    """Port of HTTP; 0 takes a free one."""
    grpc_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Port of gRPC. Without it: no gRPC."""
    workers: Annotated[Count | None, Meta(extra={"flags": ["-j"]})] = None
    """Number of server processes. Without it: one per core. They share the cores."""
    engine: Literal[Engine, "all"] = "auto"
    """What runs the models. auto takes the fastest at export; all loads every one that can, and a
    request may choose."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    hooks: str | None = None
    """Your own preprocess and postprocess: MODULE:OBJECT or FILE.py:OBJECT; see docs/serving.md."""
    gallery: str | None = None
    """Features of images, a .npz of tools/embed.py. /predict?nearest=N and the page then show the N
    images most like the one that was sent."""
    reload_seconds: NotNegative = 2.0
    """Seconds between two looks for export folders that were replaced; 0 never looks."""
