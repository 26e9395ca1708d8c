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
Positive = Annotated[float, Meta(gt=0)]
HalfTurn = Annotated[float, Meta(ge=0, le=0.5)]
Pixels = Annotated[int, Meta(ge=8)]
_BARE = Meta(extra={"bare": "default"})  # the flag without a value: published weights
_TRAIN_FROM = Meta(extra={"bare": "default", "flags": ["--ckpt-path"]})
Device = Literal["auto", "cpu", "gpu"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Engine = Literal["auto", "dygraph", "paddle_inference", "onnxruntime", "openvino"]
DEFAULT_MODEL = "mobilenet_v3_small"
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

    def changed(self, name: str) -> bool:
        """Tells whether this field differs from its default; what --print-config writes may not."""
        return getattr(self, name) != getattr(type(self), name)

    def require(self, *names: str) -> None:
        """Raises UserError when a field that has no sensible default was left empty."""
        for name in names:
            if not getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')} is missing", "--help explains it")


@dataclass(frozen=True)
class Essentials(Settings):
    """Essentials."""

    data_path: Annotated[str, Meta(extra={"flags": ["--data-dir"]})] = "./data"
    """Folder with train/ and val/ class folders, or train_list.txt and val_list.txt."""
    model: str = DEFAULT_MODEL
    """Network; python tools/list_models.py names them all."""
    pretrained: Annotated[str | None, _TRAIN_FROM] = None
    """Start from these weights: file of any framework, tag, or alone: the model's published ones;
    a head of another class count starts fresh."""
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

    dataset: Annotated[
        Literal["folder", "cifar10", "cifar100", "fashion_mnist"],
        Meta(extra={"also": {"imagenet": "folder"}}),
    ] = "folder"
    """What --data-path holds: class folders or lists (imagenet is the same), or this data set."""
    dataset_download: bool = False
    """Fetch a named data set into --data-path when it is not there."""
    val_split: str = "val"
    """Folder, or NAME_list.txt, of the validation pictures in --data-path."""
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
    ra_reps: Count = 1
    """Repeated augmentation: show a picture so many times in a row, each time distorted afresh."""
    train_crop_size: Pixels = 224
    """Side of the training crop, pixels."""
    crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Share of the picture's area that a training crop covers, smallest and largest."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Width / height of a training crop, smallest and largest."""
    crop_padding: CountOrZero = 0
    """Above 0: add so many pixels around and cut the old size out, as for CIFAR, instead."""
    hflip: Fraction = 0.5
    """Probability of mirroring a training picture."""
    auto_augment: (
        Literal["imagenet", "cifar10", "svhn", "ra", "ta_wide", "augmix", "ra_timm"] | None
    ) = None
    """Distorts: AutoAugment's three, RandAugment, TrivialAugment, AugMix, timm's RandAugment."""
    augment_interpolation: Interpolation = "nearest"
    """Filter of the distortions that move pixels."""
    ra_magnitude: Annotated[int, Meta(ge=0, le=30)] = 9
    """Strength of ra, of 30, and of ra_timm, of 10."""
    ra_magnitude_std: NotNegative = 0.0
    """Standard deviation of ra_timm's strength between pictures."""
    ra_num_ops: Count = 2
    """Distortions of one picture by ra and ra_timm."""
    augmix_severity: Annotated[int, Meta(ge=1, le=10)] = 3
    """Strength of augmix, of 10."""
    color_jitter: tuple[NotNegative, NotNegative, NotNegative, HalfTurn] = (0.0, 0.0, 0.0, 0.0)
    """Random changes of brightness, contrast, saturation and hue, as shares; hue up to 0.5."""
    random_erase: Fraction = 0.0
    """Probability of erasing a random rectangle of a training picture."""
    random_erase_mode: Literal["const", "pixel"] = "const"
    """Erase with the mean colour (torchvision) or with noise (timm)."""
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    """Subtracted from R, G, B in 0 to 1; null is that of --pretrained, or ImageNet's."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Divides R, G, B after that; null likewise."""
    val_resize_size: Pixels = 256
    """Short side that evaluation resizes to, pixels."""
    val_crop_size: Pixels = 224
    """Side of the centre crop of evaluation, pixels."""
    interpolation: Interpolation = "bilinear"
    """Resize filter of training and evaluation."""
    decode: Literal["exact", "fast"] = "exact"
    """JPEGs in training: exact has Pillow's pixels; fast decodes large ones smaller."""


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Model."""

    width: Annotated[float, Meta(gt=0, le=8)] | None = None
    """Width multiplier; null keeps the model's own."""
    dropout: Fraction | None = None
    """Dropout before the last layer; null keeps the model's own."""
    small_input: bool = False
    """For pictures of about 32 pixels: the stem and the first strided block keep the resolution."""
    expanded: tuple[Annotated[int, Meta(ge=2)], ...] = ()
    """Expanded channels of each block, as pruning leaves them; none keeps the model's own."""
    drop_path: Fraction = 0.0
    """Stochastic depth: probability of skipping the last block in training; 0 at the first one."""
    zero_gamma: bool = False
    """Start the last batch norm of blocks with a shortcut at gain 0, so that they do nothing."""


@dataclass(frozen=True)
class SlimSettings(Settings):
    """Smaller networks."""

    pact_quant: bool = False
    """Train and evaluate as in 8 bits (PACT); export then writes int8 weights."""
    quant_skip: tuple[Literal["se", "first", "last"], ...] = ("se",)
    """Layers that stay in float: squeeze-excite, the first, the last; '' is none of them."""
    fpgm_ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of each block's expanded channels to prune before training (FPGM); 0 prunes none."""


@dataclass(frozen=True)
class OptimizationSettings(Settings):
    """Optimization."""

    opt: Annotated[
        Literal["sgd", "nesterov", "rmsprop", "rmsprop_tf", "adam", "adamw", "lamb"],
        Meta(extra={"also": {"momentum": "sgd"}}),
    ] = "sgd"
    """Optimizer; sgd has momentum, rmsprop is torch's rule, rmsprop_tf TensorFlow's."""
    momentum: Fraction = 0.9
    """Momentum of sgd, nesterov and both rmsprops."""
    opt_alpha: Fraction = 0.9
    """Share of the mean squared gradient that rmsprop and rmsprop_tf keep at each step."""
    opt_betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Shares of the mean gradient and mean square that adam, adamw and lamb keep at each step."""
    opt_eps: Annotated[float, Meta(gt=0)] | None = None
    """Epsilon; null: rmsprop 0.0316, rmsprop_tf 0.001, adam and adamw 1e-8, lamb 1e-6."""
    weight_decay: Annotated[float, Meta(ge=0, extra={"flags": ["--wd"]})] = 1e-4
    """Weight decay: decoupled for adamw, inside the trust ratio for lamb, L2 for the others."""
    norm_weight_decay: NotNegative | None = None
    """Weight decay of normalisation layers; null is --weight-decay."""
    bias_weight_decay: NotNegative | None = None
    """Weight decay of biases; null is --weight-decay."""
    pact_lr_factor: NotNegative = 1.0
    """Learning rate of the clipping thresholds of --pact-quant, as a factor of --lr."""
    pact_weight_decay: NotNegative = 2e-5
    """Weight decay of the clipping thresholds of --pact-quant."""
    head_lr_factor: NotNegative = 1.0
    """Learning rate of the last linear layer, as a factor of the others'; for fine-tuning."""
    bias_lr_factor: NotNegative = 1.0
    """Learning rate of biases, as a factor of the others'; 2 in ShowLo's recipes."""
    lr_scheduler: Literal[
        "step", "multistep", "cosine", "exponential", "polynomial", "constant"
    ] = "step"
    """How the learning rate falls after the warm-up."""
    lr_step_size: Annotated[float, Meta(gt=0)] = 30.0
    """Epochs in which the step and exponential schedules fall by --lr-gamma; may be a fraction."""
    lr_milestones: tuple[NotNegative, ...] = ()
    """Epochs after which the multistep schedule drops, separated by commas."""
    lr_gamma: NotNegative = 0.1
    """Factor of one drop of the step, multistep and exponential schedules."""
    lr_power: NotNegative = 1.0
    """Exponent of the polynomial schedule; 1 is a straight line."""
    lr_min: NotNegative = 0.0
    """Learning rate at the end of the cosine and polynomial schedules."""
    lr_per_epoch: bool = False
    """Change the rate once an epoch, as torchvision and timm do, not at every step."""
    lr_scale_batch: Count | None = None
    """Batch that --lr is meant for: the rate is multiplied by effective batch / this; null: not."""
    lr_warmup_epochs: NotNegative = 0.0
    """Epochs of warm-up at the start; part of --epochs."""
    lr_warmup_method: Literal["linear", "constant"] = "linear"
    """Warm-up that rises to the full rate, or stays low and then jumps."""
    lr_warmup_decay: Fraction = 0.01
    """Learning rate at the start of the warm-up, as a factor of the full one."""
    lr_warmup_prefix: bool = True
    """The schedule starts after the warm-up; --no-lr-warmup-prefix: with it, as in timm."""
    lr_noise: tuple[Fraction, Fraction] | None = None
    """Part of the run, as two fractions of it, in which each epoch's rate gets timm's noise."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are averaged before one optimizer step."""
    clip_grad_norm: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""
    model_ema: bool = False
    """Keep a moving average of weights and batch-norm statistics; evaluate and save that one."""
    model_ema_decay: Fraction = 0.99998
    """Share of the average that is kept at each of its updates."""
    model_ema_steps: Count = 32
    """Steps between two updates of the average."""
    model_ema_rule: Literal["torchvision", "plain"] = "torchvision"
    """torchvision: decay rescaled to the run's length, afresh until the warm-up ends; or plain."""
    amp_level: Literal["O0", "O1", "O2"] = "O0"
    """Mixed precision on a GPU: O1 per operation, O2 float16 weights. No effect on a CPU."""
    sync_bn: bool = False
    """Batch-norm statistics over all GPUs; refused on a CPU, which has no kernel for it."""
    dist_bn: Literal["broadcast", "reduce"] = "broadcast"
    """Running batch-norm statistics after an epoch on several devices: the first's, or the mean."""


@dataclass(frozen=True)
class LossSettings(Settings):
    """Loss, mixing of batches, teacher."""

    loss: Literal["ce", "bce"] = "ce"
    """Cross entropy, or binary cross entropy of each class."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes."""
    mixup: NotNegative = 0.0
    """Alpha of Mixup, which blends pictures and their labels; 0 is off."""
    cutmix: NotNegative = 0.0
    """Alpha of CutMix, which pastes a box of another picture; 0 is off. Both: either, evenly."""
    mix_prob: Fraction = 1.0
    """Probability that a batch is mixed at all."""
    mix_off_epoch: CountOrZero = 0
    """From this epoch on nothing is mixed; 0 never stops."""
    teacher: str | None = None
    """Network to learn from; takes --teacher-pretrained."""
    teacher_pretrained: str | None = None
    """The teacher's weights: a file of any framework or a published tag; they stay as they are."""
    distill_loss: Literal["soft", "js", "dml"] = "soft"
    """Cross entropy, PaddleClas' JS divergence (SSLD), or that with both learning (DML)."""
    distill_weight: Fraction = 1.0
    """Share of the teacher in the loss; the rest is the labels'. 1 is PaddleClas' recipe."""
    distill_temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Divides both networks' logits in the soft loss; above 1 shows more of the small answers."""
    unlabelled_path: str | None = None
    """Folder of more training pictures, of no known class: only the teacher says what they are."""


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
    cpu_kernels: Literal["auto", "on", "off", "bf16"] = "auto"
    """Train on a CPU in fused kernels, compiled at first use; auto: where they run; on: or stop;
    bf16: the same with half the bits for what is kept for the backward pass."""
    to_static: bool = False
    """Train a static graph, traced at the first step; it consists of Paddle's own layers."""
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
class TrainConfig(
    RunSettings,
    SlimSettings,
    LossSettings,
    OptimizationSettings,
    ModelSettings,
    DataSettings,
    Essentials,
):
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
        if self.pact_quant and self.model_ema:
            problems.append("--pact-quant with --model-ema: thresholds would be averaged with 0")
        if self.to_static and (self.cpu_kernels in ("on", "bf16") or self.pact_quant):
            problems.append(
                "--to-static traces Paddle's own layers: leave out --pact-quant and"
                " --cpu-kernels on or bf16"
            )
        if self.crop_scale[0] > self.crop_scale[1]:
            problems.append(f"--crop-scale {self.crop_scale}: the first share is the larger one")
        if self.crop_ratio[0] > self.crop_ratio[1]:
            problems.append(f"--crop-ratio {self.crop_ratio}: the first is the larger one")
        if self.val_crop_size > self.val_resize_size:
            problems.append(
                f"--val-crop-size {self.val_crop_size} is larger than"
                f" --val-resize-size {self.val_resize_size}; the border would be black"
            )
        if self.lr_warmup_epochs >= self.epochs:
            problems.append(
                f"--lr-warmup-epochs {self.lr_warmup_epochs} leaves no epoch at full rate"
            )
        problems += self._optimizer_problems()
        problems += self._augment_problems() + self._teacher_problems()
        if problems:
            raise UserError("\n".join(problems), "--print-config shows all values")

    def _optimizer_problems(self) -> list[str]:
        problems = []
        if (self.lr_scheduler == "multistep") != bool(self.lr_milestones):
            problems.append("--lr-scheduler multistep and --lr-milestones go together")
        if list(self.lr_milestones) != sorted(self.lr_milestones):
            problems.append(f"--lr-milestones {self.lr_milestones}: give them in rising order")
        if self.opt == "rmsprop" and self.amp_level == "O2":
            problems.append("--opt rmsprop keeps no float32 weights beside float16 ones; take O1")
        return problems

    def _augment_problems(self) -> list[str]:
        belongs = {
            "ra_magnitude": ("ra", "ra_timm"),
            "ra_magnitude_std": ("ra_timm",),
            "ra_num_ops": ("ra", "ra_timm"),
            "augmix_severity": ("augmix",),
        }
        problems = [
            f"--{name.replace('_', '-')} belongs to --auto-augment {' or '.join(policies)}"
            for name, policies in belongs.items()
            if getattr(self, name) != getattr(TrainConfig, name)
            and self.auto_augment not in policies
        ]
        if self.auto_augment == "ra_timm" and self.ra_magnitude > 10:
            problems.append(f"--ra-magnitude {self.ra_magnitude}: that of ra_timm goes up to 10")
        return problems

    def _teacher_problems(self) -> list[str]:
        problems = []
        is_dml = self.distill_loss == "dml"
        if is_dml and self.distill_weight == 1:
            problems.append(
                "--distill-loss dml: both students learn from the labels, too; give"
                " --distill-weight below 1 (0.5 weighs them as PaddleClas does)"
            )
        if bool(self.teacher) != bool(self.teacher_pretrained) and not (is_dml and self.teacher):
            problems.append("--teacher NAME and --teacher-pretrained WEIGHTS go together")
        if not self.teacher:
            needs = ("distill_loss", "distill_weight", "distill_temperature", "unlabelled_path")
            for name in [n for n in needs if getattr(self, n) != getattr(TrainConfig, n)]:
                problems.append(f"--{name.replace('_', '-')} has no meaning without --teacher")
        if self.distill_temperature != 1 and self.distill_loss != "soft":
            problems.append("--distill-temperature belongs to --distill-loss soft")
        if self.unlabelled_path and self.loss == "bce":
            problems.append("--unlabelled-path goes with --loss ce")
        return problems


@dataclass(frozen=True)
class ValidateConfig(TrainConfig):
    """Evaluate weights on the validation pictures: train.py --test-only under another name.

    python tools/validate.py --data-path my_pictures --pretrained output/best.pdparams
    """


@dataclass(frozen=True)
class ShowAugmentConfig(TrainConfig):
    """Draw training pictures as the network gets them: a sheet of the first batch of an epoch.

    python tools/show_augment.py --data-path my_pictures --auto-augment ra --cutmix 1
    """

    out: str = "augmented.png"
    """Picture to write."""
    pictures: Count = 32
    """Most pictures to draw."""


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
    """Weights that do not say of which network they are."""

    model: str | None = None
    """Their network; null takes what stands in the .json or in the published name."""
    num_classes: Count | None = None
    """Their classes; null takes the length of their last bias."""


@dataclass(frozen=True)
class PredictConfig(BareWeights):
    """Name what is on a picture, or on all pictures of a folder.

    python tools/predict.py --pretrained output/best.pdparams --img-path cat.jpg
    python tools/predict.py --pretrained exported/ --img-path 'pictures/*.jpg' --json
    """

    pretrained: Annotated[str, _BARE] = ""
    """A checkpoint, weights of any framework (with --model), a tag, an export folder, or a file in
    one; alone, the published weights of --model."""
    img_path: str = ""
    """A picture, a folder (searched recursively), or a quoted pattern."""
    topk: Count = 5
    """Classes to list per picture."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    engine: Engine = "auto"
    """What runs the network; auto follows the file; in a folder, the fastest at export."""
    batch_size: Count = 1
    """Pictures per run of the network; more is faster for many pictures, above all on a GPU."""
    json: bool = False
    """One JSON object per picture and line on stdout, and nothing else there."""
    save_vis: str | None = None
    """Folder for copies of the pictures with the five best classes drawn beneath."""
    shards: str | None = None
    """Folder for files of 1000 JSON lines, instead of stdout: for millions of pictures. Ray Data
    spreads them over the cores, or over the cluster RAY_ADDRESS; a stopped run goes on."""

    def __post_init__(self) -> None:
        idle = [name for name in ("json", "save_vis") if self.changed(name)]
        if self.shards is not None and idle:
            raise UserError(
                f"--{idle[0].replace('_', '-')} has no effect with --shards, which writes JSON",
                "leave it out",
            )


@dataclass(frozen=True)
class ExportConfig(BareWeights):
    """Write a checkpoint as an inference model and compare it with the trained network.

    python tools/export_model.py --pretrained output/best.pdparams --save-inference-dir exported
    """

    pretrained: Annotated[str, _BARE] = ""
    """A checkpoint, weights of any framework (with --model), or a tag; alone: published ones."""
    save_inference_dir: str = ""
    """Folder to write to; one folder holds one network."""
    format: str = "pdmodel,json,onnx"
    """What to write: pdmodel (Paddle 2 and 3), json (Paddle 3), onnx; separated by commas."""
    opset_version: Annotated[int, Meta(ge=OPSETS[0], le=OPSETS[-1])] | None = None
    """ONNX operator set; null is 10, the documents' value, or 13 for a quantized network."""
    img_size: Pixels | None = None
    """Side of the input, pixels; null is the checkpoint's. The resize before it is scaled too."""
    softmax: bool = True
    """Append a softmax, so that the outputs are probabilities."""
    logits: bool = False
    """The same as --no-softmax."""
    triton_repository: str | None = None
    """Also write the ONNX file as NETWORK/{config.pbtxt,1/model.onnx} into this folder, a model
    repository of Triton Inference Server."""

    def __post_init__(self) -> None:
        if self.logits and self.softmax and self.sources.get("softmax") == "command line":
            raise UserError("--softmax and --logits exclude each other", "give one of them")
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
    """Folder with the exported network."""
    model_filename: str = "inference.pdmodel"
    """Its network; Paddle Serving reads .pdmodel only."""
    params_filename: str = "inference.pdiparams"
    """Its weights."""
    serving_server: str = "serving_server"
    """Folder to write for the server."""
    serving_client: str = "serving_client"
    """Folder to write for clients."""


@dataclass(frozen=True)
class ExportMobileConfig(Settings):
    """Convert an export for a phone's runtime and hold its answers against ONNX Runtime's.

    python tools/export_mobile.py --exported inference --format mnn --out mobile
    """

    exported: str = ""
    """Export folder, with inference.onnx and inference.yml; for paddle_lite also the .pdmodel."""
    format: Literal["mnn", "ncnn", "paddle_lite"] | None = None
    """Whose; each needs its own packages, see requirements-mobile.txt."""
    out: str = ""
    """Folder to write; it must not exist, or be empty."""
    img_path: str | None = None
    """Pictures of the check: a file, folder or pattern; null takes colour fields."""


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
class PackDatasetConfig(Settings):
    """Pack a data folder into few large tar files: for disks that are slow at many small ones.

    python tools/pack_dataset.py --data-path ILSVRC2012 --out packed --short-side 288
    python tools/pack_dataset.py --out packed --verify
    python train.py --data-path packed
    """

    data_path: str = "./data"
    """Folder with train/ and val/ class folders, or train_list.txt and val_list.txt."""
    out: str = ""
    """Folder to write to, or to verify; a run that was stopped goes on where it was."""
    short_side: Pixels | None = None
    """Shrink pictures to this short side, pixels, as JPEG; null keeps every file as it is."""
    quality: Annotated[int, Meta(ge=1, le=95)] = 95
    """JPEG quality of shrunk pictures."""
    shard_size: Count = 10_000
    """Pictures per tar file."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that shrink pictures; 0 shrinks in the main one."""
    verify: bool = False
    """Pack nothing; read all of --out and compare it with what was packed."""

    def __post_init__(self) -> None:
        if self.quality != PackDatasetConfig.quality and self.short_side is None:
            raise UserError("--quality is for shrunk pictures", "add --short-side, or leave it out")


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

    pretrained: Annotated[str, _BARE] = ""
    """A checkpoint, weights of any framework (with --model), or a tag; alone: published ones."""
    exported: str = ""
    """Its export folder."""
    img_path: str = ""
    """A picture, a folder (searched recursively), or a quoted pattern."""


@dataclass(frozen=True)
class AverageConfig(BareWeights):
    """Average the weights of several checkpoints of a run into one network.

    python tools/average_checkpoints.py 'output/model_9?.pdparams' --out output/averaged.pdparams
    """

    checkpoints: Annotated[tuple[str, ...], Meta(extra={"positional": True})] = ()
    """Checkpoints, separated by commas; a quoted shell pattern stands for several."""
    out: str = ""
    """.pdparams file to write, with a .json beside it."""


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
    """Network the weights are of; checkpoints and published weights know their own."""
    to: Literal["ours", "torchvision", "timm", "ppcls", "paddle_vision"] = "ours"
    """Names and shapes to write."""


@dataclass(frozen=True)
class ServeLimits(Settings):
    """Limits."""

    max_batch: Count = 4
    """Pictures per run of the network, of the requests that wait at that moment."""
    batch_delay_ms: NotNegative = 0.0
    """Longest wait for more requests to share a run with, milliseconds; on a CPU 0 is fastest."""
    max_images: Count = 32
    """Pictures that one request may hold."""
    max_body_mb: Annotated[float, Meta(gt=0, le=1024)] = 16.0
    """Size of a request's body, megabytes."""
    max_megapixels: Annotated[float, Meta(gt=0, le=170)] = 40.0
    """Size of a picture, million pixels; it is looked up before anything is decoded."""
    max_concurrency: Count = 64
    """Requests a worker holds at a time; more are refused with 429 and Retry-After."""
    timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that a request may take, its upload included."""
    drain_timeout: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds that requests under way get after SIGTERM."""
    api_key_file: str | None = None
    """File with the key that requests must carry: `Authorization: Bearer KEY`; null lets all in."""


@dataclass(frozen=True)
class ServeConfig(ServeLimits):
    """Serve exported networks: pictures in, named probabilities out, and a page to try it on.

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
    workers: Annotated[int, Meta(ge=1, extra={"flags": ["-j"]})] | None = None
    """Processes; null takes one per core. They share the cores among them."""
    engine: Literal[Engine, "all"] = "auto"
    """What runs the networks; all loads every one that can, and requests may choose."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    reload_seconds: NotNegative = 2.0
    """Seconds between two looks for replaced export folders; 0 never looks."""


@dataclass(frozen=True)
class TipcConfig(Settings):
    """Run a test chain in the convention of TIPC: every step's output is checked.

    python -m ppcls_lite.tipc lite_train_lite_infer \\
        test_tipc/configs/mobilenet_v3_small/train_infer_python_cpu.txt
    python -m ppcls_lite.tipc cpu          what runs on any machine, as make tipc does
    python -m ppcls_lite.tipc configs      writes test_tipc/configs afresh
    """

    mode: Annotated[str, Meta(extra={"positional": True})] = ""
    """What to run: a mode of the file, or cpu, or configs; see docs/tipc.md."""
    config_file: Annotated[str, Meta(extra={"positional": True})] = ""
    """Text file with the lines of TIPC."""
    output: str = "test_tipc/output"
    """Folder for MODEL/MODE/: logs, results_*.log, JUnit XML."""
    only_prepare: bool = False
    """Lay the data and weights that the chain needs, and stop."""


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
class Int8Settings(BareWeights):
    """What int8 is made from and measured with."""

    pretrained: str = ""
    """A checkpoint, a tag, or weights of any framework (with --model)."""
    data_path: str = ""
    """Data with train/ (calibration) and val/ (measurement)."""
    calibration_images: Count = 100
    """Calibration pictures from train, as many of each class as possible."""
    img_size: Pixels | None = None
    """Side of the input, pixels; null is the checkpoint's. The resize before it is scaled too."""
    outliers: Annotated[float, Meta(ge=1)] = 1.0
    """Above 1: take a twin with the same float answers, a tenth of whose bottleneck channels is up
    to so many times as large: what long-trained networks have."""


@dataclass(frozen=True)
class QuantizeConfig(Int8Settings):
    """Write an int8 network for a runtime and measure what it lost.

    python tools/quantize.py --target accelerator --pretrained output/best.pdparams \\
        --data-path my_pictures --out int8
    python tools/quantize.py --pretrained output/best.pdparams --data-path my_pictures --table
    """

    target: Literal["accelerator", "onnxruntime", "openvino"] = "accelerator"
    """Whose arithmetic: the card's, simulated; ONNX Runtime's; OpenVINO's."""
    out: str = ""
    """Export folder to write, read by predict and serve; it must not exist, or be empty."""
    calibration_mode: CalibrationMode | None = None
    """How it is found where int8 clips; null is the target's best."""
    remedies: (
        tuple[Literal["gates", "split", "equalise", "rounding", "bias", "train"], ...] | None
    ) = None
    """Changes of the float graph that int8 profits from; null is the target's best; see
    docs/int8.md."""
    train_images: Count = 1000
    """Pictures of train that the remedy train learns from, as many of each class as possible."""
    float_layers: tuple[str, ...] | None = None
    """Layers to keep in float: names, se, hswish, pool, first, last, or worst:N, the N that
    tools/sensitivity.py ranks first; null is the target's best."""
    eval_images: CountOrZero = 0
    """Pictures of val to measure on, as many of each class as possible; 0 takes all."""
    min_agreement: Fraction = 0.95
    """Share of pictures that must keep the float network's class; below, the exit status is 1."""
    table: bool = False
    """Write nothing; print fp32, fp16, every calibration mode and every remedy instead, on val and
    on pictures of train that are not calibrated with."""
    json: bool = False
    """Print one JSON object with everything as the last line."""

    def __post_init__(self) -> None:
        trains = self.table or "train" in (self.remedies or ())
        if self.changed("train_images") and not trains:
            raise UserError(
                "--train-images has no effect: nothing is trained",
                "add the remedy: --remedies gates,equalise,train",
            )


@dataclass(frozen=True)
class SensitivityConfig(Int8Settings):
    """Rank layers by what int8 does to the network's answers, each alone.

    python tools/sensitivity.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out sensitivity
    """

    out: str = ""
    """Folder for sensitivity.json and sensitivity.png."""
    calibration_mode: CalibrationMode = "percentile"
    """How it is found where int8 clips."""
    remedies: tuple[Literal["gates", "split", "equalise"], ...] = ()
    """Changes of the float graph beforehand, as in quantize."""
    rows: Count = 20
    """Layers to print."""


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


BENCHMARK_FLAGS = {
    "train": "model batch_size size threads processes versus versus_python",
    "epoch": "model data_path batch_size size workers versus versus_python",
    "eval": "model pretrained data_path batch_size workers",
    "loader": "data_path imagenet_sized decode batch_size size workers versus versus_python",
    "infer": "model pretrained data_path batch_size size threads plot",
    "serve": "model pretrained data_path workers clients seconds versus_command",
}
COMPARED = {"epoch": ("bf16", "paddle", "torch"), "loader": ("torch",)}  # train: with all


@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """Measure how fast training, evaluation, reading pictures and inference are on this CPU.

    python tools/benchmark.py train --versus paddle,torch --versus-python ENV/bin/python
    python tools/benchmark.py epoch --data-path my_pictures --rounds 1 --versus paddle
    python tools/benchmark.py eval --data-path my_pictures --pretrained output/best.pdparams
    python tools/benchmark.py loader --data-path my_pictures --versus torch
    python tools/benchmark.py infer --pretrained output/best.pdparams --batch-size 1,32
    python tools/benchmark.py serve --data-path my_pictures --clients 1,8,32

    What is compared is measured in turns, each in a process of its own; medians are reported. A
    list gives a table: --batch-size 8,32,128. The limit that train prints is what this machine's
    matrix product (GFLOP/s) and memory (GB/s), both measured, allow a training step:
    images/s = 1 / (6 * MACs / product + 6 * 4 bytes * outputs of all convolutions / copying).
    """

    what: Annotated[
        Literal["train", "epoch", "eval", "loader", "infer", "serve"] | None,
        Meta(extra={"positional": True}),
    ] = None
    """What to measure."""
    model: str = DEFAULT_MODEL
    """Network; weights with a .json know their own."""
    pretrained: str | None = None
    """eval, infer, serve: a checkpoint, or weights of any framework; null takes fresh ones."""
    data_path: str | None = None
    """Folder with train/ and val/; infer and serve take its val pictures, else patterns; infer
    calibrates int8 with train."""
    batch_size: Annotated[tuple[Count, ...], Meta(min_length=1, extra={"flags": ["-b"]})] = (32,)
    """Images per step and process; one row for each."""
    size: Annotated[tuple[Pixels, ...], Meta(min_length=1)] = (224,)
    """Side of the images, pixels; one row for each."""
    threads: Annotated[tuple[CountOrZero, ...], Meta(min_length=1)] = (0,)
    """Threads of all processes together; one row for each, 0 is all cores."""
    workers: Annotated[tuple[CountOrZero, ...], Meta(min_length=1, extra={"flags": ["-j"]})] = (2,)
    """Processes that decode pictures, one row for each; serve: of the servers, 0 is all cores."""
    processes: Count = 1
    """train: processes that train together, started by each framework's launcher."""
    versus: tuple[Literal["bf16", "paddle", "torch", "torch.compile"], ...] = ()
    """Whom to compare train and epoch with; paddle: Paddle's own layers, bf16: --cpu-kernels bf16,
    torch.compile: train only. loader: torch."""
    versus_python: str | None = None
    """Interpreter that has torch and torchvision (and timm, for its names); null is this one."""
    imagenet_sized: bool = False
    """loader: read 512 copies of the pictures at ImageNet's usual 500 x 375 pixels."""
    decode: tuple[Literal["exact", "fast"], ...] = ("exact",)
    """loader: ways to read JPEGs, see train; one row for each."""
    rounds: Count = 5
    """Turns that each one gets."""
    steps: Count | None = None
    """Timed steps of one turn; null is 3 in train, 20 in infer, and one pass over the data else."""
    clients: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1, 8, 32)
    """serve: connections that send at the same time; one row for each."""
    seconds: Annotated[float, Meta(gt=0)] = 5.0
    """serve: length of one turn."""
    versus_command: str | None = None
    """serve: starts another server of the documents' request, with {folder} (the export) and {port}
    in it, beside the minimal FastAPI handler around ONNX Runtime; an empty text leaves out both."""
    plot: str | None = None
    """infer: PNG to draw latency and agreement into."""
    json: bool = False
    """Print one JSON object with everything as the last line."""

    def __post_init__(self) -> None:
        common = {"what", "rounds", "steps", "json"}
        used = common | set(BENCHMARK_FLAGS.get(self.what or "", "").split())
        idle = [name for name in self.sources if name not in used and self.changed(name)]
        strangers = set(self.versus) - set(COMPARED.get(self.what or "", self.versus))
        if strangers:
            raise UserError(
                f"{self.what} cannot be compared with {sorted(strangers)[0]}",
                f"{self.what} --versus takes {', '.join(COMPARED[self.what or ''])}",
            )
        if self.what and idle:
            raise UserError(
                f"--{idle[0].replace('_', '-')} has no effect on {self.what}",
                f"{self.what} takes {', '.join(sorted(used - {'what'}))}".replace("_", "-"),
            )
