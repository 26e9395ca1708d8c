"""Sorts ImageNet's val/ into class folders."""

from _start import run_file

if __name__ == "__main__":
    run_file(__file__)
