"""Evaluates weights, where MindCV has it: validate.py --data-path DATA --pretrained WEIGHTS"""

from ppcls_lite.__main__ import run_file

if __name__ == "__main__":
    run_file(__file__)
