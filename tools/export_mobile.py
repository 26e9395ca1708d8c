"""Converts an export for phones: tools/export_mobile.py --help."""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
