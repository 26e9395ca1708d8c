"""Writes class_names.json.gz: what other projects call ImageNet-1k's classes, read from their code.

    pip download --no-deps torchvision==0.29.1 timm==1.0.31 gluoncv==0.10.5.post0 mmpretrain==1.2.0
    python -m zipfile -e EACH.whl FOLDER
    python tests/golden/make_class_names_golden.py FOLDER

Keras' imagenet_class_index.json is in no package: its names are gluoncv's with `_` for a space.
"""

import ast
import gzip
import json
import sys
from pathlib import Path


def literals(path, length):
    """All lists of constants, or of tuples of constants, of this length in a Python file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) == length:
            yield ast.literal_eval(node)


def main(folder):
    """Reads the four packages."""
    gluon = next(literals(folder / "gluoncv/data/imagenet/classification.py", 1000))
    lemma = (folder / "timm/data/_info/imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemma = dict(line.split("\t") for line in lemma)
    names = {
        "wnid": [row[0] for row in gluon],
        "gluoncv": [row[1] for row in gluon],
        "gluoncv_long": [row[2] for row in gluon],
        "keras": [row[1].replace(" ", "_") for row in gluon],
        "timm": [lemma[row[0]] for row in gluon],
        "mmpretrain": list(next(literals(folder / "mmpretrain/datasets/categories.py", 1000))),
        "torchvision": list(next(literals(folder / "torchvision/models/_meta.py", 1000))),
    }
    target = Path(__file__).with_name("class_names.json.gz")
    target.write_bytes(gzip.compress(json.dumps(names).encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
