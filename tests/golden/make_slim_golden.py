"""Writes slim_golden.json: PACT's rounding and gradients from torch, FPGM's scores from PaddleSlim.

    /tmp/oracle/bin/python tests/golden/make_slim_golden.py --paddleslim FOLDER

with torch (2.13 was used) and the unpacked paddleslim 2.6.0 wheel (`pip install --no-deps --target
FOLDER paddleslim==2.6.0`), of which one pure numpy function is run.
"""

import argparse
import ast
import json
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).with_name("slim_golden.json")


def activation() -> dict:
    random = np.random.RandomState(0)
    x = torch.tensor(3 * random.randn(4, 5, 3), dtype=torch.float32, requires_grad=True)
    alpha = torch.tensor([2.5], requires_grad=True)
    with torch.no_grad():
        x[0, 0, 0] = 2.5  # the paper counts the threshold itself as clipped
    upstream = torch.tensor(random.randn(4, 5, 3), dtype=torch.float32)
    rounded = torch.fake_quantize_per_tensor_affine(x, (alpha / 127).item(), 0, -128, 127)
    # The paper's gradient, straight through the rounding: 1 to alpha where x >= alpha.
    low = alpha * (-128 / 127)
    clipped = torch.where(x >= alpha, alpha, torch.where(x <= low, low, x))
    clipped.backward(upstream)
    return {
        "x": x.tolist(), "alpha": alpha.tolist(), "upstream": upstream.tolist(),
        "y": rounded.tolist(), "dx": x.grad.tolist(), "dalpha": alpha.grad.tolist(),
    }  # fmt: skip


def weight() -> dict:
    random = np.random.RandomState(1)
    w = torch.tensor(random.randn(6, 3, 2, 2) * np.arange(1, 7)[:, None, None, None]).float()
    scales = w.abs().amax(dim=(1, 2, 3)) / 127
    zeros = torch.zeros(6, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(w, scales, zeros, 0, -127, 127)
    return {"w": w.tolist(), "y": rounded.tolist()}


def scores(paddleslim: Path) -> dict:
    source = (paddleslim / "paddleslim/dygraph/prune/fpgm_pruner.py").read_text()
    methods = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    method = next(n for n in methods if n.name == "get_distance_sum")
    np.product = np.prod  # numpy 2 has no `product`
    space = {"np": np}
    exec(compile(ast.Module([method], []), "fpgm_pruner.py", "exec"), space)
    filters = np.random.RandomState(2).randn(12, 4, 3, 3).astype("float32")
    sums = [float(space["get_distance_sum"](None, filters, i)) for i in range(len(filters))]
    return {"filters": filters.tolist(), "sums": sums}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--paddleslim", type=Path, required=True)
    folder = parser.parse_args().paddleslim
    golden = {"activation": activation(), "weight": weight(), "fpgm": scores(folder)}
    OUT.write_text(json.dumps(golden))
