"""Writes and measures an int8 network: tools/quantize.py --target T --pretrained W ... --out DIR"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
