"""Settings of training and evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ppcls_lite.config import (
    DEFAULT_MODEL,
    TRAIN_FROM,
    Count,
    CountOrZero,
    Device,
    LossSettings,
    NotNegative,
    Settings,
    TestedEngine,
)
from ppcls_lite.data.balance_settings import BalanceSettings
from ppcls_lite.data.cache_settings import CacheSettings
from ppcls_lite.data.mix_settings import MixSettings
from ppcls_lite.data.settings import (
    BatchSettings,
    TrainData,
    ValData,
    ValPictures,
)
from ppcls_lite.engine.network_settings import ModelSettings, SlimSettings, StepSettings
from ppcls_lite.optimizer.settings import EmaSettings, OptimizerSettings, ScheduleSettings


@dataclass(frozen=True)
class DeviceSettings(Settings):
    """Device."""

    device: Device = "auto"
    """Where to compute; auto takes a GPU when there is one."""
    use_gpu: bool | None = None
    """Old spelling of --device, for the test chains: true is gpu, false is cpu."""
    rank_timeout: Count = 600
    """Seconds to wait for a process that is behind, when several train together; then all of them
    stop."""


@dataclass(frozen=True)
class NetworkChoice(Settings):
    """Model."""

    model: str = DEFAULT_MODEL
    """Name of the model; python tools/list_models.py prints all names."""
    num_classes: Count | None = None
    """Number of classes. Without it: as many as the data has."""


@dataclass(frozen=True)
class EvaluationSettings(BatchSettings, DeviceSettings):
    """Evaluation."""

    print_freq: Count = 10
    """Steps between two lines of training; evaluation prints a tenth as many lines."""
    eval_engine: Literal["auto", "exported", "dygraph"] = "auto"
    """What evaluates on a CPU: exported runs an export of the model, dygraph the model itself.
    auto: the kernels while training and from 100 images up; where they do not run, exported."""
    confusion_matrix: bool = False
    """Write confusion_matrix.png and .csv, per_class.csv and reliability.png; a training writes
    those of its best epoch."""


@dataclass(frozen=True)
class TeacherSettings(LossSettings):
    """Teacher."""

    teacher: str | None = None
    """Model to learn from (distillation); needs --teacher-pretrained."""
    teacher_pretrained: str | None = None
    """Weights of the teacher: a file of any framework, or a tag, the name of published weights."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        is_dml = self.distill_loss == "dml"
        if bool(self.teacher) != bool(self.teacher_pretrained) and not (is_dml and self.teacher):
            yield "--teacher NAME and --teacher-pretrained WEIGHTS go together"
        if not self.teacher:
            for name in ("distill_loss", "distill_weight", "distill_temperature"):
                if self.changed(name):
                    yield f"--{name.replace('_', '-')} has no meaning without --teacher"


@dataclass(frozen=True)
class RunSettings(Settings):
    """Run."""

    pretrained: Annotated[str | None, TRAIN_FROM] = None
    """Start from these weights: a file of any framework, or a tag, the name of published weights;
    the flag alone takes the published weights of --model. For other classes, the last layer starts
    fresh."""
    output_dir: str = "output"
    """Run folder, for checkpoints, settings and metrics. An earlier run in it is moved to
    previous-N/."""
    resume: str | None = None
    """Go on with a run that was stopped: a .pdparams file of it, or auto, the newest one in
    --output-dir."""
    test_only: bool = False
    """Train nothing: evaluate --pretrained (or --resume) on the validation images."""
    start_epoch: CountOrZero = 0
    """Number of the first epoch, when a training goes on from --pretrained; --resume knows its
    own."""
    seed: CountOrZero | None = None
    """Seed of all random draws, for a training that can be repeated. Without it: one is drawn and
    printed."""
    save_every: Annotated[str, Meta(pattern="^[1-9][0-9]*m?$")] | Count | None = None
    """Save a checkpoint within epochs, too: 500 is every 500 steps, 10m every 10 minutes. For long
    epochs."""
    fit_head: CountOrZero = 0
    """Fit the last layer before the first step, to the features of N views of each training
    image: as evaluated, mirrored, then as training distorts it; 0 does not."""
    best_metric: Literal["top1", "balanced_accuracy", "macro_f1", "loss"] = "top1"
    """Which metric of the validation images says which epoch is best; the later one, if two are
    equal."""
    calibrate: bool = False
    """At the end, divide the last layer of best.pdparams by a temperature fitted to the validation
    images, so that probabilities are as high as predictions are right."""
    unknown: bool = False
    """At the end, give best.pdparams limits below which a prediction says unknown; 0.95 of the
    validation images stay known."""
    report: bool = False
    """At the end, write report.html: a page about the run, with curves, classes and mistakes."""
    early_stop: CountOrZero = 0
    """Stop after this many epochs without a better --best-metric; 0: train all --epochs."""
    max_minutes: NotNegative = 0.0
    """Train only as many of --epochs as fit into this many minutes, by the time of the first one;
    the learning rate falls sooner. 0: train all."""
    keep_checkpoints: CountOrZero = 3
    """How many checkpoints of past epochs to keep, beside latest and best; 0 keeps all."""
    cpu_kernels: Literal["auto", "on", "off", "bf16"] = "auto"
    """Fused kernels for training on a CPU: auto uses them where they run, on stops where they do
    not, off never uses them, bf16 stores with half the bits."""
    to_static: bool = False
    """Train a static graph, traced at the first step; it consists of Paddle's own layers."""
    visualdl: bool = True
    """Write VisualDL records to the run folder."""
    track: Literal["tensorboard", "mlflow", "wandb"] | None = None
    """Also write the metrics to this tracker; it needs its own package."""
    dry_run: bool = False
    """Build everything, take one real step, print the plan, the time of an epoch and the memory,
    and stop."""


