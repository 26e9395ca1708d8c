"""No command takes a flag that it does not read."""

from dataclasses import dataclass

import pytest
from conftest import ROOT, run_tool
from reads import unread

from ppcls_lite.config import LossSettings
from ppcls_lite.data.settings import MixSettings, ShowAugmentConfig
from ppcls_lite.engine.settings import RunSettings, TrainConfig, ValidateConfig
from ppcls_lite.flags import flags
from ppcls_lite.verbs import COMMANDS, UNREAD

# They choose another command, or are of that one.
CHOOSING = {"train": {"test_only", "engine"}}
BY_MAIN = {"max_megapixels"}  # of every command that decodes pictures


def module_of(name):
    return f"ppcls_lite.commands.{name.replace(' ', '_')}"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_flag_is_read_or_listed_as_accepted_without_use(name):
    found = unread(COMMANDS[name].settings, module_of(name))
    assert found - CHOOSING.get(name, set()) - BY_MAIN == set(UNREAD.get(name, {}))


@dataclass(frozen=True)
class Planted(TrainConfig):
    nobody_reads_this: int = 1


@dataclass(frozen=True)
class Mixed(MixSettings, ValidateConfig):
    pass


@dataclass(frozen=True)
class Lossy(LossSettings, ShowAugmentConfig):
    pass


@dataclass(frozen=True)
class Running(RunSettings, ValidateConfig):
    pass


@pytest.mark.parametrize(
    ("settings", "name", "planted"),
    [
        (Planted, "train", {"nobody_reads_this", "test_only", "engine"}),
        # Fields that others read, and this command does not.
        (Mixed, "validate", set(flags(MixSettings))),
        (Lossy, "data show", set(flags(LossSettings))),
        (
            Running,
            "validate",
            set(flags(RunSettings)) - {"pretrained", "resume", "output_dir"},
        ),
    ],
)
def test_a_planted_flag_is_found(settings, name, planted):
    assert unread(settings, module_of(name)) - BY_MAIN == planted


def test_a_flag_without_use_is_named_in_a_line(tmp_path):
    done = run_tool("tools/accelerator/sample_cls.py", "--device_id=0", "--batch=1")
    assert "sample_cls.py: --device-id is accepted and has no effect" in done.stderr
    assert "--batch is accepted and has no effect" in done.stderr
    done = run_tool("tools/accelerator/sample_cls.py", "--topk=1")
    assert "no effect" not in done.stderr


def test_the_analysis_sees_the_whole_package():
    from reads import reachable, trees

    assert len(trees()) == len(list((ROOT / "ppcls_lite").rglob("*.py")))
    assert "ppcls_lite.optimizer.schedule" in reachable("ppcls_lite.commands.train")
    assert "ppcls_lite.optimizer.schedule" not in reachable("ppcls_lite.commands.validate")
