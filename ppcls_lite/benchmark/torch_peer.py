"""PyTorch doing the same work: a script for an interpreter that has torch and torchvision.

It never imports paddle or this package; `channel` is the file beside it.

    python torch_peer.py '{"kind": "train", "model": "mobilenet_v3_small", …}'
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from channel import serve  # type: ignore[import-not-found]

try:
    import torchvision
except RuntimeError:
    # A torchvision built for another torch lacks its compiled operators, and registering them
    # fails. The networks and transforms need none: their names are enough.
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision


def build(name: str) -> torch.nn.Module:
    """Returns torchvision's network of that name, else timm's."""
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name, weights=None)
    import timm

    if not timm.is_model(name):
        sys.exit(f"neither torchvision nor timm has a model {name}")
    return timm.create_model(name)


def train(request: dict[str, Any]) -> None:
    """Trains on one random batch, channels last: SGD with momentum, cross entropy."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    torch.manual_seed(0)
    model = build(request["model"]).train().to(memory_format=torch.channels_last)
    if processes > 1:
        torch.distributed.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), request["lr"], momentum=0.9, weight_decay=1e-4)
    forward: Callable[[torch.Tensor], torch.Tensor] = model
    if request["compile"]:
        forward = torch.compile(model)
    shape = (request["batch_size"], 3, request["size"], request["size"])
    images = torch.randn(shape).to(memory_format=torch.channels_last)  # [N, 3, H, W]
    labels = torch.randint(1000, (request["batch_size"],))  # [N]

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def share(count: int) -> int:
        if processes == 1:
            return count
        number = torch.tensor(count)
        torch.distributed.broadcast(number, src=0)
        return int(number)

    facts = versions() | {"images": request["batch_size"]}
    serve(request["socket"], step, facts, int(os.environ.get("RANK", "0")) == 0, share)


def pictures(request: dict[str, Any], split: str) -> torch.utils.data.DataLoader[Any]:
    """Returns a split's pictures as torchvision's reference training reads them."""
    from torchvision import datasets, transforms

    crop, workers = request["size"], request["workers"]
    chosen = {
        "train": [transforms.RandomResizedCrop(crop), transforms.RandomHorizontalFlip()],
        "val": [transforms.Resize(crop * 8 // 7), transforms.CenterCrop(crop)],
    }
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pipeline = transforms.Compose([*chosen[split], transforms.ToTensor(), normalize])
    return torch.utils.data.DataLoader(
        datasets.ImageFolder(os.path.join(request["data"], split), pipeline),
        request["batch_size"], shuffle=split == "train", num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip


def load(request: dict[str, Any]) -> None:
    """Reads a folder of pictures without training."""
    loader = pictures(request, "train")
    torch.set_num_threads(1)  # as its workers have

    def step() -> float:
        return float(sum(len(labels) for _, labels in loader))

    facts = versions() | {"images": len(loader.dataset)}
    serve(request["socket"], step, facts, warm_up=1)


def epoch(request: dict[str, Any]) -> None:
    """Trains on a folder of pictures once and evaluates."""
    torch.manual_seed(0)
    train_loader, val_loader = pictures(request, "train"), pictures(request, "val")
    model = build(request["model"]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), request["lr"], momentum=0.9, weight_decay=1e-4)

    def step() -> float:
        model.train()
        for images, labels in train_loader:
            images = images.to(memory_format=torch.channels_last)
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        hits = 0
        with torch.inference_mode():
            for images, labels in val_loader:
                answers = model(images.to(memory_format=torch.channels_last)).argmax(1)
                hits += int((answers == labels).sum())
        return hits / len(val_loader.dataset)

    facts = versions() | {"images": len(train_loader.dataset)}
    serve(request["socket"], step, facts, warm_up=0)


def versions() -> dict[str, Any]:
    """Returns what decides about the numbers."""
    return {"versions": {"torch": torch.__version__, "torchvision": torchvision.__version__}}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked = json.loads(sys.argv[1])
    {"train": train, "loader": load, "epoch": epoch}[asked["kind"]](asked)
