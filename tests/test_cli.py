"""Flags and YAML: what users type, what they get, what they are told."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from ppcls_lite import cli
from ppcls_lite.benchmark.settings import BENCHMARK_FLAGS
from ppcls_lite.config import Settings
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.flags import flags
from ppcls_lite.program import command
from ppcls_lite.verbs import COMMANDS

ROOT = Path(__file__).parent.parent


def parse(*argv):
    return cli.parse(TrainConfig, list(argv), "train.py")


def complaint(*argv):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    return str(caught.value)


@pytest.fixture
def yaml_file(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_defaults_are_step6s_recipe():
    config = parse()
    assert (config.epochs, config.batch_size, config.lr) == (120, 256, 0.1)
    assert (config.momentum, config.weight_decay) == (0.9, 1e-4)
    assert (config.lr_step_size, config.lr_gamma, config.print_freq) == (30, 0.1, 10)
    assert (config.model, config.opt) == ("mobilenet_v3_small", "sgd")
    assert (config.train_crop_size, config.val_resize_size, config.val_crop_size) == (224, 256, 224)


@pytest.mark.parametrize(
    "argv",
    [["--batch-size", "8"], ["--batch-size=8"], ["--batch_size=8"], ["-b", "8"], ["-b8"]],
)
def test_every_spelling_of_a_flag_is_the_same_flag(argv):
    assert parse(*argv).batch_size == 8


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--sync-bn"], True),
        (["--sync-bn=True"], True),
        (["--sync_bn=False"], False),
        (["--sync-bn", "false"], False),
        (["--no-sync-bn"], False),
        (["--sync-bn", "--no-sync-bn"], False),
    ],
)
def test_booleans_in_all_forms(argv, value):
    assert parse(*argv).sync_bn is value


def test_old_chain_flags_parse():
    assert parse("--use-gpu=True").use_gpu is True
    assert parse("--use_gpu=False", "--amp_level=O2").amp_level == "O2"


def test_later_sources_win_and_are_remembered(yaml_file):
    first = yaml_file("lr: 0.5\nepochs: 7\nbatch-size: 16\n", "first.yaml")
    second = yaml_file("\nlr: 1e-3\n", "second.yaml")
    config = parse("--epochs", "9", "-c", first, "-c", second)
    assert (config.lr, config.epochs, config.batch_size) == (0.001, 9, 16)
    assert config.sources == {
        "lr": f"{second}:2",
        "epochs": "command line",
        "batch_size": f"{first}:3",
    }
    assert config.given("lr") and not config.given("momentum")


def test_null_and_lists(yaml_file):
    assert parse("--seed", "null").seed is None
    assert parse("--crop-scale", "0.3,1").crop_scale == (0.3, 1.0)
    config = parse("-c", yaml_file("crop_scale: [0.3, 0.9]\nnum_classes: null\n"))
    assert (config.crop_scale, config.num_classes) == ((0.3, 0.9), None)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--weigth-decay", "1"], ["unknown argument --weigth-decay", "--weight-decay?"]),
        (["--data-pth", "x"], ["unknown argument --data-pth", "did you mean --data-path?"]),
        (["--epochs", "five"], ["--epochs: 'five'", "whole number"]),
        (["--epochs", "5.5"], ["--epochs: '5.5'"]),
        (["-b", "0"], ["--batch-size: '0'", ">= 1"]),
        (
            ["--opt", "sdg"],
            [
                "--opt: 'sdg'",
                "sgd, nesterov, rmsprop",
                "did you mean sgd?",
            ],
        ),
        (["--sync-bn=maybe"], ["--sync-bn: 'maybe'"]),
        (["--lr"], ["--lr needs a value", "--lr=VALUE"]),
        (["--output-dir", "-odd"], ["--output-dir needs a value", "--output-dir=VALUE"]),
        (["-b"], ["--batch-size needs a value", "--batch-size=VALUE"]),
        (["stray"], ["unknown argument stray"]),
        (["-c", "a", __file__], [f"unknown argument {__file__}:", "quote a pattern"]),
        (["-c", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["--test-only"], ["--test-only", "--pretrained FILE"]),
        (["--test-only", "--resume=auto", "--pretrained=x"], ["--test-only tests one file"]),
        (["--start-epoch=5", "--epochs=5"], ["--start-epoch 5", "--epochs 5"]),
        (["--resume=a.pdparams", "--pretrained=b.pdparams"], ["give one of them"]),
        (["--resume", "auto", "--start-epoch", "3"], ["--start-epoch", "--resume"]),
        (["--lr", "inf"], ["--lr: 'inf'", "finite"]),
        (["--lr", "nan"], ["--lr: 'nan'"]),
        (["--width", "1e9"], ["--width: '1e9'", "<= 8"]),
        (["--val-crop-size", "300"], ["--val-crop-size 300", "--val-resize-size 256"]),
    ],
)
def test_complaints_name_what_was_given_and_what_is_allowed(argv, parts):
    text = complaint(*argv)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lr: 0.1\nepoch: 5\n", [":2: unknown key 'epoch'", "did you mean epochs?"]),
        ("epochs: true\n", [":1: epochs: True", "int"]),
        ("epochs: 5.5\n", [":1: epochs: 5.5"]),
        ("\nepochs: five\n", [":2: epochs: 'five'"]),
        ("lr: 0.1\nlr: 0.2\n", [":2: lr is already set in line 1"]),
        ("opt: sdg\n", [":1: opt: 'sdg'", "did you mean sgd?"]),
        ("- 1\n- 2\n", ["key: value"]),
        ("lr: [1\n", ["cannot read", "line"]),
        ("lr: .inf\n", [":1: lr: inf", "finite"]),
        ("\nepochs: !!foo 5\n", [":2: epochs: ", "foo"]),
        ("epochs: !!int five\n", [":1: epochs: ", "'five'"]),
        ("seed: !!bool maybe\n", [":1: seed: ", "'maybe'"]),
        ("seed: !!timestamp soon\n", [":1: seed: "]),
    ],
)
def test_yaml_complaints_name_file_and_line(yaml_file, text, parts):
    path = yaml_file(text)
    said = complaint("-c", path)
    assert path in said and all(part in said for part in parts), said


def test_a_yaml_file_in_another_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "latin1.yaml"
    path.write_bytes("lr: 1\n\ndata_path: café\n".encode("latin-1"))
    assert f"{path}:3: the file is not UTF-8" in complaint("-c", str(path))


def test_a_folder_may_be_called_like_a_date(yaml_file):
    config = parse("-c", yaml_file("data_path: 2024-01-31\noutput_dir: 2024-13-01\n"))
    assert (config.data_path, config.output_dir) == ("2024-01-31", "2024-13-01")


def test_all_impossible_combinations_are_reported_together():
    said = complaint("--test-only", "--val-crop-size", "300", "--lr-warmup-epochs", "500")
    assert all(flag in said for flag in ("--test-only", "--val-crop-size", "--lr-warmup-epochs"))


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        *((verb, []) for verb in COMMANDS),
        # These complain of flags that have no effect beside the given ones.
        *(("benchmark", [what]) for what in BENCHMARK_FLAGS),
        ("export", ["--logits"]),
        ("predict", ["--shards", "answers"]),
        ("quantize", ["--remedies", "gates"]),
    ],
)
def test_printed_config_reads_back_as_the_same_settings(verb, given, tmp_path, capsys):
    settings = COMMANDS[verb].settings
    with pytest.raises(SystemExit) as end:
        cli.parse(settings, [*given, "--print-config"], verb)
    assert end.value.code == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert cli.parse(settings, ["-c", str(path)], verb) == cli.parse(settings, given, verb)


def main(verb, *argv):
    """Runs the console command; returns its status and what it says."""
    done = run([sys.executable, "-m", "ppcls_lite", verb, *argv])
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["validate", "--lr", "3", "--mixup", "0.5"], "--lr"),
        (["validate", "--train-crop-size=64", "--pretrained=x"], "--train-crop-size"),
        (["train", "--test-only", "--pretrained=x", "--lr", "3"], "--lr"),
        (["train", "--test-only", "--pretrained=x", "--dry-run"], "--dry-run"),
        (["show_augment", "--val-crop-size=64"], "--val-crop-size"),
        (["show_augment", "--label-smoothing=0.1"], "--label-smoothing"),
        (["show_augment", "--epochs=2"], "--epochs"),
    ],
)
def test_a_flag_that_the_command_does_not_read_is_refused_by_name(argv, named):
    status, said = main(*argv)
    assert status == 2 and named in said.splitlines()[0], said


@pytest.mark.parametrize("argv", [["validate"], ["train", "--test-only"]])
def test_a_file_may_hold_settings_of_other_commands_but_no_unknown_ones(argv, yaml_file):
    flags = ["--pretrained=x.pdparams"]
    path = yaml_file("lr: 0.5\nprint_freq: 7\ntopk: 3\n")
    status, said = main(*argv, "-c", path, *flags)
    lines = [line for line in said.splitlines() if f"{path}: passed over, not of this" in line]
    names = {name for line in lines for name in line.rpartition(": ")[2].split(", ")}
    assert status == 2 and names == {"lr", "topk"}
    assert "unknown key" not in said and "x.pdparams" in said  # it was looked for
    path = yaml_file("lrr: 0.5\n")
    status, said = main(*argv, "-c", path, *flags)
    assert status == 2 and f"{path}:1: unknown key 'lrr'" in said and "x.pdparams" not in said


def test_softmax_and_logits_together_are_refused():
    settings = COMMANDS["export"].settings
    with pytest.raises(UserError, match="exclude each other"):
        cli.parse(settings, ["--softmax", "--logits"], "export")


def test_texts_that_look_like_yaml_survive_print_config(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("--data-path", "a: b # c", "--output-dir", "null-and-void", "--print-config")
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    config = parse("-c", str(path))
    assert (config.data_path, config.output_dir) == ("a: b # c", "null-and-void")


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_every_flag_of_every_command_has_help(verb):
    for flag in flags(COMMANDS[verb].settings).values():
        assert len(flag.help) > 10 and flag.help.endswith("."), flag.name


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_help_has_one_word_for_one_thing(verb):
    """An image is no picture or photo; who types a flag knows no null, which is YAML's."""
    for flag in flags(COMMANDS[verb].settings).values():
        words = re.sub(r"--[\w-]+|'[^']*'", "", flag.help)
        assert not re.search(r"\b(null|none takes|pictures?|photos?|photographs?)\b", words), flag


