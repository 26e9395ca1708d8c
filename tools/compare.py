"""Compares a checkpoint with its exported files: tools/compare.py --help."""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
