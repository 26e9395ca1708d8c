"""Converts weights between frameworks: tools/convert_weights.py --help."""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
