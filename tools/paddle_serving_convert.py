"""Converts an export for Paddle Serving: tools/paddle_serving_convert.py --help."""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
