"""Ranks layers by int8's damage: tools/sensitivity.py --pretrained W --data-path D --out DIR"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
