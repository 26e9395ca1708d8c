"""Commands that write something, for what a full disk, a closed folder and Ctrl-C do to them."""

import csv
import json
import shutil

import onnx
from conftest import picture
from PIL import Image
from small_checkpoint import trained_like_state

from ppcls_lite import create_model
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.features import read_features
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.formats import read_weights

# WEIGHTS, DATA, FEATURES and RUN are of `place`, OUT is where the disk is full or closed.
WRITERS = {
    "export": "tools/export_model.py --pretrained WEIGHTS --save-inference-dir OUT/x --format json",
    "quantize": "tools/quantize.py --pretrained WEIGHTS --data-path DATA --target onnxruntime"
    " --calibration-images 4 --min-agreement 0 --out OUT/x",
    "embed": "tools/embed.py --pretrained WEIGHTS --data-path DATA --out OUT/x.npz",
    "search": "tools/search.py FEATURES DATA/val/red/0.png --pretrained WEIGHTS --html OUT/x.html",
    "check_data": "tools/check_data.py --data-path DATA --workers 0 --report OUT/x",
    "report": "tools/report.py --pretrained WEIGHTS --data-path DATA --workers 0 --out OUT/x.html",
    "predict": "tools/predict.py --pretrained WEIGHTS --img-path DATA/val --save-vis OUT/x",
    "pack": "tools/pack_dataset.py --data-path DATA --workers 0 --out OUT/x",
    "convert": "tools/convert_weights.py WEIGHTS --to torchvision --out OUT/x.safetensors",
    "bundle": "tools/export_accelerator.py --pretrained WEIGHTS --data-path DATA"
    " --calibration-images 3 --out OUT/x",
    "validate": "tools/validate.py --pretrained WEIGHTS --data-path DATA --workers 0"
    " --confusion-matrix --output-dir OUT/x",
    "plot": "tools/plot_run.py --run RUN --out OUT/x.png",
}


def make_place(folder):
    """Writes what the commands read into a folder."""
    for split, count in (("train", 4), ("val", 2)):
        for class_id, name in enumerate(("blue", "green", "red")):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                shot = picture(class_id, 100 * len(split) + number)
                shot.save(folder / "data" / split / name / f"{number}.png")
    info = ModelInfo(
        "mobilenet_v3_small", 3, {"width": 0.5}, ("blue", "green", "red"), Preprocess(36, 32)
    )
    state = trained_like_state(create_model(info.name, 3, **info.overrides))
    save_weights(folder / "weights.pdparams", state, info)
    (folder / "run").mkdir()
    rows = [{"event": "train", "epoch": 0, "step": step, "loss": 1.0, "top1": 0.5, "lr": 0.1}
            for step in range(3)]  # fmt: skip
    (folder / "run/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words_of(name, place, out):
    """The words of a command."""
    found = {"WEIGHTS": place / "weights.pdparams", "DATA": place / "data", "RUN": place / "run",
             "FEATURES": place / "features.npz", "OUT": out}  # fmt: skip
    words = []
    for word in WRITERS[name].split():
        first, slash, rest = word.partition("/")
        words.append(f"{found[first]}{slash}{rest}" if first in found else word)
    return words


def check_whole(path):
    """Reads a file to its end, by what its name says it is."""
    if path.suffix in (".png", ".jpg"):
        Image.open(path).load()
    elif path.suffix == ".npz":
        read_features(path)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix in (".json", ".yml", ".yaml"):
        assert path.read_text().endswith(("}\n", "\n", "}"))
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            assert len({len(row) for row in csv.reader(file)}) == 1
    elif path.suffix == ".safetensors":
        read_weights(path)
    elif path.suffix == ".onnx":
        onnx.load(str(path))
    elif path.suffix == ".tar":
        shutil.unpack_archive(path, path.with_suffix(".unpacked"))
