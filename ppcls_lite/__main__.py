"""`ppcls-lite VERB ...`: every command of the project; tools/VERB.py and train.py are the same."""

import argparse
import dataclasses
import importlib
import os
import sys

from ppcls_lite import cli, config
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb: its settings, and whether it needs paddle (which takes a second to import)."""

    settings: type[config.Settings]
    needs_paddle: bool


COMMANDS = {
    "train": Command(config.TrainConfig, True),
    "predict": Command(config.PredictConfig, False),
    "export_model": Command(config.ExportConfig, True),
    "compare": Command(config.CompareConfig, True),
    "list_models": Command(config.ListModelsConfig, True),
    "check_data": Command(config.CheckDataConfig, False),
    "plot_run": Command(config.PlotRunConfig, False),
    "make_lite_data": Command(config.MakeLiteDataConfig, False),
    "completion": Command(config.CompletionConfig, False),
}


def main() -> None:
    """Entry point of the console command."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print("usage: ppcls-lite VERB [--flag VALUE ...]\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<16}{summary(command)}")
        print("\nppcls-lite VERB --help explains a verb.")
        return
    if verb not in COMMANDS:
        print(f"ppcls-lite: unknown verb {verb!r}{nearest(verb, COMMANDS)}", file=sys.stderr)
        print(f"  next: one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    run_command(verb, sys.argv[2:], f"ppcls-lite {verb}")


def summary(command: Command) -> str:
    """Returns the first line of a command's description."""
    return (command.settings.__doc__ or "").splitlines()[0]


def run_command(verb: str, argv: list[str], prog: str) -> None:
    """Runs a command and ends the process with its exit status.

    A user's mistake is one message and status 2, an interruption is status 130.
    """
    command = COMMANDS[verb]
    try:
        settings = cli.parse(command.settings, argv, prog)
        if command.needs_paddle:
            load_paddle()
        status = importlib.import_module(f"ppcls_lite.commands.{verb}").run(settings)
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of a pipe went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def completion_parser() -> argparse.ArgumentParser:
    """Returns one parser with every verb as a sub-command, for shell completion."""
    parser = cli.Parser(prog="ppcls-lite")
    verbs = parser.add_subparsers(dest="verb")
    for name, command in COMMANDS.items():
        sub_parser = verbs.add_parser(name, help=summary(command))
        cli.fill_parser(sub_parser, command.settings)
        known = cli.flags(command.settings)
        for action in sub_parser._actions:
            if action.dest in known:  # argparse itself must not check words: its message is poorer
                action.choices = known[action.dest].choices or None
    return parser


if __name__ == "__main__":
    main()
