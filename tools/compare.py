"""Compares a checkpoint with its exported files: tools/compare.py --help."""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
