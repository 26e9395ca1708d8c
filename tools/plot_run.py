"""Draws the curves of a run: python tools/plot_run.py --run output"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
