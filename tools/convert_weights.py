"""Converts weights between frameworks: tools/convert_weights.py --help."""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
