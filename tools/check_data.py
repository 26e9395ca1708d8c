"""Looks for broken images: python tools/check_data.py --data-path my_pictures"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
