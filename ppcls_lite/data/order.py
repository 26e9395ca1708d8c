"""In which order an epoch shows the samples, and which of them this process takes."""

import numpy as np

# torchvision's sampler rounds an epoch down to a multiple of this many samples.
RA_BLOCK = 256


def training_order(
    count: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    reps: int = 1,
    balance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of this process in one epoch of training.

    A new permutation per epoch, padded at its end with its own beginning until every rank has the
    same number of samples; rank r takes every `world_size`-th.

    With repetitions (Hoffer et al. 2019, Touvron et al. 2020: repeated augmentation) each sample
    stands `reps` times in a row, so that as many ranks get it, or one gets it as often; an epoch
    ends after about as many samples as there are, with the others of the permutation not shown.
    torchvision's RASampler; as in timm's, fewer than 256 samples are not rounded down to none.

    With the class ids `balance`, int64 [count], an epoch has as many samples, and of each class as
    many as of the others, up to one: a class is gone through in a new permutation again and again,
    of a large one some are not shown.

    Returns:
        Positions in the data set int64 [N], and which repetition each is, int64 [N].
    """
    rng = np.random.default_rng((seed, epoch))
    shown = rng.permutation(count) if balance is None else _balanced(balance, rng)
    order = shown.repeat(reps)
    order = np.resize(order, -(-len(order) // world_size) * world_size)  # wraps around
    repetitions = np.arange(len(order)) % reps
    size = samples_per_rank(count, world_size, reps)
    return order[rank::world_size][:size], repetitions[rank::world_size][:size]


def samples_per_rank(count: int, world_size: int, reps: int) -> int:
    """Samples that every process sees in one epoch of training."""
    if reps == 1 or count < RA_BLOCK:
        return -(-count // world_size)
    return count // RA_BLOCK * RA_BLOCK // world_size


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many samples of each class, up to one, in random order: int64 [N] -> positions [N]."""
    classes = rng.permutation(np.unique(labels))  # the first ones get what cannot be divided
    chosen = []
    for i, label in enumerate(classes):
        own = np.flatnonzero(labels == label)
        wanted = len(labels) // len(classes) + (i < len(labels) % len(classes))
        rounds = [rng.permutation(own) for _ in range(-(-wanted // len(own)))]
        chosen.append(np.concatenate([*rounds, own[:0]])[:wanted])
    return rng.permutation(np.concatenate(chosen))
