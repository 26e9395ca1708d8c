"""Settings of the cache of decoded pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ppcls_lite.data.settings import TrainBatches


@dataclass(frozen=True)
class CacheSettings(TrainBatches):
    """Decoded pictures."""

    cache: Literal["off", "ram", "disk"] = "off"
    """Keep decoded pictures, in memory or in a file in --output-dir that goes with the run."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.cache != "off" and self.decode == "fast":
            yield "--cache keeps whole pictures, which --decode fast does not make"
        yield from super().problems()
