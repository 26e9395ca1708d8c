"""From the activations of a network to the thresholds at which symmetric int8 clips them.

`Activations` runs the float graph over the calibration pictures; `calibrate` turns what it sees
into one threshold per tensor, by one of four rules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from ppcls_lite.errors import UserError, nearest
from ppcls_lite.runtimes import import_engine

PERCENTILE = 0.99999  # share of the values that is not clipped; TVM's and the vendor's number
# Of the histogram over [-peak, peak]; odd, so that zero has a bin of its own. Differs from TVM: it
# takes 8001, and sixteen times as long for the search of kl_divergence.
BINS = 2001
KL_LEVELS = 255  # what int8 clipped to -127..127 can tell apart
INT8_STEPS = 128  # scale = threshold / 128, values clipped to +-127 (TVM's symmetric int8)
UINT8_STEPS = 255  # from the lowest to the highest value
MSE_CANDIDATES = 256
SILENT = 1e-30  # peaks below are 0: their scales would leave float32's normal numbers

# Of int8, the largest |x|; of uint8, the lowest and the highest x, of all channels or of each, [C].
Threshold: TypeAlias = float | tuple[float, float] | tuple[np.ndarray, np.ndarray]


class Activations:
    """The values of some tensors of a graph, picture by picture.

    Args:
        model: the float graph.
        tensors: names of the tensors to watch.
        images: float32 [1, 3, H, W] each; iterated anew each time.
        settings: of the session, by ONNX Runtime's names.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        tensors: Sequence[str],
        images: Sequence[np.ndarray],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        onnxruntime = import_engine("onnxruntime", "onnxruntime")
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        self._input = model.graph.input[0].name
        self._from_graph = [name for name in tensors if name != self._input]
        del watched.graph.output[:]
        watched.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self._from_graph
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # One picture of a small network: threads that spin while they wait cost what they save.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for key, value in (settings or {}).items():
            options.add_session_config_entry(key, value)
        self._session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.images = images
        self.tensors = list(tensors)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for image in self.images:
            # An empty list would ask ONNX Runtime for every output, of which there is none then.
            found = (
                self._session.run(self._from_graph, {self._input: image})
                if self._from_graph
                else ()
            )
            values = {self._input: image} | dict(zip(self._from_graph, found, strict=True))
            yield {name: values[name] for name in self.tensors}


@dataclass
class Spread:
    """What is known of the |x| of one tensor over all pictures.

    Attributes:
        peak: the largest.
        top: the largest ones, as many as `percentile` leaves above its threshold.
        histogram: counts of x, int64 [BINS] over [-peak, peak]; empty unless asked for.
        low: the lowest x, at most 0.
        high: the highest x, at least 0.
    """

    peak: float
    top: np.ndarray
    histogram: np.ndarray
    low: float = 0.0
    high: float = 0.0

    @property
    def edges(self) -> np.ndarray:
        """Borders of the histogram's bins, float64 [BINS + 1]."""
        return np.linspace(-self.peak, self.peak, len(self.histogram) + 1)


def percentile_threshold(spread: Spread) -> float:
    """The value of |x| below which 99.999 % of all values lie."""
    return float(spread.top.min())


def max_threshold(spread: Spread) -> float:
    """The largest |x|: nothing is clipped."""
    return spread.peak


def kl_threshold(spread: Spread) -> float:
    """The threshold whose 255 levels lose the least information (Migacz, GTC 2017, as in TVM).

    Candidate by candidate, the histogram cut at the threshold, with the rest piled up in its
    outermost bins, is compared with the same one smeared over 255 levels.
    """
    counts = spread.histogram.astype(np.float64)
    middle, half = len(counts) // 2, KL_LEVELS // 2
    total = np.concatenate([[0.0], np.cumsum(counts)])
    best, threshold = np.inf, spread.peak
    for reach in range(half, middle + 1):
        start, end = middle - reach, middle + reach + 1
        inside, reference = counts[start:end].copy(), counts[start:end].copy()
        reference[0] += total[start]
        reference[-1] += total[-1] - total[end]
        inside[0] = 0  # as in TVM and MXNet: the outermost bin below counts as clipped
        merged = len(inside) // KL_LEVELS
        starts = np.arange(KL_LEVELS) * merged  # the last level takes what is left over
        sums = np.add.reduceat(inside, starts)
        filled = np.add.reduceat((inside > 0).astype(np.float64), starts)
        level = np.divide(sums, filled, out=np.zeros(KL_LEVELS), where=filled > 0)
        widths = np.diff(np.append(starts, len(inside)))
        smeared = np.where(reference > 0, np.repeat(level, widths), 0.0)
        loss = _divergence(reference, smeared)
        if loss < best:
            best, threshold = loss, spread.edges[end]
    return float(threshold)


