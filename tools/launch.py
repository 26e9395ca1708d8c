"""Trains in several processes: tools/launch.py --nproc-per-node 2 train.py --data-path DATA"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
