"""The table of commands, and how one of them is run."""

import argparse
import dataclasses
import importlib

from ppcls_lite import cli
from ppcls_lite.config import Settings
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.flags import flags


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb: where its settings lie, and whether it needs paddle (which takes a second to import).

    Settings are named as text, so that a verb imports its own only.
    """

    room: str
    name: str
    needs_paddle: bool

    @property
    def settings(self) -> type[Settings]:
        """Its settings."""
        found: type[Settings] = getattr(
            importlib.import_module(f"ppcls_lite.{self.room}.settings"), self.name
        )
        return found


COMMANDS = {
    "train": Command("engine", "TrainConfig", True),
    "validate": Command("engine", "ValidateConfig", True),
    "predict": Command("deploy", "PredictConfig", False),
    "export_model": Command("deploy", "ExportConfig", True),
    "paddle_serving_convert": Command("deploy", "PaddleServingConvertConfig", True),
    "export_mobile": Command("deploy", "ExportMobileConfig", False),
    "compare": Command("deploy", "CompareConfig", True),
    "average_checkpoints": Command("weights", "AverageConfig", True),
    "benchmark": Command("benchmark", "BenchmarkConfig", True),
    "convert_weights": Command("weights", "ConvertConfig", True),
    "list_models": Command("weights", "ListModelsConfig", True),
    "check_data": Command("data", "CheckDataConfig", False),
    "show_augment": Command("data", "ShowAugmentConfig", True),
    "pack_dataset": Command("data", "PackDatasetConfig", False),
    "plot_run": Command("commands", "PlotRunConfig", False),
    "make_lite_data": Command("data", "MakeLiteDataConfig", False),
    "serve": Command("serving", "ServeConfig", False),
    "quantize": Command("quantize", "QuantizeConfig", True),
    "sensitivity": Command("quantize", "SensitivityConfig", True),
    "export_accelerator": Command("accelerator", "ExportAcceleratorConfig", True),
    "export_timm_torchvision_model": Command("accelerator", "TimmTorchvisionConfig", True),
    "accelerator_lint": Command("accelerator", "AcceleratorLintConfig", False),
    "accelerator_build": Command("accelerator", "AcceleratorBuildConfig", False),
    "accelerator_profile": Command("accelerator", "AcceleratorProfileConfig", False),
    "sample_cls": Command("accelerator", "SampleClsConfig", False),
    "image2npz": Command("accelerator", "Image2NpzConfig", False),
    "eval_topk": Command("accelerator", "EvalTopkConfig", False),
    "eval_imagenet": Command("accelerator", "EvalImagenetConfig", False),
    "valprep": Command("accelerator", "ValprepConfig", False),
    "tipc": Command("tipc", "TipcConfig", False),
    "completion": Command("commands", "CompletionConfig", False),
}


def run(verb: str, argv: list[str], prog: str) -> int:
    """Runs a command and returns its exit status.

    Raises:
        UserError: something given cannot work.
    """
    if verb in ("-h", "--help"):
        print("\n".join(usage()))
        return 0
    if verb not in COMMANDS:
        raise UserError(f"unknown verb{nearest(verb, COMMANDS)}", f"one of {', '.join(COMMANDS)}")
    command = COMMANDS[verb]
    settings = cli.parse(command.settings, argv, prog, lambda: others(verb))
    if getattr(settings, "test_only", False):
        verb, command = "validate", COMMANDS["validate"]
        settings = cli.narrowed(settings, command.settings, prog, "--test-only")
    if command.needs_paddle:
        load_paddle()
    return importlib.import_module(f"ppcls_lite.commands.{verb}").run(settings)


def others(verb: str) -> dict[str, str]:
    """Returns the settings of all other commands, and for each name a command that has it."""
    return {
        name: other
        for other, command in reversed(COMMANDS.items())
        if other != verb
        for name in flags(command.settings)
    }


def usage() -> list[str]:
    """Returns the lines that explain the console command."""
    verbs = [f"  {name:<31}{summary(command)}" for name, command in COMMANDS.items()]
    return [
        "usage: ppcls-lite VERB [--flag VALUE ...]\n",
        *verbs,
        "\nppcls-lite VERB --help explains a verb.",
    ]


def summary(command: Command) -> str:
    """Returns the first line of a command's description."""
    return (command.settings.__doc__ or "").splitlines()[0]


def completion_parser() -> argparse.ArgumentParser:
    """Returns one parser with every verb as a sub-command, for shell completion."""
    parser = cli.Parser(prog="ppcls-lite")
    verbs = parser.add_subparsers(dest="verb")
    for name, command in COMMANDS.items():
        sub_parser = verbs.add_parser(name, help=summary(command))
        cli.fill_parser(sub_parser, command.settings)
        known = flags(command.settings)
        for action in sub_parser._actions:
            if action.dest in known:  # argparse itself must not check words: its message is poorer
                action.choices = known[action.dest].choices or None
    return parser
