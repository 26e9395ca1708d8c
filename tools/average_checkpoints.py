"""Averages the weights of several checkpoints: tools/average_checkpoints.py --help."""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
