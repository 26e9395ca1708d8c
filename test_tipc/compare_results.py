"""Holds one file of answers against another: the same classes, the same probabilities.

python3 test_tipc/compare_results.py --gt_file=test_tipc/results/python_X_infer_fp32.txt \\
    --log_file=X.log --atol=1e-3 --rtol=1e-3

A file has lines `picture TAB [[class, probability], ...]`, or the JSON lines of
`tools/predict.py --json`; other lines are passed over. Exit status 1 when anything differs.
"""

import argparse
import json
import math
import sys
from pathlib import Path


def read_answers(path: str) -> dict[str, dict[int, float]]:
    """Returns {picture: {class: probability}}; pictures are told apart by their last two names."""
    answers = {}
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        picture, tab, values = line.partition("\t")
        if line.startswith('{"file"'):
            row = json.loads(line)
            picture = row["file"]
            pairs = [(each["class_id"], each["prob"]) for each in row.get("topk", ())]
        elif tab:
            pairs = json.loads(values)
        else:
            continue
        answers["/".join(Path(picture).parts[-2:])] = {int(c): float(p) for c, p in pairs}
    return answers


def difference(truth: dict[str, dict[int, float]], answers: dict[str, dict[int, float]],
               atol: float, rtol: float) -> tuple[str, float]:  # fmt: skip
    """Returns what differs first, or an empty text; and the largest difference."""
    if not truth or truth.keys() != answers.keys():
        odd = sorted(truth.keys() ^ answers.keys())[:3]
        return f"{len(truth)} and {len(answers)} images, in one alone: {', '.join(odd)}", math.inf
    largest = 0.0
    for picture, expected in truth.items():
        got = answers[picture]
        if not expected or expected.keys() != got.keys():
            return f"{picture}: classes {sorted(expected)} and {sorted(got)}", math.inf
        for class_id, prob in expected.items():
            largest = max(largest, abs(got[class_id] - prob))
            if not abs(got[class_id] - prob) <= atol + rtol * abs(prob):
                return f"{picture}: class {class_id} has {got[class_id]}, not {prob}", largest
    return "", largest


def main() -> int:
    """Compares the two files, prints what it found and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gt_file", required=True, help="the answers that are right")
    parser.add_argument("--log_file", required=True, help="the answers to hold against them")
    parser.add_argument("--atol", type=float, default=1e-3)
    parser.add_argument("--rtol", type=float, default=1e-3)
    args = parser.parse_args()
    try:
        truth, answers = read_answers(args.gt_file), read_answers(args.log_file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"compare_results: {error}")
        return 1
    text, largest = difference(truth, answers, args.atol, args.rtol)
    files = f"{args.gt_file} and {args.log_file}"
    if text:
        print(f"{files} are inconsistent! {text}")
        return 1
    print(f"{len(truth)} images, largest difference {largest:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
