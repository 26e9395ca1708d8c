"""Every setting of every command: the one source of flags, YAML keys, help texts, units and limits.

A command's settings are a frozen dataclass put together from groups (base classes). A field is a
flag and a YAML key; the text under it is its help; `Meta` holds its limits and other spellings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.errors import UserError

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Pixels = Annotated[int, Meta(ge=8)]
Device = Literal["auto", "cpu", "gpu"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Engine = Literal["auto", "dygraph", "paddle_inference", "onnxruntime"]
OPSETS = range(7, 22)  # what paddle2onnx 2.1 writes for these networks, unasked upgrades excluded


@dataclass(frozen=True)
class Settings:
    """Base of all settings; remembers where each value came from."""

    sources: Mapping[str, str] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )

    def given(self, name: str) -> bool:
        """Tells whether the user set this field, by flag or by YAML."""
        return name in self.sources

    def require(self, *names: str) -> None:
        """Raises UserError when a field that has no sensible default was left empty."""
        for name in names:
            if not getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')} is missing", "--help explains it")


@dataclass(frozen=True)
class Essentials(Settings):
    """Essentials."""

    data_path: str = "./data"
    """Folder with train/ and val/ class folders, or train_list.txt and val_list.txt."""
    model: str = "mobilenet_v3_small"
    """Network; python tools/list_models.py names them all."""
    pretrained: str | None = None
    """Start from these weights, of any framework; a head of another class count starts fresh."""
    epochs: Count = 120
    """Epochs to train."""
    batch_size: Annotated[int, Meta(ge=1, extra={"flags": ["-b"]})] = 256
    """Images per device and step."""
    lr: NotNegative = 0.1
    """Learning rate at its highest, for the whole effective batch; nothing scales it behind you."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    output_dir: str = "output"
    """Run folder: checkpoints, config, metrics; an earlier run in it is moved to previous-N/."""
    resume: str | None = None
    """Go on with a run: a .pdparams file, or auto: the newest checkpoint of --output-dir."""
    test_only: bool = False
    """Evaluate --pretrained (or --resume) on the validation pictures and stop."""


@dataclass(frozen=True)
class DataSettings(Settings):
    """Data."""

    train_list: str | None = None
    """File of `path label` lines instead of the train/ class folders."""
    val_list: str | None = None
    """File of `path label` lines instead of the val/ class folders."""
    num_classes: Count | None = None
    """Classes; null takes the number found in the data."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that decode pictures; 0 decodes in the main one. Never changes the pixels."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a broken picture: stop and name it, or skip, count and list it."""
    train_crop_size: Pixels = 224
    """Side of the training crop, pixels."""
    crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Share of the picture's area that a training crop covers, smallest and largest."""
    auto_augment: Literal["imagenet", "cifar10", "svhn", "ra", "ta_wide"] | None = None
    """Distorts training pictures: AutoAugment (first three), RandAugment, TrivialAugment, none."""
    random_erase: Fraction = 0.0
    """Probability of erasing a random rectangle of a training picture."""
    val_resize_size: Pixels = 256
    """Short side that evaluation resizes to, pixels."""
    val_crop_size: Pixels = 224
    """Side of the centre crop of evaluation, pixels."""
    interpolation: Interpolation = "bilinear"
    """Resize filter of training and evaluation."""


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Model."""

    width: Annotated[float, Meta(gt=0, le=8)] | None = None
    """Width multiplier; null keeps the model's own."""
    dropout: Fraction | None = None
    """Dropout before the last layer; null keeps the model's own."""


@dataclass(frozen=True)
class OptimizationSettings(Settings):
    """Optimization."""

    opt: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    """Optimizer; sgd is SGD with momentum."""
    momentum: Fraction = 0.9
    """Momentum of sgd and rmsprop."""
    weight_decay: Annotated[float, Meta(ge=0, extra={"flags": ["--wd"]})] = 1e-4
    """Weight decay: L2 for sgd and rmsprop, decoupled for adamw."""
    norm_weight_decay: NotNegative | None = None
    """Weight decay of normalisation layers; null is --weight-decay."""
    bias_weight_decay: NotNegative | None = None
    """Weight decay of biases; null is --weight-decay."""
    lr_scheduler: Literal["step", "cosine", "constant"] = "step"
    """How the learning rate falls after the warm-up."""
    lr_step_size: Count = 30
    """Epochs between two drops of the step schedule, counted from the first epoch."""
    lr_gamma: NotNegative = 0.1
    """Factor of one drop of the step schedule."""
    lr_warmup_epochs: NotNegative = 0.0
    """Epochs of linear warm-up at the start; part of --epochs."""
    lr_warmup_decay: Fraction = 0.01
    """Learning rate at the start of the warm-up, as a factor of the full one."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are averaged before one optimizer step."""
    clip_grad_norm: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""
    amp_level: Literal["O0", "O1", "O2"] = "O0"
    """Mixed precision on a GPU: O1 per operation, O2 float16 weights. No effect on a CPU."""
    sync_bn: bool = False
    """Batch-norm statistics over all GPUs; refused on a CPU, which has no kernel for it."""


