#!/usr/bin/env bash
# Question: features of the lengths 1, 5 and 50 in one direction are put into a usearch index of dtype i8 with squared L2 distance. Which is
#           nearest to the one of length 5?
# Guess:    itself, then the one of length 1, as in f32; int8 rounds a little, or saturates the long one.
# Seen:     all three, with distance 0. Each vector is divided by its own length before it becomes int8, so l2sq and ip are cosine,
#           in units of 1/127 and its square: the distance of two unit vectors is 6452 for 0.4. f16 and e4m3 keep the lengths.
# Matters:  the length of a feature without normalisation is gone, so "nearest" is another picture, and a threshold set in f32 rejects
#           all. int8 arrays that one has scaled oneself are kept as they are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 usearch==2.26.6
cat > "$work/expected" <<'EXPECTED'
usearch 2.26.6
features [[0.6, 0.8], [3, 4], [30, 40], [0, 1]] query [3, 4]
l2sq formula     16.0      0.0   2025.0     18.0
l2sq f32         16.0      0.0   2025.0     18.0
l2sq f16         16.0      0.0   2025.0     18.0
l2sq e4m3        15.8      0.0   2025.0     18.0
l2sq i8           0.0      0.0      0.0   6452.0
ip   formula     -4.0    -24.0   -249.0     -3.0
ip   f32         -4.0    -24.0   -249.0     -3.0
ip   f16         -4.0    -24.0   -249.0     -3.0
ip   e4m3        -4.1    -24.0   -249.0     -3.0
ip   i8      -15976.0 -15976.0 -15976.0 -12826.0
cos  formula      0.0      0.0      0.0      0.2
cos  f32          0.0      0.0      0.0      0.2
cos  f16          0.0      0.0      0.0      0.2
cos  e4m3         0.0      0.0      0.0      0.2
cos  i8           0.0      0.0      0.0      0.2
l2sq of int8 arrays [[60, 80], [30, 40]] to the last: [2500.0, 0.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
from usearch.index import Index

print("usearch", version("usearch"))
values = [[0.6, 0.8], [3, 4], [30, 40], [0, 1]]
features = np.float32(values)
query = np.float32([3, 4])
exact = {
    "l2sq": ((features - query) ** 2).sum(1),
    "ip": 1 - features @ query,
    "cos": 1 - features @ query / np.linalg.norm(features, axis=1) / np.linalg.norm(query),
}


def distances(vectors, asked, metric, kind):
    index = Index(ndim=2, metric=metric, dtype=kind)
    index.add(np.arange(len(vectors)), vectors)
    found = index.search(asked, len(vectors), exact=True)
    return np.asarray(found.distances)[np.argsort(found.keys)]


print("features", values, "query [3, 4]")
for metric in exact:
    rows = [("formula", exact[metric])] + [(kind, distances(features, query, metric, kind)) for kind in ("f32", "f16", "e4m3", "i8")]
    for who, values in rows:
        print(f"{metric:4} {who:7}", " ".join(f"{v + 0:8.1f}" for v in np.round(values, 1)))
codes = np.int8([[60, 80], [30, 40]])
print("l2sq of int8 arrays", codes.tolist(), "to the last:", distances(codes, codes[1], "l2sq", "i8").tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
