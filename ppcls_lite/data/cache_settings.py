"""Settings of the cache of decoded images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ppcls_lite.data.settings import TrainBatches


@dataclass(frozen=True)
class CacheSettings(TrainBatches):
    """Decoded images."""

    cache: Literal["off", "ram", "disk"] = "off"
    """Keep decoded images for the next epochs: in memory (ram), or in a file that is deleted at the
    end (disk). For when decoding is slower than the model."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.cache != "off" and self.decode == "fast":
            yield "--cache keeps whole images, which --decode fast does not make"
        yield from super().problems()
