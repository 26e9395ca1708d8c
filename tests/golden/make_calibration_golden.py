"""Writes calibration_mxnet.json: the entropy thresholds of MXNet, whose rule TVM took over.

pip install mxnet==1.9.1 numpy==1.23.5 && python tests/golden/make_calibration_golden.py
"""

import json
from pathlib import Path

import numpy as np

BINS, LEVELS = 2001, 255


def samples():
    """float64 values by formula; the tests make the same."""
    r = np.random.RandomState(3)
    normal, wide = r.randn(200_000), 3 * r.randn(200_000)
    return {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "outliers": np.concatenate([normal, 40 + r.randn(20)]),
        "hard_swish": wide * np.clip(wide / 6 + 0.5, 0, 1),
    }


def main():
    import mxnet

    found = {}
    for name, values in samples().items():
        peak = np.abs(values).max()
        histogram = np.histogram(values, bins=BINS, range=(-peak, peak))
        arrays = [mxnet.nd.array(a, dtype="float32") for a in histogram]
        threshold, _ = mxnet.nd.contrib.calibrate_entropy(*arrays, num_quantized_bins=LEVELS)
        found[name] = float(threshold.asscalar())
    target = Path(__file__).parent / "calibration_mxnet.json"
    target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
