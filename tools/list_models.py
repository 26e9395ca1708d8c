"""Lists the models: python tools/list_models.py"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
