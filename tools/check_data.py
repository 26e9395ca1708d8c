"""Looks for broken pictures: python tools/check_data.py --data-path my_pictures"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
