"""Settings against classes of unequal size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ppcls_lite.config import NotNegative
from ppcls_lite.data.settings import TrainBatches


@dataclass(frozen=True)
class BalanceSettings(TrainBatches):
    """Classes of unequal size; --sampler is a third way."""

    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss; balanced: as scikit-learn's, N / (K n)."""
    logit_adjustment: NotNegative = 0.0
    """Add this many times the logarithm of each class's share to the logits in the loss. 1 trains
    for classes of equal size (Menon et al. 2021); 0 adds nothing."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        ways = {
            "--class-weights balanced": self.class_weights != "none",
            "--sampler balanced": self.sampler == "balanced",
            f"--logit-adjustment {self.logit_adjustment:g}": self.logit_adjustment > 0,
        }
        asked = [flag for flag, is_asked in ways.items() if is_asked]
        if len(asked) > 1:
            yield f"{' and '.join(asked)} correct the same thing twice; give one of them"
        if self.sampler == "balanced" and self.ra_reps > 1:
            yield "--sampler balanced repeats images itself; leave out --ra-reps"
