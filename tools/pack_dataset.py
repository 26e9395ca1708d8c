"""Packs a data folder into a few large files: python tools/pack_dataset.py --out packed"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
