"""Every command finds its weights once, opens their file once and hashes it once."""

import hashlib
import json
import os

import numpy as np
import paddle
import pytest
from conftest import ROOT, cache_of_its_own, run_tool
from golden import formula

from ppcls_lite import create_model
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.export import export_model
from ppcls_lite.engine.checkpoint import Progress, save_checkpoint
from ppcls_lite.model_info import ModelInfo

CLASSES = ("blue", "green", "red")
INFO = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, CLASSES, Preprocess(36, 32))
OTHER = "MobileNetV3_small_x0_35"

TRAIN = (
    "--data-path=DATA --output-dir=OUT --epochs=1 --batch-size=8 --device=cpu --workers=0"
    " --train-crop-size=32 --val-resize-size=36 --val-crop-size=32 --no-visualdl"
)

# best.pdparams has a JSON beside it, bare.pdparams none, OTHER.t is a published file in the cache.
COMMANDS = {
    "predict": ("best", "predict --pretrained=@ --img-path=COFFEE"),
    "predict, bare": ("bare", f"predict --pretrained=@ --model={OTHER} --img-path=COFFEE"),
    "predict, tag": ("published", f"predict --pretrained={OTHER}.t --img-path=COFFEE"),
    "export": ("best", "export --pretrained=@ --save-inference-dir=OUT --format=json"),
    "export, tag": (
        "published", f"export --pretrained={OTHER}.t --save-inference-dir=OUT --format=json",
    ),
    "export check": ("best", "export check --pretrained=@ --exported=EXPORT --img-path=COFFEE"),
    "export accelerator": (
        "best", "export accelerator --pretrained=@ --data-path=DATA --out=OUT"
        " --calibration-images=3",
    ),
    "quantize": (
        "best", "quantize --pretrained=@ --data-path=DATA --out=OUT --calibration-images=3"
        " --eval-images=3 --min-agreement=0",
    ),
    "weights convert": ("best", "weights convert @ --to=torchvision --out=OUT.npz"),
    "weights convert, bare": (
        "bare", f"weights convert @ --model={OTHER} --to=ours --out=OUT.npz",
    ),
    "weights average": ("best", "weights average --checkpoints=@,SECOND --out=OUT.pdparams"),
    "train": ("best", f"train --pretrained=@ {TRAIN}"),
    "train, resumed": ("best", f"train --resume=@ --width=0.5 {TRAIN}"),
    "train, teacher": (
        "best",
        f"train --model={OTHER} --teacher=mobilenet_v3_small --teacher-pretrained=@ {TRAIN}",
    ),
    "validate": ("best", "validate --pretrained=@ --data-path=DATA --device=cpu --batch-size=8"),
}  # fmt: skip

# Runs commands one after the other; the last line says what each opened, hashed and resolved.
COUNTED = """
import hashlib, json, os, sys
from collections import Counter

opened, hashed, resolved = Counter(), Counter(), Counter()

def audit(event, args):
    if event == "open" and isinstance(args[0], str):
        opened[os.path.basename(args[0])] += 1

def counted_new(name, data=b"", **options):
    hashed[len(data)] += 1
    return new(name, data, **options)

def counted_resolve(text, model=None):
    resolved[os.path.basename(text)] += 1
    return resolve(text, model)

new, hashlib.new = hashlib.new, counted_new
hashlib.sha256 = lambda data=b"": counted_new("sha256", data)

from ppcls_lite import verbs
from ppcls_lite.__main__ import dispatch
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.weights import find, tags

resolve, find.resolve_pretrained = find.resolve_pretrained, counted_resolve
asked = json.load(sys.stdin)
tags.WEIGHTS = (tags.WeightTag(*asked["tag"], "", Preprocess(), None, None, "a test"),)
sys.addaudithook(audit)
found = {}
for name, argv in asked["commands"].items():
    for counter in (opened, hashed, resolved):
        counter.clear()
    status = dispatch(*verbs.find("", argv, "ppcls-lite"))
    found[name] = json.loads(json.dumps([status, opened, hashed, resolved]))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def counted(pictures, tmp_path_factory):
    """What each of COMMANDS did, and the size of each weights file."""
    folder = tmp_path_factory.mktemp("once")
    model = create_model(INFO.name, INFO.num_classes, **INFO.overrides)
    momentum = {f"{k}.velocity_0": np.zeros(v.shape, "f") for k, v in model.named_parameters()}
    for name in ("best", "second"):
        path, extra = folder / f"{name}.pdparams", {"config": {}, "metrics": {}}
        save_checkpoint(path, model.state_dict(), momentum, INFO, Progress(), extra)
    state = create_model(OTHER, 3).state_dict()
    state = {k: paddle.to_tensor(formula.weight(k, tuple(v.shape))) for k, v in state.items()}
    for name in ("bare", "published"):
        paddle.save(state, str(folder / f"{name}.pdparams"))
    export_model(folder / "best.pdparams", folder / "export", formats=["json", "onnx"])
    commands = {}
    for number, (name, (weights, flags)) in enumerate(COMMANDS.items()):
        words = {
            "@": folder / f"{weights}.pdparams", "SECOND": folder / "second.pdparams",
            "EXPORT": folder / "export", "OUT": folder / f"out{number}", "DATA": pictures,
            "COFFEE": ROOT / "test_images/coffee.jpg",
        }  # fmt: skip
        for word, value in words.items():
            flags = flags.replace(word, str(value))
        commands[name] = flags.split()
    digest = hashlib.sha256((folder / "published.pdparams").read_bytes()).hexdigest()
    tag = [OTHER, "t", "http://weights.invalid/published.pdparams", f"sha256:{digest}"]
    environment = os.environ | {"PPCLS_LITE_HOME": cache_of_its_own(folder)}
    asked = json.dumps({"tag": tag, "commands": commands})
    done = run_tool("-c", COUNTED, input=asked, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = {path.stem: path.stat().st_size for path in folder.glob("*.pdparams")}
    return json.loads(done.stdout.splitlines()[-1]), sizes


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_found_read_or_hashed_twice(counted, command):
    found, sizes = counted
    status, opened, hashed, resolved = found[command]
    weights = COMMANDS[command][0]
    assert status == 0
    assert opened[f"{weights}.pdparams"] == 1
    assert opened.get(f"{weights}.json", 0) == (weights == "best")
    # Told apart by their size, which a second checkpoint has, too: one that is averaged, or saved.
    same_size = command in ("weights average", "train", "train, resumed")
    assert hashed.get(str(sizes[weights]), 0) <= 1 + same_size
    assert max(resolved.values(), default=1) == 1  # --resume takes paths only
