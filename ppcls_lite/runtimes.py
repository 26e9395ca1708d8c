"""The engines that run a network, behind one call: float32 [N, 3, H, W] -> float32 [N, K].

Any number of threads may call one runtime at a time; each gets the answers to its own images.

Each class imports its engine only when it is created, so ONNX Runtime works without Paddle.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ppcls_lite.engines import check_bf16, import_engine, paddle_uses_gpu, unreadable
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.openvino_runtime import OpenVinoRuntime
from ppcls_lite.pool import Pool
from ppcls_lite.weights.find import Weights

if TYPE_CHECKING:
    import paddle

    from ppcls_lite.weights.load import LoadReport


class Runtime(Protocol):
    """What every engine offers.

    Attributes:
        batch: the only N that the file takes; None where any does.
    """

    batch: int | None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, H, W] -> float32 [N, K]."""


def in_batches(run: Runtime, images: np.ndarray) -> np.ndarray:
    """Runs float32 [N, 3, H, W] through a runtime, as often as a fixed batch size takes.

    What is missing in the last run is filled up.
    """
    (output,) = every_in_batches(lambda part: [run(part)], run.batch, images)
    return output


def every_in_batches(
    run: Callable[[np.ndarray], list[np.ndarray]], size: int | None, images: np.ndarray
) -> list[np.ndarray]:
    """`in_batches` of a run with several outputs, [N, ...] each.

    Args:
        run: of images [N, 3, H, W].
        size: the only N that it takes; None where any does.
        images: float32 [N, 3, H, W].
    """
    if size is None or len(images) == size:
        return run(images)
    missing = -len(images) % size
    filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
    parts = [run(filled[i : i + size]) for i in range(0, len(images), size)]
    return [np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True)]


