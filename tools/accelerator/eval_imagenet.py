"""Top-1 and top-5 of npz scores, with the documents' arguments."""

from _start import main

if __name__ == "__main__":
    main("eval_imagenet", __file__)
