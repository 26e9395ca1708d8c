"""Serves exported networks over HTTP: python tools/serve.py EXPORT_FOLDER"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