def test_a_flag_of_the_same_kind_is_explained_in_the_same_words():
    """The first sentence, which commands may go on after."""
    said = {}
    for name, known in COMMANDS.items():
        for flag in flags(known.settings).values():
            said.setdefault(flag.name, {}).setdefault(flag.help, name)
    for name in ("device", "use_gpu", "img_size", "dataset"):
        assert len(said.get(name, ())) <= 1, said[name]
    decoders = [text for text in said["workers"] if "decode" in text and "row" not in text]
    assert len({text.partition(".")[0] for text in decoders}) == 1, decoders


def test_groups_of_settings_do_not_hide_each_others_fields():
    known = {field.name for field in fields(TrainConfig)}
    groups = [vars(group).get("__annotations__", {}) for group in TrainConfig.__mro__]
    names = [name for group in groups for name in group if name in known]
    assert len(names) == len(set(names)) == len(known)


def test_help_answers_without_paddle_and_puts_the_essentials_first():
    code = (
        "import sys; sys.argv = ['train.py', '--help']\n"
        "import runpy\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "finally: print('paddle imported:', 'paddle' in sys.modules)"
    )
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0 and "paddle imported: False" in done.stdout
    essentials = done.stdout.split("Essentials:")[1].split("\n\n")[0]
    assert essentials.count("\n  --") == 10
    assert done.stdout.index("Essentials:") < done.stdout.index("Optimizer:")


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_help_is_two_screens_at_most_and_names_every_flag(verb, capsys):
    def told(*argv):
        with pytest.raises(SystemExit) as end:
            cli.parse(COMMANDS[verb].settings, list(argv), "prog")
        assert end.value.code == 0
        return capsys.readouterr().out

    short, full = told("--help"), told("--help", "all")
    assert len(short.splitlines()) <= 80
    assert short == full or "prog --help all" in short
    for flag in flags(COMMANDS[verb].settings).values():
        assert flag.spellings[0] in re.split(r"[\s,]+", short), flag.name
        assert flag.spellings[0] in full and flag.help.split()[0] in full, flag.name
    with pytest.raises(UserError, match="allowed: all"):
        cli.parse(COMMANDS[verb].settings, ["--help", "some"], "prog")


