"""Sorts ImageNet's val/ into class folders."""

from _start import main

if __name__ == "__main__":
    main("valprep", __file__)
