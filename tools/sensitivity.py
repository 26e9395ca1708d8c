"""Ranks layers by int8's damage: tools/sensitivity.py --pretrained W --data-path D --out DIR"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
