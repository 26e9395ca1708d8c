"""Writes inference models: tools/export_model.py --pretrained WEIGHTS --save-inference-dir DIR"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
