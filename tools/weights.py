"""Converts and averages weights: tools/weights.py convert|average"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
