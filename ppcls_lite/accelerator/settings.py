"""Settings of the accelerator's commands, mostly with the documents' flags."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import (
    BareWeights,
    CalibrationMode,
    Count,
    CountOrZero,
    PictureLimit,
    Pixels,
    Settings,
)
from ppcls_lite.errors import UserError


@dataclass(frozen=True)
class ExportAcceleratorConfig(PictureLimit, BareWeights):
    """Write everything VastModelZOO's accelerator tools read, into one folder.

    python tools/export_accelerator.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out bundle
    """

    pretrained: str = ""
    """A checkpoint, weights of any framework (with --model), or the folder that
    `quantize --target accelerator` wrote: its graph and the layers it keeps in float."""
    out: str = ""
    """Folder to write; it must not exist, or be empty."""
    data_path: str | None = None
    """Folder with train/ and val/, each with a folder per class: calibration images and labels.
    Without it: the bundle has none."""
    calibration_split: Literal["train", "val"] = "train"
    """Where calibration images come from; the documents test on the val they take them from."""
    calibration_images: Count = 1000
    """Number of calibration images, as many of each class as possible."""
    calibration_mode: CalibrationMode | None = None
    """How the compiler finds the range of int8. Without it: as in quantize's folder, else
    percentile, as the documents have it."""
    opset_version: Annotated[int, Meta(ge=10, le=11)] = 11
    """ONNX operator set: the documents have 10 (PaddleClas, ShowLo) and 11 (timm, torchvision)."""
    img_size: Pixels | None = None
    """Side of the model's input, pixels. Without it: that of the checkpoint. The resize before it
    changes in proportion."""


@dataclass(frozen=True)
class TimmTorchvisionConfig(Settings):
    """Write the documents' ONNX file of a timm or torchvision model, without either library.

    python tools/accelerator/export_timm_torchvision_model.py --model_library torchvision \\
        --model_name mobilenet_v3_small --save_dir ./onnx --size 224 --pretrained_weights x.pth
    """

    model_library: Literal["timm", "torchvision"] = "timm"
    """Library that the model is of."""
    model_name: str = ""
    """Name of the model in that library; python tools/list_models.py --source timm lists those that
    exist here."""
    save_dir: str = "./onnx"
    """Folder for MODEL_SIZE.onnx: input `input` [1, 3, SIZE, SIZE], logits, opset 11."""
    size: Pixels = 224
    """Side of the input, pixels."""
    pretrained_weights: str = ""
    """File of the weights: .pth, or any other format that this project reads."""


@dataclass(frozen=True)
class AcceleratorLintConfig(Settings):
    """Check a bundle, or a build YAML edited by hand, before the card sees it.

    python tools/accelerator/lint.py bundle
    """

    path: Annotated[str, Meta(extra={"positional": True})] = ""
    """A bundle's folder, or a build YAML (its paths are relative to the current folder)."""


@dataclass(frozen=True)
class AcceleratorBuildConfig(Settings):
    """Stand-in of vamc: build a graph with the card's arithmetic from a build YAML.

    python tools/accelerator/sim.py build build/v1_int8.yaml
    """

    file: Annotated[str, Meta(extra={"positional": True})] = ""
    """Build YAML of either era; paths in it are relative to the current folder."""
    float_layers: str = ""
    """Layers to keep in float: node names of the ONNX file, with commas between them."""
    calibration_mode: CalibrationMode | None = None
    """How the range of int8 is found. Without it: as the file says."""


@dataclass(frozen=True)
class SampleClsConfig(PictureLimit):
    """Stand-in of sample_cls.py: classify images with what the stand-in has built.

    python tools/accelerator/sample_cls.py --file_path val --save_dir output/result.txt
    """

    task: Literal["run", "topk"] = "topk"
    """topk writes the result text to --save_dir; run prints one line an image."""
    file_path: str | None = None
    """An image, or a folder with class folders. Without it: the val/ that bundle.json names."""
    model_info: str | None = None
    """model_info json. Without it: the bundle's, in the current folder."""
    vdsp_params_info: str | None = None
    """Parameters of the vision processor. Without it: the bundle's vdsp_params/sdk1.0/."""
    label_txt: str = "labels/label.txt"
    """File of the class names, one a line."""
    topk: Count = 5
    """Number of classes to name per image, the most probable first."""
    device_id: CountOrZero = 0
    """Number of the card. It has no effect: the stand-in has none."""
    batch: Count = 1
    """Number of images that the card takes at once. It has no effect: the stand-in takes them one
    by one."""
    save_dir: str = "output"
    """Folder for vacl_cls_result.txt; a folder even if it is called x.txt, as in the documents."""


