"""Settings of prediction and export."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import (
    BARE,
    BareWeights,
    Count,
    Device,
    Engine,
    PictureLimit,
    Pixels,
    Settings,
    Tta,
)
from ppcls_lite.errors import UserError

OPSETS = range(7, 22)  # what paddle2onnx 2.1 writes for these networks, unasked upgrades excluded


@dataclass(frozen=True)
class NetworkSettings(PictureLimit, BareWeights):
    """Model."""

    pretrained: Annotated[str, BARE] = ""
    """A checkpoint, weights of any framework (with --model), a tag, an export folder, or a file in
    one; alone, the published weights of --model."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    engine: Engine = "auto"
    """What runs the model; auto follows the file; in a folder, the fastest at export."""
    tta: Tta = "none"
    """flip: each image and its mirror image, the mean of their logits, at twice the time."""
    batch_size: Count = 1
    """Images per run of the model; more is faster for many images, above all on a GPU."""


@dataclass(frozen=True)
class EmbedConfig(NetworkSettings):
    """Write the features of images: what the model's last layer reads of each.

    python tools/embed.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out features.npz
    """

    data_path: Annotated[str, Meta(extra={"flags": ["--data-dir"]})] = ""
    """Folder with splits, of class folders, or of images that have no class."""
    out: str = "features.npz"
    """.npz to write: features [N, D], paths, labels, splits, classes; or .parquet, by pyarrow."""
    plot: str | None = None
    """PNG to draw: the images on a plane, coloured by class, by UMAP where umap-learn is installed,
    else by their first two principal components."""

    def __post_init__(self) -> None:
        if self.plot is not None and not self.plot.endswith(".png"):
            raise UserError(
                f"--plot {self.plot}; allowed: a name that ends in .png", "--plot features.png"
            )
        if not self.out.endswith((".npz", ".parquet")):
            raise UserError(
                f"--out {self.out}; allowed: a name that ends in .npz or .parquet",
                "--out features.npz",
            )


@dataclass(frozen=True)
class SearchConfig(NetworkSettings):
    """Find the images of a gallery that are most like others, by the cosine of their features.

    python tools/search.py gallery/ query.jpg --pretrained output/best.pdparams --html found.html
    python tools/search.py features.npz 'queries/*.jpg' --pretrained output/best.pdparams
    """

    gallery: Annotated[str, Meta(extra={"positional": True})] = ""
    """Folder of images, or the .npz that tools/embed.py wrote of them with the same weights."""
    img_path: Annotated[str, Meta(extra={"positional": True})] = ""
    """The images to look for: one, a folder (searched recursively), or a quoted pattern."""
    topk: Count = 5
    """Images to list for each."""
    index: str = ""
    """FAISS index, by its name in faiss.index_factory, such as HNSW32; default: every image is
    compared. Needs faiss-cpu."""
    html: str | None = None
    """Page to write, with the images; it needs no Internet."""


@dataclass(frozen=True)
class PredictConfig(NetworkSettings):
    """Name what is on an image, or on all images of a folder.

    python tools/predict.py --pretrained output/best.pdparams --img-path cat.jpg
    python tools/predict.py --pretrained exported/ --img-path 'pictures/*.jpg' --json
    """

    img_path: str = ""
    """An image, a folder (searched recursively), or a quoted pattern."""
    topk: Count = 5
    """Classes to list per image."""
    json: bool = False
    """One JSON object per image and line on stdout, and nothing else there."""
    save_vis: str | None = None
    """Folder for copies of the images with the five best classes drawn beneath."""
    explain: str | None = None
    """Folder for heatmaps, a PNG an image: where the model sees the class. A checkpoint is
    explained by Grad-CAM; an exported file runs 50 times an image, with parts covered."""
    explain_layer: str | None = None
    """The checkpoint's layer for --explain, like features.8; null takes the last convolution."""
    shards: str | None = None
    """Folder for files of 1000 JSON lines, instead of stdout: for millions of images. Ray Data
    spreads them over the cores, or over the cluster RAY_ADDRESS; a stopped run goes on."""

    def __post_init__(self) -> None:
        if self.explain_layer is not None and self.explain is None:
            raise UserError("--explain-layer has no effect without --explain", "--explain heatmaps")
        if self.tta != "none" and self.explain is not None:
            raise UserError("--explain shows one run of an image", "leave --tta out")
        idle = [name for name in ("json", "save_vis", "explain") if self.changed(name)]
        if self.shards is not None and idle:
            raise UserError(
                f"--{idle[0].replace('_', '-')} has no effect with --shards, which writes JSON",
                "leave it out",
            )


