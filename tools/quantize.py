"""Writes and measures an int8 model: tools/quantize.py --target T --pretrained W ... --out DIR"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
