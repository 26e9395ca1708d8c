"""Writes explain.npz: heatmaps of torchvision's models with the weights and inputs of formula.py.

Grad-CAM is pytorch-grad-cam's (1.5.7), occlusion captum's (0.9). Run with torch 2.13, torchvision
0.28 and both installed (not part of this project's requirements):

    cd tests && python -m golden.make_explain_golden
"""

from pathlib import Path

import numpy as np
import torch
from captum.attr import Occlusion
from golden.explain_cases import BATCH, CASES, OCCLUDED, OCCLUDED_CLASS, SIDE, STEP, images
from golden.make_arch_golden import build_from_formula
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


def heatmaps(name: str, layer: str, class_id: int) -> np.ndarray:
    model = build_from_formula(name).eval()
    with GradCAM(model, [model.get_submodule(layer)]) as cam:
        targets = [ClassifierOutputTarget(class_id)] * BATCH
        found = cam(torch.from_numpy(images()).double(), targets)
    return found[:, ::STEP, ::STEP].astype(np.float32)


def occlusion() -> np.ndarray:
    """What covering costs each cell of 8 x 8, in logarithms of the probability: [2, 8, 8]."""
    model = build_from_formula(OCCLUDED).eval()
    cell = SIDE // 8
    found = Occlusion(lambda x: torch.log_softmax(model(x), dim=1)).attribute(
        torch.from_numpy(images()).double(),
        sliding_window_shapes=(3, 2 * cell, 2 * cell),
        strides=(3, cell, cell),
        baselines=0,
        target=OCCLUDED_CLASS,
    )
    return found[:, 0, ::cell, ::cell].detach().numpy()


def main() -> None:
    golden = {f"{name}/{layer}": heatmaps(name, path, k) for name, layer, path, k in CASES}
    np.savez_compressed(Path(__file__).with_name("explain.npz"), occlusion=occlusion(), **golden)


if __name__ == "__main__":
    main()
