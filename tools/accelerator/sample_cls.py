"""Classifies with the stand-in, with the documents' arguments."""

from _start import main

if __name__ == "__main__":
    main("sample_cls", __file__)
