"""Writes an accelerator bundle; the same as tools/export_accelerator.py."""

from _start import main

if __name__ == "__main__":
    main("export_accelerator", __file__)
