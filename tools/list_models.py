"""Lists the networks: python tools/list_models.py"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
