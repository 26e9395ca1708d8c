"""A gallery: of all images whose features are on file, those most like the one that was sent."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, open_image
from ppcls_lite.data.jpeg import resized
from ppcls_lite.deploy.features import Gallery, read_features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import readable
from ppcls_lite.page import thumbnail
from ppcls_lite.program import command
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.store import Served

SIDE = 160  # pixels of a small picture's long side


class ServedGallery:
    """Images to find the nearest of, with small pictures of those.

    Args:
        file: what `predict embed` wrote, .npz.

    Attributes:
        network: SHA-256 of the weights that its features are of.

    Raises:
        UserError: it is no such file, or damaged, or holds no image.
    """

    def __init__(self, file: str) -> None:
        self._features = read_features(Path(file))
        paths = [str(path) for path in self._features.paths]
        if not paths:
            raise UserError(
                f"--gallery {file} holds no image",
                "write it again with tools/embed.py, from a folder with images",
            )
        self._known = Gallery(self._features.features)
        # Where the images lie on this machine is nobody's business.
        self._root = os.path.commonpath([os.path.dirname(path) for path in paths])
        self.network = str(self._features.network)

    def __len__(self) -> int:
        return len(self._features.features)

    def is_of(self, predictor: Predictor) -> bool:
        """Whether its features are this model's."""
        return self.network == predictor.weights_sha256

    def nearest(self, features: np.ndarray, count: int) -> list[dict[str, Any]]:
        """Returns the images nearest to features [D]: file, class, cosine and a small picture.

        The picture is the address of an `<img>`, empty where the file cannot be read any more.
        """
        found = []
        for row, cosine in zip(*self._known.nearest(features, count), strict=True):
            path = str(self._features.paths[row])
            found.append(
                {
                    "file": readable(os.path.relpath(path, self._root or ".")),
                    "name": readable(self._features.class_name(row)),
                    "cosine": float(cosine),
                    "picture": small_picture(path),
                }
            )
        return found


def gallery_of(gallery: ServedGallery | None, served: Served) -> ServedGallery:
    """Returns the images to compare with those that a model sees.

    Raises:
        RequestError: there are none.
    """
    if gallery is None:
        raise RequestError("bad_body", "nearest: this server has no --gallery")
    if not gallery.is_of(served.predictor):
        raise RequestError(
            "bad_body", f"nearest: the gallery is of other weights than {served.name}"
        )
    return gallery


def small_picture(path: str) -> str:
    """Returns a file's picture as the address of an `<img>`, "" where it cannot be read."""
    try:
        image = open_image(path, "fast")  # of a JPEG only as many pixels as are needed
        (width, height), scale = image.size, SIDE / max(*image.size, SIDE)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        return thumbnail(Image.fromarray(resized(image, (0, 0, width, height), size, "bilinear")))
    except (OSError, ImageError):
        return ""


def check_gallery(file: str, exported: str, sidecars: list[Sidecar | None]) -> None:
    """Raises UserError where a gallery cannot be read, or is of none of the served models.

    Args:
        file: the gallery's.
        exported: what is served.
        sidecars: of its models; None of one without.
    """
    network = ServedGallery(file).network
    if network not in [sidecar.source["sha256"] for sidecar in sidecars if sidecar is not None]:
        raise UserError(
            f"--gallery {file} holds features of other weights than those in {exported}",
            command("predict embed", "--pretrained", exported)
            + " --data-path DATA --out features.npz",
        )
