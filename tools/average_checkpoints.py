"""Averages the weights of several checkpoints: tools/average_checkpoints.py --help."""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