@dataclass(frozen=True)
class AcceleratorProfileConfig(Settings):
    """Stand-in of vamp: speed and scores of what the stand-in has built.

    python tools/accelerator/sim.py profile -m deploy_weights/X-int8-percentile-3_224_224-vacc/X \\
        --vdsp_params vdsp_params/vamp/X.json --datalist npz_datalist.txt --path_output output
    """

    model: Annotated[str, Meta(extra={"flags": ["-m"]})] = ""
    """Prefix of the built files, FOLDER/NAME; the stand-in's are in FOLDER-sim."""
    vdsp_params: str = ""
    """Parameters of the vision processor, any of the three forms."""
    instance: Annotated[int, Meta(ge=1, extra={"flags": ["-i"]})] = 1
    """Number of instances per card. It is printed only: the stand-in has one."""
    processes: Annotated[int, Meta(ge=1, extra={"flags": ["-p"]})] = 1
    """Number of processes. It is printed only: the stand-in has one."""
    batch_size: Annotated[int, Meta(ge=1, extra={"flags": ["-b"]})] = 1
    """Number of images per call. It is printed only: the stand-in takes them one by one."""
    device_ids: Annotated[str, Meta(extra={"flags": ["-d"]})] = "0"
    """Numbers of the cards, such as 0,1. They are printed only: the stand-in has none."""
    shape: Annotated[str, Meta(extra={"flags": ["-s"]})] = "[3,256,256]"
    """Channels, height and width, pixels, of the made-up images that are measured without
    --datalist."""
    iterations: Count = 1024
    """Number of made-up images that are measured without --datalist."""
    datalist: str | None = None
    """List of npz files. Without it: made-up images are measured."""
    path_output: str | None = None
    """Folder for output_000000.npz and so on; needs --datalist."""

    def __post_init__(self) -> None:
        if bool(self.datalist) != bool(self.path_output):
            raise UserError(
                "--datalist and --path_output go together", "give both, or none to measure speed"
            )


@dataclass(frozen=True)
class Image2NpzConfig(PictureLimit):
    """Write images as the npz files that vamp reads, and their list.

    python tools/accelerator/image2npz.py --dataset_path val --target_path input_npz \\
        --text_path npz_datalist.txt
    """

    dataset_path: str = ""
    """Folder with class folders."""
    target_path: str = ""
    """Folder for CLASS/NAME.npz: one array input_0, uint8 [3, H, W], R, G, B, size as it is."""
    text_path: str = "npz.txt"
    """List to write: one absolute npz path a line."""


@dataclass(frozen=True)
class EvalTopkConfig(Settings):
    """Top-1 and top-5 of a result text.

    python tools/accelerator/eval_topk.py output/result.txt
    """

    result: Annotated[str, Meta(extra={"positional": True})] = ""
    """The result text, or the folder of that name that sample_cls.py made."""
    classes: str | None = None
    """JSON {folder: id}. Without it: ImageNet's folders, or the bundle's labels/wnid.json in the
    current folder."""
    compat: bool = False
    """Count as the original does: by class name, in blocks of five lines, ImageNet only."""


@dataclass(frozen=True)
class EvalImagenetConfig(Settings):
    """Top-1 and top-5 of the scores vamp wrote.

    python tools/accelerator/eval_imagenet.py --result_path output --datalist npz_datalist.txt \\
        --label labels/val_label.txt
    """

    result_path: str = ""
    """Folder with output_000000.npz and so on."""
    datalist: str = ""
    """List of npz files that vamp was given, one path a line."""
    label: str = ""
    """Lines `FILE ID`; or class names, one a line: then the folders tell the class."""
    classes: str | None = None
    """JSON {folder: id} for those folders. Without it: as in eval_topk."""


@dataclass(frozen=True)
class ValprepConfig(Settings):
    """Sort ImageNet's flat val/ into class folders, which every later step needs.

    python tools/accelerator/valprep.py --data_path ImageNet
    """

    data_path: str = "ImageNet"
    """Folder with val/ and val_label.txt; images are moved to val/WNID/."""
