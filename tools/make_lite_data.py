"""Builds test_images/lite_data.tar from Debian's Fashion-MNIST: python tools/make_lite_data.py"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
