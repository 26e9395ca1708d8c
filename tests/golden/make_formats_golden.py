"""Writes formats/: the tensors of formats_data.py as the frameworks themselves save them.

Run once with torch 2.13 and safetensors 0.8 installed, once with mindspore 2.10 and numpy 1.26
(neither is part of this project's requirements):

    cd tests && python -m golden.make_formats_golden torch
    cd tests && python -m golden.make_formats_golden mindspore
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from golden.formats_data import tensors

FOLDER = Path(__file__).parent / "formats"


def write_torch() -> None:
    import safetensors.torch
    import torch

    state = {name: torch.from_numpy(np.array(values)) for name, values in tensors().items()}
    state["bn.bfloat16"] = state["bn.bfloat16"].bfloat16()
    # One dense copy of each for safetensors, which refuses what shares memory.
    safetensors.torch.save_file(
        {name: tensor.clone().contiguous() for name, tensor in state.items()},
        str(FOLDER / "tensors.safetensors"),
    )
    state["conv.weight"] = torch.nn.Parameter(state["conv.weight"])
    whole = state["conv.weight"].detach()
    state["conv.transposed"], state["conv.row"] = whole.t(), whole[1]
    torch.save(state, FOLDER / "zip.pth")
    torch.save(state, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)

    net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
    average = torch.optim.swa_utils.AveragedModel(net)
    with torch.no_grad():
        average.module[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.1)
    net(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
    training = {
        "epoch": 3,
        "arch": "a",
        "model": torch.nn.DataParallel(net).state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), workers=[1, 2]),
        "best_acc1": torch.tensor(71.5),
        "best_loss": np.float64(0.5),
    }
    for name, options in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        torch.save(training, FOLDER / f"training_{name}.pth", **options)
    torch.save(training | {"model_ema": average.state_dict()}, FOLDER / "averaged.pth")
    torch.save(net, FOLDER / "whole_model.pth")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(FOLDER / "script.pt"))


def write_mindspore() -> None:
    import mindspore

    values = {k: v for k, v in tensors().items() if k != "empty"}
    listed = [
        {"name": name, "data": mindspore.Tensor(np.ascontiguousarray(array).reshape(array.shape))}
        for name, array in values.items()
    ]
    (entry,) = (entry for entry in listed if entry["name"] == "bn.bfloat16")
    entry["data"] = entry["data"].astype(mindspore.bfloat16)
    for name, crc in (("plain", False), ("crc", True)):
        mindspore.save_checkpoint(
            listed, str(FOLDER / f"{name}.ckpt"), append_dict={"epoch_num": 3}, crc_check=crc
        )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    {"torch": write_torch, "mindspore": write_mindspore}[sys.argv[1]]()
