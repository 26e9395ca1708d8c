"""Serves exported models over HTTP: python tools/serve.py EXPORT_FOLDER"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
