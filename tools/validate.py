"""Evaluates weights: python tools/validate.py --data-path DATA --pretrained WEIGHTS"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
