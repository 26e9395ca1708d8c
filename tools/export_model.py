"""Writes inference models: python tools/export_model.py --pretrained output/best.pdparams --save-inference-dir inference"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