@dataclass(frozen=True)
class RunSettings(Settings):
    """Run."""

    start_epoch: CountOrZero = 0
    """Number of the first epoch when starting from --pretrained; --resume knows its own."""
    seed: CountOrZero | None = None
    """Makes a run repeatable; null draws one and prints it."""
    print_freq: Count = 10
    """Steps between two log lines; evaluation prints every tenth as often."""
    keep_checkpoints: CountOrZero = 3
    """Checkpoints of past epochs to keep beside latest and best; 0 keeps all."""
    eval_engine: Literal["auto", "exported", "dygraph"] = "auto"
    """Evaluation on a CPU: exported is faster once running; auto takes it from 100 pictures up."""
    confusion_matrix: bool = False
    """Write confusion_matrix.png/.csv and per_class.csv, in training of the best epoch."""
    visualdl: bool = True
    """Write VisualDL records to the run folder."""
    dry_run: bool = False
    """Build everything, take one real step, print plan, time and memory, and stop."""
    use_gpu: bool | None = None
    """Old spelling of --device used by test chains: true is gpu, false is cpu."""


@dataclass(frozen=True)
class TrainConfig(RunSettings, OptimizationSettings, ModelSettings, DataSettings, Essentials):
    """Train, resume or evaluate MobileNetV3 and MnasNet.

    python train.py --data-path ./ILSVRC2012                             one device
    python train.py --data-path my_pictures --epochs 20 -b 32 --lr 0.05  your own pictures
    python -m paddle.distributed.launch --nproc_per_node=2 train.py ...  two processes
    """

    def __post_init__(self) -> None:
        problems = []
        if self.resume and self.start_epoch:
            problems.append("--start-epoch goes with --pretrained; --resume reads the epoch itself")
        if self.resume not in (None, "auto") and self.pretrained:
            problems.append("--resume FILE and --pretrained both name weights; give one of them")
        if self.test_only and self.resume and self.pretrained:
            problems.append("--test-only tests one file: --pretrained or --resume, not both")
        if self.start_epoch >= self.epochs:
            problems.append(f"--start-epoch {self.start_epoch}: --epochs {self.epochs} ends before")
        if self.test_only and not (self.pretrained or self.resume):
            problems.append("--test-only needs the weights to test: --pretrained FILE")
        if self.crop_scale[0] > self.crop_scale[1]:
            problems.append(f"--crop-scale {self.crop_scale}: the first share is the larger one")
        if self.val_crop_size > self.val_resize_size:
            problems.append(
                f"--val-crop-size {self.val_crop_size} is larger than"
                f" --val-resize-size {self.val_resize_size}; the border would be black"
            )
        if self.lr_warmup_epochs >= self.epochs:
            problems.append(
                f"--lr-warmup-epochs {self.lr_warmup_epochs} leaves no epoch at full rate"
            )
        if problems:
            raise UserError("\n".join(problems), "--print-config shows all values")


@dataclass(frozen=True)
class ListModelsConfig(Settings):
    """List the networks with their sizes and published accuracy."""

    pattern: str = "*"
    """Shell pattern of the names, like 'mnas*'."""
    source: str | None = None
    """Only models of this source: torchvision, ppcls, timm, mindcv or showlo."""
    explain: str | None = None
    """Draw the block table of this model, as the papers print it."""
    json: bool = False
    """Print one JSON list instead of the table."""


@dataclass(frozen=True)
class PlotRunConfig(Settings):
    """Draw loss, accuracy and learning rate of a run as one PNG."""

    run: str = "output"
    """Run folder, the --output-dir of the training."""
    out: str | None = None
    """Picture to write; null is curves.png in the run folder."""


@dataclass(frozen=True)
class CompletionConfig(Settings):
    """Print a shell completion script: eval "$(ppcls-lite completion)"."""

    shell: Literal["bash", "zsh", "tcsh"] = "bash"
    """Shell to complete in."""


@dataclass(frozen=True)
class BareWeights(Settings):
    """Weights that have no .json beside them."""

    model: str = "mobilenet_v3_small"
    """Their network; weights with a .json know their own."""
    num_classes: Count | None = None
    """Their classes; null takes the length of their last bias."""


