"""Writes an accelerator bundle: tools/export_accelerator.py --pretrained WEIGHTS --out DIR"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
