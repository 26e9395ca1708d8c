"""A recipe's settings become training batches."""

from ppcls_lite.data.augment import Motion
from ppcls_lite.data.cache import PictureCache
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.policies import Policy
from ppcls_lite.data.preprocess import INTERPOLATIONS, Preprocess
from ppcls_lite.data.settings import TrainBatches, TrainPictures
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.data.watch import Watch


def train_transform(config: TrainPictures, preprocess: Preprocess) -> TrainTransform:
    """Returns what happens to a training picture before it is normalised with `preprocess`."""
    red, green, blue = (round(255 * value) for value in preprocess.mean)
    policy = Policy(
        name=config.auto_augment or "",
        motion=Motion(
            INTERPOLATIONS[config.augment_interpolation],
            # timm fills with the mean colour, all others with black.
            (red, green, blue) if config.auto_augment == "ra_timm" else (0, 0, 0),
        ),
        magnitude=config.ra_magnitude,
        magnitude_std=config.ra_magnitude_std,
        num_ops=config.ra_num_ops,
        severity=config.augmix_severity,
    )
    return TrainTransform(
        crop_size=config.train_crop_size,
        interpolation=config.interpolation,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        padding=config.crop_padding,
        flip_prob=config.hflip,
        auto_augment=policy if policy.name else None,
        jitter=config.color_jitter,
        erase_prob=config.random_erase,
        erase_mode=config.random_erase_mode,
        mean=preprocess.mean,
        std=preprocess.std,
    )


def train_loader(
    data: ImageDataset,
    config: TrainBatches,
    preprocess: Preprocess,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    watch: Watch | None = None,
    cache: PictureCache | None = None,
) -> Loader:
    """Returns the shuffled, augmented training batches of this process."""
    return Loader(
        data,
        train_transform(config, preprocess),
        config.batch_size,
        training=True,
        workers=config.workers,
        seed=seed,
        rank=rank,
        world_size=world_size,
        on_error=config.on_error,
        reps=config.ra_reps,
        balanced=config.sampler == "balanced",
        decode=config.decode,
        watch=watch,
        cache=cache,
    )