def run(command, **environment):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


def test_a_users_mistake_is_one_message_and_status_2():
    done = run([sys.executable, "train.py", "--epochs", "five"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("train.py: --epochs: 'five' is not possible")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--epochs", "ten"], "--epochs: 'ten' is not possible (allowed: a whole number)"),
        (["--batch-size", "0"], "'0' is not possible (allowed: a whole number >= 1)"),
        (["--lr", "-1"], "'-1' is not possible (allowed: a number >= 0.0)"),
        (["--crop-scale", "a,b"], "(allowed: a number)"),
    ],
)
def test_a_wrong_value_is_answered_in_words(words, told):
    with pytest.raises(UserError) as raised:
        cli.parse(TrainConfig, words, "train.py")
    assert told in str(raised.value)
    assert raised.value.hint.startswith("give such a value: ")


def test_an_operating_system_error_is_one_message_and_status_2(tmp_path):
    record = '{"event": "train", "step": 1, "loss": 2.0, "top1": 0.5}\n'
    (tmp_path / "metrics.jsonl").write_text(record)
    flags = ["--run", str(tmp_path), "--out", str(tmp_path / "nowhere" / "x.png")]
    done = run([sys.executable, "tools/plot_run.py", *flags])
    assert done.returncode == 2
    assert done.stderr == (
        f"tools/plot_run.py: {tmp_path}/nowhere/x.png: No such file or directory\n"
        f"  next: ls {os.path.relpath(tmp_path, ROOT)}"
        "  # shows what is there; the rest of the path does not exist\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argv", [["train.py", "--print-config"], ["-m", "ppcls_lite"]])
