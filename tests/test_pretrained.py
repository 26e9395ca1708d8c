"""`--pretrained` with tags, names and nothing, and what weights carry along: real commands against
a local server that publishes real files."""

import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import TINY_FLAGS, run_tool, train
from golden import formula
from safetensors.numpy import save_file

from ppcls_lite import Predictor, create_model, load_weights
from ppcls_lite.__main__ import dispatch
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.verbs import find
from ppcls_lite.weights import tags
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.mapping import from_ours
from ppcls_lite.weights.published import cache_folder
from ppcls_lite.weights.tags import WeightTag
from ppcls_lite.weights.writing import write_weights

SMALL, TF = "MobileNetV3_small_x0_35", "tf_mobilenetv3_small_minimal_100"
HALF = Preprocess(interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
COFFEE = "test_images/coffee.jpg"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Publishes the weights of two networks as the only ones there are; yields what was asked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "server"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.asked = []
    base = f"http://127.0.0.1:{server.server_port}"
    rows = []
    for name, layout, tag, preprocess in (
        (SMALL, "ppcls", "paddleclas", Preprocess()),
        (TF, "timm", "in1k", HALF),
    ):
        model = create_model(name)
        ours = {k: formula.weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
        file = folder / f"{name}-published.safetensors"
        save_file(from_ours(ours, model, layout), file)
        digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        url = f"{base}/{file.name}"
        rows.append(WeightTag(name, tag, url, digest, "", preprocess, None, None, "a test"))
    monkeypatch.setattr(tags, "WEIGHTS", tuple(rows))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.asked
    server.shutdown()
    server.server_close()


def said(capsys, *argv):
    """Runs a command in this process, where the published weights are the test's."""
    status = dispatch(*find(argv[0], list(argv[1:]), argv[0]))
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured


def test_one_line_classifies_a_picture(published, capsys):
    flags = ["predict", "--pretrained", "--model", SMALL, "--img-path", COFFEE, "--json"]
    first = said(capsys, *flags)
    answer = json.loads(first.out)["topk"]
    assert len(answer) == 5 and not answer[0]["name"].isdigit()  # ImageNet's names
    assert "sha256" in first.err and f"has the name of {SMALL}.paddleclas" in first.err
    # The same from the tag, by its short name, and from the file that was fetched; once fetched.
    file = str(cache_folder() / f"{SMALL}-published.safetensors")
    for pretrained in (["--pretrained", f"{SMALL}.paddleclas"], ["--pretrained", file]):
        again = said(capsys, "predict", *pretrained, "--img-path", COFFEE, "--json")
        assert again.out == first.out
    assert said(capsys, *flags[:1], "--pretrained=paddleclas", *flags[2:]).out == first.out
    assert published == [f"/{SMALL}-published.safetensors"]


def test_three_lines_of_python(published):
    predictor = Predictor(f"{SMALL}.paddleclas")
    best = predictor(COFFEE)[0][0]
    wanted = {k: formula.weight(k, tuple(v.shape)) for k, v in predictor_state().items()}
    model = create_model(SMALL, pretrained=True)
    report = load_weights(create_model(SMALL), f"{SMALL}.paddleclas")
    assert report.layout == "ppcls" and not report.reinitialised
    assert all(np.array_equal(v.numpy(), wanted[k]) for k, v in model.state_dict().items())
    assert 0 < best.prob <= 1 and len(published) == 1


def predictor_state():
    return create_model(SMALL).state_dict()


def test_fine_tuning_goes_on_with_what_the_weights_were_fed(published, pictures, tmp_path, capsys):
    out = tmp_path / "run"
    flags = [flag for flag in TINY_FLAGS if not flag.startswith("--width")]
    flags += [f"--data-path={pictures}", f"--output-dir={out}", "--epochs=1", "--lr=0"]
    text = said(capsys, "train", *flags, f"--pretrained={TF}").out
    assert "the last layer starts fresh" in text and "timm layout" in text
    state = json.loads((out / "best.json").read_text())
    assert state["name"] == TF and state["num_classes"] < 1000
    assert state["preprocess"]["mean"] == [0.5] * 3 == state["preprocess"]["std"]
    assert state["preprocess"]["interpolation"] == "bicubic"
    # At a rate of 0 all but the head and the statistics of batches is what the file holds.
    for name, array in read_weights(out / "best.pdparams").items():
        if not name.startswith("classifier") and "._" not in name:
            assert np.array_equal(array, formula.weight(name, array.shape)), name
    # Going on keeps it, although nobody names the weights again.
    said(capsys, "train", f"--resume={out}/latest.pdparams", "--epochs=2")
    again = json.loads((out / "latest.json").read_text())
    assert again["preprocess"] == state["preprocess"] and again["progress"]["epoch"] == 2


def test_the_plan_says_that_the_hidden_layer_starts_fresh_too(pictures, tmp_path, capsys):
    state = {name: tensor.numpy() for name, tensor in create_model(SMALL).state_dict().items()}
    headless = {name: array for name, array in state.items() if "classifier" not in name}
    write_weights(tmp_path / "headless.safetensors", headless)
    flags = [flag for flag in TINY_FLAGS if not flag.startswith("--width")]
    flags += [f"--data-path={pictures}", "--dry-run", f"--output-dir={tmp_path}/run"]
    weights = f"--pretrained={tmp_path}/headless.safetensors"
    text = said(capsys, "train", *flags, f"--model={SMALL}", weights).out
    (line,) = [line for line in text.splitlines() if line.startswith("weights")]
    assert "; the hidden and the last layer start fresh: classifier.0.weight, classifier" in line
    assert "rows" not in line and "as it is" not in line


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([f"--model={SMALL}", "--pretrained"], "initialised; a dry run does not download default"),
        ([f"--teacher={SMALL}", f"--teacher-pretrained={SMALL}.paddleclas", "--distill-loss=dml",
          "--distill-weight=0.5"],
         f"teacher   {SMALL}, {SMALL}.paddleclas, not downloaded in a dry run: random"),
        ([f"--teacher={SMALL}", f"--teacher-pretrained={SMALL}.paddleclas", "--num-classes=1000"],
         f"teacher   {SMALL}, {SMALL}.paddleclas, not downloaded in a dry run: random"),
    ],
    ids=["start", "peer", "teacher"],
)  # fmt: skip
def test_a_dry_run_downloads_nothing(published, pictures, tmp_path, capsys, flags, says):
    text = said(
        capsys, "train", *TINY_FLAGS, f"--data-path={pictures}", "--dry-run", *flags,
        f"--output-dir={tmp_path / 'run'}",
    ).out  # fmt: skip
    assert says in text and published == []


