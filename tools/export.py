"""Writes inference models and other formats: tools/export.py [check|mobile|paddle_serving|…]"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