@dataclass(frozen=True)
class PredictConfig(BareWeights):
    """Name what is on a picture, or on all pictures of a folder.

    python tools/predict.py --pretrained output/best.pdparams --img-path cat.jpg
    python tools/predict.py --pretrained exported/ --img-path 'pictures/*.jpg' --json
    """

    pretrained: str = ""
    """A checkpoint, weights of any framework (with --model), an export folder, or a file in one."""
    img_path: str = ""
    """A picture, a folder (searched recursively), or a quoted pattern."""
    topk: Count = 5
    """Classes to list per picture."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    engine: Engine = "auto"
    """What runs the network; auto follows the file, and takes ONNX first in a folder."""
    batch_size: Count = 1
    """Pictures per run of the network; more is faster for many pictures, above all on a GPU."""
    json: bool = False
    """One JSON object per picture and line on stdout, and nothing else there."""
    save_vis: str | None = None
    """Folder for copies of the pictures with the five best classes drawn beneath."""


@dataclass(frozen=True)
class ExportConfig(BareWeights):
    """Write a checkpoint as an inference model and compare it with the trained network.

    python tools/export_model.py --pretrained output/best.pdparams --save-inference-dir exported
    """

    pretrained: str = ""
    """A checkpoint, or weights of any framework (with --model)."""
    save_inference_dir: str = ""
    """Folder to write to; one folder holds one network."""
    format: str = "pdmodel,json,onnx"
    """What to write: pdmodel (Paddle 2 and 3), json (Paddle 3), onnx; separated by commas."""
    opset_version: Annotated[int, Meta(ge=OPSETS[0], le=OPSETS[-1])] = 10
    """ONNX operator set; 10 is the documents' value, 14 and up are a little faster."""
    img_size: Pixels | None = None
    """Side of the input, pixels; null is the checkpoint's. The resize before it is scaled too."""
    softmax: bool = True
    """Append a softmax, so that the outputs are probabilities."""
    logits: bool = False
    """The same as --no-softmax."""

    def __post_init__(self) -> None:
        if self.logits and self.softmax and self.given("softmax"):
            raise UserError("--softmax and --logits exclude each other", "give one of them")


@dataclass(frozen=True)
class CheckDataConfig(Settings):
    """Look through a data folder: counts, broken pictures, doubles between train and val."""

    data_path: str = "./data"
    """Folder with train/ and val/ class folders, or train_list.txt and val_list.txt."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that decode pictures; 0 decodes in the main one."""
    json: bool = False
    """Print one JSON object instead of the tables."""


@dataclass(frozen=True)
class MakeLiteDataConfig(Settings):
    """Build the small data set that ships with the repository from Debian's Fashion-MNIST."""

    package_root: str = "/"
    """Folder that dataset-fashion-mnist was unpacked into; / when it is installed."""
    out: str = "test_images/lite_data.tar"
    """Tar to write."""
    train_per_class: Count = 300
    """Training pictures of each class."""
    val_per_class: Count = 80
    """Validation pictures of each class."""


@dataclass(frozen=True)
class CompareConfig(BareWeights):
    """Compare a checkpoint with every file exported from it: answers, largest difference, sizes.

    python tools/compare.py --pretrained output/best.pdparams --exported output/inference \\
        --img-path pictures/
    """

    pretrained: str = ""
    """A checkpoint, or weights of any framework (with --model)."""
    exported: str = ""
    """Its export folder."""
    img_path: str = ""
    """A picture, a folder (searched recursively), or a quoted pattern."""


@dataclass(frozen=True)
class ConvertConfig(Settings):
    """Convert weights between frameworks: into ours with a description beside them, or back.

    python tools/convert_weights.py --weights model.pth --model mobilenet_v3_small --out w.pdparams
    python tools/convert_weights.py --weights output/best.pdparams --model mobilenet_v3_small \\
        --to torchvision --out back.safetensors
    """

    weights: Annotated[str, Meta(extra={"positional": True})] = ""
    """A .pdparams, .pth, .safetensors, MindSpore .ckpt or .npz file, or published weights' tag."""
    out: str = ""
    """File to write; its suffix is the format: .pdparams, .safetensors or .npz."""
    model: str | None = None
    """Network the weights are of; published weights know their own."""
    to: Literal["ours", "torchvision", "timm", "ppcls", "paddle_vision"] = "ours"
    """Names and shapes to write."""


CalibrationMode = Literal["percentile", "max", "kl_divergence", "mse"]


