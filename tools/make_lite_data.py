"""Builds test_images/lite_data.tar from Debian's Fashion-MNIST: python tools/make_lite_data.py"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
