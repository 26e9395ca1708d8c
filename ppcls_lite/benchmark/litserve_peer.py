"""LitServe around ONNX Runtime, for `benchmark serve --versus-command` to compare.

    ENV/bin/python litserve_peer.py EXPORT_FOLDER PORT WORKERS

ENV has litserve, onnxruntime, pillow and pyyaml. The documents' request, one picture; no limits.
"""

import base64
import io
import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
import yaml
from PIL import Image


class Classifier(litserve.LitAPI):
    """Decoding and the network, in each of its workers."""

    def __init__(self, folder: str) -> None:
        super().__init__(api_path="/imagenet/prediction")
        self.folder = folder

    def setup(self, device: str) -> None:
        """Opens the network in a worker process."""
        with open(os.path.join(self.folder, "inference.yml"), encoding="utf-8") as file:
            sidecar = yaml.safe_load(file)
        self.spec, self.classes = sidecar["preprocess"], sidecar["classes"]
        self.mean, self.std = (np.array(self.spec[name], np.float32) for name in ("mean", "std"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file_name = os.path.join(self.folder, "inference.onnx")
        self.session = onnxruntime.InferenceSession(file_name, options)

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """The documents' request to float32 [1, 3, H, W]."""
        image = Image.open(io.BytesIO(base64.b64decode(request["value"][0]))).convert("RGB")
        short = self.spec["resize_size"] / min(image.size)
        size = round(image.width * short), round(image.height * short)
        image = image.resize(size, Image.Resampling.BILINEAR)
        crop = self.spec["crop_size"]
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
        pixels = (np.asarray(image, np.float32) / 255 - self.mean) / self.std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The network's answers, float32 [K]."""
        return self.session.run(None, {self.session.get_inputs()[0].name: x})[0][0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """The documents' reply."""
        best = int(output.argmax())
        value = f"{{'label': {self.classes[best]!r}, 'prob': {float(output[best])}}}"
        return {"err_no": 0, "err_msg": "", "key": ["result"], "value": [f"[{value}]"]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(sys.argv[1]), accelerator="cpu", workers_per_device=int(sys.argv[3])
    )
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
