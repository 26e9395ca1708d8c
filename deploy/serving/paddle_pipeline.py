"""Serves an export folder with the real Paddle Serving, as Step6 does.

PYTHONPATH=. pdserving/bin/python deploy/serving/paddle_pipeline.py EXPORT_FOLDER [PORT]

Needs the environment of requirements-pdserving.txt, and EXPORT_FOLDER/serving_server:
inference.pdmodel and .pdiparams with serving_server_conf.prototxt beside them. Preprocessing and
class names are those of inference.yml.
"""

import base64
import sys
import types
from pathlib import Path

import yaml

from ppcls_lite.data.decode import load_image
from ppcls_lite.deploy.sidecar import read_sidecar

# Paddle Serving imports its client, which exists for Python up to 3.9, for a kind of service that
# is not used here: the model runs in this process.
client = types.ModuleType("paddle_serving_client")
client.Client = type("Client", (), {})
sys.modules["paddle_serving_client"] = client

from paddle_serving_server.web_service import Op, WebService  # noqa: E402

FOLDER = Path(sys.argv[1])
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 18080
SIDECAR = read_sidecar(FOLDER)
CONFIG = yaml.safe_load((Path(__file__).parent / "paddle_pipeline.yml").read_text())


class ImagenetOp(Op):
    """Pictures in base64 -> label and probability, in Step6's form."""

    def preprocess(self, input_dicts, data_id, log_id):
        """Returns [N, 3, H, W] under the input's name, and what Paddle Serving wants beside it."""
        ((_, request),) = input_dicts.items()
        pictures = [
            load_image(base64.b64decode(text))
            for key, text in sorted(request.items())
            if key.startswith("image")
        ]
        # [N, 3, H, W]
        return {SIDECAR.input["name"]: SIDECAR.info.preprocess(pictures)}, False, None, ""

    def postprocess(self, input_dicts, fetch_dict, data_id, log_id):
        """Returns the best class of each image and its probability, as texts of lists."""
        (probs,) = fetch_dict.values()  # [N, K]
        best = probs.argmax(axis=1)
        names = [SIDECAR.info.class_name(int(i)).replace(",", "") for i in best]
        scores = [float(row[i]) for row, i in zip(probs, best, strict=True)]
        return {"label": str(names), "prob": str(scores)}, None, ""


class ImagenetService(WebService):
    """The service `imagenet`: POST /imagenet/prediction."""

    def get_pipeline_response(self, read_op):
        """Returns the last step: the only one."""
        return ImagenetOp(name="imagenet", input_ops=[read_op])


CONFIG |= {"http_port": PORT, "rpc_port": PORT + 1}
LOCAL = CONFIG["op"]["imagenet"]["local_service_conf"]
LOCAL["model_config"] = str(FOLDER / "serving_server")
LOCAL["fetch_list"] = [SIDECAR.outputs["inference.pdmodel"]["name"]]
service = ImagenetService(name="imagenet")
service.prepare_pipeline_config(yml_dict=CONFIG)
service.run_service()
