"""Measures speed: python tools/benchmark.py train --versus paddle"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
