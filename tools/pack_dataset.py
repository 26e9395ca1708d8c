"""Packs a data folder into a few large files: python tools/pack_dataset.py --out packed"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