def test_a_full_disk_behind_stdout_is_one_message(argv):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *argv], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    message = r"(train\.py|ppcls-lite): No space left on device\n  next: df -h .*\n"
    assert re.fullmatch(message, done.stderr)


@pytest.mark.parametrize(
    "argv", [["train.py", "--print-config"], ["-m", "ppcls_lite"], ["tools/list_models.py"]]
)
def test_a_reader_that_goes_away_ends_a_command_like_sigpipe(argv):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *argv], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("program", "module"),
    [("train.py", "msgspec"), ("train.py", "paddle"), ("tools/predict.py", "numpy")],
)
def test_ctrl_c_during_an_import_ends_without_a_traceback(program, module, tmp_path):
    """The stand-in for a module gets the signal and, as extension modules do, reports another
    error."""
    (tmp_path / f"{module}.py").write_text(
        "import os, signal, time\n"
        "try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "except BaseException as error: raise ImportError('cannot load') from error\n"
    )
    search_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run([sys.executable, program], PYTHONPATH=search_path)
    assert (done.returncode, done.stderr) == (130, f"{program}: stopped by SIGINT\n")


def test_names_the_terminal_cannot_show_do_not_end_a_command(tmp_path):
    for name in ("ameise", "käfer"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "ameise" / "1.png").touch()
    flags = [f"--data-path={tmp_path}", "--workers=0"]
    done = run([sys.executable, "tools/check_data.py", *flags], PYTHONIOENCODING="ascii")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1 and "k\\xe4fer" in done.stdout


