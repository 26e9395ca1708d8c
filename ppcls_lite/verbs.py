"""The table of commands, and how one of them is run."""

import argparse
import dataclasses
import importlib
import signal

from ppcls_lite import cli, config
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.flags import flags


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb: its settings, and whether it needs paddle (which takes a second to import)."""

    settings: type[config.Settings]
    needs_paddle: bool


COMMANDS = {
    "train": Command(config.TrainConfig, True),
    "validate": Command(config.ValidateConfig, True),
    "predict": Command(config.PredictConfig, False),
    "export_model": Command(config.ExportConfig, True),
    "paddle_serving_convert": Command(config.PaddleServingConvertConfig, True),
    "export_mobile": Command(config.ExportMobileConfig, False),
    "compare": Command(config.CompareConfig, True),
    "average_checkpoints": Command(config.AverageConfig, True),
    "benchmark": Command(config.BenchmarkConfig, True),
    "convert_weights": Command(config.ConvertConfig, True),
    "list_models": Command(config.ListModelsConfig, True),
    "check_data": Command(config.CheckDataConfig, False),
    "show_augment": Command(config.ShowAugmentConfig, True),
    "pack_dataset": Command(config.PackDatasetConfig, False),
    "plot_run": Command(config.PlotRunConfig, False),
    "make_lite_data": Command(config.MakeLiteDataConfig, False),
    "serve": Command(config.ServeConfig, False),
    "quantize": Command(config.QuantizeConfig, True),
    "sensitivity": Command(config.SensitivityConfig, True),
    "export_accelerator": Command(config.ExportAcceleratorConfig, True),
    "export_timm_torchvision_model": Command(config.TimmTorchvisionConfig, True),
    "accelerator_lint": Command(config.AcceleratorLintConfig, False),
    "accelerator_build": Command(config.AcceleratorBuildConfig, False),
    "accelerator_profile": Command(config.AcceleratorProfileConfig, False),
    "sample_cls": Command(config.SampleClsConfig, False),
    "image2npz": Command(config.Image2NpzConfig, False),
    "eval_topk": Command(config.EvalTopkConfig, False),
    "eval_imagenet": Command(config.EvalImagenetConfig, False),
    "valprep": Command(config.ValprepConfig, False),
    "tipc": Command(config.TipcConfig, False),
    "completion": Command(config.CompletionConfig, False),
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
    settings = cli.parse(command.settings, argv, prog)
    if command.needs_paddle:
        load_paddle()
        # Paddle puts a handler of its own under Python's, which would not clean up: once more.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return importlib.import_module(f"ppcls_lite.commands.{verb}").run(settings)


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
