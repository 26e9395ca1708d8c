"""In which order an epoch shows the samples, and which of them this process takes."""

import numpy as np

# torchvision's sampler rounds an epoch down to a multiple of this many samples.
RA_BLOCK = 256


def training_order(
    count: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1, reps: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of this process in one epoch of training.

    A new permutation per epoch, padded at its end with its own beginning until every rank has the
    same number of samples; rank r takes every `world_size`-th.

    With repetitions (Hoffer et al. 2019, Touvron et al. 2020: repeated augmentation) each sample
    stands `reps` times in a row, so that as many ranks get it, or one gets it as often; an epoch
    ends after about as many samples as there are, with the others of the permutation not shown.
    torchvision's RASampler; as in timm's, fewer than 256 samples are not rounded down to none.

    Returns:
        Positions in the data set int64 [N], and which repetition each is, int64 [N].
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).repeat(reps)
    order = np.resize(order, -(-len(order) // world_size) * world_size)  # wraps around
    repetitions = np.arange(len(order)) % reps
    size = samples_per_rank(count, world_size, reps)
    return order[rank::world_size][:size], repetitions[rank::world_size][:size]


def samples_per_rank(count: int, world_size: int, reps: int) -> int:
    """Samples that every process sees in one epoch of training."""
    if reps == 1 or count < RA_BLOCK:
        return -(-count // world_size)
    return count // RA_BLOCK * RA_BLOCK // world_size
