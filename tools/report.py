"""Writes a page on a run: python tools/report.py --run output"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
