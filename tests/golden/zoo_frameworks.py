"""The frameworks that make_zoo_golden.py asks, each behind the same few functions."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

TIMM = (
    "mobilenetv3_rw", "mobilenetv3_large_100",
    "mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100",
    "mnasnet_small", "semnasnet_100",
    "tf_mobilenetv3_small_075", "tf_mobilenetv3_small_100",
    "tf_mobilenetv3_large_075", "tf_mobilenetv3_large_100",
    "tf_mobilenetv3_small_minimal_100", "tf_mobilenetv3_large_minimal_100",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100@0.35", "tf_efficientnet_lite0@1.4",
)  # fmt: skip
PPCLS = tuple(
    f"MobileNetV3_{size}_x{width}"
    for size in ("small", "large")
    for width in ("0_35", "0_5", "0_75", "1_0", "1_25")
)
MINDCV = tuple(f"mobilenet_v3_{s}_{w}" for s in ("small", "large") for w in ("075", "100"))
SHOWLO = {"showlo_mobilenetv3_small": "small", "showlo_mobilenetv3_large": "large"}


class Framework(NamedTuple):
    """How one framework does what a golden needs.

    Args:
        names: its models, by our names.
        build: (our name, number of classes) -> a model in float32.
        tensors: the layers that have values, in order, each as kind -> tensor.
        read: tensor -> array in the framework's layout.
        write: puts an array into a tensor.
        macs: multiply-adds for one image of 224 x 224.
        run: (model, images, labels) -> logits and the gradient of the mean cross entropy with
            respect to the images, in evaluation mode.
        facts: epsilon of batch norm, its momentum (Paddle's sense), default dropout.
        linear_in_first: its linear layers keep weights as [in, out], as Paddle does.
    """

    names: Iterable[str]
    build: Callable[[str, int], Any]
    tensors: Callable[[Any], list[dict[str, Any]]]
    read: Callable[[Any], np.ndarray]
    write: Callable[[Any, np.ndarray], None]
    macs: Callable[[Any], int]
    run: Callable[[Any, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    facts: Callable[[Any], list[float]]
    linear_in_first: bool = False


def torch_framework(names: Iterable[str], build: Callable[[str, int], Any]) -> Framework:
    import torch

    torch.manual_seed(0)

    def tensors(model: Any) -> list[dict[str, Any]]:
        kinds = {"weight": "weight", "bias": "bias", "running_mean": "_mean",
                 "running_var": "_variance"}  # fmt: skip
        return [
            {ours: getattr(layer, kind) for kind, ours in kinds.items()
             if getattr(layer, kind, None) is not None}
            for layer in model.modules()
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear | torch.nn.BatchNorm2d)
        ]  # fmt: skip

    def write(tensor: Any, values: np.ndarray) -> None:
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values))

    def macs(model: Any) -> int:
        total = []
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(
                    lambda layer, _, out: total.append(out.numel() * layer.weight[0].numel())
                )
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, 224, 224))
        return sum(total)

    def run(model: Any, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = torch.from_numpy(images).double().requires_grad_()
        logits = model.double().eval()(x)
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
        return logits.detach().numpy(), x.grad.numpy()

    def facts(model: Any) -> list[float]:
        norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
        layers = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        return [norm.eps, 1 - norm.momentum, layers[0] if layers else model.drop_rate]

    return Framework(
        names, build, tensors, lambda t: t.detach().numpy().copy(), write, macs, run, facts
    )


def timm() -> Framework:
    import torch

    # torchvision's CUDA wheel on a CPU-only torch: two operators it registers have no schema yet.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from timm import create_model
    from timm.models.efficientnet import _gen_efficientnet_lite
    from timm.models.mobilenetv3 import _gen_mobilenet_v3

    def build(name: str, num_classes: int) -> Any:
        name, _, width = name.partition("@")
        if not width:
            return create_model(name, num_classes=num_classes)
        if name.startswith("tf_"):
            options = {"bn_eps": 1e-3, "pad_type": "same"}
            return _gen_efficientnet_lite(name, float(width), num_classes=num_classes, **options)
        return _gen_mobilenet_v3(name, float(width), num_classes=num_classes)

    return torch_framework(TIMM, build)


def showlo(file: str) -> Framework:
    spec = importlib.util.spec_from_file_location("showlo", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def build(name: str, num_classes: int) -> Any:
        name, _, width = name.partition("@")
        return module.MobileNetV3(SHOWLO[name], num_classes, width_multiplier=float(width or 1))

    return torch_framework(
        (*SHOWLO, "showlo_mobilenetv3_small@0.75", "showlo_mobilenetv3_small@1.4"), build
    )


def ppcls(folder: str) -> Framework:
    import paddle

    paddle.seed(0)
    # Only the network's own files: the package wants OpenCV and more when it is imported.
    for package in ("", "arch", "arch/backbone", "arch/backbone/base",
                    "arch/backbone/legendary_models", "utils"):  # fmt: skip
        module = ModuleType(".".join(["ppcls", *filter(None, package.split("/"))]))
        module.__path__ = [str(Path(folder) / "ppcls" / package)]
        sys.modules[module.__name__] = module
    for name, parts in (("save_load", ["load_dygraph_pretrain"]), ("logger", ["warning"])):
        module = ModuleType(f"ppcls.utils.{name}")
        for part in parts:
            setattr(module, part, lambda *_: None)
        setattr(sys.modules["ppcls.utils"], name, module)
        sys.modules[module.__name__] = module
    networks = importlib.import_module("ppcls.arch.backbone.legendary_models.mobilenet_v3")
    leaves = (paddle.nn.Conv2D, paddle.nn.Linear, paddle.nn.BatchNorm)

    def tensors(model: Any) -> list[dict[str, Any]]:
        return [
            dict(layer.named_parameters()) for layer in model.sublayers()
            if isinstance(layer, leaves)
        ]  # fmt: skip

    def macs(model: Any) -> int:
        total = []
        for layer in model.sublayers():
            if isinstance(layer, leaves[:2]):
                axis = 0 if isinstance(layer, paddle.nn.Conv2D) else 1
                layer.register_forward_post_hook(
                    lambda layer, _, out, axis=axis: total.append(
                        out.size * layer.weight.size // layer.weight.shape[axis]
                    )
                )
        model.eval()
        model(paddle.zeros([1, 3, 224, 224]))
        return sum(total)

    def run(model: Any, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model.to(dtype="float64")
        model.eval()
        x = paddle.to_tensor(images.astype(np.float64), stop_gradient=False)
        logits = model(x)
        paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(labels)).backward()
        return logits.numpy(), x.grad.numpy()

    def facts(model: Any) -> list[float]:
        norm = next(m for m in model.sublayers() if isinstance(m, paddle.nn.BatchNorm))
        return [norm._epsilon, norm._momentum, model.dropout.p]

    return Framework(
        PPCLS, lambda name, k: getattr(networks, name)(class_num=k), tensors,
        lambda t: t.numpy(), lambda t, values: t.set_value(values), macs, run, facts,
        linear_in_first=True,
    )  # fmt: skip


def mindcv() -> Framework:
    import mindspore as ms
    from mindcv import create_model
    from mindspore import nn, ops

    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_device("CPU")
    ms.set_seed(0)
    kinds = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
             "moving_mean": "_mean", "moving_variance": "_variance"}  # fmt: skip

    def leaves(model: Any) -> list[Any]:
        cells = [cell for _, cell in model.cells_and_names()]
        return [c for c in cells if isinstance(c, nn.Conv2d | nn.Dense | nn.BatchNorm2d)]

    def tensors(model: Any) -> list[dict[str, Any]]:
        return [
            {ours: getattr(layer, kind) for kind, ours in kinds.items()
             if getattr(layer, kind, None) is not None}
            for layer in leaves(model)
        ]  # fmt: skip

    def macs(model: Any) -> int:
        total = []
        for layer in leaves(model):
            if not isinstance(layer, nn.BatchNorm2d):
                per_output = int(np.prod(layer.weight.shape[1:]))
                layer.register_forward_hook(
                    lambda _, __, out, n=per_output: total.append(out.size * n)
                )
        model.set_train(False)
        model(ms.Tensor(np.zeros((1, 3, 224, 224), np.float32)))
        return sum(total)

    def run(model: Any, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model.set_train(False)
        targets = ms.Tensor(labels.astype(np.int32))
        x = ms.Tensor(images)
        gradient = ms.grad(lambda x: ops.cross_entropy(model(x), targets))(x)
        return model(x).asnumpy(), gradient.asnumpy()

    def facts(model: Any) -> list[float]:
        norm = next(c for c in leaves(model) if isinstance(c, nn.BatchNorm2d))
        # The layer keeps one minus the momentum it was given.
        return [norm.eps, 1 - norm.momentum, model.classifier[2].p]

    return Framework(
        MINDCV, lambda name, k: create_model(name, num_classes=k), tensors,
        lambda t: t.asnumpy(), lambda t, values: t.set_data(ms.Tensor(values)), macs, run, facts,
    )  # fmt: skip
