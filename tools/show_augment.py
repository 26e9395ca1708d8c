"""Draws training pictures as the network gets them: tools/show_augment.py --data-path DATA"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
