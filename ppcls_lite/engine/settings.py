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
    """Old spelling of --device used by test chains: true is gpu, false is cpu."""
    rank_timeout: Count = 600
    """With several processes: seconds to wait for one that is behind; then all stop."""


@dataclass(frozen=True)
class NetworkChoice(Settings):
    """Model."""

    model: str = DEFAULT_MODEL
    """Model; python tools/list_models.py names them all."""
    num_classes: Count | None = None
    """Classes; null takes the number found in the data."""


@dataclass(frozen=True)
class EvaluationSettings(BatchSettings, DeviceSettings):
    """Evaluation."""

    print_freq: Count = 10
    """Steps between two log lines of training; evaluation prints a tenth as many."""
    eval_engine: Literal["auto", "exported", "dygraph"] = "auto"
    """Evaluation on a CPU; auto: in training its kernels, else exported from 100 images up."""
    confusion_matrix: bool = False
    """Write confusion_matrix.png/.csv, per_class.csv and reliability.png, in training of the best
    epoch."""


@dataclass(frozen=True)
class TeacherSettings(LossSettings):
    """Teacher."""

    teacher: str | None = None
    """Model to learn from; takes --teacher-pretrained."""
    teacher_pretrained: str | None = None
    """The teacher's weights: a file of any framework or a published tag; they stay as they are."""

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
    """Start from these weights: file of any framework, tag, or alone: the model's published ones;
    a head of another class count starts fresh."""
    output_dir: str = "output"
    """Run folder: checkpoints, config, metrics; an earlier run in it is moved to previous-N/."""
    resume: str | None = None
    """Go on with a run: a .pdparams file, or auto: the newest checkpoint of --output-dir."""
    test_only: bool = False
    """Evaluate --pretrained (or --resume) on the validation images and stop."""
    start_epoch: CountOrZero = 0
    """Number of the first epoch when starting from --pretrained; --resume knows its own."""
    seed: CountOrZero | None = None
    """Makes a run repeatable; null draws one and prints it."""
    save_every: Annotated[str, Meta(pattern="^[1-9][0-9]*m?$")] | Count | None = None
    """Save latest inside of an epoch, too: 500 is every 500 steps, 10m every 10 minutes."""
    fit_head: CountOrZero = 0
    """Fit the last layer before the first step, to the features of N views of each training
    image: as evaluated, mirrored, then as training distorts it; 0 does not."""
    best_metric: Literal["top1", "balanced_accuracy", "macro_f1", "loss"] = "top1"
    """What makes an epoch best, of the validation images; of equal epochs the later one is."""
    calibrate: bool = False
    """At the end divide the last layer of best by a temperature fitted to validation images."""
    unknown: bool = False
    """At the end give best limits that keep 0.95 of validation known; others are unknown."""
    report: bool = False
    """At the end look at every image once more and write report.html, a page on the run."""
    early_stop: CountOrZero = 0
    """Stop after this many epochs without a better --best-metric; 0 does not."""
    max_minutes: NotNegative = 0.0
    """Train as many of --epochs as fit, so that all of the command takes this many minutes, by the
    time of the first one, and draw the schedule of the rate together; 0 trains all."""
    keep_checkpoints: CountOrZero = 3
    """Checkpoints of past epochs to keep beside latest and best; 0 keeps all."""
    cpu_kernels: Literal["auto", "on", "off", "bf16"] = "auto"
    """Fused kernels on a CPU; auto: where they run; on: or stop; bf16: half the bits between."""
    to_static: bool = False
    """Train a static graph, traced at the first step; it consists of Paddle's own layers."""
    visualdl: bool = True
    """Write VisualDL records to the run folder."""
    track: Literal["tensorboard", "mlflow", "wandb"] | None = None
    """Write the numbers of metrics.jsonl there, too, by its own package."""
    dry_run: bool = False
    """Build everything, take one real step, print plan, time and memory, and stop."""


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
    """The weights: file of any framework, tag, or alone: the model's published ones; or an export
    folder, or a file in one."""
    resume: str | None = None
    """Instead: a run's checkpoint, or auto: the latest one of --output-dir."""
    output_dir: str = "output"
    """Run folder of --resume auto; if given, also where --confusion-matrix goes, which otherwise
    lies beside the weights."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.resume and self.pretrained:
            yield "--resume and --pretrained both name the weights to test; give one of them"
        yield from super().problems()
