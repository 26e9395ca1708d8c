"""Draws training images as the model gets them: tools/show_augment.py --data-path DATA"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