def mse_threshold(spread: Spread) -> float:
    """The threshold with the smallest mean squared error of rounding and clipping."""
    if spread.peak == 0.0:  # a ReLU that no picture wakes up: nothing is rounded
        return 0.0
    centres = (spread.edges[:-1] + spread.edges[1:]) / 2
    centres[len(centres) // 2] = 0.0  # exactly: the zeros that Relu makes cost nothing
    counts = spread.histogram
    candidates = spread.peak * np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES
    width = centres[1] - centres[0]  # within a bin, or a step if that is finer, values are spread
    losses = []
    for candidate in candidates:
        scale = candidate / INT8_STEPS
        error = centres - scale * np.clip(np.round(centres / scale), 1 - INT8_STEPS, INT8_STEPS - 1)
        losses.append(counts @ (error**2 + (centres != 0) * min(scale, width) ** 2 / 12))
    return float(candidates[int(np.argmin(losses))])


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence of two histograms, empty bins filled up a little."""
    p, q = _smooth(p), _smooth(q)
    if not len(p) or not len(q):
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _smooth(counts: np.ndarray, epsilon: float = 1e-4) -> np.ndarray:
    """Gives empty bins a little of the others' mass; empty when there is too little of it."""
    zeros = counts == 0
    filled = int(len(counts) - zeros.sum())
    taken = epsilon * zeros.sum() / max(filled, 1)
    if filled == 0 or taken >= 1:
        return np.empty(0)
    return np.where(zeros, epsilon, counts - taken)


# The vendor's names of its modes; `entropy` is what others call kl_divergence.
MODES: dict[str, Callable[[Spread], float]] = {
    "percentile": percentile_threshold,
    "max": max_threshold,
    "kl_divergence": kl_threshold,
    "mse": mse_threshold,
}
ALIASES = {"entropy": "kl_divergence", "kl": "kl_divergence"}


def mode_name(word: str) -> str:
    """Returns the name of a calibration mode in `MODES`.

    Raises:
        UserError: there is no such mode.
    """
    name = ALIASES.get(word, word)
    if name not in MODES:
        known = [*MODES, *ALIASES]
        raise UserError(
            f"calibration mode {word!r} is not one of {', '.join(known)}{nearest(word, known)}",
            "give one of these; percentile is the documents'",
        )
    return name


def calibrate(
    activations: Activations, mode: str, percentile: float = PERCENTILE, unsigned: bool = False
) -> dict[str, Threshold]:
    """Returns the threshold for each tensor; one that is always 0 gets 1, see `_usable`.

    Args:
        activations: the tensors and the pictures.
        mode: a name of `MODES` or `ALIASES`.
        percentile: share of the values that mode percentile does not clip.
        unsigned: give the lowest and the highest x, for uint8, within the threshold of |x|.
    """
    rule = MODES[mode_name(mode)]
    spreads = measure(activations, percentile, with_histogram=rule in (kl_threshold, mse_threshold))
    found: dict[str, Threshold] = {}
    for name, spread in spreads.items():
        limit = _usable(rule(spread), spread.peak)
        low, high = max(spread.low, -limit), min(spread.high, limit)
        found[name] = (low, high if high > low else limit) if unsigned else limit
    return found


def _usable(threshold: float, peak: float) -> float:
    """Keeps a rule from giving a tensor up that is nearly always 0, as squeeze branches can be.

    Fewer than one value in 100,000 above 0 leave percentile with a threshold of 0, by which all of
    them are lost. Below a threshold of peak / 256 the full range would round all that is kept to 0,
    and what is clipped is worth as much: 1e-5 of the values, each wrong by up to 256 times the
    threshold, make a mean squared error of 0.66 thresholds squared.

    Differs from TVM and the vendor: they divide by the 0 or keep it.
    """
    if peak < SILENT:
        return 1.0
    return peak if threshold < peak / (2 * INT8_STEPS) else threshold


def measure(
    activations: Activations, percentile: float = PERCENTILE, with_histogram: bool = False
) -> dict[str, Spread]:
    """Runs the pictures once, for histograms twice: their range must be known first."""
    if not len(activations):
        raise UserError(
            "there is no calibration image", "give --data-path a folder that holds images"
        )
    spreads: dict[str, Spread] = {}
    for values in activations:
        for name, value in values.items():
            size = np.abs(value).ravel()
            nothing = Spread(0.0, np.empty(0, value.dtype), np.empty(0, np.int64))
            known = spreads.get(name, nothing)
            count = len(size) * len(activations)
            keep = count - int(count * percentile)
            spreads[name] = Spread(
                max(known.peak, float(size.max())),
                _largest(known.top, size, keep),
                known.histogram,
                min(known.low, float(value.min())),
                max(known.high, float(value.max())),
            )
    if with_histogram:
        _fill_histograms(activations, spreads)
    return spreads


def _largest(kept: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    if len(kept) == count:
        values = values[values > kept.min()]
    both = np.concatenate([kept, values])
    return np.partition(both, len(both) - count)[-count:] if len(both) > count else both


def _fill_histograms(
    activations: Iterable[dict[str, np.ndarray]], spreads: dict[str, Spread]
) -> None:
    for spread in spreads.values():
        spread.histogram = np.zeros(BINS, np.int64)
    for values in activations:
        for name, value in values.items():
            reach = max(spreads[name].peak, SILENT)
            # np.histogram does the same in three times the time.
            places = (value.ravel() + reach) * np.float32(BINS / (2 * reach))
            bins = np.minimum(places.astype(np.int32), BINS - 1)
            spreads[name].histogram += np.bincount(bins, minlength=BINS)
