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
    """A checkpoint; weights of any framework (with --model); a tag, the name of published weights;
    an export folder, or a file in one. The flag alone takes the published weights of --model."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    engine: Engine = "auto"
    """What runs the model. auto takes one that reads the file; in an export folder, the one that
    was fastest at export for so many images at once (`--batch-size`)."""
    tta: Tta = "none"
    """flip runs each image and its mirror image and takes the mean of their logits, in twice the
    time."""
    batch_size: Count = 1
    """Images that the model gets at once. More is faster for many images, above all on a GPU."""


@dataclass(frozen=True)
class EmbedConfig(NetworkSettings):
    """Write the features of images: what the model's last layer reads of each.

    python tools/embed.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out features.npz
    """

    data_path: Annotated[str, Meta(extra={"flags": ["--data-dir"]})] = ""
    """Folder with train/ and val/, or with class folders, or with images that have no class."""
    out: str = "features.npz"
    """File to write: .npz with features [N, D], paths, labels, splits and classes; or .parquet,
    which needs pyarrow."""
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
    """The images to look for: one, a folder (with its subfolders), or a pattern in quotes."""
    topk: Count = 5
    """Number of images to print for each."""
    index: str = ""
    """FAISS index, by its name in faiss.index_factory, like HNSW32, for galleries of millions.
    Without it: each image is compared. Needs faiss-cpu."""
    html: str | None = None
    """Page to write with the images that were found; it needs no Internet."""


@dataclass(frozen=True)
class PredictConfig(NetworkSettings):
    """Name what is on an image, or on all images of a folder.

    python tools/predict.py --pretrained output/best.pdparams --img-path cat.jpg
    python tools/predict.py --pretrained exported/ --img-path 'pictures/*.jpg' --json
    """

    img_path: str = ""
    """An image, a folder (with its subfolders), or a pattern in quotes, like 'photos/*.jpg'."""
    topk: Count = 5
    """Number of classes to print for each image."""
    json: bool = False
    """Print one JSON object per image on a line of its own, and nothing else, to standard
    output."""
    save_vis: str | None = None
    """Folder for copies of the images, with the five most probable classes written below."""
    explain: str | None = None
    """Folder for heatmaps: one PNG an image, which shows the part of it that speaks for the class.
    Of a checkpoint by Grad-CAM; an exported file runs 50 times an image, with parts covered."""
    explain_layer: str | None = None
    """Layer of the checkpoint for --explain, like features.8. Without it: the last convolution."""
    shards: str | None = None
    """Folder for files of 1000 JSON lines, for millions of images. Ray Data spreads them over the
    cores, or over the cluster in RAY_ADDRESS. A run that was stopped goes on."""

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
    """A checkpoint; weights of any framework (with --model); or a tag, the name of published
    weights. The flag alone takes the published weights of --model."""
    save_inference_dir: str = ""
    """Folder to write; one folder holds one model."""
    format: str = "pdmodel,json,onnx"
    """Formats to write, with commas between them: pdmodel (Paddle 2 and 3), json (Paddle 3),
    onnx."""
    opset_version: Annotated[int, Meta(ge=OPSETS[0], le=OPSETS[-1])] | None = None
    """ONNX operator set. Without it: 14, or 13 for a quantized model. Give a lower one for old
    readers."""
    img_size: Pixels | None = None
    """Side of the model's input, pixels. Without it: that of the checkpoint. The resize before it
    changes in proportion."""
    batch: Count | None = None
    """Number of images that the files take at once, for boards that need a fixed one. Without it:
    any number."""
    softmax: bool = True
    """Append a softmax, so that the files answer with probabilities."""
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
    """Export folder with inference.onnx and inference.yml; paddle_lite also needs the .pdmodel."""
    format: Literal["mnn", "ncnn", "paddle_lite", "tflite"] | None = None
    """Format to write; each needs packages of its own, see requirements-mobile.txt."""
    out: str = ""
    """Folder to write; it must not exist, or be empty."""
    img_path: str | None = None
    """Images that both files are compared on: one, a folder (with its subfolders), or a pattern in
    quotes. Without it: images of plain colours."""


@dataclass(frozen=True)
class CompareConfig(PictureLimit, BareWeights):
    """Compare a checkpoint with every file exported from it: predictions, differences, sizes.

    python tools/compare.py --pretrained output/best.pdparams --exported inference \\
        --img-path pictures/
    """

    pretrained: Annotated[str, BARE] = ""
    """A checkpoint; weights of any framework (with --model); or a tag, the name of published
    weights. The flag alone takes the published weights of --model."""
    exported: str = ""
    """Export folder that was made from these weights."""
    img_path: str = ""
    """An image, a folder (with its subfolders), or a pattern in quotes, like 'photos/*.jpg'."""
