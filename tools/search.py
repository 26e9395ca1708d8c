"""Finds like images: python tools/search.py GALLERY IMAGE --pretrained WEIGHTS"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