@dataclass(frozen=True)
class TrainConfig(
    RunSettings,
    TestedEngine,
    EvaluationSettings,
    SlimSettings,
    TeacherSettings,
    MixSettings,
    BalanceSettings,
    CacheSettings,
    StepSettings,
    EmaSettings,
    ScheduleSettings,
    OptimizerSettings,
    ModelSettings,
    NetworkChoice,
    ValPictures,
    TrainData,
    ValData,
):
    """Train, resume or evaluate MobileNetV3 and MnasNet.

    python train.py --data-path ./ILSVRC2012                             one device
    python train.py --data-path my_pictures --epochs 20 -b 32 --lr 0.05  your own images
    python -m paddle.distributed.launch --nproc_per_node=2 train.py ...  two processes
    """

    essentials: ClassVar = (
        "data_path", "model", "pretrained", "epochs", "batch_size", "lr", "device", "output_dir",
        "resume", "test_only",
    )  # fmt: skip

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.resume and self.start_epoch:
            yield "--start-epoch goes with --pretrained; --resume reads the epoch itself"
        if self.resume not in (None, "auto") and self.pretrained:
            yield "--resume FILE and --pretrained both name weights; give one of them"
        if self.test_only and self.resume and self.pretrained:
            yield "--test-only tests one file: --pretrained or --resume, not both"
        if self.start_epoch >= max(self.epochs, 1):
            yield f"--start-epoch {self.start_epoch}: --epochs {self.epochs} ends before"
        if self.test_only and not (self.pretrained or self.resume):
            yield "--test-only needs the weights to test: --pretrained FILE"
        if self.engine != "auto" and not self.test_only:
            yield "--engine runs an export folder with --test-only; training is Paddle's"
        if self.tta != "none" and not self.test_only:
            yield "--tta is for --test-only; training evaluates without it, as an export predicts"
        if self.pact_quant and self.model_ema:
            yield "--pact-quant with --model-ema: thresholds would be averaged with 0"
        if self.norm_eval and (self.bn_estimate or self.bn_momentum is not None):
            yield "--norm-eval keeps batch norm's statistics: no --bn-estimate, no --bn-momentum"
        if self.model_ema and self.bn_estimate:
            yield "--bn-estimate with --model-ema: the average has statistics of its own"
        if self.to_static and (self.cpu_kernels in ("on", "bf16") or self.pact_quant):
            yield (
                "--to-static traces Paddle's own layers: leave out --pact-quant and"
                " --cpu-kernels on or bf16"
            )
        if self.opt == "rmsprop" and self.amp_level == "O2":
            yield "--opt rmsprop keeps no float32 weights beside float16 ones; take O1"
        if self.unlabelled_path and not self.teacher:
            yield "--unlabelled-path has no meaning without --teacher"
        if self.teacher and self.logit_adjustment:
            yield "--logit-adjustment with --teacher: its logits know the shares of the classes"
        if self.class_weights != "none" and self.loss == "bce":
            yield "--class-weights goes with --loss ce"
        if self.unlabelled_path and self.sampler == "balanced":
            yield "--sampler balanced knows no class of the images of --unlabelled-path"
        if self.unlabelled_path and self.loss == "bce":
            yield "--unlabelled-path goes with --loss ce"
        yield from super().problems()


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Make a classifier of a folder of images: train with settings that its size asks for.

    python tools/finetune.py --data-path my_pictures                 some minutes on a laptop
    python tools/finetune.py --data-path my_pictures --epochs 0      the last layer alone: seconds

    What is not given is chosen, and each choice printed with its reason.
    """


@dataclass(frozen=True)
class ValidateConfig(TestedEngine, EvaluationSettings, NetworkChoice, ValPictures, ValData):
    """Evaluate weights on the validation images; train.py --test-only is the same.

    python tools/validate.py --data-path my_pictures --pretrained output/best.pdparams
    """

    pretrained: Annotated[str | None, TRAIN_FROM] = None
    """Weights to test: a file of any framework; a tag, the name of published weights; an export
    folder, or a file in one. The flag alone takes the published weights of --model."""
    resume: str | None = None
    """Instead of --pretrained: a checkpoint of a run, or auto, the newest one in --output-dir."""
    output_dir: str = "output"
    """Run folder of --resume auto; if given, also where --confusion-matrix goes, which otherwise
    lies beside the weights."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.resume and self.pretrained:
            yield "--resume and --pretrained both name the weights to test; give one of them"
        yield from super().problems()
