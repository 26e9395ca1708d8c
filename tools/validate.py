"""Evaluates weights: python tools/validate.py --data-path DATA --pretrained WEIGHTS"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
