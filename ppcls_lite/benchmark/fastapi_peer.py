"""What one writes in ten minutes: FastAPI around ONNX Runtime, for `benchmark serve` to compare.

    python fastapi_peer.py EXPORT_FOLDER PORT WORKERS

The documents' request, one picture; no limits, checks, metrics or log.
"""

import base64
import io
import os
import sys

import numpy as np
import onnxruntime
import uvicorn
import yaml
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel


class Pictures(BaseModel):
    """The documents' request."""

    key: list[str]
    value: list[str]


def make() -> FastAPI:
    """Returns the application of one worker process."""
    folder = os.environ["FASTAPI_PEER_FOLDER"]
    with open(os.path.join(folder, "inference.yml"), encoding="utf-8") as file:
        sidecar = yaml.safe_load(file)
    spec, classes = sidecar["preprocess"], sidecar["classes"]
    mean, std = (np.array(spec[name], np.float32) for name in ("mean", "std"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.path.join(folder, "inference.onnx"), options)
    app = FastAPI()

    @app.post("/imagenet/prediction")
    def prediction(request: Pictures) -> dict[str, object]:
        image = Image.open(io.BytesIO(base64.b64decode(request.value[0]))).convert("RGB")
        short = spec["resize_size"] / min(image.size)
        image = image.resize(
            (round(image.width * short), round(image.height * short)), Image.Resampling.BILINEAR
        )
        crop = spec["crop_size"]
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
        tensor = ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]
        probs = session.run(None, {session.get_inputs()[0].name: tensor})[0][0]
        best = int(probs.argmax())
        name = classes[best] if classes else str(best)
        value = [str([name]), str([float(probs[best])])]
        return {"err_no": 0, "err_msg": "", "key": ["label", "prob"], "value": value, "tensors": []}

    return app


if __name__ == "__main__":
    os.environ["FASTAPI_PEER_FOLDER"] = sys.argv[1]
    uvicorn.run(
        "fastapi_peer:make", factory=True, port=int(sys.argv[2]), workers=int(sys.argv[3]),
        access_log=False, log_level="warning",
    )  # fmt: skip