@dataclass(frozen=True)
class ExportAcceleratorConfig(BareWeights):
    """Write everything the accelerator's tools of documents 000 and 004 read, into one folder.

    python tools/export_accelerator.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out bundle
    """

    pretrained: str = ""
    """A checkpoint, or weights of any framework (with --model)."""
    out: str = ""
    """Folder to write; it must not exist, or be empty."""
    data_path: str | None = None
    """Data with train/ and val/: calibration pictures and labels; null leaves them out."""
    calibration_split: Literal["train", "val"] = "train"
    """Where calibration pictures come from; the documents test on the val they take them from."""
    calibration_images: Count = 1000
    """Calibration pictures, as many of each class as possible."""
    calibration_mode: CalibrationMode = "percentile"
    """How the compiler finds where int8 clips."""
    opset_version: Annotated[int, Meta(ge=10, le=11)] = 11
    """ONNX operator set: the documents have 10 (PaddleClas, ShowLo) and 11 (timm, torchvision)."""
    img_size: Pixels | None = None
    """Side of the input, pixels; null is the checkpoint's. The resize before it is scaled too."""


@dataclass(frozen=True)
class TimmTorchvisionConfig(Settings):
    """Write the documents' ONNX file of a timm or torchvision network, without either library.

    python tools/accelerator/export_timm_torchvision_model.py --model_library torchvision \\
        --model_name mobilenet_v3_small --save_dir ./onnx --size 224 --pretrained_weights x.pth
    """

    model_library: Literal["timm", "torchvision"] = "timm"
    """Whose network it is."""
    model_name: str = ""
    """Its name there; python tools/list_models.py --source timm lists those that exist here."""
    save_dir: str = "./onnx"
    """Folder for MODEL_SIZE.onnx: input `input` [1, 3, SIZE, SIZE], logits, opset 11."""
    size: Pixels = 224
    """Side of the input, pixels."""
    pretrained_weights: str = ""
    """The weights: .pth, or any other form this project reads."""


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
    """Layers to keep in float: node names of the ONNX file, separated by commas."""
    calibration_mode: CalibrationMode | None = None
    """Instead of the file's mode."""


@dataclass(frozen=True)
class SampleClsConfig(Settings):
    """Stand-in of sample_cls.py: classify pictures with what the stand-in has built.

    python tools/accelerator/sample_cls.py --file_path val --save_dir output/result.txt
    """

    task: Literal["run", "topk"] = "topk"
    """topk writes the result text to --save_dir; run prints one line a picture."""
    file_path: str | None = None
    """A picture, or a folder with class folders; null is the val/ that bundle.json names."""
    model_info: str | None = None
    """model_info json; null is the bundle's, in the current folder."""
    vdsp_params_info: str | None = None
    """Parameters of the vision processor; null is the bundle's vdsp_params/sdk1.0/."""
    label_txt: str = "labels/label.txt"
    """Class names, one a line."""
    topk: Count = 5
    """Classes per picture."""
    device_id: CountOrZero = 0
    """Number of the card; the stand-in has none and takes any."""
    batch: Count = 1
    """Pictures the card takes at once; the stand-in takes them one by one."""
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
    """Instances per device; printed, the stand-in has one."""
    processes: Annotated[int, Meta(ge=1, extra={"flags": ["-p"]})] = 1
    """Processes; printed, the stand-in has one."""
    batch_size: Annotated[int, Meta(ge=1, extra={"flags": ["-b"]})] = 1
    """Pictures per call; printed, the stand-in takes them one by one."""
    device_ids: Annotated[str, Meta(extra={"flags": ["-d"]})] = "0"
    """Numbers of the cards; printed."""
    shape: Annotated[str, Meta(extra={"flags": ["-s"]})] = "[3,256,256]"
    """Size of the made-up pictures without --datalist."""
    iterations: Count = 1024
    """Made-up pictures without --datalist."""
    datalist: str | None = None
    """List of npz files; null measures with made-up pictures."""
    path_output: str | None = None
    """Folder for output_000000.npz and so on; needs --datalist."""

    def __post_init__(self) -> None:
        if bool(self.datalist) != bool(self.path_output):
            raise UserError(
                "--datalist and --path_output go together", "give both, or none to measure speed"
            )


@dataclass(frozen=True)
class Image2NpzConfig(Settings):
    """Write pictures as the npz files that vamp reads, and their list.

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
    """The text, or the folder that sample_cls.py made of its name."""
    classes: str | None = None
    """JSON {folder: id}; null knows ImageNet's folders, and labels/wnid.json of a bundle here."""
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
    """The list of npz files that vamp was given."""
    label: str = ""
    """Lines `FILE ID`; or class names, one a line: then the folders tell the class."""
    classes: str | None = None
    """JSON {folder: id} for those folders; null as in eval_topk."""


@dataclass(frozen=True)
class ValprepConfig(Settings):
    """Sort ImageNet's flat val/ into class folders, which every later step needs.

    python tools/accelerator/valprep.py --data_path ImageNet
    """

    data_path: str = "ImageNet"
    """Folder with val/ and val_label.txt; pictures are moved to val/WNID/."""
