"""Writes explain_trained.npz: heatmaps of timm's models with shipped weights on photographs.

CAM and Grad-CAM are pytorch-grad-cam's (1.5.7), of the class that the model predicts. Run with
torch 2.14, timm 1.0.31 and safetensors installed, too (not part of this project's requirements):

    cd tests && python -m golden.make_explain_trained_golden
"""

import re
from pathlib import Path

import numpy as np
import torch
from golden.explain_cases import STEP, TRAINED, photographs
from golden.zoo_frameworks import torch_framework
from pytorch_grad_cam import GradCAM
from safetensors.numpy import load_file
from timm import create_model

PACKAGE = Path(__file__).parents[2] / "ppcls_lite/pretrained"


def in_order(key: str) -> list[object]:
    """Sorts names as the layers run: the classifier last, 10 after 9."""
    parts = re.split(r"(\d+)", key.rpartition(".")[0])
    return [key.startswith("classifier"), *(int(x) if x.isdigit() else x for x in parts)]


def trained(tag: str) -> torch.nn.Module:
    """timm's model with the weights of a tag, in float64."""
    state = load_file(PACKAGE / f"{tag}.safetensors")
    layers: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(state, key=in_order):
        layer, _, kind = key.rpartition(".")
        values = state[key].astype(np.float64)
        layers.setdefault(layer, {})[kind] = values.T if values.ndim == 2 else values
    classes = len(layers[layer]["bias"])  # of the last
    model = create_model(tag.partition(".")[0], num_classes=classes).double().eval()
    framework = torch_framework((), create_model)
    tensors = framework.tensors(model)
    assert len(tensors) == len(layers)
    for own, values in zip(tensors, layers.values(), strict=True):
        assert own.keys() == values.keys()
        for kind, tensor in own.items():
            framework.write(tensor, values[kind].reshape(tensor.shape))
    return model


def heatmaps(tag: str, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Classes [N] that the model predicts, and the heatmaps [N, 224, 224] of them."""
    model, images = trained(tag), torch.from_numpy(photographs()).double()
    with torch.no_grad():
        classes = model(images).argmax(dim=1).numpy()
    with GradCAM(model, [model.get_submodule(layer)]) as cam:
        return classes, cam(images, None)  # None: the class with the largest logit


def main() -> None:
    golden = {}
    for tag, layer, path in TRAINED:
        classes, maps = heatmaps(tag, path)
        golden[f"{tag}/{layer}"] = maps[:, ::STEP, ::STEP].astype(np.float32)
        golden[f"{tag}/{layer}/classes"] = classes
    np.savez_compressed(Path(__file__).with_name("explain_trained.npz"), **golden)


if __name__ == "__main__":
    main()
