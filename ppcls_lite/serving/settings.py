"""Settings of the server."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import Count, Device, Engine, NotNegative, Settings


@dataclass(frozen=True)
class ServeLimits(Settings):
    """Limits."""

    max_batch: Count = 4
    """Images per run of the model, of the requests that wait at that moment."""
    batch_delay_ms: NotNegative = 0.0
    """Longest wait for more requests to share a run with, milliseconds; on a CPU 0 is fastest."""
    max_images: Count = 32
    """Images that one request may hold."""
    max_body_mb: Annotated[float, Meta(gt=0, le=1024)] = 16.0
    """Size of a request's body, megabytes."""
    max_megapixels: Annotated[float, Meta(gt=0, le=170)] = 40.0
    """Largest image that is accepted, million pixels; looked up before anything is decoded."""
    max_concurrency: Count = 64
    """Complete requests a worker holds at a time; more are refused with 429 and Retry-After."""
    request_memory_mb: Annotated[float, Meta(gt=0)] | None = None
    """Megabytes a worker holds for requests, three for each of a body; null: 10 largest bodies."""
    min_upload_kb: Annotated[float, Meta(gt=0)] = 10.0
    """Kilobytes a second that an upload must bring after its first five seconds."""
    timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that a request may take, its upload included."""
    drain_timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that requests under way get after SIGTERM."""
    api_key_file: str | None = None
    """File with the key that requests must carry: `Authorization: Bearer KEY`; null lets all in."""

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
    """An export folder, or a folder of them: NAME/ or NAME/VERSION/, the version a number."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 18080
    """Port of HTTP; the default is the documents', 0 takes a free one."""
    grpc_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Port of gRPC; null does without."""
    workers: Annotated[Count | None, Meta(extra={"flags": ["-j"]})] = None
    """Processes; null takes one per core. They share the cores among them."""
    engine: Literal[Engine, "all"] = "auto"
    """What runs the models; all loads every one that can, and requests may choose."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    hooks: str | None = None
    """MODULE:OBJECT or FILE.py:OBJECT with your own preprocess and postprocess; docs/serving.md."""
    gallery: str | None = None
    """Features of images, NAME.npz of tools/embed.py: /predict?nearest=N and the page show the N
    most like the one that was sent."""
    reload_seconds: NotNegative = 2.0
    """Seconds between two looks for replaced export folders; 0 never looks."""