def test_conversion_believes_the_description_and_its_overrides(pictures, tmp_path):
    """A network of another width goes out and comes back without being named."""
    out, back = tmp_path / "run", tmp_path / "back.npz"
    done = train(pictures, out, "--epochs=1")  # at half the width
    assert done.returncode == 0, done.stderr
    done = run_tool(
        "tools/convert_weights.py", out / "best.pdparams", "--to=torchvision", f"--out={back}"
    )
    assert done.returncode == 0, done.stderr
    assert "in the layout torchvision" in done.stdout
    trained = read_weights(out / "best.pdparams")
    assert np.array_equal(read_weights(back)["features.0.0.weight"], trained["features.0.0.weight"])
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob(".back*"))


def test_which_table_of_a_training_file_was_taken_is_said(tmp_path):
    model = create_model(SMALL, 10)
    arrays = {k: formula.weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    path = tmp_path / "training.pdparams"
    import paddle

    tensors = {k: paddle.to_tensor(v) for k, v in arrays.items()}
    paddle.save({"model": {k: v * 0 for k, v in tensors.items()}, "model_ema": tensors}, str(path))
    done = run_tool(
        "tools/convert_weights.py", path, f"--model={SMALL}", f"--out={tmp_path}/w.pdparams"
    )
    assert done.returncode == 0, done.stderr
    assert "weights from 'model_ema' of the file, not from 'model'" in done.stdout
    taken = read_weights(tmp_path / "w.pdparams")
    assert all(np.array_equal(taken[k], v) for k, v in arrays.items())
