"""The table of commands: their names, their settings, and what they are for."""

import argparse
import dataclasses
import importlib
import sys

from ppcls_lite import cli
from ppcls_lite.config import Settings
from ppcls_lite.flags import flags
from ppcls_lite.program import command, command_of, quoted


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: where its settings lie, and whether it needs paddle, which takes a second.

    Settings are named as text, so that a command imports its own only.
    """

    room: str
    class_name: str
    needs_paddle: bool

    @property
    def settings(self) -> type[Settings]:
        """Its settings."""
        found: type[Settings] = getattr(
            importlib.import_module(f"ppcls_lite.{self.room}.settings"), self.class_name
        )
        return found


WIDE = 20  # of a verb or action in the usage
# What the verbs that are no command themselves are for.
SUBJECTS = {
    "weights": "Weights of any framework.",
    "data": "Images before they are trained on.",
    "accelerator": "The card's tools, with the documents' arguments, and stand-ins for the card.",
}
COMMANDS = {
    "train": Command("engine", "TrainConfig", True),
    "finetune": Command("engine", "FinetuneConfig", True),
    "launch": Command("launch", "LaunchConfig", False),
    "validate": Command("engine", "ValidateConfig", True),
    "predict": Command("deploy", "PredictConfig", False),
    "predict embed": Command("deploy", "EmbedConfig", False),
    "predict search": Command("deploy", "SearchConfig", False),
    "export": Command("deploy", "ExportConfig", True),
    "export check": Command("deploy", "CompareConfig", True),
    "export mobile": Command("deploy", "ExportMobileConfig", False),
    "export paddle_serving": Command("deploy", "PaddleServingConvertConfig", True),
    "export accelerator": Command("accelerator", "ExportAcceleratorConfig", True),
    "export timm_torchvision": Command("accelerator", "TimmTorchvisionConfig", True),
    "quantize": Command("quantize", "QuantizeConfig", True),
    "quantize sensitivity": Command("quantize", "SensitivityConfig", True),
    "serve": Command("serving", "ServeConfig", False),
    "benchmark": Command("benchmark", "BenchmarkConfig", True),
    "weights convert": Command("weights", "ConvertConfig", True),
    "weights average": Command("weights", "AverageConfig", True),
    "list_models": Command("weights", "ListModelsConfig", True),
    "report": Command("review", "ReportConfig", True),
    "report plot": Command("commands", "PlotRunConfig", False),
    "data check": Command("data", "CheckDataConfig", False),
    "data show": Command("data", "ShowAugmentConfig", True),
    "data pack": Command("data", "PackDatasetConfig", False),
    "data make_lite": Command("data", "MakeLiteDataConfig", False),
    "accelerator lint": Command("accelerator", "AcceleratorLintConfig", False),
    "accelerator build": Command("accelerator", "AcceleratorBuildConfig", False),
    "accelerator run": Command("accelerator", "SampleClsConfig", False),
    "accelerator profile": Command("accelerator", "AcceleratorProfileConfig", False),
    "accelerator image2npz": Command("accelerator", "Image2NpzConfig", False),
    "accelerator eval_topk": Command("accelerator", "EvalTopkConfig", False),
    "accelerator eval_imagenet": Command("accelerator", "EvalImagenetConfig", False),
    "accelerator valprep": Command("accelerator", "ValprepConfig", False),
    "tipc": Command("tipc", "TipcConfig", False),
    "completion": Command("commands", "CompletionConfig", False),
    "doctor": Command("commands", "DoctorConfig", False),
}

# Flags of the documents' own command lines that nothing here reads, and why.
UNREAD = {
    "accelerator run": {
        "device_id": "the stand-in has no card",
        "batch": "the stand-in takes images one by one",
    },
}


def find(name: str, argv: list[str], prog: str) -> tuple[str, list[str], str]:
    """Takes the words that name a command off the arguments.

    Args:
        name: what is known of it: nothing, a verb, or all of it.
        argv: the words.
        prog: the program's name so far, for messages.

    Returns:
        The same three. The name may still be that of a subject, whose action is missing.
    """
    rest = list(argv)
    while rest and (longer := _known(f"{name} {rest[0]}".strip())):
        name, prog = longer, f"{prog} {rest.pop(0)}"
    return name, rest, prog


def _known(words: str) -> str | None:
    """The command, or the subject of some, that words stand for; None when they stand for none."""
    words = command_of(words.replace("-", "_"))
    joined = {name.replace(" ", "_"): name for name in COMMANDS}  # accelerator_lint
    words = joined.get(words, words)
    return words if words in COMMANDS or actions(words) else None


def actions(verb: str) -> list[str]:
    """Returns the actions of a verb, that is the second words of its commands."""
    return [name.split()[1] for name in COMMANDS if name.startswith(f"{verb} ")]


def settle(name: str, argv: list[str], prog: str) -> tuple[str, Settings]:
    """Returns the settings that arguments give a command, and the command, which --test-only makes
    another one."""
    more = "\n".join(["actions:", *also(name)]) if actions(name) else ""
    settings = cli.parse(COMMANDS[name].settings, argv, prog, lambda: others(name), more)
    for setting, reason in UNREAD.get(name, {}).items():
        if settings.given(setting):
            flag = setting.replace("_", "-")
            print(f"{prog}: --{flag} is accepted and has no effect: {reason}", file=sys.stderr)
    if getattr(settings, "test_only", False):
        return "validate", cli.narrowed(
            settings, COMMANDS["validate"].settings, prog, "--test-only"
        )
    return name, settings


def again(name: str, argv: list[str], hint: str) -> str:
    """Returns what to run next: a hint that is only flags becomes the command line with them.

    Args:
        name: of the command that could not work.
        argv: the arguments that it was given; those that the hint sets again are left out.
        hint: flags and values as a shell takes them; behind two spaces and `#` a comment. Any other
            text is returned as it is, and so are flags that the command does not have.
    """
    if not hint.startswith("-") or name not in COMMANDS:
        return hint
    known = flags(COMMANDS[name].settings)
    owners = {spelling: flag for flag in known.values() for spelling in flag.spellings}
    changes = [word for word in hint.partition("  # ")[0].split() if word[0] == "-"]
    spellings = [cli.spell(word, known).partition("=")[0] for word in changes]
    if not owners.keys() >= set(spellings):
        return hint
    changed = {owners[spelling].name for spelling in spellings}
    words, rest = cli.without_rest(argv, known)
    kept: list[str] = []
    while words:
        spelling, equals, _ = cli.spell(words[0], known).partition("=")
        flag, size = owners.get(spelling), 1
        if flag and not equals and (flag.bare is None or not words[1:2] or words[1][:1] != "-"):
            size = 2
        if not flag or flag.name not in changed:
            kept += words[:size]
        words = words[size:]
    return " ".join([command(name, *kept), hint, *map(quoted, rest)])


def verbs() -> list[str]:
    """Returns the first words of all commands."""
    return list(dict.fromkeys(name.split()[0] for name in COMMANDS))


def others(own: str) -> dict[str, str]:
    """Returns the settings of all other commands, and for each a command that has it."""
    return {
        setting: name
        for name, command in reversed(COMMANDS.items())
        if name != own
        for setting in flags(command.settings)
    }


def usage(subject: str, prog: str) -> list[str]:
    """Returns the lines that explain a subject, or, where it is empty, the console command."""
    if subject:
        head = f"usage: {prog} ACTION [--flag VALUE ...]\n\n{summary(subject)}\n"
        return [head, *also(subject)]
    lines = [f"usage: {prog} VERB [ACTION] [--flag VALUE ...]\n"]
    for verb in verbs():
        lines += [f"  {verb:<{WIDE}}{summary(verb)}", *also(verb, "    ")]
    return [*lines, f"\n{prog} VERB [ACTION] --help explains it."]


def also(verb: str, indent: str = "  ") -> list[str]:
    """Returns a line for each action of a verb."""
    wide = WIDE + 2 - len(indent)
    return [f"{indent}{each:<{wide}}{summary(f'{verb} {each}')}" for each in actions(verb)]


def summary(name: str) -> str:
    """Returns what a command or a subject is for: the first line of its settings' docstring."""
    if name in SUBJECTS:
        return SUBJECTS[name]
    return (COMMANDS[name].settings.__doc__ or "").splitlines()[0]


def completion_parser() -> argparse.ArgumentParser:
    """Returns one parser with every verb and action as a sub-command, for shell completion."""
    parser = cli.Parser(prog="ppcls-lite")
    by_verb = parser.add_subparsers(dest="verb")
    for verb in verbs():
        verb_parser = by_verb.add_parser(verb, help=summary(verb))
        if verb in COMMANDS:
            _fill(verb_parser, verb)
        if actions(verb):
            by_action = verb_parser.add_subparsers(dest="action")
            for action in actions(verb):
                name = f"{verb} {action}"
                _fill(by_action.add_parser(action, help=summary(name)), name)
    return parser


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    settings = COMMANDS[name].settings
    cli.fill_parser(parser, settings)
    known = flags(settings)
    for action in parser._actions:
        if action.dest in known:  # argparse itself must not check words: its message is poorer
            action.choices = known[action.dest].choices or None
