"""Converts an export for phones: tools/export_mobile.py --help."""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
