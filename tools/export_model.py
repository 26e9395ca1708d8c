"""Writes inference models: tools/export_model.py --pretrained WEIGHTS --save-inference-dir DIR"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
