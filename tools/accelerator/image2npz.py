"""Pictures to npz files, with the documents' arguments."""

from _start import main

if __name__ == "__main__":
    main("image2npz", __file__)
