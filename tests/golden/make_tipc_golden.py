"""Ground truth of test_tipc/results: torch's answers to test_images, made once.

    python -m ppcls_lite.tipc.weights mobilenet_v3_large lite_data pretrain_models/X.safetensors
    python tools/convert_weights.py WEIGHTS --model MODEL --to torchvision --out tv.safetensors
    PYTHONPATH=. TORCH_PYTHON tests/golden/make_tipc_golden.py MODEL tv.safetensors CROP RESIZE

CROP and RESIZE are pixels, as in the JSON beside the weights: 32 and 32 for those of tipc.weights.
"""

import importlib
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import Preprocess

# torchvision wants an operator that its CPU wheel for another torch does not bring; unused here.
LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def main(name: str, weights: str, crop: int, resize: int) -> None:
    models = importlib.import_module("torchvision.models")
    state = load_file(weights)
    classes = [value for key, value in state.items() if key.startswith("classifier")][-1].shape[0]
    model = getattr(models, name)(num_classes=classes)
    state = OrderedDict((k, v) for k, v in state.items() if k in model.state_dict())
    state._metadata = {"": {"version": 2}}  # of torchvision's MNASNet
    tracked = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    state.update(tracked)
    model.load_state_dict(state)
    model.eval()
    spec = Preprocess(resize, crop)
    for path in sorted(Path("test_images").glob("*.jpg")):
        images = spec.normalize(spec.pixels(load_image(path))[None])
        with torch.no_grad():
            probs = model(torch.from_numpy(images)).softmax(1)[0].tolist()
        order = sorted(range(classes), key=lambda c: -probs[c])
        print(f"{path}\t{json.dumps([[c, round(probs[c], 8)] for c in order])}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
