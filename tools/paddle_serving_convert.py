"""Converts an export for Paddle Serving: tools/paddle_serving_convert.py --help."""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