def test_bash_completes_verbs_flags_and_choices():
    """In a real bash: what TAB would offer."""
    script = run([sys.executable, "-m", "ppcls_lite", "completion"]).stdout
    # shtab's function reads COMP_WORDS and fills COMPREPLY, as bash calls it.
    ask = (
        "source /dev/stdin; compopt() {{ :; }}; "
        "COMP_WORDS=({words}); COMP_CWORD={last}; "
        "$(complete -p ppcls-lite | sed 's/.*-F \\([^ ]*\\).*/\\1/') ppcls-lite; "
        'echo "${{COMPREPLY[@]}}"'
    )

    def offered(*words):
        command = ask.format(words=" ".join(f"'{w}'" for w in words), last=len(words) - 1)
        return subprocess.run(
            ["bash", "-c", command], input=script, capture_output=True, text=True
        ).stdout.split()

    assert "predict" in offered("ppcls-lite", "pre")
    assert "check" in offered("ppcls-lite", "data", "ch")
    assert "--data-path" in offered("ppcls-lite", "data", "check", "--da")
    assert {"check", "mobile"} <= set(offered("ppcls-lite", "export", ""))
    assert "--batch-size" in offered("ppcls-lite", "train", "--batch")
    assert offered("ppcls-lite", "train", "--amp-level", "") == ["O0", "O1", "O2"]


@dataclass(frozen=True)
class Small(Settings):
    """A command."""

    count: Annotated[int, Meta(ge=1, extra={"flags": ["-n"]})] = 1
    """How many."""
    kind: Literal["a", "b"] | None = None
    """Which one."""


def test_optional_choices_take_null_and_words():
    assert cli.parse(Small, ["--kind", "b", "-n", "2"], "x").kind == "b"
    assert cli.parse(Small, ["--kind", "null"], "x").kind is None
    with pytest.raises(UserError, match="allowed: a, b"):
        cli.parse(Small, ["--kind", "c"], "x")


@pytest.mark.parametrize(
    ("started", "cwd", "train_line", "predict_line"),
    [
        (f"{ROOT}/train.py", ROOT, "python train.py", "python tools/predict.py"),
        ("export_model.py", ROOT / "tools", "python ../train.py", "python predict.py"),
        (f"{ROOT}/venv/bin/ppcls-lite", ROOT, "ppcls-lite train", "ppcls-lite predict"),
        (
            f"{ROOT}/ppcls_lite/__main__.py",
            ROOT,
            "python -m ppcls_lite train",
            "python -m ppcls_lite predict",
        ),
    ],
)
def test_suggested_commands_have_the_form_of_the_one_that_runs(
    started, cwd, train_line, predict_line, monkeypatch
):
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", [started])
    assert command("train", "--lr", 0.1) == f"{train_line} --lr 0.1"
    assert command("predict", "--img-path", Path("my cat.jpg")) == (
        f"{predict_line} --img-path 'my cat.jpg'"
    )


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 9, 18)])
def test_an_older_python_gives_one_line(version):
    """What runs before the check is said to be older is in its syntax; the rest it cannot read."""
    code = (
        "import sys, runpy\n"
        f"sys.version_info = {version}\n"
        "sys.argv = ['train.py', '--help']\n"
        "runpy.run_path('train.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "; 3.10 to 3.12 is needed\n  next: " in done.stderr and done.stderr.count("\n") == 2
    package = [f"ppcls_lite/{name}.py" for name in ("__init__", "version", "__main__", "program")]
    for name in ("train.py", "tools/_bootstrap.py", *package):
        ast.parse((ROOT / name).read_text(), feature_version=version[:2])


def test_an_interpreter_without_the_packages_gives_one_line():
    # -S: no site-packages, like the system's Python outside of .venv
    for program in ("train.py", "tools/predict.py", "tools/accelerator/lint.py"):
        done = subprocess.run(
            [sys.executable, "-S", program, "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "has no package msgspec" in done.stderr and "  next: " in done.stderr
