#!/usr/bin/env bash
# Question: half of the predictions have a confidence of exactly 1.0 and 90% of them are right; half have 0.97 and all are right. What is
#           torchmetrics' expected calibration error with 15 bins, or with 1?
# Guess:    both lie in the last bin, (14/15, 1]: |0.985 - 0.95| = 0.035; with one bin the same.
# Seen:     0.065. A confidence of 1.0 has a bin of its own, number n + 1, so even one bin is two. With 0.999 in place of 1.0 the
#           result is that of uncertainty-calibration and of the definition.
# Matters:  a float32 softmax is exactly 1.0 from a margin of about 17 on, which trained networks reach. Two tools then disagree on
#           one model, and rounding to float16 moves the error, although no confidence moves by more than a bin.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 torch==2.13.0 torchmetrics==1.9.0 uncertainty-calibration==0.1.4 scikit-learn==1.9.1
cat > "$work/expected" <<'EXPECTED'
torchmetrics 1.9.0 uncertainty-calibration 0.1.4
100 x 0.999 of which 90 are right, 100 x 0.97 all right
  all in one bin: |mean confidence - accuracy|   0.035
   1 bins: torchmetrics 0.035, binary 0.035, uncertainty-calibration 0.035
  15 bins: torchmetrics 0.035, binary 0.035, uncertainty-calibration 0.035
100 x 1.0 of which 90 are right, 100 x 0.97 all right
  all in one bin: |mean confidence - accuracy|   0.035
   1 bins: torchmetrics 0.065, binary 0.065, uncertainty-calibration 0.035
  15 bins: torchmetrics 0.065, binary 0.065, uncertainty-calibration 0.035
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import calibration
import numpy as np
import torch
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

print(*(f"{p} {version(p)}" for p in ("torchmetrics", "uncertainty-calibration")))
right = np.r_[np.ones(90), np.zeros(10), np.ones(100)]
for certain in (0.999, 1.0):
    confidence = np.r_[np.full(100, certain), np.full(100, 0.97)].astype("float32")
    probabilities = np.stack([confidence, 1 - confidence], 1)
    labels = np.where(right == 1, 0, 1)
    print(f"100 x {certain} of which 90 are right, 100 x 0.97 all right")
    print(f"  all in one bin: |mean confidence - accuracy|   {abs(confidence.mean() - right.mean()):.3f}")
    for bins in (1, 15):
        several = MulticlassCalibrationError(2, n_bins=bins)(torch.tensor(probabilities), torch.tensor(labels))
        binary = BinaryCalibrationError(n_bins=bins)(torch.tensor(confidence), torch.tensor(right).int())
        other = calibration.get_ece(probabilities, labels, num_bins=bins)
        print(f"  {bins:2} bins: torchmetrics {several:.3f}, binary {binary:.3f}, uncertainty-calibration {other:.3f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
