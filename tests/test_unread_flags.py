"""No command takes a flag that it does not read."""

from dataclasses import dataclass

import pytest
from conftest import ROOT, run_tool
from reads import reachable, trees, unread

from ppcls_lite.config import LossSettings
from ppcls_lite.data.mix_settings import MixSettings
from ppcls_lite.data.settings import ShowAugmentConfig
from ppcls_lite.engine.settings import RunSettings, TrainConfig, ValidateConfig
from ppcls_lite.flags import flags
from ppcls_lite.verbs import COMMANDS, UNREAD

# Read before a command runs: the first chooses another one, the second is for whoever decodes.
READ_BEFORE = {"test_only", "max_megapixels"}
OF_THE_OTHER = {
    "train": {"engine", "tta"},
    "finetune": {"engine", "tta"},
}  # of the command that --test-only chooses


def module_of(name):
    return f"ppcls_lite.commands.{name.replace(' ', '_')}"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_flag_is_read_or_listed_as_accepted_without_use(name):
    found = unread(COMMANDS[name].settings, module_of(name))
    assert found - READ_BEFORE == set(UNREAD.get(name, {})) | OF_THE_OTHER.get(name, set())
    if "max_megapixels" in found:
        assert any(module == "ppcls_lite.data.decode" for module, _ in reachable(module_of(name)))


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
        (Planted, "train", {"nobody_reads_this"}),
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
    found = unread(settings, module_of(name)) - READ_BEFORE
    assert found - OF_THE_OTHER.get(name, set()) == planted - READ_BEFORE


def test_a_flag_without_use_is_named_in_a_line(tmp_path):
    done = run_tool("tools/accelerator/sample_cls.py", "--device_id=0", "--batch=1")
    assert "sample_cls.py: --device-id is accepted and has no effect" in done.stderr
    assert "--batch is accepted and has no effect" in done.stderr
    done = run_tool("tools/accelerator/sample_cls.py", "--topk=1")
    assert "no effect" not in done.stderr


def test_the_analysis_goes_where_the_code_goes():
    assert len(trees()) == len(list((ROOT / "ppcls_lite").rglob("*.py")))
    schedule = ("ppcls_lite.optimizer.schedule", "lr_at")
    assert schedule in reachable("ppcls_lite.commands.train")
    assert schedule not in reachable("ppcls_lite.commands.validate")
    assert schedule not in reachable("ppcls_lite.commands.data_show")
