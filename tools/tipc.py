"""Runs a test chain: tools/tipc.py MODE CONFIG, or tools/tipc.py cpu"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
