"""`accelerator image2npz`: pictures become the npz files that vamp reads."""

from pathlib import Path

import numpy as np

from ppcls_lite.accelerator.settings import Image2NpzConfig
from ppcls_lite.accelerator.simulator import load_planar
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically


def run(config: Image2NpzConfig) -> int:
    """Writes TARGET/CLASS/NAME.npz for every picture, sorted, and the list of them.

    Differs from the original: pictures of every kind, not of the suffix .JPEG alone, in the order
    of their paths, not of the disk.
    """
    config.require("dataset_path", "target_path", "text_path")
    pictures = find_images(config.dataset_path)
    targets: dict[Path, Path] = {}
    for path in pictures:
        target = (Path(config.target_path) / path.parent.name / f"{path.stem}.npz").absolute()
        if target in targets:
            raise UserError(
                f"{path} and {targets[target]} would both become {target}",
                "rename one of them: an npz is called like its image without suffix",
            )
        targets[target] = path
    for target, path in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, input_0=load_planar(path))
    text = Path(config.text_path)
    text.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(text, "".join(f"{target}\n" for target in targets).encode())
    print(f"{len(targets)} images in {config.target_path}, listed in {text}")
    return 0
