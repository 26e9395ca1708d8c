"""Images to npz files, with the documents' arguments."""

from _start import run_file

if __name__ == "__main__":
    run_file(__file__)
