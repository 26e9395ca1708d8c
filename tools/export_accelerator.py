"""Writes an accelerator bundle: tools/export_accelerator.py --pretrained WEIGHTS --out DIR"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
