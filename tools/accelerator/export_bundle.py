"""Writes an accelerator bundle; the same as tools/export_accelerator.py."""

from _start import run_file

if __name__ == "__main__":
    run_file(__file__)