def with_flips(forward: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a forward whose logits are the means of a picture's and its mirror image's.

    Args:
        forward: images [N, 3, H, W] to logits [N, K].
    """

    def both(images: np.ndarray) -> np.ndarray:
        return (forward(images) + forward(np.ascontiguousarray(images[..., ::-1]))) / 2

    return both


def load_network(weights: Path | Weights, info: ModelInfo) -> "tuple[paddle.nn.Layer, LoadReport]":
    """Rebuilds a trained network, in evaluation mode, and says what the file gave.

    Raises:
        UserError: the weights are damaged or do not fit the network.
    """
    import_engine("paddle", "paddlepaddle")
    from ppcls_lite.slim.network import network_of
    from ppcls_lite.weights.load import load_weights

    network = network_of(info)
    report = load_weights(network, weights)
    network.eval()
    return network, report


class PaddleInferenceRuntime:
    """Paddle Inference on `.pdmodel` or `.json`, with `.pdiparams` beside it.

    A predictor of Paddle's holds one input and one output, so that a thread would overwrite
    another's: each run has one for itself. Clones share the weights and take 10 MB (measured with
    mobilenet_v3_small at 224 pixels); as many are made as runs meet, at most one per core. Threads
    wait for each other beyond that, and always with a `.json` or on a GPU.

    Args:
        path: the model file.
        device: auto, cpu or gpu.
        precision: f32, or bf16 on a CPU that computes with it.
        params: the weights; None takes the `.pdiparams` beside the model file.

    Raises:
        UserError: Paddle is missing, has no GPU, or cannot read the files; no bf16 here.
    """

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        precision: str = "f32",
        params: Path | None = None,
    ) -> None:
        paddle = import_engine("paddle", "paddlepaddle")
        inference = importlib.import_module("paddle.inference")
        config = inference.Config(str(path), str(params or path.with_suffix(".pdiparams")))
        config.disable_glog_info()
        on_gpu = paddle_uses_gpu(paddle, device)
        if on_gpu:
            config.enable_use_gpu(256, 0)  # MB of GPU memory taken at the start, device number
        else:
            config.disable_gpu()
        # oneDNN is on by default and gives 3.5 to 4 times the speed.
        config.set_cpu_math_library_num_threads(cpu_cores())
        if precision == "bf16":
            check_bf16()
            config.enable_mkldnn_bfloat16()
        if path.suffix == ".pdmodel":  # it raises on .json (Paddle 3.3)
            config.enable_memory_optim()
        try:
            predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError) as error:
            raise unreadable(path, "Paddle Inference", error) from error
        self.input_name: str = predictor.get_input_names()[0]
        self.output_name: str = predictor.get_output_names()[0]
        if path.suffix == ".pdmodel":  # its predictor does not tell
            program = paddle.base.core.ProgramDesc(path.read_bytes())
            shape = program.block(0).find_var(self.input_name.encode()).shape()
        else:  # known only where no axis is left open
            shape = predictor.get_input_handle(self.input_name).shape()
        self.batch: int | None = shape[0] if len(shape) == 4 and shape[0] > 0 else None
        # A clone of a .json reads the file again (Paddle 3.3), by then perhaps another one.
        most = 1 if on_gpu or path.suffix == ".json" else cpu_cores()
        self._predictors = Pool(predictor, predictor.clone, most)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._predictors.one() as predictor:
            predictor.get_input_handle(self.input_name).copy_from_cpu(images)
            predictor.run()
            return predictor.get_output_handle(self.output_name).copy_to_cpu()


class OnnxRuntime:
    """ONNX Runtime on `.onnx`. Threads share a session, which its makers allow.

    Args:
        path: the model file, or its bytes.
        device: auto, cpu or gpu.
        settings: of the session, by ONNX Runtime's names.

    Raises:
        UserError: ONNX Runtime is missing, has no GPU, or cannot read the file.
    """

    def __init__(
        self, path: Path | bytes, device: str = "cpu", settings: Mapping[str, str] | None = None
    ) -> None:
        onnxruntime = import_engine("onnxruntime", "onnxruntime")
        providers = ["CPUExecutionProvider"]
        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device == "gpu" and not has_cuda:
            raise UserError(
                "this ONNX Runtime has no CUDA provider; allowed: --device cpu",
                "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
            )
        if device != "cpu" and has_cuda:
            providers.insert(0, "CUDAExecutionProvider")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = cpu_cores()
        for key, value in (settings or {}).items():
            options.add_session_config_entry(key, value)
        try:
            given = path if isinstance(path, bytes) else str(path)
            self._session = onnxruntime.InferenceSession(given, options, providers=providers)
        except Exception as error:  # its error classes share no narrower base
            named = Path("the model in memory") if isinstance(path, bytes) else path
            raise unreadable(named, "ONNX Runtime", error) from error
        self.input_name: str = self._session.get_inputs()[0].name
        self.output_name: str = self._session.get_outputs()[0].name
        # [N, 3, H, W]; a size the file leaves open is a text or None
        shape = self._session.get_inputs()[0].shape
        batch, height = shape[0], shape[2]
        self.batch: int | None = batch if isinstance(batch, int) else None
        self.image_size: int | None = height if isinstance(height, int) else None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run([self.output_name], {self.input_name: images})[0]

    def every(self, images: np.ndarray) -> list[np.ndarray]:
        """float32 [N, 3, H, W] -> every output of the file, in its order."""
        return list(self._session.run(None, {self.input_name: images}))


# Engines that run exported files. DygraphRuntime is not among them: it needs a network, not a file.
FILE_RUNTIMES: dict[
    str, type[PaddleInferenceRuntime] | type[OnnxRuntime] | type[OpenVinoRuntime]
] = {
    "paddle_inference": PaddleInferenceRuntime,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVinoRuntime,
}


def is_installed(engine: str) -> bool:
    """Tells whether an engine of `FILE_RUNTIMES` is installed, without loading it."""
    module = {"paddle_inference": "paddle"}.get(engine, engine)
    return importlib.util.find_spec(module) is not None