@dataclass(frozen=True)
class ExportConfig(BareWeights):
    """Write a checkpoint as an inference model and compare it with the trained model.

    python tools/export_model.py --pretrained output/best.pdparams --save-inference-dir exported
    """

    pretrained: Annotated[str, BARE] = ""
    """A checkpoint, weights of any framework (with --model), or a tag; alone: published ones."""
    save_inference_dir: str = ""
    """Folder to write to; one folder holds one model."""
    format: str = "pdmodel,json,onnx"
    """What to write: pdmodel (Paddle 2 and 3), json (Paddle 3), onnx; separated by commas."""
    opset_version: Annotated[int, Meta(ge=OPSETS[0], le=OPSETS[-1])] | None = None
    """ONNX operator set; null is 14, or 13 for a quantized model."""
    img_size: Pixels | None = None
    """Side of the input, pixels; null is the checkpoint's. The resize before it is scaled too."""
    batch: Count | None = None
    """The only number of images a run that the files take, for boards that need it fixed; null is
    any."""
    softmax: bool = True
    """Append a softmax, so that the outputs are probabilities."""
    logits: bool = False
    """The same as --no-softmax."""
    triton_repository: str | None = None
    """Also write the ONNX file as MODEL/{config.pbtxt,1/model.onnx} into this folder, a model
    repository of Triton Inference Server."""

    def __post_init__(self) -> None:
        if self.logits and self.softmax and self.sources.get("softmax") == "command line":
            raise UserError("--softmax and --logits exclude each other", "give one of them")
        if self.triton_repository is not None and self.batch is not None:
            raise UserError(
                "--triton-repository is for any batch size: Triton collects requests to batches",
                "leave --batch out",
            )
        if self.triton_repository is not None and "onnx" not in self.format.split(","):
            raise UserError(
                f"--triton-repository needs the ONNX file, which --format {self.format} leaves out",
                f"--format {self.format},onnx",
            )


@dataclass(frozen=True)
class PaddleServingConvertConfig(Settings):
    """Write serving_server/ and serving_client/, as `paddle_serving_client.convert` does.

    python tools/paddle_serving_convert.py --dirname exported --serving_server serving_server \\
        --serving_client serving_client
    """

    dirname: str = ""
    """Folder with the exported model."""
    model_filename: str = "inference.pdmodel"
    """Its model; Paddle Serving reads .pdmodel only."""
    params_filename: str = "inference.pdiparams"
    """Its weights."""
    serving_server: str = "serving_server"
    """Folder to write for the server."""
    serving_client: str = "serving_client"
    """Folder to write for clients."""


@dataclass(frozen=True)
class ExportMobileConfig(PictureLimit):
    """Convert an export for a phone's runtime and hold its predictions against ONNX Runtime's.

    python tools/export_mobile.py --exported inference --format mnn --out mobile
    """

    exported: str = ""
    """Export folder, with inference.onnx and inference.yml; for paddle_lite also the .pdmodel."""
    format: Literal["mnn", "ncnn", "paddle_lite", "tflite"] | None = None
    """Whose; each needs its own packages, see requirements-mobile.txt."""
    out: str = ""
    """Folder to write; it must not exist, or be empty."""
    img_path: str | None = None
    """Images of the check: a file, folder or pattern; null takes colour fields."""


@dataclass(frozen=True)
class CompareConfig(PictureLimit, BareWeights):
    """Compare a checkpoint with every file exported from it: predictions, differences, sizes.

    python tools/compare.py --pretrained output/best.pdparams --exported output/inference \\
        --img-path pictures/
    """

    pretrained: Annotated[str, BARE] = ""
    """A checkpoint, weights of any framework (with --model), or a tag; alone: published ones."""
    exported: str = ""
    """Its export folder."""
    img_path: str = ""
    """An image, a folder (searched recursively), or a quoted pattern."""
