"""Writes features of images: python tools/embed.py --pretrained WEIGHTS --data-path DATA"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
