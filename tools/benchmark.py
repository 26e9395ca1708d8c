"""Measures speed: python tools/benchmark.py train --versus paddle"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
