"""Device and processes of a run. On a CPU the processes talk through gloo."""

import os
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.distributed as dist

from ppcls_lite.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among all of a run.

    Attributes:
        rank: number of this process, 0 to size - 1.
        size: number of processes.
        device: "cpu" or "gpu".
    """

    rank: int
    size: int
    device: str

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes files and prints."""
        return self.rank == 0


def pick_device(device: str, use_gpu: bool | None) -> str:
    """Returns "cpu" or "gpu" for `--device` and its old spelling `--use-gpu`.

    Raises:
        UserError: a GPU is asked for and there is none, or the two flags disagree.
    """
    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if use_gpu is not None:
        wanted = "gpu" if use_gpu else "cpu"
        if device not in ("auto", wanted):
            raise UserError(f"--device {device} and --use-gpu {use_gpu} disagree", "give one")
        device = wanted
    if device == "gpu" and not has_gpu:
        raise UserError(
            "--device gpu: this paddle sees no GPU (built with CUDA:"
            f" {paddle.is_compiled_with_cuda()})",
            "--device cpu, or pip install paddlepaddle-gpu",
        )
    return device if device != "auto" else ("gpu" if has_gpu else "cpu")


def start_world(device: str) -> World:
    """Joins the other processes of `python -m paddle.distributed.launch`, if there are any."""
    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        paddle.set_device(device)
        return World(0, 1, device)
    paddle.set_device(device if device == "cpu" else f"gpu:{dist.ParallelEnv().device_id}")
    dist.init_parallel_env()
    return World(dist.get_rank(), size, device)


def sum_over_ranks(values: np.ndarray, world: World) -> np.ndarray:
    """Returns the element-wise float64 sum of an array over all processes."""
    if world.size == 1:
        return values
    tensor = paddle.to_tensor(values.astype(np.float64))
    dist.all_reduce(tensor)
    return tensor.numpy()


def wait_for_all(world: World) -> None:
    """Returns when every process has come here."""
    sum_over_ranks(np.zeros(1), world)


def share_statistics(state: dict[str, paddle.Tensor], world: World, how: str) -> None:
    """Gives every process the same running batch-norm statistics.

    Args:
        state: a model's named tensors. Paddle counts the statistics among the parameters, so they
            are told by their names.
        how: "broadcast" takes those of rank 0, "reduce" the mean over all ranks.
    """
    if world.size == 1:
        return
    for name, tensor in state.items():
        if name.endswith(("._mean", "._variance")):
            if how == "broadcast":
                dist.broadcast(tensor, src=0)
            else:
                dist.all_reduce(tensor)
                tensor.scale_(1 / world.size)
