"""One network of each family through bundle, linter, build, both runs and both evaluators."""

import numpy as np
import pytest
from small_checkpoint import network_by_formula

from ppcls_lite import verbs
from ppcls_lite.__main__ import dispatch
from ppcls_lite.accelerator.pixels import CardPreprocess
from ppcls_lite.accelerator.simulator import load_planar
from ppcls_lite.data.preprocess import Preprocess, find_images
from ppcls_lite.engine.evaluate import dygraph_forward
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import OnnxRuntime, load_network
from ppcls_lite.weights.description import save_weights

SPEC = Preprocess(36, 32)
FAMILIES = [
    ("mobilenet_v3_small", {}),  # torchvision
    ("mnasnet0_5", {}),
    ("MobileNetV3_small_x0_35", {}),  # PaddleClas
    ("mobilenetv3_small_050", {}),  # timm
    ("mobilenetv3_rw", {}),
    ("semnasnet_100", {}),
    ("tf_mobilenetv3_small_minimal_100", {}),
    ("tf_efficientnet_lite0", {}),
    ("mobilenet_v3_small_075", {}),  # MindCV
    ("showlo_mobilenetv3_small", {}),
    ("showlo_mobilenetv3_small", {"small_input": True}),
]

pytestmark = pytest.mark.slow  # every export starts a process


def run(verb, *flags):
    assert dispatch(*verbs.find("", [verb, *map(str, flags)], "")) == 0


@pytest.mark.parametrize(
    ("name", "overrides"), FAMILIES, ids=[" ".join([name, *more]) for name, more in FAMILIES]
)
def test_a_bundle_of_every_family(name, overrides, pictures, tmp_path, monkeypatch, capsys):
    info = ModelInfo(name, 3, overrides, ("blue", "green", "red"), SPEC)
    state = network_by_formula(name, pictures / "train", SPEC, **overrides).state_dict()
    save_weights(tmp_path / "best.pdparams", state, info)
    val, bundle = pictures / "val", tmp_path / "bundle"
    run("export_accelerator", f"--pretrained={tmp_path / 'best.pdparams'}", f"--out={bundle}",
        f"--data-path={pictures}", "--calibration-images=6")  # fmt: skip
    monkeypatch.chdir(bundle)
    run("accelerator_lint", ".")
    for file in ("v1_int8", "v1_fp16"):
        run("accelerator_build", f"build/{file}.yaml")
    run("sample_cls", "--save_dir", "output/result.txt")
    run("image2npz", "--dataset_path", val, "--target_path", "npz", "--text_path", "list.txt")
    (vdsp,) = bundle.glob("vdsp_params/vamp/*.json")
    for kind, folder in (("int8-percentile", "int8"), ("fp16-none", "fp16")):
        prefix = f"deploy_weights/{name}-{kind}-3_32_32-vacc/{name}"
        run("accelerator_profile", "-m", prefix, "--vdsp_params", vdsp,
            "--datalist", "list.txt", "--path_output", folder)  # fmt: skip
    capsys.readouterr()
    run("eval_topk", "output/result.txt")
    text = capsys.readouterr().out
    run("eval_imagenet", "--result_path", "int8", "--datalist", "list.txt",
        "--label", "labels/val_label.txt")  # fmt: skip
    assert text == capsys.readouterr().out and text.startswith("21 images\n[VACC]:  top1_rate: ")

    files = find_images(str(val))
    card = CardPreprocess(36, False, 32, SPEC.mean, SPEC.std)
    # As it is rebuilt, with its own dropout: PaddleClas' scales the features in evaluation.
    forward = dygraph_forward(load_network(tmp_path / "best.pdparams", info)[0])
    logits = np.concatenate([forward(card(load_planar(path))) for path in files])
    full = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    half, int8 = (
        np.concatenate([np.load(f)["output_0"] for f in sorted(bundle.glob(f"{n}/*.npz"))])
        for n in ("fp16", "int8")
    )
    # The file is the network: float32 rounding, which random weights with large logits spread.
    exact = OnnxRuntime(bundle / f"onnx/{name}.onnx")
    scores = np.concatenate([exact(card(load_planar(path))) for path in files])
    np.testing.assert_allclose(scores, logits, atol=1e-4 * np.abs(logits).max())
    # Half precision rounds to 11 bits, int8 to 8: an eighth in theory. A graph with an operator
    # wrong would be as far off as int8.
    noise_of_half, noise_of_int8 = (np.abs(x - full).mean() for x in (half, int8))
    assert noise_of_half < noise_of_int8 / 3
    # Random weights suffer more from int8 than trained ones; chance is 1/3.
    assert np.mean(int8.argmax(axis=1) == full.argmax(axis=1)) > 0.6
