"""Draws the curves of a run: python tools/plot_run.py --run output"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
