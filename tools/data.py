"""Checks, draws and packs data: tools/data.py check|show|pack|make_lite"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
