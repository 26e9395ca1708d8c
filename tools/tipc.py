"""Runs a test chain: tools/tipc.py MODE CONFIG, or tools/tipc.py cpu"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
