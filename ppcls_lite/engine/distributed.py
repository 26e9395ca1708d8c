"""Device and processes of a run. On a CPU the processes talk through gloo."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from ppcls_lite.engine.ranks import Ranks, differences
from ppcls_lite.environment import end_with_parent, in_company
from ppcls_lite.errors import RankLost, UserError, shortened


@dataclass(frozen=True)
class World:
    """This process among all of a run.

    Attributes:
        rank: number of this process, 0 to size - 1.
        size: number of processes.
        device: "cpu" or "gpu".
        ranks: the way to the other processes; None for a process alone.
    """

    rank: int
    size: int
    device: str
    ranks: Ranks | None = None

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes files and prints."""
        return self.rank == 0

    def meet(self, where: str) -> None:
        """Returns when every process has come here.

        Args:
            where: what the training is at, for messages.

        Raises:
            RankLost: one of them ended or does not come.
        """
        if self.ranks:
            self.ranks.exchange(None, where)

    def agree(self, items: dict[str, Any], hint: str) -> None:
        """Checks that every process was given the same.

        Args:
            items: what this process has, by names for messages; anything JSON has.
            hint: what to do where they differ.

        Raises:
            UserError: they differ; the message names what, and the ranks.
        """
        if self.ranks:
            found = self.ranks.exchange(items, "before the first step")
            if lines := differences(found, self.ranks.names.__getitem__):
                raise UserError("\n".join(["the processes differ in", *lines]), hint)

    def farewell(self, reason: str, status: int) -> None:
        """Tells the other processes that this one ends and why."""
        if self.ranks:
            self.ranks.farewell(reason, status)


def pick_device(device: str, use_gpu: bool | None) -> str:
    """Returns "cpu" or "gpu" for `--device` and its old spelling `--use-gpu`.

    Raises:
        UserError: a GPU is asked for and there is none, or the two flags disagree.
    """
    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if use_gpu is not None:
        wanted = "gpu" if use_gpu else "cpu"
        if device not in ("auto", wanted):
            raise UserError(
                f"--device {device} and --use-gpu {use_gpu} disagree", "leave one of them out"
            )
        device = wanted
    if device == "gpu" and not has_gpu:
        raise UserError(
            "--device gpu: this paddle sees no GPU (built with CUDA:"
            f" {paddle.is_compiled_with_cuda()})",
            "--use-gpu=false" if use_gpu else "--device cpu",
        )
    return device if device != "auto" else ("gpu" if has_gpu else "cpu")


def start_world(device: str, timeout: float = 600) -> World:
    """Joins the other processes of `python -m paddle.distributed.launch`, if there are any.

    Args:
        device: "cpu" or "gpu".
        timeout: seconds to wait for a process that is behind, here and later.
    """
    if not in_company():
        paddle.set_device(device)
        return World(0, 1, device)
    size = int(os.environ["PADDLE_TRAINERS_NUM"])
    if "PADDLE_LOG_DIR" in os.environ:  # of Paddle's launcher, not of a shell that may go
        end_with_parent()
    paddle.set_device(device if device == "cpu" else f"gpu:{dist.ParallelEnv().device_id}")
    rank = dist.get_rank()
    os.environ.setdefault("FLAGS_stop_check_timeout", str(int(timeout)))
    try:
        store = paddle.base.core.create_or_get_global_tcp_store()
    except RuntimeError as error:
        master = os.environ.get("PADDLE_MASTER", "the first process")
        raise RankLost(f"rank {rank} does not reach {master}: {shortened(error, 200)}") from None
    host = os.environ.get("PADDLE_CURRENT_ENDPOINT", "127.0.0.1:0").rpartition(":")[0]
    ranks = Ranks(rank, size, store, host, timeout)
    try:
        dist.init_parallel_env()
    except RuntimeError as error:
        raise ranks.cause(error) from None
    return World(rank, size, device, ranks)


@contextmanager
def accounted(world: World) -> Iterator[None]:
    """Tells all ranks why one of them ends, and makes of gloo's errors what others have said.

    Raises:
        RankLost: in the place of gloo's errors.
    """
    try:
        yield
    except RankLost:
        raise
    except BaseException as error:
        is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
        if world.ranks and is_gloo:
            raise world.ranks.cause(error) from None
        status = 2 if isinstance(error, UserError | OSError) else 1
        if isinstance(error, KeyboardInterrupt | SystemExit):
            status = 128 + signal.SIGTERM
        world.farewell(str(error) or type(error).__name__, status)
        raise


def sum_over_ranks(values: np.ndarray, world: World) -> np.ndarray:
    """Returns the element-wise float64 sum of an array over all processes."""
    if world.size == 1:
        return values
    world.meet("at a sum over the processes")
    tensor = paddle.to_tensor(values.astype(np.float64))
    dist.all_reduce(tensor)
    return tensor.numpy()


def wait_for_all(world: World) -> None:
    """Returns when every process has come here."""
    world.meet("at a meeting point")


def share_statistics(state: dict[str, paddle.Tensor], world: World, how: str) -> None:
    """Gives every process the same running batch-norm statistics.

    Args:
        state: a model's named tensors. Paddle counts the statistics among the parameters, so they
            are told by their names.
        how: "broadcast" takes those of rank 0, "reduce" the mean over all ranks.
    """
    if world.size == 1:
        return
    world.meet("before the statistics are shared")
    for name, tensor in state.items():
        if name.endswith(("._mean", "._variance")):
            if how == "broadcast":
                dist.broadcast(tensor, src=0)
            else:
                dist.all_reduce(tensor)
                tensor.scale_(1 / world.size)


def share_weights(model: paddle.nn.Layer, world: World) -> None:
    """Gives every process the weights and statistics of rank 0."""
    if world.size > 1:
        world.meet("before the first weights are shared")
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def average_gradients(model: paddle.nn.Layer, world: World) -> None:
    """Replaces the gradients by their means over all processes.

    Differs from paddle.DataParallel, which serves on GPUs: its sums over gloo run inside of the
    backward pass, where a lost connection aborts the process in C++.
    """
    gradients = [p.grad for p in model.parameters() if not p.stop_gradient and p.grad is not None]
    world.meet("at the end of a step")
    flat = paddle.concat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat.scale_(1 / world.size)
    sizes = [gradient.size for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        paddle.assign(mean.reshape(gradient.shape), gradient)
